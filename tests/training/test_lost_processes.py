"""A process that is killed, is stopped or fails ends the run within a minute, and is the one that is named."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rxlm.training.heartbeat import Heartbeat

HERE = Path(__file__).parent


def lose(folder: Path, how: str) -> tuple[list[str], int, int]:
    """Lose the second of two processes; return the lines of ours, the exit status and the process's id."""
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         str(HERE / "lost_processes.py"), str(folder), how],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path),
             "RXLM_HEARTBEAT_SECONDS": "0.5"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert time.monotonic() - started < 60
    pids = [int((folder / f"pid-{rank}").read_text()) for rank in (0, 1)]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "a process is left"
    assert "Connection closed by peer" not in result.stderr, result.stderr
    return [line for line in result.stderr.splitlines() if line.startswith("rxlm")], result.returncode, pids[1]


def test_a_process_that_is_stopped_is_named_and_ended(tmp_path: Path) -> None:
    said, status, pid = lose(tmp_path, "stopped")
    assert status != 0
    named = f"rxlm: process 1 (pid {pid} on {socket.gethostname()})"
    assert said == [f"{named} has not answered for 2 s: it is stopped, or not to be reached; this run ends."]


def test_a_process_that_is_killed_is_named(tmp_path: Path) -> None:
    said, status, pid = lose(tmp_path, "killed")
    assert status != 0
    named = f"rxlm: process 1 (pid {pid} on {socket.gethostname()})"
    assert said == [f"{named} was killed, for example for want of memory; this run ends."]


def test_of_a_process_that_meets_bad_data_only_its_own_message_is_shown(tmp_path: Path) -> None:
    said, status, _ = lose(tmp_path, "data")
    assert status != 0
    assert said == ["rxlm train: facts.jsonl, line 7: the answer is empty."]


def test_a_process_that_holds_pythons_lock_for_longer_than_the_limit_is_not_lost(tmp_path: Path) -> None:
    said, status, _ = lose(tmp_path, "busy")
    assert (said, status) == ([], 0)


@pytest.mark.parametrize("seconds", ["soon", "0", "nan", "inf"])
def test_an_interval_that_is_no_positive_number_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RXLM_HEARTBEAT_SECONDS", seconds)
    with pytest.raises(ValueError, match=f"RXLM_HEARTBEAT_SECONDS is '{seconds}'; a number of seconds above 0"):
        Heartbeat()
