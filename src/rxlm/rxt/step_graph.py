"""A decoding step as a CUDA graph: one launch a token, where a layer's operators would be launched one by one.

A graph reads and writes the tensors that it was captured with, so a table's cache moves into those of its graph, which
have a fixed number of rows and places; what stands in no place yet is hidden by a mask. A decoder's graphs are kept,
and serve one table after another.

Shapes: L layers, B rows, H key/value heads, P places, D model dimension, S slots.
"""

import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rxlm.memory import MemoryReading
from rxlm.nn.cache import KeyValueCache, Layout
from rxlm.nn.key_values import KeyValues
from rxlm.nn.moe import MixtureOfExperts
from rxlm.rxt.decoder import RxTDecoder

LEAST_PLACES = 128
STEPS_BEFORE = 16
"""Steps that tables of one form take operator by operator before one is captured, which costs as much as some ten."""
MOST_GRAPHS = 8


class StepGraphs:
    """The graphs of a decoder's steps, for any thread.

    Args:
        decoder: on the device where it stays.
        capture: whether steps are captured; without, the same step is computed operator by operator, on any device.
    """

    def __init__(self, decoder: RxTDecoder, *, capture: bool = True) -> None:
        self._decoder, self.capture = weakref.ref(decoder), capture
        self._steps: list[_Step] = []
        """Those used last stand last."""
        self._weights = _addresses(decoder)
        self._memory = torch.cuda.graph_pool_handle() if capture else None
        self._lock = threading.Lock()

    @classmethod
    def of(cls, decoder: RxTDecoder) -> "StepGraphs | None":
        """Return the graphs of a decoder on a GPU; None where there are none: on a CPU, and with experts."""
        if decoder.embedding.weight.device.type != "cuda" or type(decoder) is not RxTDecoder:
            return None
        if any(isinstance(module, MixtureOfExperts) for module in decoder.modules()):
            return None  # whose products depend on how many tokens each expert has
        with _LOCK:
            found = _OF_DECODERS.get(decoder)
            if found is None or found._weights != _addresses(decoder):
                found = _OF_DECODERS[decoder] = cls(decoder)
            return found

    def hidden_states(self, ids: Tensor, reading: MemoryReading, cache: KeyValueCache) -> Tensor:
        """Return what the head reads of each row's next token, (B, D), of ids (B,), and store its keys and values.

        As `RxTDecoder.hidden_states` of one token; the cache has a place for it in every row that goes on.
        """
        with self._lock:
            step = self._step(_Form.of(cache, reading), reading, cache)
            step.take(ids, reading, cache)
            step.run(self._memory if self.capture else None)
            return step.hidden.clone()

    def _step(self, form: "_Form", reading: MemoryReading, cache: KeyValueCache) -> "_Step":
        """Return the step in whose tensors a cache stands, or shall stand."""
        alike = [step for step in self._steps if step.form == form]
        found = next((step for step in alike if step.is_of(cache)), None)
        found = found or next((step for step in alike if step.is_free), None)
        if found is None:
            spare = max(0, len(self._steps) + 1 - MOST_GRAPHS)
            for step in [step for step in self._steps if step.is_free][:spare]:
                self._steps.remove(step)
            decoder = self._decoder()
            assert decoder is not None
            found = _Step(decoder, form, reading)
        else:
            self._steps.remove(found)
        self._steps.append(found)
        return found


_LOCK = threading.Lock()
_OF_DECODERS: weakref.WeakKeyDictionary[RxTDecoder, StepGraphs] = weakref.WeakKeyDictionary()


def _addresses(decoder: RxTDecoder) -> tuple[int, ...]:
    return tuple(parameter.data_ptr() for parameter in decoder.parameters())


class _Form(NamedTuple):
    """What two tables must have in common to share a graph: rows, places, and the shapes of what a memory gives."""

    rows: int
    places: int
    slots: tuple[tuple[tuple[int, ...] | None, ...], ...]

    @classmethod
    def of(cls, cache: KeyValueCache, reading: MemoryReading) -> "_Form":
        places = LEAST_PLACES
        while places < cache.capacity:
            places *= 2
        given = ((each.keys, each.values, each.mask) for each in _projected(reading))
        slots = (tuple(None if own is None else tuple(own.shape) for own in each) for each in given)
        return cls(len(cache.filled), places, tuple(slots))


