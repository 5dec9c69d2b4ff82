"""How fast training runs: tokens a second, and the share of the machine's measured matrix-multiply rate.

    python benchmarks/training.py --preset micro
    python benchmarks/training.py --preset alpha --device cuda --rows 32 --dialogues 64

trains a preset with random weights on random tokens through the real loop, in stage 1 (packed text) and stage 4
(dialogues), in float32 and, where the hardware multiplies it faster, bfloat16. The arithmetic of a step is counted with
PyTorch's `FlopCounterMode`: every matrix product, forward and backward, of the parts that train; attention in full
whether masked or not; each token with its own experts only. The machine's rate is that of one large product of the same
type, measured around each stage in the same run; the best of all counts. A step's time is the median. Evaluation and
checkpoints take no part.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from records import RESULTS, Record
from rxlm.data.batches import DialogueBatch, TurnBatch
from rxlm.data.packing import PackedBatch
from rxlm.nn.device import device_of
from rxlm.rxt.presets import build_preset
from rxlm.training.config import Precision, TrainingConfig
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import TrainModule
from rxlm.training.precision import computes_bfloat16, product_rate
from rxlm.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        preset: size of the model.
        rows: sequences of stage 1 in a step, as long as the preset's interactions, of four documents each.
        dialogues, turns, turn_tokens: of stage 4 in a step; half of a turn is its answer.
        steps: steps to measure; one more comes first, to warm up.
        device: cpu, cuda, cuda:1, ...
        threads: of PyTorch; its own choice if not given.
        output: folder for the figures.
    """

    preset: Literal["tiny", "nano", "micro", "mini", "alpha"] = "micro"
    rows: int = 16
    dialogues: int = 8
    turns: int = 4
    turn_tokens: int = 128
    steps: int = 5
    device: str = "cpu"
    threads: int | None = None
    output: Path = RESULTS


@dataclass(frozen=True)
class Result:
    """What a stage did: tokens and operations of a step, seconds of each, and the machine's operations a second."""

    stage: str
    precision: str
    tokens: int
    all_seconds: list[float]
    operations: float
    rate: float

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.all_seconds)

    @property
    def share(self) -> float:
        """Share of the machine's rate that training reached."""
        return self.operations / self.seconds / self.rate


class OneBatch:
    """The same batch for ever."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __next__(self) -> Any:
        return self.batch

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        pass

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def stages(settings: Settings) -> dict[str, tuple[TrainModule, Any]]:
    """Return the stages to measure, each with a batch."""
    torch.manual_seed(0)
    model = build_preset(settings.preset)
    vocab_size, length = model.decoder.config.vocab_size, model.max_seq_len
    ids = torch.randint(10, vocab_size, (settings.rows, length))
    places = torch.arange(length).expand(settings.rows, -1)
    text = PackedBatch(ids, segments=1 + 4 * places // length, positions=places % (length // 4))
    shape = settings.dialogues, settings.turn_tokens
    real = torch.ones(shape, dtype=torch.bool)
    answers = (torch.arange(settings.turn_tokens) >= settings.turn_tokens // 2).expand(shape)
    turns = tuple(TurnBatch(torch.randint(10, vocab_size, shape), real, answers) for _ in range(settings.turns))
    return {
        "1 text": (JointLanguageModelling(model, JointConfig(targets="all")), text),
        "4 dialogues": (MemoryAware(model, MemoryAwareConfig(unroll=settings.turns)), DialogueBatch(turns, ())),
    }


def measure(settings: Settings, console: Console) -> list[Result]:
    """Measure every stage in every precision."""
    device = device_of(settings.device)
    size = 8192 if device.type == "cuda" else 2048
    precisions: list[Precision] = ["float32", *(["bfloat16"] if computes_bfloat16(device) else [])]
    results = []
    for precision in precisions:
        for name, (module, batch) in stages(settings).items():
            module.to(device)
            with console.status(f"stage {name} in {precision}"):
                operations = count_operations(module, batch)
                rate = product_rate(getattr(torch, precision), size, device=device)
                seconds = seconds_of_steps(module, batch, precision, settings.steps)
                rate = max(rate, product_rate(getattr(torch, precision), size, device=device))
            results.append(Result(name, precision, batch.num_tokens, seconds, operations, rate))
    best = {result.precision: 0.0 for result in results}
    for result in results:
        best[result.precision] = max(best[result.precision], result.rate)
    return [replace(result, rate=best[result.precision]) for result in results]


def count_operations(module: TrainModule, batch: Any) -> float:
    """Count the floating-point operations of a step's matrix products, forward and backward."""
    prepared = module.prepare(batch, torch.Generator().manual_seed(0))
    module.start_step(0)
    module.train()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # which is made of products
        module(prepared, module.counts(prepared)).total.backward()
    module.zero_grad()
    return counter.get_total_flops()


def seconds_of_steps(module: TrainModule, batch: Any, precision: Precision, steps: int) -> list[float]:
    """Train for some steps through the real loop, and return the time of each."""
    config = TrainingConfig(steps=steps + 1, precision=precision, log_every=1, checkpoint_every=None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer("benchmark", module, OneBatch(batch), config, Path(folder))
        trainer.run()
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["seconds_per_step"] for line in lines[1:]]


def report(results: list[Result], settings: Settings, console: Console) -> None:
    """Print a line for each stage."""
    where = settings.device if settings.device != "cpu" else f"{torch.get_num_threads()} threads"
    table = Table(title=f"{settings.preset}, {where}")
    columns = ("stage", "precision", "tokens/s", "ms a step", "Mflop/token", "Gflop/s", "machine's Gflop/s", "share")
    for column in columns:
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            result.stage,
            result.precision,
            f"{result.tokens / result.seconds:,.0f}",
            f"{1e3 * result.seconds:,.0f}",
            f"{result.operations / result.tokens / 1e6:.1f}",
            f"{result.operations / result.seconds / 1e9:,.1f}",
            f"{result.rate / 1e9:,.1f}",
            f"{result.share:.0%}",
        )
    console.print(table)


def main(settings: Settings) -> None:
    """Measure and print."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console(width=120)
    results = measure(settings, console)
    report(results, settings, console)
    record = Record(settings.output / f"training-{settings.preset}.json", settings)
    for result in results:
        name = f"stage {result.stage}/{result.precision}"
        speeds = [result.tokens / seconds for seconds in result.all_seconds]
        shares = [result.operations / seconds / result.rate for seconds in result.all_seconds]
        record.add(f"{name}/speed", speeds, "tokens/s", better="more")
        record.add(f"{name}/operations", result.operations, "a step", better="less", kind="exact")
        record.add(f"{name}/share of the product rate", shares, "", better="more", kind="ratio")
    record.save()


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
