"""What was said in episodes, and what it earned, as JSONL for people to read; `rxlm report` makes a page of it."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rxlm.file_errors import naming

TRAJECTORIES_FILE = "trajectories.jsonl"


@dataclass(frozen=True)
class TrajectoryTurn:
    """One turn of an episode; a figure that is not known, or a reward that does not apply, is None.

    Fields:
        query, answer, reference: what was asked, what the model said, what it should have said.
        reward: in total.
        rewards: by name, before weights and scale.
        memory_drift: root mean square change of the memory slots by this turn.
        value: what the critic expected.
        advantage: what the update made of reward and value.
    """

    query: str
    answer: str
    reference: str
    reward: float | None = None
    rewards: Mapping[str, float | None] | None = None
    memory_drift: float | None = None
    value: float | None = None
    advantage: float | None = None


class TrajectoryLog:
    """Appends episodes to `trajectories.jsonl`, one a line.

    Args:
        folder: of the stage.
        every: steps from one log to the next.
        episodes: how many of a rollout are logged.
    """

    def __init__(self, folder: Path, every: int, episodes: int = 4) -> None:
        for name, value in (("every", every), ("episodes", episodes)):
            if value < 1:
                raise ValueError(f"{name} is {value!r}; it must be at least 1.")
        self.path, self.every, self.episodes = folder / TRAJECTORIES_FILE, every, episodes

    def is_due(self, step: int) -> bool:
        """Tell whether a step is logged."""
        return step % self.every == 0

    def append(self, step: int, episodes: Sequence[Sequence[TrajectoryTurn]]) -> None:
        """Write the first `self.episodes` of a step's episodes, given by their turns."""
        records = [
            {"step": step, "episode": number, "turns": [_plain(asdict(turn)) for turn in turns]}
            for number, turns in enumerate(episodes[: self.episodes])
        ]
        lines = "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        append_whole(self.path, lines.encode("utf-8", errors="replace"))


def append_whole(path: Path, lines: bytes) -> None:
    """Append whole lines to a file by one write, after a torn line that an earlier process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        content = b"\n" + lines if is_torn else lines
        with naming(path):
            written = os.write(handle, content)
        if written != len(content):
            raise OSError(f"{path}: only {written} of {len(content)} bytes could be written; is the disk full?")
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no NaN and no infinity: None stands for them."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
