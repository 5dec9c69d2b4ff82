"""What a turn costs: a Reactive Transformer beside a stateless Llama of the same active size.

    python benchmarks/inference.py --preset micro

prints, at turns 1, 8, 64 and 256 of one conversation of 256-token turns, the time to the first token, the tokens a
second and the bytes that the conversation keeps, for the RxT and for a `transformers` Llama (a) that reads its history
again at every turn and (b) that keeps its key/value cache; then tokens a second alone and in a batch, the time of a
memory update, and which share of the machine's memory bandwidth decoding reaches. Weights are random: no figure depends
on them. A plot and the figures go to the output folder.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

from llama_peer import LlamaPeer
from plots import plot_turns
from records import RESULTS, Record
from rxlm.export.engines import use_engine
from rxlm.export.names import Engine
from rxlm.memory import MemoryState
from rxlm.rxt.accounting import decoding_parameters, memory_bytes
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import build_preset
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig

GREEDY = SamplingConfig(temperature=0.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        preset: size of the model.
        engine: what computes it; see docs/engines.md.
        turns: turns of the conversation at which to measure.
        query_tokens: tokens of a query, at most a quarter of a turn; the answer fills the turn to the preset's longest
            interaction, at most 256.
        batch_size: conversations of the batched measurement.
        repeats: each figure is the best of so many.
        threads: of PyTorch; its own choice if not given.
        limit_seconds: a turn of the Llama that would take longer than this is left out.
        limit_gigabytes: a key/value cache that would be larger than this is left out.
        output: folder for the plot and the figures.
    """

    preset: Literal["tiny", "nano", "micro", "mini", "alpha"] = "micro"
    engine: Engine = "torch"
    turns: tuple[int, ...] = (1, 8, 64, 256)
    query_tokens: int = 64
    batch_size: int = 16
    repeats: int = 7
    threads: int | None = None
    limit_seconds: float = 120.0
    limit_gigabytes: float = 8.0
    output: Path = RESULTS


@dataclass
class Turn:
    """What one turn cost, or why it was not measured."""

    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    bytes_kept: int | None = None
    left_out: str = ""


@dataclass
class Results:
    """All figures of a run, of each repeat; times in milliseconds, speeds in tokens a second."""

    preset: str
    active_parameters: int
    llama_parameters: int = 0
    turn_tokens: int = 256
    threads: int = field(default_factory=torch.get_num_threads)
    bandwidth_gb_per_s: float = 0.0
    updates_ms: dict[int, list[float]] = field(default_factory=dict)
    batched_runs: list[Turn] = field(default_factory=list)
    runs: dict[str, dict[int, list[Turn]]] = field(default_factory=dict)

    @property
    def turns(self) -> dict[str, dict[int, Turn]]:
        """The best of each turn's runs."""
        return {name: {turn: best(each) for turn, each in turns.items()} for name, turns in self.runs.items()}

    @property
    def alone(self) -> float:
        """Highest speed of one conversation."""
        return max(turn.tokens_per_second or 0.0 for turn in self.turns["RxT"].values())

    @property
    def batched(self) -> float:
        """Highest speed of a batch."""
        return best(self.batched_runs).tokens_per_second or 0.0


