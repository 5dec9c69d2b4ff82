"""Floating-point operations of a conversation: a Reactive Transformer beside a stateless language model.

    python benchmarks/conversation_flops.py runs/tiny runs/llm

counts the operations of turns of the same length, as PyTorch counts them (products of matrices and attention): a
Reactive Transformer reads its memory, decodes the turn and updates the memory; a stateless model reads all turns so far
and decodes this one, or keeps its key/value cache and decodes this one only. Weights do not matter, shapes do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

import rxlm.llm  # noqa: F401  makes our language models known to transformers
from records import RESULTS, Record
from rxlm.rxt.models import RxTAlpha


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to count.

    Args:
        reactive, stateless: folders of the models.
        turn_tokens: tokens of a turn, query and answer.
        turns: turns after which a conversation's operations are printed.
        output: folder for the figures.
    """

    reactive: Annotated[str, tyro.conf.Positional]
    stateless: Annotated[str, tyro.conf.Positional]
    turn_tokens: int = 24
    turns: tuple[int, ...] = (1, 8, 32, 128)
    output: Path = RESULTS


@torch.no_grad()
def reactive_turn(model: RxTAlpha, ids: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        memory = model.init_memory(1)
        model.decode(ids, memory)
        model.update_memory(memory, ids)
    return counter.get_total_flops()


@torch.no_grad()
def stateless_turn(model: torch.nn.Module, ids: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False)
    return counter.get_total_flops()


@torch.no_grad()
def cached_turn(model: torch.nn.Module, ids: torch.Tensor, new: int) -> int:
    past = model(input_ids=ids[:, :-new], use_cache=True).past_key_values if ids.shape[1] > new else None
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids[:, -new:], past_key_values=past, use_cache=True)
    return counter.get_total_flops()


def main(settings: Settings) -> None:
    """Count, and print a table."""
    reactive = RxTAlpha.from_pretrained(settings.reactive).eval()
    stateless = AutoModelForCausalLM.from_pretrained(settings.stateless, trust_remote_code=False).eval()
    tokens = settings.turn_tokens
    ids = torch.full((1, tokens * max(settings.turns)), 20)
    one = reactive_turn(reactive, ids[:, :tokens])
    sums = {"reading it all": 0, "with a cache": 0}
    record = Record(settings.output / "conversation_flops.json", settings)
    title = f"Million operations of a conversation with {tokens} tokens a turn"
    table = Table("after turn", "reactive", *(f"stateless, {name}" for name in sums), title=title)
    for turn in range(1, max(settings.turns) + 1):
        so_far = ids[:, : tokens * turn]
        sums["reading it all"] += stateless_turn(stateless, so_far)
        sums["with a cache"] += cached_turn(stateless, so_far, tokens)
        if turn in settings.turns:
            table.add_row(str(turn), f"{turn * one / 1e6:,.0f}", *(f"{total / 1e6:,.0f}" for total in sums.values()))
            for name, total in {"reactive": turn * one, **sums}.items():
                record.add(f"after turn {turn}/{name}", total, "operations", better="less", kind="exact")
    record.save()
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
