"""What every kind of memory is and does.

A memory is a value (`MemoryState`): what a batch of conversations remembers. A `MemoryWriter` is the network that makes
the first one and writes finished turns to it. A `MemoryReading` is what a decoder attends to of it. Nothing outside of
`rxlm.memory` asks what kind a memory is.

Shapes: L memory layers, B conversations, T tokens, D model dimension.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from rxlm.config import Config, config
from rxlm.memory.tensor_file import check_finite, read_tensors, tensors_from_bytes, tensors_to_bytes, write_tensors
from rxlm.nn.key_values import KeyValues, KeyValueSource
from rxlm.nn.past import ComputedTurn, Past
from rxlm.nn.rope import RotaryEmbedding
from rxlm.seeds import Seed

Change = Literal["mse", "cosine"]


class ReadingLayer(Protocol):
    """A decoder's layer that reads a memory."""

    def read_memory(self, source: KeyValueSource) -> KeyValues:
        """Project what this layer attends to of a memory to keys and values."""


@dataclass(frozen=True)
class MemoryReading:
    """What the layers of a decoder attend to of a memory, one entry a layer that reads it.

    As a `MemoryState` gives it, a layer projects its entry to keys and values itself, each time it is called; `project`
    does so once, for all tokens of a turn. A memory of earlier tokens is read by self-attention: `past`, in all layers.
    """

    layers: tuple[KeyValues | KeyValueSource, ...] = ()
    past: Past | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a layer attends to."""
        return not self.layers and self.past is None

    @property
    def batch_size(self) -> int:
        """Conversations B."""
        return self.layers[0].batch_size if self.past is None else self.past.batch_size

    def project(
        self, layers: Sequence[ReadingLayer], rope: RotaryEmbedding, max_age: int | None = None
    ) -> "MemoryReading":
        """Return the reading as keys and values, made by the layers that read it; those of earlier tokens rotated."""
        if self.past is not None:
            return MemoryReading(past=self.past.rotated(rope, max_age))
        pairs = zip(layers, self.layers, strict=True)
        return MemoryReading(
            tuple(own if isinstance(own, KeyValues) else layer.read_memory(own) for layer, own in pairs)
        )

    def select(self, rows: Tensor | Sequence[int], mask: Tensor | None = None) -> "MemoryReading":
        """Return what some conversations read, in the order given; one may come several times.

        `mask` is True at the places that each of them may see, (rows, places); None leaves what it is.
        """
        past = None if self.past is None else self.past.select(rows)
        return MemoryReading(tuple(own.select(rows, mask) for own in self.layers), past)

    def put(self, rows: Sequence[int], other: "MemoryReading") -> "MemoryReading":
        """Return the reading with some conversations replaced by those of `other`, in the order given."""
        if self.is_empty:
            return self
        order = list(range(self.batch_size))
        for place, row in enumerate(rows):
            order[row] = self.batch_size + place
        return MemoryReading.join([self, other]).select(order)

    @classmethod
    def join(cls, readings: Sequence["MemoryReading"]) -> "MemoryReading":
        """Put the conversations of several readings of one form side by side."""
        layers = zip(*(reading.layers for reading in readings), strict=True)
        pasts = [reading.past for reading in readings if reading.past is not None]
        return cls(tuple(type(same[0]).join(same) for same in layers), Past.join(pasts) if pasts else None)


class MemoryState(ABC):
    """What a batch of conversations remembers, as a value: it is never changed in place.

    An update makes a new state, so that a conversation can be forked, undone, saved, moved and batched by handling
    plain values. A subclass is a frozen dataclass of tensors, whose `kind` names it in files.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type["MemoryState"]]] = {}
    """The kinds of memory there are, by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        MemoryState.kinds[cls.kind] = cls

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Conversations B."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that the state consists of, by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the state that `tensors` was taken of; ValueError where it is no such state."""

    @property
    def num_tokens(self) -> int | None:
        """Tokens S that a conversation of the batch may keep at most; None for a kind that has one size."""
        return None

    @property
    @abstractmethod
    def form(self) -> tuple[Any, ...]:
        """Kind and sizes but for the number of conversations: memories of equal form can stand in one batch."""

    @abstractmethod
    def select(self, rows: int | Sequence[int]) -> Self:
        """Return the memories of some conversations, in the order given; a single number keeps the batch axis."""

    @classmethod
    @abstractmethod
    def concatenate(cls, states: Sequence[Any]) -> Self:
        """Put several batches of conversations, which are of one form, into one batch, in order."""

    @abstractmethod
    def where(self, chosen: Tensor, other: Any) -> Self:
        """Return this memory for the conversations where `chosen` (B,) is True, and `other` elsewhere."""

    @abstractmethod
    def read(self) -> MemoryReading:
        """Return what a decoder attends to of the memory."""

    @abstractmethod
    def drift(self, earlier: Any) -> Tensor:
        """Return how far the memory moved since `earlier`, root mean square, by layer and conversation: (L, B)."""

    @abstractmethod
    def change(self, earlier: Any, kind: Change) -> Tensor:
        """Return how far it moved by conversation, (B,): mean squared change, or 1 less the cosine similarity."""

    @abstractmethod
    def describe(self, earlier: Any = None) -> list[str]:
        """Return lines for people: the size, and what the turn since `earlier` changed."""

    def heads_that_keep(self, row: int = 0) -> dict[int, float] | None:
        """Return, by position in a conversation, the share of heads that keep the token; None where none are kept."""
        return None

    def check(self) -> None:
        """Raise ValueError, which names the tensor, for values that no memory has."""
        check_finite(self.tensors())

    # --- what all kinds share ------------------------------------------------------------------------------------

    @property
    def num_bytes(self) -> int:
        """Storage that the state takes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    @property
    def device(self) -> torch.device:
        """Where the state is."""
        return next(iter(self.tensors().values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the state."""
        return next(tensor.dtype for tensor in self.tensors().values() if tensor.is_floating_point())

    def put(self, rows: Sequence[int], other: Any) -> Self:
        """Return the memory with some conversations replaced by those of `other`, in the order given."""
        order = list(range(self.batch_size))
        for place, row in enumerate(rows):
            order[row] = self.batch_size + place
        return self.concatenate([self, other]).select(order)

    @staticmethod
    def join(states: Sequence["MemoryState"]) -> "MemoryState":
        """Put several batches of conversations of one model into one batch, in order; ValueError for other forms."""
        forms = {state.form for state in states}
        if len(forms) != 1:
            raise ValueError(f"Only memories of one form can be joined, got {sorted(forms)}.")
        return type(states[0]).concatenate(states)

    def detach(self) -> Self:
        """Return the same memory without its gradient history."""
        return self._each(Tensor.detach)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the memory on another device or in another floating-point type."""
        return self._each(
            lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)
        )

    def clone(self) -> Self:
        """Return a copy that shares no storage."""
        return self._each(Tensor.clone)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return self.from_tensors({name: change(tensor) for name, tensor in self.tensors().items()})

    def state_dict(self) -> dict[str, Any]:
        """Return kind and tensors, for a checkpoint."""
        return {"kind": self.kind, "tensors": self.tensors()}

    @staticmethod
    def of_kind(kind: str, tensors: Mapping[str, Tensor]) -> "MemoryState":
        """Return the memory that `tensors` were taken of, after its `check`; ValueError where there is none."""
        if kind not in MemoryState.kinds:
            raise ValueError(f"kind of memory must be one of {', '.join(sorted(MemoryState.kinds))}, got {kind!r}.")
        state = MemoryState.kinds[kind].from_tensors(tensors)
        state.check()
        return state

    @staticmethod
    def from_state_dict(state: Mapping[str, Any] | Tensor) -> "MemoryState":
        """Return the memory that `state_dict` was taken of; a tensor alone is that of slots, as in version 0.0."""
        if isinstance(state, Tensor):
            state = {"kind": "slots", "tensors": {"memory": state}}
        return MemoryState.of_kind(state["kind"], state["tensors"])

    def save(self, path: str | Path) -> None:
        """Write the memory to a safetensors file; an old one stays whole until the new one is.

        ValueError for NaN or infinity in the memory.
        """
        try:
            write_tensors(Path(path), self.tensors(), {"kind": self.kind})
        except ValueError as error:
            raise ValueError(f"The memory is not saved to {path}: {error}.") from error

    def to_bytes(self) -> bytes:
        """Return what `save` writes; ValueError for NaN or infinity in the memory."""
        return tensors_to_bytes(self.tensors(), {"kind": self.kind})

    @staticmethod
    def from_bytes(data: bytes, device: torch.device | str = "cpu") -> "MemoryState":
        """Return the memory that `to_bytes` was taken of; ValueError where it is damaged."""
        tensors, metadata = tensors_from_bytes(data)
        return MemoryState.of_kind(metadata.get("kind", "slots"), tensors).to(device)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> "MemoryState":
        """Read a memory of any kind that `save` wrote; ValueError where the file is missing, damaged or another.

        The error names the file, and the tensor where one is wrong.
        """
        if not Path(path).is_file():
            raise ValueError(f"There is no memory file {path}.")
        try:
            tensors, metadata = read_tensors(Path(path), device)
        except ValueError as error:
            raise ValueError(f"The memory file {path} is damaged: {error}.") from error
        try:
            return MemoryState.of_kind(metadata.get("kind", "slots"), tensors)  # the first version named no kind
        except ValueError as error:
            raise ValueError(f"{path} holds no memory: {error}") from error


class FinishedTurn(NamedTuple):
    """What a writer is given of finished turns, one a conversation.

    Fields:
        ids: their tokens, query and answer with their special tokens, (B, T).
        mask: True at tokens that may be written, (B, T); None: all. A conversation without a single one keeps its
            memory.
        encoded: what the encoder made of the turns, (L, B, T, D), for a writer that reads it (`reads_encoded`).
        computed: what self-attention made of the tokens that `MemoryWriter.to_compute` names, for a writer that keeps
            it (`reads_computed`).
    """

    ids: Tensor
    mask: Tensor | None
    encoded: Tensor | None = None
    computed: ComputedTurn | None = None


class Watch(Protocol):
    """Measures updates of the memory while it is entered as a context."""

    def figures(self) -> dict[str, float]:
        """Return figures for the log, means over turns and conversations, by name."""


class NoFigures:
    """Has measured nothing."""

    def figures(self) -> dict[str, float]:
        """Return no figures."""
        return {}


class MemoryWriter(nn.Module, ABC):
    """The network that makes the first memory of a conversation, and writes finished turns to it."""

    config: Any
    """The configuration, with `num_layers` and `max_seq_len`, the longest turn in tokens that a write can read."""
    reads_encoded: bool = True
    """Whether a write reads what the encoder makes of a turn, which does not depend on the memory."""
    reads_computed: bool = False
    """Whether a write keeps what the decoder computed of a turn while it was answered."""

    @abstractmethod
    def first_memory(self, batch_size: int, seed: Seed = None) -> MemoryState:
        """Return the memory that `batch_size` new conversations start from; `seed` as in `seeds.row_generators`."""

    @abstractmethod
    def write(self, memory: Any, turn: FinishedTurn) -> MemoryState:
        """Return the memory after finished turns; the one before is unchanged. A gradient flows back through both."""

    def to_compute(self, memory: Any, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens of turns whose keys and values a write needs, padded at the end, and their mask, (B, T).

        For a writer that `reads_computed`.
        """
        raise NotImplementedError

    def write_head(self, memory: Any, turn: FinishedTurn, *, is_own: bool) -> MemoryState:
        """Return the memory after what a chat template writes before the first turn; likewise.

        `is_own`: whether that is the conversation's own, and not what all conversations of the model begin with.
        """
        raise NotImplementedError

    def resized(self, memory: Any, num_tokens: int) -> MemoryState:
        """Return the memory with room for another number of tokens; ValueError for a kind that has one size."""
        raise ValueError(f"This model's memory has one size; memory_tokens={num_tokens} cannot be honoured.")

    def set_num_tokens(self, count: int) -> None:
        """Let new memories have room for another number of tokens; ValueError likewise."""
        raise ValueError(f"This model's memory has one size; memory_tokens={count} cannot be honoured.")

    def everything(self, memory: Any) -> MemoryState:
        """Return the memory that never drops a token from here on; for a writer that `reads_computed`."""
        raise NotImplementedError

    def newest(self, memory: Any) -> MemoryState:
        """Return the memory that keeps the newest tokens from here on, whatever was learnt; likewise."""
        raise NotImplementedError

    def watch(self) -> AbstractContextManager[Watch]:
        """Return what measures the updates that this network makes while it is entered; here, nothing does."""
        return nullcontext(NoFigures())

    @property
    @abstractmethod
    def num_places(self) -> int:
        """Keys that a layer attends to of the memory of one conversation."""

    @abstractmethod
    def num_bytes(self, element_size: int) -> int:
        """Return the bytes of one conversation's memory, for values of `element_size` bytes."""

    @abstractmethod
    def flops(self, num_tokens: int) -> int:
        """Return the floating-point operations of writing a turn of `num_tokens` tokens, without encoding it."""


@config
class MemoryConfig(Config):
    """Configuration of a kind of memory, which builds the network that writes it; `kind` names it in files."""

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type["MemoryConfig"]]] = {}
    """The configurations of the kinds of memory there are, by name."""
    num_layers: int = 12
    dim: int = 512
    max_seq_len: int = 1024

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        MemoryConfig.kinds[cls.kind] = cls

    def build(self) -> MemoryWriter:
        """Return the network, with its first weights."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return the sizes and choices of the memory in a line, for people."""
        raise NotImplementedError
