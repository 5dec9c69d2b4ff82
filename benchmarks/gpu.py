"""What a GPU makes of a turn: decoding with and without CUDA graphs, prefill, the memory's update, and parity.

    python benchmarks/gpu.py MODEL

MODEL is a folder, a hub id or a GGUF file. For each number of conversations at once, in bfloat16 and float32: tokens a
second of an answer, and the share of the card's memory bandwidth at which a step reads the weights and the kept keys
and values; with the step captured as a CUDA graph and without, in turns. Then time to the first token of a prompt, and
of the update after an answer. Parity: what the GPU's head reads in each of these ways, beside float32 on the CPU, for
MODEL and for small models of every kind (slots, retained tokens, experts). `--device cpu` runs the same at small size
without the graphs, to try the script.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from records import RESULTS, Record
from rxlm.memory import MemoryState
from rxlm.nn.device import device_of
from rxlm.rxt.decoding import DecodingState, RowSettings
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import build_preset
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.step_graph import StepGraphs
from rxlm.rxt.turn_engine import write_turns
from rxlm.training.precision import time_of
from rxlm.upcycling.loading import open_model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    Args:
        model: folder, hub id or GGUF file.
        rows: conversations at once.
        tokens: of an answer. kept: tokens of the conversation before it, as many as the memory holds at most.
        prompts: tokens of the prompts whose first token is timed.
        repeats: each figure is the median of so many.
        presets: small models whose parity is checked, too.
        device: where to compute.
        output: folder of the figures.
    """

    model: Annotated[str, tyro.conf.Positional]
    rows: tuple[int, ...] = (1, 16, 64)
    tokens: int = 96
    kept: int = 128
    prompts: tuple[int, ...] = (16, 128, 512)
    repeats: int = 5
    presets: tuple[str, ...] = ("tiny", "nano", "micro")
    device: str = "cuda"
    output: Path = RESULTS


def main(settings: Settings) -> None:
    """Measure, and show tables."""
    record, console = Record(settings.output / "gpu.json", settings), Console(width=140)
    device = device_of(settings.device)
    reference = open_model(settings.model).eval()
    console.print(parity(reference, settings, record, Path(settings.model).stem))
    bandwidth = copied_bytes_a_second(device, settings.repeats)
    record.add("bandwidth", bandwidth / 1e9, "GB/s", better="more")
    for dtype in (torch.bfloat16, torch.float32):
        model = open_model(settings.model, device=device).to(dtype).eval()
        console.print(decoding(model, bandwidth, settings, record))
        console.print(turns(model, settings, record))
    for name in settings.presets:
        console.print(parity(build_preset(name).eval(), settings, record, name))
    record.save()


# --- decoding --------------------------------------------------------------------------------------------------------


def decoding(model: RxTAlpha, bandwidth: float, settings: Settings, record: Record) -> Table:
    """Measure answers of all numbers of rows."""
    name = str(model.dtype).removeprefix("torch.")
    table = Table("rows", "step", "ms", "tokens a second", "of the bandwidth", title=f"decoding, {name}")
    for rows in settings.rows:
        memory, (kept, place) = filled_memory(model, rows, settings.kept), weight_bytes(model)
        steps: dict[str, list[float]] = {}
        for _ in range(settings.repeats + 1):  # the first captures
            for way in ways(model):
                steps.setdefault(way, []).append(step_seconds(model, memory, rows, settings.tokens, way))
        for way, found in steps.items():
            seconds = median(found[1:])
            share = (kept + rows * (settings.kept + settings.tokens / 2) * place) / seconds / bandwidth
            cells = f"{1e3 * seconds:.3f}", f"{rows / seconds:,.0f}", f"{share:.1%}"
            table.add_row(str(rows), way, *cells)
            place_of = f"decoding/{name}/{rows} rows/{way}"
            record.add(f"{place_of}/tokens a second", [rows / each for each in found[1:]], "", better="more")
            record.add(f"{place_of}/share of the bandwidth", share, "", better="more", kind="ratio")
    return table


def ways(model: RxTAlpha) -> tuple[str, ...]:
    """Return how a step can be computed."""
    return ("graph", "operators") if StepGraphs.of(model.decoder) is not None else ("operators",)


def step_seconds(model: RxTAlpha, memory: MemoryState, rows: int, tokens: int, way: str) -> float:
    """Return the seconds of a step of an answer; the host waits for none of them."""
    state = opened(model, memory, prompts_of(model, rows, 16), tokens, way)
    for _ in range(4):
        state.step()
    started = time_of(model.device)
    for _ in range(tokens - 4):
        state.step()
    return (time_of(model.device) - started) / (tokens - 4)


def opened(model: RxTAlpha, memory: MemoryState, prompt: Prompt, tokens: int, way: str) -> DecodingState:
    """Return a table whose rows have read their prompts."""
    length = prompt.ids.shape[1] + tokens + 1
    state = DecodingState(model.decoder, len(prompt.lengths), length, pad_token_id=model.tokenizer_config.pad_token_id)
    if way != "graph":
        state._graphs = None
    state.admit(prompt, memory, [RowSettings(GREEDY, None, length) for _ in prompt.lengths])
    return state


def prompts_of(model: RxTAlpha, rows: int, tokens: int) -> Prompt:
    """Return prompts of random tokens."""
    ids = torch.randint(
        model.decoder.config.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(tokens)
    )
    return Prompt(ids.to(model.device), [tokens] * rows)


