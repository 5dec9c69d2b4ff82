"""What updates do to the memory: how far the gates open, and how far each layer moves.

Shapes: L memory layers, B conversations, S slots, D model dimension.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rxlm.memory.slots.gate import ResidualGate, SumGate

GATES = {"gate": "write_gate", "consolidation_gate": "consolidation_gate"}
"""The gates of a memory layer that are measured: the name of the figure, and of the module."""


class SlotWatch:
    """Measures every update of slots while it is entered; rows without a token, which keep theirs, do not count.

    Args:
        writer: the `MemoryAttention` that makes the updates.
    """

    def __init__(self, writer: nn.Module) -> None:
        self.writer = writer
        self.measured: dict[str, list[Tensor]] = {}
        self.present: list[Tensor] = []
        self.hooks: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self.hooks.append(self.writer.register_forward_hook(self._measure_update))
        for number, layer in enumerate(cast(nn.ModuleList, self.writer.layers)):
            self.measured[f"memory_drift/layer_{number}"] = []
            for figure, name in GATES.items():
                gate = getattr(layer, name, None)
                if isinstance(gate, ResidualGate) and not isinstance(gate, SumGate):
                    self.measured[f"{figure}/layer_{number}"] = []
                    self.hooks.append(gate.register_forward_hook(self._measure_gate(f"{figure}/layer_{number}")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for hook in self.hooks:
            hook.remove()

    def figures(self) -> dict[str, float]:
        """Return means over turns and rows.

        `gate/layer_i` is the mean opening G of the gate that writes, `consolidation_gate/layer_i` of the one before it
        in the variants that have one; `memory_drift/layer_i` the root mean square of what a turn changed. All are 0
        where nothing was written: processes log the same figures, whatever their turns are.
        """
        if not self.present:
            return dict.fromkeys(self.measured, 0.0)
        weights = torch.cat(self.present)
        total = weights.sum().clamp(min=1)
        return {name: float((torch.cat(values) * weights).sum() / total) for name, values in self.measured.items()}

    def _measure_gate(self, name: str) -> Callable[..., None]:
        def measure(gate: nn.Module, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
            old, update = inputs
            opening = cast(ResidualGate, gate).opening(old, update)
            self.measured[name].append(opening.expand_as(old).float().mean(dim=(1, 2)))

        return measure

    def _measure_update(self, _: nn.Module, inputs: tuple[Any, ...], updated: Tensor) -> None:
        slots, mask = inputs[0], inputs[2]
        self.present.append(mask.any(dim=1))
        change = (updated - slots).float().square().mean(dim=(2, 3)).sqrt()  # (L, B)
        for layer, values in enumerate(change):
            self.measured[f"memory_drift/layer_{layer}"].append(values)
