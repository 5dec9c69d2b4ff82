"""What the linear layers of a decoder read in conversations: what rounding their weights with few bits has to know."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.templates import interaction_ids
from rxlm.export.quantised import is_large
from rxlm.rxt.alpha import RxTAlpha
from rxlm.rxt.core import RxTModel
from rxlm.rxt.turn_engine import write_turns

CONVERSATIONS, TURNS = 10, 6
Moments = dict[Tensor, Tensor]
"""For a weight (N, K) the sum of x x^T over the inputs x that its layer has read, (K, K)."""


@torch.no_grad()
def moments_of(model: RxTModel) -> Moments:
    """Return what the decoder's larger linear layers read in generated conversations; nothing without a tokenizer.

    Each turn is read from the memory of those before it, as far as it is no longer than a turn may be.
    """
    if not isinstance(model, RxTAlpha) or model.tokenizer is None:
        return {}
    found: Moments = {}
    with _noting(model.decoder, found):
        for dialogue in FactGenerator(FactsConfig(variety="full", num_turns=TURNS)).dialogues(CONVERSATIONS):
            memory = model.init_memory(1, seed=0)
            for turn in dialogue.turns:
                ids = interaction_ids(model.tokenizer, model.tokenizer_config, turn.query, turn.answer)
                rows = [ids[: model.max_seq_len]]
                model.decoder(torch.tensor(rows), memory)
                memory = write_turns(model, memory, rows)
    return found


@contextmanager
def _noting(decoder: nn.Module, found: Moments) -> Iterator[None]:
    """Add up what linear layers read for as long as the block runs."""

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        read = inputs[0].flatten(0, -2).float()
        weight = layer.weight
        assert isinstance(weight, Tensor)
        found[weight] = read.T @ read + found[weight] if weight in found else read.T @ read

    hooks = [each.register_forward_pre_hook(note) for each in decoder.modules() if is_large(each)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
