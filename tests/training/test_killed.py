"""A run killed at any moment leaves a checkpoint that loads and goes on to the same end."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from rxlm.training.checkpoint import Checkpoints
from training_runs import model, trainer

HERE = Path(__file__).parent
STEPS, KILLS = 120, 10


def test_a_run_killed_ten_times_ends_with_the_weights_of_the_straight_run(tmp_path: Path) -> None:
    straight = trainer("streams", tmp_path / "straight", steps=STEPS, checkpoint_every=None)
    straight.run()
    _kill_ten_times(tmp_path / "killed")
    resumed = trainer("streams", tmp_path / "killed", network=model(seed=3), steps=STEPS)
    resumed.run()

    expected = straight.module.state_dict()
    assert [
        name for name, tensor in resumed.module.state_dict().items() if not torch.equal(tensor, expected[name])
    ] == []


def _kill_ten_times(folder: Path) -> None:
    """Kill a run at random moments, each behind a random step; with a checkpoint a step many hit the middle of one."""
    draw = random.Random(0)
    checkpoints = Checkpoints(folder / "checkpoints")
    command = [sys.executable, str(HERE / "killed_runs.py"), str(folder), str(STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for step in sorted(draw.sample(range(STEPS - 20), KILLS)):
            program.stdin.write("\n")
            program.stdin.flush()
            process = int(program.stdout.readline())
            while not (saved := checkpoints.steps()) or saved[-1] < step:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            os.kill(process, signal.SIGKILL)
            status = int(program.stdout.readline())
            assert os.WIFSIGNALED(status), "the run ended, or failed, before it was killed"
