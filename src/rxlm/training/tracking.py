"""Figures of a run: JSONL and TensorBoard always, and a line or a bar to look at."""

import json
import sys
import time
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

METRICS_FILE = "metrics.jsonl"


class Tracker:
    """Writes the figures of one stage.

    Args:
        folder: of the stage; figures go to `metrics.jsonl` and to TensorBoard files beside it.
        stage: name of the stage.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only training needs it

        folder.mkdir(parents=True, exist_ok=True)
        self.stage = stage
        self.file: TextIO = (folder / METRICS_FILE).open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Write figures of a step."""
        self.file.write(json.dumps({"stage": self.stage, "step": step, "time": time.time(), **figures}) + "\n")
        self.file.flush()
        for name, value in figures.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish the files."""
        self.file.close()
        self.board.close()


class ProgressView:
    """Shows how a stage goes: a bar on a terminal, plain lines in a pipe."""

    def __init__(self, stage: str, first_step: int, steps: int) -> None:
        self.stage, self.steps = stage, steps
        self.started = self.last_line = time.monotonic()
        self.first_step = first_step
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, TextColumn("{task.fields[figures]}"), console=Console())
            self.task = self.bar.add_task(stage, total=steps, completed=first_step, figures="")
            self.bar.start()

    def update(self, step: int, figures: dict[str, float]) -> None:
        """Show the figures after `step` steps."""
        text = "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, figures=text)
            return
        now = time.monotonic()
        if now - self.last_line > 10 or step == self.steps:
            self.last_line = now
            left = (now - self.started) / max(1, step - self.first_step) * (self.steps - step)
            print(f"{self.stage}: step {step}/{self.steps}  {text}  {left:.0f} s left", flush=True)  # noqa: T201

    def close(self) -> None:
        """Leave the terminal in order."""
        if self.bar is not None:
            self.bar.stop()
