"""Encoder and memory attention as functions that `torch.export` can take down, and as ONNX Runtime computes them.

Both keep weights of 32 bits with every engine: what a memory is written with would change it turn after turn.

Shapes: L layers, B rows, T tokens, S slots, D model dimension, d head dimension.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from rxlm.export.attention_parts import SourceAttentionPart, Turns, pairs_of
from rxlm.export.experts import computable
from rxlm.export.layer_parts import as_parts
from rxlm.export.rounding import WHOLE
from rxlm.export.session import Session, added, numbered
from rxlm.export.step import ROWS, TOKENS, TURNS, Step, example_turns
from rxlm.memory import MemoryState
from rxlm.memory.slots.attention import MemoryAttention, MemoryAttentionLayer
from rxlm.nn.attention import segment_mask
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Routing
from rxlm.nn.rope import Rotation
from rxlm.rxt.core import RxTModel
from rxlm.rxt.encoder import RxTEncoder


def updates_by_graphs(model: RxTModel) -> bool:
    """Tell whether a model's memory can be written by graphs: it has slots, and an encoder that reads none."""
    encoder = model.encoder
    if encoder is None or not isinstance(model.memory_writer, MemoryAttention) or encoder.config.reads_memory:
        return False
    return computable(encoder.layers)


class EncoderStep(Step):
    """A layer of an encoder, which is left as it is; its weights are not copied."""

    inputs = ("x", *TURNS, "mask")
    outputs = ("hidden",)

    def __init__(self, layer: TransformerLayer) -> None:
        super().__init__()
        self.layer, self.dim = _as_parts(layer), layer.attention.q_proj.in_features
        self.head_dim = layer.attention.head_dim

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, places: Tensor, mask: Tensor) -> tuple[Tensor]:
        """Return the residual stream after the layer, (B, T, D).

        Args:
            x: before it.
            cos, sin, places: rotation of the tokens, see `Turns`.
            mask: what is added to scores, (B, 1, 1, T, T).
        """
        return (self.layer(x, rotation=Turns(cos, sin, places), mask=mask),)

    def example(self) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Return arguments, and which of their axes may have any size."""
        rows, tokens = map(torch.export.Dim, ("rows", "tokens"))
        turns = example_turns(self.head_dim, rows, tokens)
        given = [
            (torch.zeros(ROWS, TOKENS, self.dim), {0: rows, 1: tokens}), *turns,
            (torch.zeros(ROWS, 1, 1, TOKENS, TOKENS), {0: rows, 3: tokens, 4: tokens}),
        ]  # fmt: skip
        return tuple(each for each, _ in given), tuple(sizes for _, sizes in given)


class WriterStep(Step):
    """A layer of memory attention, which is left as it is; its weights are not copied."""

    outputs = ("written",)

    def __init__(self, layer: MemoryAttentionLayer, num_slots: int, has_mean: bool) -> None:
        super().__init__()
        self.inputs = ("slots", "encoded", *TURNS, "mask", *(("mean",) if has_mean else ()))
        self.layer, self.num_slots = _as_parts(layer), num_slots
        self.dim, self.head_dim = layer.write_attention.q_proj.in_features, layer.write_attention.head_dim

    def forward(
        self,
        slots: Tensor,
        encoded: Tensor,
        cos: Tensor,
        sin: Tensor,
        places: Tensor,
        mask: Tensor,
        mean: Tensor | None = None,
    ) -> tuple[Tensor]:
        """Return the layer's next slots, (B, S, D).

        Args:
            slots, mean: before it, and what they are consolidated with, (B, S, D).
            encoded: the interaction, (B, T, D).
            cos, sin, places: rotation of its tokens, see `Turns`.
            mask: what is added to scores, (B, 1, 1, 1, T).
        """
        return (self.layer(slots, mean, encoded, mask, Turns(cos, sin, places)),)

    def example(self) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """Return arguments, and which of their axes may have any size."""
        rows, tokens = map(torch.export.Dim, ("rows", "tokens"))
        own = torch.zeros(ROWS, self.num_slots, self.dim), {0: rows}
        turns = example_turns(self.head_dim, rows, tokens)
        given = [
            own, (torch.zeros(ROWS, TOKENS, self.dim), {0: rows, 1: tokens}), *turns,
            (torch.zeros(ROWS, 1, 1, 1, TOKENS), {0: rows, 4: tokens}), (own[0].clone(), own[1]),
        ][: len(self.inputs)]  # fmt: skip
        return tuple(each for each, _ in given), tuple(sizes for _, sizes in given)


def _as_parts(layer: nn.Module) -> Any:
    own = deepcopy(layer, {id(each): each for each in layer.parameters()})
    return as_parts(nn.ModuleList([own]), WHOLE, SourceAttentionPart)[0]


def encoder_steps(encoder: RxTEncoder) -> list[EncoderStep]:
    """Return an encoder's layers, in order."""
    return [EncoderStep(layer) for layer in cast(list[TransformerLayer], list(encoder.layers))]