class Reactive:
    """One conversation with a RxT, and its memory at the turns that are measured."""

    def __init__(self, model: RxTAlpha, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.turn_tokens = min(256, model.max_seq_len)
        self.query_tokens = min(settings.query_tokens, self.turn_tokens // 4)

    @torch.no_grad()
    def memories(self) -> dict[int, MemoryState]:
        """Live through the conversation, really updating the memory; return it as it is before each measured turn."""
        memory, kept = self.model.init_memory(seed=0), {}
        for turn in range(1, max(self.settings.turns) + 1):
            if turn in self.settings.turns:
                kept[turn] = memory
            ids = self._random_ids(1, self.turn_tokens)
            memory = self.model.update_memory(memory, ids)
        return kept

    @torch.no_grad()
    def update_ms(self, rows: int) -> float:
        """Return how long it takes to write a turn to the memories of so many conversations, and to read them."""
        memory, ids = self.model.init_memory(rows, seed=0), self._random_ids(rows, self.turn_tokens)
        started = time.perf_counter()
        self.model.read_memory(self.model.update_memory(memory, ids))
        return 1e3 * (time.perf_counter() - started)

    @torch.no_grad()
    def answer(self, memory: MemoryState, batch_size: int = 1) -> Turn:
        """Answer one query from a memory whose keys and values are ready, as they are after an update."""
        reading = self.model.read_memory(memory)
        prompt = Prompt(self._random_ids(batch_size, self.query_tokens), [self.query_tokens] * batch_size)
        started = time.perf_counter()
        columns = self.model.generate(prompt, reading, sampling=GREEDY, max_seq_len=self.turn_tokens, ignore_eos=True)
        next(columns)
        first = time.perf_counter()
        count = sum(1 for _ in columns)
        seconds = time.perf_counter() - first
        return Turn(1e3 * (first - started), batch_size * count / seconds, memory_bytes(self.model))

    def _random_ids(self, rows: int, tokens: int) -> torch.Tensor:
        return torch.randint(self.model.decoder.config.vocab_size, (rows, tokens))


def measure(settings: Settings, console: Console) -> Results:
    """Measure everything; the turns of the RxT in alternation, so that a slow moment of the machine hits all alike."""
    torch.manual_seed(0)
    model = build_preset(settings.preset).eval()
    results = Results(settings.preset, decoding_parameters(model))
    results.bandwidth_gb_per_s = memory_bandwidth()
    reactive = Reactive(model, settings)
    peer = LlamaPeer(model, reactive.turn_tokens, reactive.query_tokens, max(settings.turns))
    use_engine(model, settings.engine)
    results.turn_tokens = reactive.turn_tokens
    with console.status("RxT: living through the conversation"):
        memories = reactive.memories()
    for rows in (1, settings.batch_size):
        results.updates_ms[rows] = [reactive.update_ms(rows) for _ in range(3 * settings.repeats)]
    with console.status("RxT: measuring turns"):
        runs = [{turn: reactive.answer(memory) for turn, memory in memories.items()} for _ in range(settings.repeats)]
        results.runs["RxT"] = {turn: [run[turn] for run in runs] for turn in memories}
    with console.status(f"RxT: a batch of {settings.batch_size}"):
        batch = model.init_memory(settings.batch_size, seed=0)
        results.batched_runs = [reactive.answer(batch, settings.batch_size) for _ in range(3)]
    results.llama_parameters = peer.active_parameters
    ways: dict[str, Callable[..., Turn]] = {"Llama, re-reads": peer.reread, "Llama, keeps its cache": peer.keep_cache}
    for name, way in ways.items():
        with console.status(name):
            results.runs[name] = peer_turns(way, settings)
    return results


def peer_turns(way: Callable[..., Any], settings: Settings) -> dict[int, list[Turn]]:
    """Measure the Llama turn by turn, up to the limits of time and memory."""
    measured: dict[int, list[Turn]] = {}
    last: tuple[int, float] | None = None
    for turn in settings.turns:
        # Reading n tokens takes at most n^2 as long: what the last measured turn says of this one.
        expected = 0.0 if last is None else last[1] * (turn / last[0]) ** 2
        if expected > settings.limit_seconds:
            measured[turn] = [Turn(left_out=f"would take over {settings.limit_seconds:.0f} s")]
            continue
        repeats = 3 if expected < 2 else 1
        started = time.perf_counter()
        measured[turn] = [Turn(*way(turn, settings.limit_gigabytes)) for _ in range(repeats)]
        last = turn, (time.perf_counter() - started) / repeats
    return measured


def best(runs: list[Turn]) -> Turn:
    """Return the shortest time and the highest speed of several measurements."""
    if runs[0].left_out:
        return runs[0]
    return Turn(
        min(run.first_token_ms for run in runs if run.first_token_ms is not None),
        max(run.tokens_per_second for run in runs if run.tokens_per_second is not None),
        runs[0].bytes_kept,
    )


def memory_bandwidth(megabytes: int = 512) -> float:
    """Return the highest speed, in GB/s, at which all threads read a buffer once over.

    The buffer is far larger than any last-level cache, so that each pass comes from memory; which of the two
    reductions reads faster depends on the processor.
    """
    buffer = torch.ones(megabytes * 2**18)
    times = []
    for _ in range(10):
        for read in (torch.sum, torch.max):
            started = time.perf_counter()
            read(buffer)
            times.append(time.perf_counter() - started)
    return buffer.numel() * 4 / min(times) / 1e9


def report(results: Results, settings: Settings, console: Console) -> None:
    """Print the tables and the ratios."""
    turns_of = f"one conversation of {results.turn_tokens}-token turns"
    title = f"{results.preset}, engine {settings.engine}: {turns_of}, {results.threads} threads"
    table = Table(title=title)
    table.add_column("turn", justify="right")
    for name in results.turns:
        table.add_column(f"{name}\nfirst token, ms", justify="right")
        table.add_column("\ntokens/s", justify="right")
        table.add_column("\nkeeps", justify="right")
    for turn in settings.turns:
        cells = []
        for turns in results.turns.values():
            cost = turns[turn]
            cells += ["-", "-", cost.left_out] if cost.left_out else [
                f"{cost.first_token_ms:,.1f}", f"{cost.tokens_per_second:,.0f}", _bytes(cost.bytes_kept or 0)
            ]  # fmt: skip
        table.add_row(str(turn), *cells)
    console.print(table)
    for line in ratios(results, settings):
        console.print(line)


def ratios(results: Results, settings: Settings) -> list[str]:
    """Return the figures that the benchmark is for, a sentence each."""
    rxt = results.turns["RxT"]
    first, last = rxt[settings.turns[0]], rxt[settings.turns[-1]]
    used = results.active_parameters * 4 * results.alone / 1e9
    return [
        f"active parameters a token: RxT {results.active_parameters:,}, Llama {results.llama_parameters:,}",
        f"turn {settings.turns[-1]} against turn {settings.turns[0]}: first token "
        f"{_ratio(last.first_token_ms, first.first_token_ms)}, speed "
        f"{_ratio(last.tokens_per_second, first.tokens_per_second)}",
        f"alone {results.alone:,.0f} tokens/s, batch of {settings.batch_size} {results.batched:,.0f} tokens/s: "
        f"{results.batched / results.alone:.2f} times",
        "memory update "
        + ", ".join(f"{min(each):.2f} ms ({rows} row{'s' * (rows > 1)})" for rows, each in results.updates_ms.items())
        + ", in the background",
        f"memory bandwidth {results.bandwidth_gb_per_s:.1f} GB/s; decoding alone reads weights at {used:.1f} GB/s: "
        f"{used / results.bandwidth_gb_per_s:.0%}",
    ]


def add_figures(results: Results, record: Record, settings: Settings) -> None:
    """Add the figures with their samples."""
    for name, turns in results.runs.items():
        for turn, runs in turns.items():
            place = f"{name}/turn {turn}"
            record.add(f"{place}/first token", [run.first_token_ms for run in runs], "ms", better="less")
            record.add(f"{place}/speed", [run.tokens_per_second for run in runs], "tokens/s", better="more")
            record.add(f"{place}/kept", runs[0].bytes_kept, "bytes", better="less", kind="exact")
    rxt = results.runs["RxT"]
    ends = list(zip(rxt[settings.turns[0]], rxt[settings.turns[-1]], strict=True))
    times = [(last.first_token_ms or 0) / (first.first_token_ms or 1) for first, last in ends]
    speeds = [(last.tokens_per_second or 0) / (first.tokens_per_second or 1) for first, last in ends]
    record.add("last turn's first token beside the first turn's", times, "times", better="less", kind="ratio")
    record.add("last turn's speed beside the first turn's", speeds, "times", better="more", kind="ratio")
    batch = [(run.tokens_per_second or 0) / results.alone for run in results.batched_runs]
    record.add(f"batch of {settings.batch_size} beside one", batch, "times", better="more", kind="ratio")
    for rows, updates in results.updates_ms.items():
        record.add(f"memory update/{rows} rows", updates, "ms", better="less")
        first = min(run.first_token_ms or 0.0 for run in rxt[settings.turns[0]])
        beside = [each / first for each in updates]
        record.add(f"memory update/{rows} rows, beside a first token", beside, "times", better="less", kind="ratio")
    used = results.active_parameters * 4 * results.alone / 1e9
    record.add("share of memory bandwidth", used / results.bandwidth_gb_per_s, "", better="more", kind="ratio")


def _ratio(value: float | None, base: float | None) -> str:
    return f"x {value / base:.3f}" if value and base else "-"


def _bytes(number: int) -> str:
    return f"{number / 1e6:,.2f} MB" if number >= 1e5 else f"{number / 1e3:,.1f} kB"


def main(settings: Settings) -> None:
    """Measure, print, plot."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console = Console(width=160)
    results = measure(settings, console)
    report(results, settings, console)
    target = settings.output / f"inference-{settings.preset}"
    record = Record(target.with_suffix(".json"), settings)
    add_figures(results, record, settings)
    record.save()
    plot_turns(
        {name: {turn: asdict(cost) for turn, cost in turns.items()} for name, turns in results.turns.items()},
        f"{settings.preset}: {results.active_parameters / 1e6:.1f} M active parameters, {results.threads} CPU threads",
        target.with_suffix(".png"),
        results.turn_tokens,
    )
    console.print(f"plot and figures: {target}.png, {target}.json")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