class _Step:
    """A step over tensors that stay where they are.

    Args:
        decoder: what computes. form: of its tables. reading: of one of them.
    """

    @torch.inference_mode(False)  # a cache is written to outside of it, too
    def __init__(self, decoder: RxTDecoder, form: _Form, reading: MemoryReading) -> None:
        self.decoder, self.form = weakref.ref(decoder), form
        made = decoder.new_cache(form.rows, form.places)
        self.keys, self.values, self.scores = made.keys, made.values, made.scores
        self.gaps = torch.zeros_like(made.keys[..., 0], dtype=torch.bool)
        self.positions, self.shift, self.places = made.positions, torch.zeros_like(made.positions), made.places
        self.ids = torch.zeros_like(made.positions)
        self.slots = [
            KeyValues(each.keys.clone(), each.values.clone(), None if each.mask is None else each.mask.clone())
            for each in _projected(reading)
        ]
        self.hidden = made.keys.new_zeros(form.rows, decoder.config.dim)
        self._reading, self._cache = weakref.ref(reading), None
        self._steps, self._replay = 0, None

    _reading: weakref.ref[MemoryReading]
    _cache: weakref.ref[KeyValueCache] | None
    _replay: Callable[[], None] | None

    def is_of(self, cache: KeyValueCache) -> bool:
        """Tell whether a cache stands in these tensors."""
        return cache.keys is self.keys

    @property
    def is_free(self) -> bool:
        """Whether no cache does that is still in use."""
        cache = None if self._cache is None else self._cache()
        return cache is None or not self.is_of(cache)

    def take(self, ids: Tensor, reading: MemoryReading, cache: KeyValueCache) -> None:
        """Let a cache stand in these tensors from now on, and take what is new of a step."""
        self._cache = weakref.ref(cache)
        for name in ("keys", "values", "scores", "gaps", "positions", "shift", "places"):
            own, theirs = getattr(self, name), getattr(cache, name)
            if own is not theirs:
                if name != "places":
                    _fill(own, theirs)
                setattr(cache, name, own)
        if reading is not self._reading():
            for mine, new in zip(self.slots, _projected(reading), strict=True):
                mine.keys.copy_(new.keys)
                mine.values.copy_(new.values)
                if mine.mask is not None and new.mask is not None:
                    mine.mask.copy_(new.mask)
            self._reading = weakref.ref(reading)
        self.ids.copy_(ids)

    def run(self, memory: Any) -> None:
        """Compute the step; captured in this memory from some steps on, with None never."""
        self._steps += 1
        if self._replay is None and memory is not None and self._steps > STEPS_BEFORE:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
                self.compute()
            self._replay = graph.replay
        (self._replay or self.compute)()

    def compute(self) -> None:
        """Compute the step operator by operator."""
        decoder = self.decoder()
        assert decoder is not None
        hidden = decoder.hidden_states(
            self.ids[:, None], MemoryReading(tuple(self.slots)), cache=_Standing(self, decoder)
        )
        self.hidden.copy_(hidden[:, 0])


class _Standing:
    """The tensors of a step as a decoder's cache: all places are read, those alone that hold something are seen."""

    def __init__(self, step: _Step, decoder: RxTDecoder) -> None:
        self.step, self.at, window = step, step.positions[:, None, None], decoder.config.sliding_window
        seen = step.places <= self.at
        if window is not None:
            seen = seen & (step.places > self.at - window)
        hidden = ~(seen & ~step.gaps)[:, :, :, None]
        nothing = torch.zeros_like(hidden, dtype=step.keys.dtype)
        self.bias = nothing.masked_fill_(hidden, torch.finfo(nothing.dtype).min)
        """What is added to the scores of places, 0 at those that the row's token sees, (L, B, H, 1, P)."""

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return where the tokens stand; what they see comes with the keys."""
        return Layout((self.step.positions + self.step.shift)[:, None], None, causal=False)

    def note(self, layer: int, scores: Tensor) -> None:
        """Store what the layer's retention gate gave the tokens, (B, H, 1)."""
        assert self.step.scores is not None
        self.step.scores[layer].scatter_(-1, self.at.expand_as(scores), scores)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Store the tokens' keys and values (B, H, 1, d), and return all of that layer's."""
        step = self.step
        for stored, new in ((step.keys[layer], keys), (step.values[layer], values)):
            stored.scatter_(-2, self.at[..., None].expand_as(new), new.to(stored.dtype))
        return KeyValues(step.keys[layer], step.values[layer], self.bias[layer])


def _projected(reading: MemoryReading) -> list[KeyValues]:
    """Return the keys and values that a memory's reading was projected to, before the first step."""
    return cast(list[KeyValues], list(reading.layers))


def _fill(own: Tensor | None, theirs: Tensor | None) -> None:
    """Copy what a cache holds, of fewer places perhaps; nothing is zeros."""
    if own is None:
        return
    if theirs is None:
        own.zero_()
    elif own.dim() == 1:
        own.copy_(theirs)
    else:  # (L, B, H, P) or (L, B, H, P, d)
        own[:, :, :, theirs.shape[3] :] = 0
        own[:, :, :, : theirs.shape[3]] = theirs
