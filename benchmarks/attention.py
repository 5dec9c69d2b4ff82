"""What attention costs, by its kind: MHA, GQA, MQA and the SQA family, beside what their arithmetic says.

    python benchmarks/attention.py
    python benchmarks/attention.py --device cuda --tokens 16384 65536 200000 --window 1024

prints, for each number of tokens, how many times as fast as MHA each kind is, forward and forward with backward, for
one attention layer and for a whole language model; beside it how many times fewer operations it has. All kinds take
turns within a round and the median of the rounds' ratios counts, so that a machine that slows down slows all alike.
Attention is causal; pairs of tokens that it does not look at are not counted. `torch` is multi-head attention of
PyTorch's own parts, without rotary embedding. Weights are random: no figure depends on them. A plot and the figures
go to the output folder.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from plots import plot_speeds
from records import RESULTS, Record
from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.device import Dtype, dtype_of
from rxlm.nn.heads import head_counts
from rxlm.nn.rope import RotaryEmbedding, token_positions

BASE = "mha"
PEER = "torch"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        tokens: lengths of the sequence, for one layer.
        model_tokens: lengths of the sequence, for the whole model.
        backward_tokens: longest sequence whose backward pass is measured, too.
        variants: kinds of attention; the first is what the others are compared with.
        dim, num_heads, num_layers, ff_dim: of the layer and of the model.
        window: of a sliding window that is measured beside full attention (`name+window`); 0 for none.
        rounds: of which the median counts; one round is enough where a call takes longer than `long_seconds`.
        long_seconds: see `rounds`.
        device: cpu, cuda, cuda:1, ... dtype: of weights and sequence; auto: bfloat16 on a GPU.
        threads: of PyTorch; its own choice if not given.
        output: folder for the plot and the figures.
    """

    tokens: tuple[int, ...] = (1024, 4096, 16384, 65536)
    model_tokens: tuple[int, ...] = (1024, 4096, 16384)
    backward_tokens: int = 16384
    variants: tuple[str, ...] = (BASE, "gqa", "mqa", "sqa", "ssqa", "xsqa")
    dim: int = 256
    num_heads: int = 16
    num_layers: int = 8
    ff_dim: int = 768
    window: int = 128
    rounds: int = 5
    long_seconds: float = 10.0
    device: str = "cpu"
    dtype: Dtype = "auto"
    threads: int | None = None
    output: Path = RESULTS


@dataclass(frozen=True)
class Speed:
    """One kind's figures at one length: the seconds of a call, and how many times as fast as the first kind, by round.

    `fewer_operations` is how many times fewer floating-point operations it has.
    """

    what: str
    direction: Literal["forward", "forward + backward"]
    variant: str
    tokens: int
    all_seconds: list[float]
    ratios: list[float]
    fewer_operations: float

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.all_seconds)

    @property
    def times_as_fast(self) -> float:
        """The median."""
        return statistics.median(self.ratios)


