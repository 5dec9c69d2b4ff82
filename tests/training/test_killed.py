"""A run killed at any moment leaves a checkpoint that loads and goes on to the same end."""

import os
import random
import signal
import time
from pathlib import Path

import torch

from process_groups import Program
from runs_in_processes import train_saving_each_step
from rxlm.training.checkpoint import Checkpoints
from training_runs import model, trainer

STEPS, KILLS = 60, 10


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
    for step in sorted(draw.sample(range(STEPS - 20), KILLS)):
        run = Program(train_saving_each_step, folder, STEPS)
        while run.status is None and (not (saved := checkpoints.steps()) or saved[-1] < step):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.05))
        if run.status is None:
            os.kill(run.pid, signal.SIGKILL)
        ended = run.ended()
        assert ended.status == -signal.SIGKILL, f"the run ended, or failed, before it was killed: {ended}"
