"""The papers' memory, as a value: slots in each layer.

Shapes: L memory layers, B conversations, S slots, D model dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from rxlm.memory.protocol import Change, MemoryReading, MemoryState
from rxlm.nn.key_values import KeyValueSource
from rxlm.nn.weights import listed


@dataclass(frozen=True)
class SlotState(MemoryState):
    """What a batch of conversations remembers: `slots`, (L, B, S, D)."""

    kind: ClassVar[str] = "slots"
    slots: Tensor

    def __post_init__(self) -> None:
        if self.slots.dim() != 4 or not self.slots.is_floating_point():
            raise ValueError(
                "A memory state of slots is a floating-point tensor of shape (layers, conversations, slots, dim), "
                f"got shape {tuple(self.slots.shape)} of {self.slots.dtype}."
            )

    @property
    def num_layers(self) -> int:
        """Memory layers L."""
        return self.slots.shape[0]

    @property
    def batch_size(self) -> int:
        """Conversations B."""
        return self.slots.shape[1]

    @property
    def form(self) -> tuple[Any, ...]:
        """Kind, and sizes but for the number of conversations."""
        return self.kind, self.num_layers, *self.slots.shape[2:]

    def tensors(self) -> dict[str, Tensor]:
        """Return the slots."""
        return {"memory": self.slots}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the state with these slots."""
        if set(tensors) != {"memory"}:
            raise ValueError(f"Slots are one tensor, 'memory', got {listed(sorted(tensors)) or 'none'}.")
        return cls(tensors["memory"])

    def select(self, rows: int | Sequence[int]) -> Self:
        """Return the memories of some conversations, in the order given; a single number keeps the batch axis."""
        index = [rows] if isinstance(rows, int) else list(rows)
        return type(self)(self.slots[:, index])

    @classmethod
    def concatenate(cls, states: Sequence[Any]) -> Self:
        """Put several batches of conversations, which are of one form, into one batch, in order."""
        return cls(torch.cat([state.slots for state in states], dim=1))

    def where(self, chosen: Tensor, other: Self) -> Self:
        """Return this memory for the conversations where `chosen` (B,) is True, and `other` elsewhere."""
        return type(self)(torch.where(chosen[:, None, None], self.slots, other.slots))

    def read(self) -> MemoryReading:
        """Return the slots as what each layer attends to."""
        # Unbound at once: the gradient of a single layer's slice would be as large as the whole memory.
        return MemoryReading(tuple(KeyValueSource(own) for own in self.slots.unbind(0)))

    def drift(self, earlier: "SlotState") -> Tensor:
        """Root mean square of the change since `earlier`, a value a layer and conversation: (L, B)."""
        return (self.slots - earlier.slots).square().mean(dim=(-2, -1)).sqrt()

    def change(self, earlier: "SlotState", kind: Change) -> Tensor:
        """Return how far the slots moved, (B,): mean squared change, or 1 less the mean cosine similarity by layer."""
        if kind == "cosine":
            return 1 - torch.cosine_similarity(earlier.slots.flatten(2), self.slots.flatten(2), dim=-1).mean(0)
        return (self.slots - earlier.slots).square().mean(dim=(0, 2, 3))

    def describe(self, earlier: "SlotState | None" = None) -> list[str]:
        """Return the size, and by layer the root mean square of the first conversation's slots and of their change."""
        layers, _, slots, dim = self.slots.shape
        lines = [f"{layers} layers x {slots} slots x {dim} = {self.num_bytes:,} bytes, whatever the number of turns"]
        if earlier is None:
            return lines
        lines.append("change by the last turn, and size, root mean square by layer:")
        sizes = self.slots.square().mean(dim=(-2, -1)).sqrt()[:, 0]
        for layer, (change, size) in enumerate(zip(self.drift(earlier)[:, 0].tolist(), sizes.tolist(), strict=True)):
            share = change / size if size else 0.0
            lines.append(f"  {layer:>3}  {change:8.4f}  {size:8.4f}  {'█' * round(20 * min(share, 1.0))}")
        return lines