class TorchAttention(nn.Module):
    """Multi-head attention of PyTorch's own parts and nothing else."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj, self.out_proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.in_proj(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One attention layer of ours, causal, with rotary embedding."""

    def __init__(self, settings: Settings, variant: str, window: int | None) -> None:
        super().__init__()
        counts = head_counts(variant, settings.num_heads)._asdict()
        config = AttentionConfig(num_heads=settings.num_heads, **counts, sliding_window=window)
        self.attention = config.build(settings.dim)
        self.rope = RotaryEmbedding(settings.dim // settings.num_heads)

    def forward(self, x: Tensor) -> Tensor:
        rotation = self.rope(token_positions(x.shape[1], device=x.device))
        return self.attention(x, query_rotation=rotation, key_rotation=rotation, causal=True)


class Model(nn.Module):
    """The body of a language model, without its head, from random embeddings."""

    def __init__(self, settings: Settings, variant: str, window: int | None) -> None:
        super().__init__()
        config = DecoderLMConfig(
            vocab_size=256,
            hidden_size=settings.dim,
            intermediate_size=settings.ff_dim,
            num_hidden_layers=settings.num_layers,
            num_attention_heads=settings.num_heads,
            attention=variant,
            sliding_window=window,
            max_position_embeddings=max(settings.model_tokens),
            use_cache=False,
        )
        self.body = DecoderLMForCausalLM(config).model

    def forward(self, x: Tensor) -> Tensor:
        return self.body(inputs_embeds=x).last_hidden_state


def operations(settings: Settings, variant: str, tokens: int, window: int, *, whole_model: bool) -> float:
    """Count the floating-point operations of a forward pass: products of matrices, two a multiply-add."""
    queries, kvs = head_counts(variant, settings.num_heads)
    width, head = max(queries, kvs), settings.dim // settings.num_heads
    projections = 2 * tokens * settings.dim * head * (queries + 2 * kvs + width)
    seen = min(window or tokens, tokens)
    pairs = seen * (seen + 1) / 2 + (tokens - seen) * seen
    layer = projections + 4 * pairs * width * head
    feed_forward = 2 * tokens * settings.dim * settings.ff_dim * 3
    return settings.num_layers * (layer + feed_forward) if whole_model else layer


def call(module: nn.Module, x: Tensor, *, backward: bool) -> float:
    """Return the seconds of one call."""
    _synchronise(x)
    started = time.perf_counter()
    if backward:
        module(x).sum().backward()
        module.zero_grad()
    else:
        with torch.inference_mode():
            module(x)
    _synchronise(x)
    return time.perf_counter() - started


def _synchronise(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)


def type_of(settings: Settings) -> torch.dtype:
    """Return the type of weights and sequence."""
    return dtype_of(settings.dtype, settings.device) or torch.float32


def measure(
    settings: Settings,
    what: str,
    modules: dict[str, tuple[nn.Module, Callable[[int], float]]],
    lengths: tuple[int, ...],
    console: Console,
) -> list[Speed]:
    """Measure modules beside each other; each comes with its number of operations for so many tokens."""
    results: list[Speed] = []
    first = next(iter(modules))
    for tokens in lengths:
        x = torch.randn(1, tokens, settings.dim, device=settings.device, dtype=type_of(settings))
        for backward in (False, True) if tokens <= settings.backward_tokens else (False,):
            direction = "forward + backward" if backward else "forward"
            with console.status(f"{what}, {tokens:,} tokens, {direction}"):
                rounds = _rounds(settings, [module for module, _ in modules.values()], x, backward)
            base = modules[first][1](tokens)
            for index, (name, (_, count)) in enumerate(modules.items()):
                ratios = [times[0] / times[index] for times in rounds]
                seconds = [times[index] for times in rounds]
                results.append(Speed(what, direction, name, tokens, seconds, ratios, base / count(tokens)))
    return results


def _rounds(settings: Settings, modules: list[nn.Module], x: Tensor, backward: bool) -> list[list[float]]:
    """Return the seconds of each module in each round; a first, uncounted one where calls are short."""
    first = [call(module, x, backward=backward) for module in modules]
    if max(first) > settings.long_seconds:
        return [first]
    return [[call(module, x, backward=backward) for module in modules] for _ in range(settings.rounds)]


def main(settings: Settings) -> None:
    """Measure, print and draw."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    console = Console()
    results: list[Speed] = []
    makers: dict[str, tuple[type[Layer] | type[Model], tuple[int, ...]]] = {
        "one attention layer": (Layer, settings.tokens),
        f"model of {settings.num_layers} layers": (Model, settings.model_tokens),
    }
    for what, (make, lengths) in makers.items():
        modules: dict[str, tuple[nn.Module, Callable[[int], float]]] = {}
        for window in (0, settings.window) if settings.window else (0,):
            for variant in settings.variants:
                module = make(settings, variant, window or None).to(settings.device, type_of(settings))
                name = f"{variant}+window" if window else variant
                modules[name] = module, _counter(settings, variant, window, make is Model)
        if make is Layer:
            peer = TorchAttention(settings.dim, settings.num_heads).to(settings.device, type_of(settings))
            modules[PEER] = peer, _counter(settings, BASE, 0, False)
        results += measure(settings, what, modules, lengths, console)
        _print([speed for speed in results if speed.what == what], console)
    _write(settings, results)
    console.print(f"Figures and plot: {settings.output / 'attention.json'}, {settings.output / 'attention.png'}")


def _counter(settings: Settings, variant: str, window: int, whole_model: bool) -> Callable[[int], float]:
    return lambda tokens: operations(settings, variant, tokens, window, whole_model=whole_model)


def _print(results: list[Speed], console: Console) -> None:
    """Print a table a direction: a row a kind, a column a length; in brackets how many times fewer operations."""
    for direction in dict.fromkeys(speed.direction for speed in results):
        speeds = [speed for speed in results if speed.direction == direction]
        lengths = list(dict.fromkeys(speed.tokens for speed in speeds))
        base = speeds[0].variant
        title = f"{speeds[0].what}, {direction}: times as fast as {base} (times fewer operations)"
        table = Table("kind", *(f"{length:,} tokens" for length in lengths), title=title)
        for variant in dict.fromkeys(speed.variant for speed in speeds):
            row = [speed for speed in speeds if speed.variant == variant]
            if variant == base:
                table.add_row(variant, *(f"{speed.seconds:.3g} s" for speed in row))
            else:
                cells = (f"{speed.times_as_fast:.2f} ({speed.fewer_operations:.2f})" for speed in row)
                table.add_row(variant, *cells)
        console.print(table)


def _write(settings: Settings, results: list[Speed]) -> None:
    record = Record(settings.output / "attention.json", settings)
    for speed in results:
        name = f"{speed.what}/{speed.direction}/{speed.tokens}/{speed.variant}"
        record.add(name, speed.all_seconds, "s", better="less")
        if speed.variant != BASE:
            record.add(f"{name}, beside {BASE}", speed.ratios, "times as fast", better="more", kind="ratio")
    record.save()
    plot_speeds(results, settings.output / "attention.png")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
