"""A decoder whose layers ONNX Runtime computes; everything around them is the turn engine's, as with any decoder.

Shapes: L layers, G retention gates, B rows, H key/value heads, T new tokens, P places of earlier tokens, S slots, D
model dimension, d head dimension.
"""

import threading
from collections.abc import Sequence
from typing import Any, NoReturn, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from rxlm.export.attention_parts import Turns, pairs_of
from rxlm.export.head import LogitsHead
from rxlm.export.session import Call, Session, added, numbered
from rxlm.memory import MemoryReading
from rxlm.nn.cache import DecoderCache, Layout, StoredCache, causal_mask
from rxlm.nn.head import TokenHead
from rxlm.nn.key_values import KeyValues
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Routing
from rxlm.nn.rope import RotaryEmbedding, Rotation
from rxlm.rxt.decoder import RxTDecoder

FIRST_POSITIONS = 256
"""Whose rotations there are from the beginning."""


class OnnxDecoder(RxTDecoder):
    """Answers as the decoder that its graphs were made of, without gradients.

    Args:
        decoder: which gives its embedding, and what projects a memory; its layers may be without weights (meta).
        layers, head: its graphs.
    """

    def __init__(self, decoder: RxTDecoder, layers: Session, head: Session) -> None:
        nn.Module.__init__(self)
        self.config, self.embedding, self.rope = decoder.config, decoder.embedding, decoder.rope
        self.layers = nn.ModuleList(_MemoryPart(layer) for layer in cast(list[TransformerLayer], list(decoder.layers)))
        self.head = cast(TokenHead, _head(head, self.config.vocab_size))
        self.final_norm = decoder.final_norm
        """Which the graph of the layers ends with."""
        dim, width = self.config.dim, self.config.width_of_head
        keys = {f"keys.{number}": width for number in range(len(self.layers))}
        slots = {f"slot_keys.{number}": width for number, each in enumerate(self.layers) if each.memory_reader}
        layers.check(("x", "keys", "slot_keys"), {"x": dim, **keys, **slots})
        head.check(("hidden", "logits"), {"hidden": dim, "logits": self.config.vocab_size})
        self._session = layers
        self._angles = _Angles(decoder.rope)
        self._calls: WeakKeyDictionary[Any, _Layers] = WeakKeyDictionary()
        """The last call of each cache: tokens of an answer, one after another, have the same one."""

    def tie_weights(self) -> None:
        """Do nothing: the head has weights of its own."""

    @torch.no_grad()
    def through_layers(
        self,
        x: Tensor,
        layout: Layout,
        reading: MemoryReading | None,
        cache: DecoderCache | None,
        routing: Routing | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return what the head reads, (B, T, D), of the embedding of tokens, (B, T, D); see `RxTDecoder`."""
        rows, tokens = x.shape[:2]
        before, among = self._before(rows, tokens, layout, cache)
        if reading is None and self.memory_layers:
            raise ValueError("A decoder that reads slots is computed without them with the engine torch alone.")
        read = MemoryReading() if reading is None else reading.project(self.memory_layers, self.rope)
        slots = [cast(KeyValues, each) for each in read.layers]
        angles = self._angles.up_to(int(layout.positions.max()))
        call = self._call(cache, rows, tokens, before, slots, angles)
        call.take(x, layout.positions, before, among)
        call.run()
        if cache is not None:
            cast(StoredCache, cache).store(call.new_keys, call.new_values, call.scores)
        return call.hidden.clone() if wanted is None else call.hidden[wanted]

    def __reduce__(self) -> NoReturn:
        raise TypeError("A model with an engine of ONNX is neither copied nor pickled: open it again.")

    def _before(
        self, rows: int, tokens: int, layout: Layout, cache: DecoderCache | None
    ) -> tuple[KeyValues, Tensor | None]:
        """Return the earlier tokens of all layers, and what new tokens see of themselves; None: each sees all."""
        if cache is None:
            among = causal_mask(tokens, self.config.sliding_window) if layout.mask is None else layout.mask
            return self._nothing(rows), among
        if not hasattr(cache, "stored"):
            raise ValueError("All turns of a dialogue are read at once with the engine torch alone.")
        before, among = cast(StoredCache, cache).stored(tokens, self.config.sliding_window)
        return self._nothing(rows) if before is None else before, among

    def _nothing(self, rows: int) -> KeyValues:
        """Return a place that nobody sees: a graph has one at least."""
        heads, width = self.config.attention_heads[1], self.config.width_of_head
        empty = torch.zeros(len(self.layers), rows, heads, 1, width)
        return KeyValues(empty, empty, torch.zeros(1, rows, 1, 1, 1, dtype=torch.bool))

    def _call(
        self,
        cache: DecoderCache | None,
        rows: int,
        tokens: int,
        before: KeyValues,
        slots: Sequence[KeyValues],
        angles: Rotation,
    ) -> "_Layers":
        """Return the call for these tensors, where they are."""
        kept = None if cache is None else self._calls.get(cache)
        if kept is not None and kept.is_for(tokens, before, slots, angles):
            return kept
        call = _Layers(self._session, self.config.dim, rows, tokens, before, slots, angles)
        if cache is not None:
            self._calls[cache] = call
        return call


class _MemoryPart(nn.Module):
    """What projects a memory's slots to keys and values for a layer; None of it where the layer reads none."""

    def __init__(self, layer: TransformerLayer) -> None:
        super().__init__()
        self.memory_reader, self.retention_gate = layer.memory_reader, None
        if layer.memory_reader is not None:
            self.slot_norm = layer.slot_norm

    read_memory = TransformerLayer.read_memory


class _Angles:
    """The rotations of all positions so far, as a graph takes them."""

    def __init__(self, rope: RotaryEmbedding) -> None:
        self.rope, self.made = rope, Rotation(torch.empty(0, 0), torch.empty(0, 0))

    def up_to(self, position: int) -> Rotation:
        """Return cosines and sines, (N, d / 2) each, of positions up to this one at least."""
        made = self.made  # which another thread may replace by a shorter one
        if position >= len(made.cos):
            self.made = made = pairs_of(self.rope(torch.arange(max(position + 1, 2 * len(made.cos), FIRST_POSITIONS))))
        return made


class _Layers:
    """One call of the layers' graph, and the tensors that it reads and writes."""

    def __init__(
        self,
        session: Session,
        dim: int,
        rows: int,
        tokens: int,
        before: KeyValues,
        slots: Sequence[KeyValues],
        angles: Rotation,
    ) -> None:
        layers, _, heads, places, width = before.keys.shape
        assert before.mask is not None
        self.before, self.slots, self.angles = before, slots, angles
        self.x = torch.zeros(rows, tokens, dim)
        self.places = torch.zeros(rows, tokens, dtype=torch.long)
        self.mask = torch.zeros(len(before.mask), rows, heads, 1, tokens, places + tokens)
        inputs = {"x": self.x, **Turns(*angles, self.places)._asdict()}
        inputs |= numbered("mask", self.mask.expand(layers, -1, -1, -1, -1, -1))
        inputs |= numbered("keys", before.keys[:, :, :, None]) | numbered("values", before.values[:, :, :, None])
        readers = sorted(int(name.split(".")[1]) for name in session.inputs if name.startswith("slot_keys"))
        for layer, read in zip(readers, slots, strict=True):
            mask = _all(read) if read.mask is None else added(read.mask_of_heads)
            own = {"slot_keys": read.keys.contiguous(), "slot_values": read.values.contiguous(), "slot_mask": mask}
            inputs |= {f"{name}.{layer}": each[:, :, None] for name, each in own.items()}
        self.hidden = torch.zeros(rows, tokens, dim)
        self.new_keys, self.new_values = torch.zeros(2, layers, rows, heads, tokens, width)
        gates = [name for name in session.outputs if name.startswith("scores")]
        self.scores = torch.zeros(len(gates), rows, heads, tokens) if gates else None
        outputs = {"hidden": self.hidden}
        outputs |= numbered("new_keys", self.new_keys[:, :, :, None])
        outputs |= numbered("new_values", self.new_values[:, :, :, None])
        outputs |= {} if self.scores is None else numbered("scores", self.scores)
        self._run: Call = session.bind(inputs, outputs)

    def is_for(self, tokens: int, before: KeyValues, slots: Sequence[KeyValues], angles: Rotation) -> bool:
        """Tell whether these are the tensors that are read, and of this number of new tokens."""
        assert before.mask is not None
        return (
            self.x.shape[1] == tokens
            and self.before.keys is before.keys
            and self.before.values is before.values
            and self.angles is angles
            and len(self.mask) == len(before.mask)
            and len(self.slots) == len(slots)
            and all(own is each for own, each in zip(self.slots, slots, strict=True))
        )

    def take(self, x: Tensor, positions: Tensor, before: KeyValues, among: Tensor | None) -> None:
        """Write what is new of a call."""
        assert before.mask is not None
        self.x.copy_(x)
        self.places.copy_(positions)
        places = before.keys.shape[3]
        self.mask[..., :places].copy_(added(before.mask)[:, :, :, None])
        if among is not None:
            self.mask[..., places:].copy_(added(among)[None, :, :, None])

    def run(self) -> None:
        """Compute."""
        self._run()


def _all(slots: KeyValues) -> Tensor:
    return torch.zeros(slots.keys.shape[0], 1, 1, slots.keys.shape[2])


def _head(session: Session, vocab_size: int) -> LogitsHead:
    last = _LastCall()

    def logits(hidden: Tensor) -> Tensor:
        count = len(hidden)
        if not count:
            return torch.empty(0, vocab_size)
        if last.made is None or len(last.made[0]) != count:
            taken = torch.empty_like(hidden, memory_format=torch.contiguous_format)
            found = torch.empty(count, vocab_size)
            last.made = taken, found, session.bind({"hidden": taken}, {"logits": found})
        taken, found, call = last.made
        taken.copy_(hidden)
        call()
        return found.clone()

    return LogitsHead(logits)


class _LastCall(threading.local):
    """A thread's last call, what it reads and what it writes: tokens of an answer, one after another, are as many."""

    made: tuple[Tensor, Tensor, Call] | None = None
