"""What sentence BLEU costs: TensorBLEU beside NLTK on the same ids, in the same run, on the same cores.

    OMP_NUM_THREADS=2 python benchmarks/tensorbleu.py --plot tensorbleu.png

prints, for batches of 32 to 512 sentences of 256 and 1,024 tokens, the time of both and their ratio, and the memory
that a call takes beside its input, for more and more tokens. The two are timed in turns, so that a slow moment of the
machine hits both; a ratio is the median of those of all turns. On the CPU the time is that of the processor, all
threads added up: other programs on the same cores do not lengthen it, though they empty its caches. NLTK scores a part
of a batch only, and its time is scaled to the whole: it scores sentence by sentence. Both must agree within 1e-6, or
the run stops.

Two kinds of text. *edited*: the reference's ids are drawn with a probability of 1 / rank (Zipf's law); the candidate is
the reference with 30 % of its tokens replaced and 5 % deleted, at random, and as many appended. *random*: both are
drawn uniformly and share next to nothing. With a GPU, TensorBLEU runs there; `--device cpu` keeps it on the CPU.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rich.console import Console
from rich.table import Table
from torch import Tensor

from records import RESULTS, Record
from rxlm.metrics.tensorbleu import bleu_signature, tensor_sentence_bleu


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        batch_sizes: sentences in a batch.
        tokens: lengths of candidate and reference.
        vocabulary: number of ids.
        references: of each candidate.
        repeats: pairs of measurements behind each ratio.
        nltk_tokens: tokens of candidates that NLTK scores in each measurement, a sentence at least.
        memory_batch: sentences in the batch whose memory is measured, at 1/4, 1/2, 1 and 2 times the longest tokens.
        device: where TensorBLEU runs.
        plot: file for a PNG.
        output: folder for the figures.
    """

    batch_sizes: tuple[int, ...] = (32, 128, 256, 512)
    tokens: tuple[int, ...] = (256, 1024)
    vocabulary: int = 32_000
    references: int = 1
    repeats: int = 5
    nltk_tokens: int = 16_384
    memory_batch: int = 256
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    plot: Path | None = None
    output: Path = RESULTS


@dataclass(frozen=True)
class Speed:
    """Times of one batch, in milliseconds, their ratio, and the mean score; of times and ratio all pairs, too."""

    kind: str
    batch_size: int
    tokens: int
    bleu: float
    nltk: float
    ours: float
    ratio: float
    all_ours: list[float]
    ratios: list[float]


@dataclass(frozen=True)
class Memory:
    """Bytes of the ids of one batch, and the most that a call needed beside them."""

    tokens: int
    ids: int
    extra: int


