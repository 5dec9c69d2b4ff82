"""A layer of a decoder, and its head, as functions of tensors that `torch.export` can take down.

Shapes: B rows, H key/value heads, T new tokens, P places of earlier tokens, S slots, D model dimension, d head
dimension.
"""

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from rxlm.export.attention_parts import TakenCache, Turns
from rxlm.export.layer_parts import as_parts
from rxlm.export.rounding import WHOLE, Rounding
from rxlm.nn.key_values import KeyValues
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.decoder import RxTDecoder

TURNS = Turns._fields
ROWS, TOKENS = 2, 3
"""Of the example that a graph is made with."""
INPUTS = ("x", *TURNS, "mask", "keys", "values")
SLOT_INPUTS = ("slot_keys", "slot_values", "slot_mask")
OUTPUTS = ("hidden", "new_keys", "new_values")
SCORES = "scores"


def example_turns(head_dim: int, any_rows: Any, any_tokens: Any) -> list[tuple[Tensor, dict[int, Any]]]:
    """Return arguments of the names `TURNS`, and which of their axes may have any size."""
    angles, angle = torch.zeros(11, head_dim // 2), torch.export.Dim("angles")
    places = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS)
    return [(angles, {0: angle}), (angles.clone(), {0: angle}), (places, {0: any_rows, 1: any_tokens})]


class Step(nn.Module):
    """A layer as a function of tensors.

    Fields:
        inputs, outputs: names of its arguments and of what it returns. Where a step follows another, its `x` is the
            other's `hidden`.
        shared: inputs that are the same for all layers of a graph.
        last_alone: whether nobody wants the `hidden` of other layers than the last.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shared: tuple[str, ...] = (*TURNS, "mask")
    last_alone: bool = False

    def example(self) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Return arguments, and which of their axes may have any size."""
        raise NotImplementedError


class LayerStep(Step):
    """A layer that keys and values go into and come out of.

    It computes one token, a prompt, or a whole turn, of any memory: what a conversation keeps of earlier tokens stands
    before the turn's own, and slots are attended to where the layer reads them.

    Args:
        layer: which is left as it is; its weights are not copied.
        rounding: of the weights.
    """

    shared = TURNS
    last_alone = True

    def __init__(self, layer: TransformerLayer, rounding: Rounding) -> None:
        super().__init__()
        own = deepcopy(layer, {id(each): each for each in layer.parameters()})
        self.layer = cast(TransformerLayer, as_parts(nn.ModuleList([own]), rounding)[0])
        attention = layer.attention
        self.sizes = attention.q_proj.in_features, attention.num_kv_heads, attention.head_dim
        self.inputs = (*INPUTS, *(() if layer.memory_reader is None else SLOT_INPUTS))
        self.outputs = (*OUTPUTS, *(() if layer.retention_gate is None else (SCORES,)))

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        places: Tensor,
        mask: Tensor,
        keys: Tensor,
        values: Tensor,
        *slots: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the residual stream after the layer, (B, T, D), and what else `outputs` names.

        Args:
            x: before it.
            cos, sin, places: rotation of the new tokens, see `Turns`.
            mask: what is added to scores of earlier tokens and of the new ones, (B, H, 1, T, P + T).
            keys, values: of earlier tokens, rotated, (B, H, 1, P, d).
            slots: keys and values of slots, (B, H', 1, S, d'), and what is added to their scores, (B, 1, 1, 1, S).

        New keys and values are (B, H, 1, T, d), scores (B, H, T).
        """
        cache = TakenCache(KeyValues(keys, values))
        memory = KeyValues(slots[0], slots[1], slots[2]) if slots else None
        x = self.layer(x, rotation=cast(Any, Turns(cos, sin, places)), memory=memory, mask=mask, cache=cast(Any, cache))
        return x, *cache.new, *cache.scores

    def example(self) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Return arguments, and which of their axes may have any size."""
        rows, tokens, places, slots = ROWS, TOKENS, 5, 7
        any_rows, any_tokens, any_places, any_slots = map(torch.export.Dim, ("rows", "tokens", "places", "slots"))
        any_seen = torch.export.Dim.DYNAMIC  # places and tokens
        dim, heads, width = self.sizes
        given: list[tuple[Tensor, dict[int, Any]]] = [
            (torch.zeros(rows, tokens, dim), {0: any_rows, 1: any_tokens}),
            *example_turns(width, any_rows, any_tokens),
            (torch.zeros(rows, heads, 1, tokens, places + tokens), {0: any_rows, 3: any_tokens, 4: any_seen}),
            *[(torch.zeros(rows, heads, 1, places, width), {0: any_rows, 3: any_places}) for _ in range(2)],
        ]
        reader = self.layer.memory_reader
        if reader is not None:
            stored = torch.zeros(rows, reader.num_kv_heads, 1, slots, reader.head_dim)
            given += [(stored, {0: any_rows, 3: any_slots}), (stored.clone(), {0: any_rows, 3: any_slots})]
            given += [(torch.zeros(rows, 1, 1, 1, slots), {0: any_rows, 4: any_slots})]
        values, sizes = zip(*given, strict=True)
        fixed, of_slots = sizes[: len(INPUTS)], sizes[len(INPUTS) :]
        return values, (*fixed, of_slots) if of_slots else fixed


class NormStep(Step):
    """What follows the last layer: the norm of what the head reads."""

    inputs = ("x",)
    outputs = ("hidden",)
    last_alone = True

    def __init__(self, norm: nn.Module, dim: int) -> None:
        super().__init__()
        self.norm, self.dim = as_parts(nn.ModuleList([nn.Sequential(norm)]), WHOLE)[0], dim

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the norm of `x` (B, T, D)."""
        return (self.norm(x),)

    def example(self) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Return arguments, and which of their axes may have any size."""
        return (torch.zeros(ROWS, TOKENS, self.dim),), ({0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")},)


class HeadStep(nn.Module):
    """The head of a decoder: logits (B, V) of what it reads, (B, D)."""

    def __init__(self, decoder: RxTDecoder, rounding: Rounding) -> None:
        super().__init__()
        self.head = as_parts(nn.ModuleList([decoder.head]), rounding)[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits of `hidden`."""
        return self.head(hidden)
