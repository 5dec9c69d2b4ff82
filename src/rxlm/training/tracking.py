"""Figures of a run: JSONL and TensorBoard always, trackio where asked for, and a line or a bar to look at."""

import json
import os
import socket
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rxlm.file_errors import naming
from rxlm.files import append_whole

METRICS_FILE = "metrics.jsonl"
TRACKIO_PROJECT = "RXLM_TRACKIO"
"""Environment variable that names the trackio project which follows a run, too."""


class Tracker:
    """Writes the figures of one stage.

    Args:
        folder: of the stage; figures go to `metrics.jsonl` and to TensorBoard files beside it.
        stage: name of the stage.
        first_step: steps that were trained before; what TensorBoard has of later ones, of a process that was killed
            after its last checkpoint, it shows no longer.

    Raises ValueError where the environment asks for trackio and it is not installed.
    """

    def __init__(self, folder: Path, stage: str, first_step: int) -> None:
        self.stage = stage
        self.trackio = _trackio_run(f"{folder.resolve().parent.name}-{folder.name}")
        self.path = folder / METRICS_FILE
        self.board = Board(folder / "tensorboard", first_step)

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Write figures of a step."""
        line = json.dumps({"stage": self.stage, "step": step, "time": time.time(), **figures}) + "\n"
        append_whole(self.path, line.encode())
        self.board.log(step, figures)
        if self.trackio is not None:
            self.trackio.log(figures, step=step)

    def close(self) -> None:
        """Finish what follows the run elsewhere."""
        if self.trackio is not None:
            self.trackio.finish()


class Board:
    """A file for TensorBoard, written at once: its own writer is a thread, whose errors nobody hears.

    Args:
        folder: made where it is missing; the file gets a name of its own in it.
        first_step: steps after it that an earlier file has are not shown any more.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._write(step=first_step + 1, file_version="brain.Event:2")
        self._write(step=first_step + 1, session_log={"status": 1})  # the start of a session

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Write figures of a step."""
        self._write(step=step, summary={"value": [{"tag": name, "simple_value": figures[name]} for name in figures]})

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyrefly: ignore[missing-module-attribute]
        from tensorboard.summary.writer.record_writer import RecordWriter

        with naming(self.path), self.path.open("ab") as file:
            RecordWriter(file).write(Event(wall_time=time.time(), **fields).SerializeToString())


def _trackio_run(name: str) -> Any:
    """Return the trackio run of a stage, the one of that name where it exists; None where nobody asks for it."""
    project = os.environ.get(TRACKIO_PROJECT)
    if not project:
        return None
    try:
        trackio = import_module("trackio")
    except ImportError:
        raise ValueError(
            f"{TRACKIO_PROJECT}={project} asks for trackio, which is not installed: "
            f"pip install 'reactive-lm[track]', or unset {TRACKIO_PROJECT}."
        ) from None
    return trackio.init(project=project, name=name, resume="allow", embed=False)


class Pace:
    """How fast a stage goes.

    Args:
        first_step: from which this process trains. steps: of the whole stage.
    """

    def __init__(self, first_step: int, steps: int) -> None:
        self.first_step, self.steps = first_step, steps
        self.started = time.monotonic()
        self.tokens, self.seconds, self.count = 0.0, 0.0, 0

    def add(self, tokens: float, seconds: float) -> None:
        """Count a step of so many tokens."""
        self.tokens, self.seconds, self.count = self.tokens + tokens, self.seconds + seconds, self.count + 1

    def figures(self, step: int) -> dict[str, float]:
        """Return the speed of the steps since the last call, and the seconds left after `step` steps.

        Evaluation and checkpoints take no part in the speed, but do in what is left.
        """
        speed = {"tokens_per_second": self.tokens / self.seconds, "seconds_per_step": self.seconds / self.count}
        self.tokens, self.seconds, self.count = 0.0, 0.0, 0
        a_step = (time.monotonic() - self.started) / (step - self.first_step)
        return speed | {"seconds_left": a_step * (self.steps - step)}


class ProgressView:
    """Shows how a stage goes: a bar on a terminal, plain lines in a pipe."""

    def __init__(self, stage: str, first_step: int, steps: int) -> None:
        self.stage, self.steps = stage, steps
        self.last_line = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console())
            self.task = self.bar.add_task(stage, total=steps, completed=first_step, figures="")
            self.bar.start()

    def update(self, step: int, figures: dict[str, float]) -> None:
        """Show loss, speed and time left after `step` steps."""
        text = f"loss {figures['loss']:.4g}  {figures['tokens_per_second']:,.0f} tokens/s"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, figures=text)
            return
        now = time.monotonic()
        if now - self.last_line > 10 or step == self.steps:
            self.last_line = now
            left = f"{figures['seconds_left']:.0f} s left"
            print(f"{self.stage}: step {step}/{self.steps}  {text}  {left}", flush=True)  # noqa: T201

    def close(self) -> None:
        """Leave the terminal in order."""
        if self.bar is not None:
            self.bar.stop()
