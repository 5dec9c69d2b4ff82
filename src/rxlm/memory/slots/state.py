"""The memory of a batch of conversations, as a value.

Shapes: L memory layers, B conversations, S slots, D model dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class MemoryState:
    """What a batch of conversations remembers: `slots`, shape (L, B, S, D).

    A state is never changed in place: an update makes a new one, so that a conversation can be forked, undone,
    saved, moved and batched by handling plain values.
    """

    slots: Tensor

    def __post_init__(self) -> None:
        if self.slots.dim() != 4 or not self.slots.is_floating_point():
            raise ValueError(
                "A memory state is a floating-point tensor of shape (layers, conversations, slots, dim), "
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
    def num_bytes(self) -> int:
        """Storage that the state takes."""
        return self.slots.numel() * self.slots.element_size()

    def select(self, rows: int | Sequence[int]) -> Self:
        """Return the memories of some conversations, in the order given; a single number keeps the batch axis."""
        index = [rows] if isinstance(rows, int) else list(rows)
        return type(self)(self.slots[:, index])

    @classmethod
    def join(cls, states: Sequence["MemoryState"]) -> Self:
        """Put several batches of conversations of one model into one batch, in order."""
        shapes = {(state.num_layers, *state.slots.shape[2:]) for state in states}
        if len(shapes) != 1:
            raise ValueError(f"Only memories of one shape can be joined, got (layers, slots, dim) of {sorted(shapes)}.")
        return cls(torch.cat([state.slots for state in states], dim=1))

    def detach(self) -> Self:
        """Return the same memory without its gradient history."""
        return type(self)(self.slots.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the memory on another device or in another floating-point type."""
        return type(self)(self.slots.to(device=device, dtype=dtype))

    def drift(self, earlier: "MemoryState") -> Tensor:
        """Root mean square of the change since `earlier`, a value a layer and conversation: (L, B)."""
        return (self.slots - earlier.slots).square().mean(dim=(-2, -1)).sqrt()

    def save(self, path: str | Path) -> None:
        """Write the memory to a safetensors file."""
        save_file({"memory": self.slots.detach().contiguous()}, path)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Self:
        """Read a memory that `save` wrote; ValueError where the file is missing, damaged or something else."""
        if not Path(path).is_file():
            raise ValueError(f"There is no memory file {path}.")
        try:
            tensors = load_file(path, device=str(device))
        except SafetensorError as error:
            raise ValueError(f"The memory file {path} is damaged: {error}.") from error
        if set(tensors) != {"memory"}:
            raise ValueError(f"{path} holds {sorted(tensors)} and not a memory state.")
        return cls(tensors["memory"])