def edited(batch_size: int, settings: Settings, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return candidates (B, T) and references (B, R, T) with much in common."""
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, settings.vocabulary)
    cumulative = np.cumsum(shares / shares.sum())

    def draw(*shape: int) -> np.ndarray:
        return 1 + np.searchsorted(cumulative, random.random(shape)).clip(max=settings.vocabulary - 2)

    references = draw(batch_size, settings.references, tokens)
    candidates = references[:, 0].copy()
    replaced = random.random(candidates.shape) < 0.3
    candidates[replaced] = draw(int(replaced.sum()))
    for row in candidates:
        kept = row[random.random(tokens) >= 0.05]
        row[:] = np.concatenate([kept, draw(tokens - len(kept))])
    return candidates, references


def random(batch_size: int, settings: Settings, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Return candidates (B, T) and references (B, R, T) with next to nothing in common."""
    numbers = np.random.default_rng(0)
    candidates = numbers.integers(1, settings.vocabulary, (batch_size, tokens))
    return candidates, numbers.integers(1, settings.vocabulary, (batch_size, settings.references, tokens))


KINDS = {"edited": edited, "random": random}


def measure_speed(kind: str, batch_size: int, tokens: int, settings: Settings) -> Speed:
    """Time both on one batch, in turns."""
    arrays = KINDS[kind](batch_size, settings, tokens)
    candidates, references = (torch.from_numpy(array).to(settings.device) for array in arrays)
    part = max(1, min(batch_size, settings.nltk_tokens // tokens))
    lists = [array[:part].tolist() for array in arrays]
    smoothing = SmoothingFunction().method3

    def nltk() -> list[float]:
        return [
            sentence_bleu(group, candidate, smoothing_function=smoothing)
            for candidate, group in zip(*lists, strict=True)
        ]

    def ours() -> Tensor:
        scores = tensor_sentence_bleu(candidates, references)
        if scores.is_cuda:
            torch.cuda.synchronize()
        return scores

    scores = ours()
    difference = np.abs(scores[:part].cpu().numpy() - np.array(nltk())).max()
    if difference > 1e-6:
        raise SystemExit(f"NLTK and TensorBLEU differ by {difference:.1e}")
    clock = time.perf_counter if scores.is_cuda else time.process_time
    pairs = [
        (seconds(nltk, clock) * batch_size / part, statistics.median(seconds(ours, clock) for _ in range(7)))
        for _ in range(settings.repeats)
    ]
    theirs, own = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = [their / one for their, one in pairs]
    every = [1e3 * one for _, one in pairs]
    ratio = statistics.median(ratios)
    return Speed(kind, batch_size, tokens, float(scores.mean()), theirs, own, ratio, every, ratios)


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long a call takes."""
    started = clock()
    call()
    return clock() - started


def measure_memory(tokens: int, settings: Settings) -> Memory:
    """Return the memory of one call: on the CPU, of numpy, which does all but the last few numbers of a sentence."""
    arrays = edited(settings.memory_batch, settings, tokens)
    candidates, references = (torch.from_numpy(array).to(settings.device) for array in arrays)
    tensor_sentence_bleu(candidates, references)  # loads what a first call loads
    ids = candidates.nbytes + references.nbytes
    if candidates.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        tensor_sentence_bleu(candidates, references)
        return Memory(tokens, ids, torch.cuda.max_memory_allocated() - before)
    tracemalloc.start()
    tensor_sentence_bleu(candidates, references)
    _, extra = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Memory(tokens, ids, extra)


def report(speeds: list[Speed], memories: list[Memory], settings: Settings, console: Console) -> None:
    """Print the tables."""
    where = f"{settings.device}, {torch.get_num_threads()} threads"
    table = Table(
        title=f"{bleu_signature()}\n{settings.references} reference(s), vocabulary {settings.vocabulary:,}, {where}"
    )
    for name in ("text", "batch", "tokens", "mean BLEU", "NLTK, ms", "TensorBLEU, ms", "times as fast"):
        table.add_column(name, justify="left" if name == "text" else "right")
    for speed in speeds:
        table.add_row(
            speed.kind, str(speed.batch_size), f"{speed.tokens:,}", f"{speed.bleu:.3f}", f"{speed.nltk:,.0f}",
            f"{speed.ours:,.2f}", f"{speed.ratio:,.0f}",
        )  # fmt: skip
    console.print(table)
    table = Table(title=f"memory of one call, batch {settings.memory_batch}")
    for name in ("tokens", "ids, MB", "beside them at most, MB", "bytes a token"):
        table.add_column(name, justify="right")
    for memory in memories:
        count = settings.memory_batch * (1 + settings.references) * memory.tokens
        cells = (
            f"{memory.tokens:,}",
            f"{memory.ids / 1e6:,.1f}",
            f"{memory.extra / 1e6:,.1f}",
            f"{memory.extra / count:,.1f}",
        )
        table.add_row(*cells)
    console.print(table)


def plot(speeds: list[Speed], memories: list[Memory], settings: Settings, path: Path) -> None:
    """Draw the ratios against the batch, and memory against tokens."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    colours = {"edited": "#1b6ca8", "random": "#c8553d"}
    lines = zip(settings.tokens, ("--", "-", ":", "-.") * len(settings.tokens), strict=False)
    for tokens, dashes in lines:
        for kind, colour in colours.items():
            points = {speed.batch_size: speed.ratio for speed in speeds if (speed.kind, speed.tokens) == (kind, tokens)}
            left.plot(
                list(points),
                list(points.values()),
                dashes,
                color=colour,
                marker="o",
                label=f"{kind}, {tokens:,} tokens",
            )
    left.axhline(1, color="grey", linewidth=1)
    left.set_xscale("log", base=2)
    left.set_xticks(settings.batch_sizes, [str(size) for size in settings.batch_sizes])
    left.minorticks_off()
    left.set_ylim(bottom=0)
    left.set(xlabel="sentences in a batch", ylabel="times as fast as NLTK", title=f"speed ({settings.device})")
    left.legend(frameon=False)
    millions = [settings.memory_batch * (1 + settings.references) * memory.tokens / 1e6 for memory in memories]
    for label, amounts in (
        ("the ids", [memory.ids / 1e6 for memory in memories]),
        ("beside them, at most", [memory.extra / 1e6 for memory in memories]),
    ):
        right.plot(millions, amounts, marker="o", label=label)
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    right.set(xlabel="millions of tokens in a batch", ylabel="megabytes", title="memory of one call")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(settings: Settings) -> None:
    """Measure, print, plot."""
    console = Console(width=160)
    speeds: list[Speed] = []
    for kind in KINDS:
        for tokens in settings.tokens:
            console.print(f"timing {kind} text of {tokens:,} tokens")  # no spinner: its thread would be timed as well
            speeds += [measure_speed(kind, batch_size, tokens, settings) for batch_size in settings.batch_sizes]
    memories = [measure_memory(max(settings.tokens) * quarters // 4, settings) for quarters in (1, 2, 4, 8)]
    report(speeds, memories, settings, console)
    record = Record(settings.output / "tensorbleu.json", settings, free=("plot",))
    for speed in speeds:
        name = f"{speed.kind}/{speed.batch_size} x {speed.tokens}"
        record.add(name, speed.all_ours, "ms", better="less")
        record.add(f"{name}, beside NLTK", speed.ratios, "times as fast", better="more", kind="ratio")
    for memory in memories:
        record.add(f"memory/{memory.tokens} tokens", memory.extra, "bytes", better="less", kind="ratio")
    record.save()
    if settings.plot is not None:
        plot(speeds, memories, settings, settings.plot)
        console.print(f"plot: {settings.plot}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