def writer_steps(writer: MemoryAttention) -> list[WriterStep]:
    """Return the layers of memory attention."""
    layers = cast(list[MemoryAttentionLayer], list(writer.layers))
    return [WriterStep(layer, writer.config.num_slots, writer.mean_norm is not None) for layer in layers]


class OnnxEncoder(RxTEncoder):
    """Encodes as the encoder that its graph was made of, without gradients.

    Args:
        encoder: the encoder. session: of its graph.
    """

    def __init__(self, encoder: RxTEncoder, session: Session) -> None:
        nn.Module.__init__(self)
        self.config, self.embedding = encoder.config, encoder.embedding
        self.layers, self.rope = encoder.layers, encoder.rope
        dim = encoder.config.dim
        session.check(("x", "hidden"), {"x": dim, **{f"hidden.{number}": dim for number in range(len(self.layers))}})
        self._session = session

    @torch.no_grad()
    def through_layers(
        self,
        x: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        memory: MemoryState | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """Return the residual stream after each layer, (L, B, T, D), of the embedding of tokens, (B, T, D)."""
        encoded = x.new_empty(len(self.layers), *x.shape)
        rows, tokens = x.shape[:2]
        if mask is None and self.config.sliding_window is not None:
            all_of_one, places = torch.ones(1, tokens), torch.arange(tokens)[None]
            mask = segment_mask(all_of_one, places, causal=False, sliding_window=self.config.sliding_window)
        inputs = {"x": x.contiguous(), **_turned(rotation, rows), "mask": _mask(mask, rows, tokens, tokens)}
        self._session.bind(inputs, numbered("hidden", encoded))()
        return encoded


class OnnxMemoryAttention(MemoryAttention):
    """Writes as the memory attention that its graph was made of, without gradients.

    Args:
        writer: the memory attention. session: of its graph.
    """

    def __init__(self, writer: MemoryAttention, session: Session) -> None:
        nn.Module.__init__(self)
        self.config, self.layers, self.mean_norm = writer.config, writer.layers, writer.mean_norm
        self.rope, self.initial = writer.rope, writer.initial
        session.check(("slots",), {f"slots.{number}": writer.config.dim for number in range(len(self.layers))})
        self._session = session

    @torch.no_grad()
    def through_layers(
        self,
        slots: Tensor,
        means: Sequence[Tensor | None],
        encoded: Tensor,
        mask: Tensor | None,
        rotation: Rotation,
    ) -> Tensor:
        """Return what each layer makes of its slots, (L, B, S, D); arguments as in `MemoryAttention`."""
        slots, encoded = slots.contiguous(), encoded.contiguous()
        written, rows, tokens = torch.empty_like(slots), *encoded.shape[1:3]
        inputs = {**_turned(rotation, rows), "mask": _mask(mask, rows, 1, tokens)}
        inputs |= numbered("slots", slots) | numbered("encoded", encoded)
        inputs |= numbered("mean", (each.contiguous() for each in means if each is not None))
        self._session.bind(inputs, numbered("written", written))()
        return written


def _turned(rotation: Rotation, rows: int) -> dict[str, Tensor]:
    """Return a rotation (B or 1, 1, T, d) as a graph takes it."""
    places, tokens = torch.arange(rotation.cos.shape[0] * rotation.cos.shape[2]), rotation.cos.shape[2]
    return Turns(*pairs_of(rotation), places.view(-1, tokens).expand(rows, -1).contiguous())._asdict()


def _mask(mask: Tensor | None, rows: int, queries: int, tokens: int) -> Tensor:
    """Return what is added to scores for a mask (B or 1, 1, T or 1, T), which is True where tokens are seen."""
    if mask is None:
        return torch.zeros(rows, 1, 1, queries, tokens)
    return added(mask).expand(rows, 1, queries, tokens)[:, :, None].contiguous()