@torch.no_grad()
def filled_memory(model: RxTAlpha, rows: int, tokens: int) -> MemoryState:
    """Return memories that have seen so many tokens, in turns of 32."""
    memory = model.init_memory(rows, seed=0)
    for _ in range(-(-tokens // 32)):
        memory = write_turns(model, memory, prompts_of(model, rows, 32).ids.tolist())
    return memory


def weight_bytes(model: RxTAlpha) -> tuple[int, int]:
    """Return the bytes of weights that a step reads, and those of a kept token's keys and values."""
    config, width = model.decoder.config, model.decoder.embedding.weight.element_size()
    read = sum(parameter.numel() for parameter in model.decoder.parameters())
    if model.decoder.head.weight is not model.decoder.embedding.weight:
        read -= model.decoder.embedding.weight.numel()
    return read * width, 2 * len(model.decoder.layers) * config.attention_heads[1] * config.width_of_head * width


def copied_bytes_a_second(device: torch.device, repeats: int) -> float:
    """Return the bytes that a copy within the device's memory reads and writes in a second."""
    size = 2**31 if device.type == "cuda" else 2**26
    one, other = (torch.empty(size, dtype=torch.uint8, device=device).fill_(value) for value in (1, 2))
    times = [elapsed(device, lambda: one.copy_(other)) for _ in range(repeats + 1)]
    return 2 * size / min(times)


# --- first token and update ------------------------------------------------------------------------------------------


def turns(model: RxTAlpha, settings: Settings, record: Record) -> Table:
    """Measure the time to the first token, and what comes after the last."""
    name = str(model.dtype).removeprefix("torch.")
    table = Table("rows", "what", "ms", title=f"a turn, {name}")
    for rows in settings.rows:
        memory = filled_memory(model, rows, settings.kept)
        reading = model.read_memory(memory)
        for tokens in settings.prompts:
            prompt = prompts_of(model, rows, tokens)
            times = [first_token(model, reading, prompt) for _ in range(settings.repeats + 1)][1:]
            table.add_row(str(rows), f"first token of a prompt of {tokens}", f"{1e3 * median(times):.2f}")
            record.add(
                f"turn/{name}/{rows} rows/first token of {tokens}", [1e3 * t for t in times], "ms", better="less"
            )
        times = [update(model, memory, rows) for _ in range(settings.repeats + 1)][1:]
        table.add_row(str(rows), "update of the memory after an answer of 32", f"{1e3 * median(times):.2f}")
        record.add(f"turn/{name}/{rows} rows/update", [1e3 * t for t in times], "ms", better="less")
    return table


def first_token(model: RxTAlpha, reading: Any, prompt: Prompt) -> float:
    """Return the seconds until a first token is there."""
    return elapsed(model.device, lambda: opened(model, reading, prompt, 2, "operators").step())


def update(model: RxTAlpha, memory: MemoryState, rows: int) -> float:
    """Return the seconds of an update with what decoding has computed."""
    prompt = prompts_of(model, rows, 32)
    state = opened(model, memory, prompt, 2, "operators")
    turns = prompt.ids.tolist()
    reads = model.memory_writer.reads_computed

    def write() -> None:
        computed = [state.computed(row, turn) for row, turn in enumerate(turns)] if reads else ()
        model.read_memory(write_turns(model, memory, turns, computed))

    return elapsed(model.device, write)


# --- parity ----------------------------------------------------------------------------------------------------------


def parity(reference: RxTAlpha, settings: Settings, record: Record, name: str) -> Table:
    """Compare what each way reads of the same answer with float32 on the CPU: the largest difference of logits."""
    table = Table("dtype", "step", "largest difference", "same first choice", title=f"parity of {name}")
    rows, count = 3, 24
    memory = filled_memory(reference, rows, 64)
    prompt = prompts_of(reference, rows, 9)
    tokens = torch.randint(
        reference.decoder.config.vocab_size, (count, rows), generator=torch.Generator().manual_seed(1)
    )
    wanted = list(islice(logits(reference, memory, prompt, tokens, "operators"), count))
    for dtype in (torch.float32, torch.bfloat16):
        model = clone(reference).to(settings.device, dtype).eval()
        moved, asked = memory.to(model.device, dtype), prompt._replace(ids=prompt.ids.to(model.device))
        for way in ways(model):
            found = list(islice(logits(model, moved, asked, tokens.to(model.device), way), count))
            worst = max(float((mine - own).abs().max()) for mine, own in zip(found, wanted, strict=True))
            same = torch.stack([mine.argmax(-1) == own.argmax(-1) for mine, own in zip(found, wanted, strict=True)])
            kind = str(dtype).removeprefix("torch.")
            table.add_row(kind, way, f"{worst:.2e}", f"{float(same.float().mean()):.1%}")
            record.add(f"parity/{name}/{kind}/{way}", worst, "logits", better="less", kind="ratio")
    return table


def clone(model: RxTAlpha) -> RxTAlpha:
    """Return a copy."""
    made = type(model).from_config_dict(model.config_dict())
    made.load_state_dict(model.state_dict())
    return made


def logits(model: RxTAlpha, memory: MemoryState, prompt: Prompt, tokens: Tensor, way: str) -> Iterator[Tensor]:
    """Yield the logits after a prompt and given tokens, (R, V), on the CPU."""
    state = opened(model, memory, prompt, len(tokens) + 1, way)
    for column in tokens:
        state.step()
        assert state._hidden is not None
        with torch.inference_mode():
            found = model.decoder.head(state._hidden)
        yield found.float().cpu()
        state._unread = column


# --- time ------------------------------------------------------------------------------------------------------------


def elapsed(device: torch.device, work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    started = time_of(device)
    work()
    return time_of(device) - started


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
