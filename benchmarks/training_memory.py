"""Memory of retention training: what each process takes beside what `--dry-run --devices N` says, and by length.

    python benchmarks/training_memory.py

Arms are one process, two and four, with all weights each (ddp) or a part of them (fsdp), with layers' activations kept
or computed again; of a model of 26 M parameters with random weights, on generated dialogues. "of N turns" is one
process that learns from dialogues of N turns, whole or in windows of 8 turns. Measured is the most that a process has
at once beyond what it had before the model was loaded, without pages of mapped files; freed memory is given back at
once, so that it is not counted. Figures go to training_memory.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from records import RESULTS, Record

WINDOW = 8
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}


@dataclass
class Options:
    """What is measured.

    Args:
        output: folder of the results.
        turns: lengths of dialogues, for the second table.
    """

    output: Path = RESULTS
    turns: tuple[int, ...] = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Arm:
    """A run that is measured: how many processes share it, and how; turns of dialogues, and of windows."""

    processes: int
    parallel: Literal["ddp", "fsdp"]
    checkpointing: bool
    turns: int = 12
    window: int | None = None

    @property
    def name(self) -> str:
        """What it is called in tables and files."""
        again = ", layers again" if self.checkpointing else ""
        return f"{self.processes} x {self.parallel}{again}"


def measure(arm: Arm) -> dict[str, int]:
    """Measure in processes of their own; return the bytes of the one that took most, and those of the plan."""
    words = [str(value) for value in vars(arm).values()]
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={arm.processes}",
             __file__, "--worker", folder, *words],
            env={**os.environ, **GIVES_BACK, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if result.returncode:
        raise RuntimeError(f"{arm.name} failed: {result.stderr}")
    each = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return max(each, key=lambda one: one["measured"])


def worker(folder: Path, words: list[str]) -> None:
    """Train three steps in this process, and print what it took."""
    import torch

    from retention_runs import TOKENS, Shape, retention_run
    from rxlm.rxt.models import RxTAlpha
    from rxlm.training import distributed
    from rxlm.training.memory_plan import memory_plan
    from rxlm.training.retention.config import RetentionConfig
    from rxlm.training.trainer import Trainer

    arm = Arm(int(words[0]), words[1], words[2] == "True", int(words[3]), None if words[4] == "None" else int(words[4]))
    distributed.start()
    settings = RetentionConfig(sizes=(64,), keep=0.0, wording_share=1.0, longest_dialogue=arm.turns * TOKENS)
    run, stage = retention_run(
        folder, Shape(), "cpu", arm.parallel, arm.turns, settings, arm.window, steps=3, batch_size=2,
        precision="float32", activation_checkpointing=arm.checkpointing,
    )  # fmt: skip
    before = memory_of_process()
    module = stage.module(RxTAlpha.from_pretrained(folder / "start", mapped=True).train())
    batches = run.batches(stage, module)
    place, generator = batches.state_dict(), torch.Generator().manual_seed(0)
    length = max(module.prepare(next(batches), generator).window.ids.shape[1] for _ in range(3))
    batches.load_state_dict(place)
    plan = memory_plan(
        module, 2, length, devices=arm.processes, parallel=arm.parallel, activation_checkpointing=arm.checkpointing
    )
    trainer = Trainer("memory", module, batches, stage, folder / "stage", parallel=arm.parallel)
    trainer._save = lambda: None
    most = Most()
    trainer.run()
    print(json.dumps({"measured": most.end() - before, "plan": plan.total}), flush=True)


class Most:
    """Watches the most memory that this process has at once."""

    def __init__(self) -> None:
        self._most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Return the most, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self._most = max(self._most, memory_of_process())


def memory_of_process() -> int:
    """Return the bytes that this process has for itself, without pages of files (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure, and show two tables."""
    record, console = Record(options.output / "training_memory.json", options), Console()
    table = Table("processes", "measured, MB", "plan, MB", "measured / plan", title="each process, 12 turns")
    for checkpointing in (False, True):
        for processes, parallel in ((1, "ddp"), (2, "ddp"), (1, "fsdp"), (2, "fsdp"), (4, "fsdp")):
            arm = Arm(processes, parallel, checkpointing)
            found = record.keep(arm.name, lambda arm=arm: measure(arm))
            ratio = found["measured"] / found["plan"]
            record.add(f"{arm.name}: measured over plan", ratio, "", kind="ratio")
            table.add_row(arm.name, f"{found['measured'] / 1e6:.0f}", f"{found['plan'] / 1e6:.0f}", f"{ratio:.2f}")
    console.print(table)
    lengths = Table("turns", "whole, MB", f"in windows of {WINDOW} turns, MB", title="one process, by length")
    for turns in options.turns:
        row = []
        for window in (None, WINDOW):
            arm = Arm(1, "ddp", False, turns, window)
            name = f"of {turns} turns, {'whole' if window is None else 'in windows'}"
            found = record.keep(name, lambda arm=arm: measure(arm))
            record.add(name, found["measured"] / 1e6, "MB", better="less")
            row.append(f"{found['measured'] / 1e6:.0f}")
        lengths.add_row(str(turns), *row)
    console.print(lengths)
    record.save()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), sys.argv[3:])
    else:
        main(tyro.cli(Options, description=__doc__))
