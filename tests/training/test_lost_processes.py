"""A process that is killed, is stopped or fails ends the run within a minute, and is the one that is named."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lost_processes import train
from process_groups import GRACE, group
from rxlm.training.distributed import Parallel
from rxlm.training.heartbeat import INTERVAL, LOST, Heartbeat

HERE = Path(__file__).parent
HEARTBEAT = {INTERVAL: "0.5"}


def lose_under_torchrun(folder: Path, how: str) -> tuple[int, str]:
    """Lose the second of two processes; return torchrun's exit status, and what was written to standard error."""
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(HERE / "lost_processes.py"), str(folder), how],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **HEARTBEAT},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    return result.returncode, result.stderr


def lose(folder: Path, how: str, parallel: Parallel = "ddp") -> tuple[list[int], str]:
    """Lose the second of two processes; return the exit status of each, and what they wrote to standard error."""
    ended = group(train, folder, how, parallel, **HEARTBEAT)
    return [process.status for process in ended], "".join(process.errors for process in ended)


def lines(folder: Path, errors: str) -> tuple[list[str], str]:
    """Check that no process is left and nothing is said of connections; return our lines and the second's name."""
    pids = [int((folder / f"pid-{rank}").read_text()) for rank in (0, 1)]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "a process is left"
    assert "Connection closed by peer" not in errors, errors
    named = f"rxlm: process 1 (pid {pids[1]} on {socket.gethostname()})"
    return [line for line in errors.splitlines() if line.startswith("rxlm")], named


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_process_that_is_stopped_is_named_and_ended(parallel: Parallel, tmp_path: Path) -> None:
    started = time.monotonic()
    statuses, errors = lose(tmp_path, "stopped", parallel)
    assert time.monotonic() - started < GRACE, "the stopped process did not end with the others"
    assert statuses == [LOST, -signal.SIGTERM]
    said, named = lines(tmp_path, errors)
    assert said == [f"{named} has not answered for 2 s: it is stopped, or not to be reached; this run ends."]


def test_under_torchrun_a_process_that_is_killed_is_named(tmp_path: Path) -> None:
    started = time.monotonic()
    status, errors = lose_under_torchrun(tmp_path, "killed")
    assert time.monotonic() - started < 60
    assert status != 0
    said, named = lines(tmp_path, errors)
    assert said == [f"{named} was killed, for example for want of memory; this run ends."]


def test_a_process_that_is_killed_within_a_layer_is_named(tmp_path: Path) -> None:
    """Where weights are divided, it is the layers that wait for it."""
    statuses, errors = lose(tmp_path, "killed", "fsdp")
    assert statuses[1] == -signal.SIGKILL
    assert statuses[0] in (LOST, -signal.SIGTERM)
    said, named = lines(tmp_path, errors)
    assert said in ([], [f"{named} was killed, for example for want of memory; this run ends."])


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_of_a_process_that_meets_bad_data_only_its_own_message_is_shown(parallel: Parallel, tmp_path: Path) -> None:
    statuses, errors = lose(tmp_path, "data", parallel)
    assert statuses == [-signal.SIGTERM, 1]
    assert lines(tmp_path, errors)[0] == ["rxlm train: facts.jsonl, line 7: the answer is empty."]


def test_a_process_that_holds_pythons_lock_for_longer_than_the_limit_is_not_lost(tmp_path: Path) -> None:
    statuses, errors = lose(tmp_path, "busy")
    assert (lines(tmp_path, errors)[0], statuses) == ([], [0, 0])


@pytest.mark.parametrize("seconds", ["soon", "0", "nan", "inf"])
def test_an_interval_that_is_no_positive_number_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RXLM_HEARTBEAT_SECONDS", seconds)
    with pytest.raises(ValueError, match=f"RXLM_HEARTBEAT_SECONDS is '{seconds}'; a number of seconds above 0"):
        Heartbeat()
