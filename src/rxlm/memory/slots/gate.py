"""Residual gates: how much of a memory slot an update may replace (RxT paper, memory plasticity).

Shapes: B conversations, S slots, D model dimension. With z = old + update and an opening G:
    sigmoid gates: new = (1 - G) * old + G * update
    tanh gates:    new = (1 - G) * old + (1 + G) * update
    no gate:       new = old + update
A sigmoid gate keeps the state bounded; a tanh gate lets it grow with every update.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rxlm.nn.norm import RMSNorm
from rxlm.shapes import Float

GateKind = Literal["none", "static", "elementwise", "linear", "slot-elementwise", "slot-linear", "content"]
GATES: tuple[GateKind, ...] = get_args(GateKind)
GateActivation = Literal["sigmoid", "tanh"]
GATE_ACTIVATIONS: tuple[GateActivation, ...] = get_args(GateActivation)
SlotStatus = Literal["mean", "linear"]
PER_SLOT_GATES: tuple[GateKind, ...] = ("static", "elementwise", "slot-elementwise", "slot-linear")
STATUS_GATES: tuple[GateKind, ...] = ("slot-elementwise", "slot-linear")

CONTENT_GATE_INIT = -1.0


class ResidualGate(nn.Module):
    """Merges an update into the old state; subclasses say how far the gate opens.

    `activation` (sigmoid or tanh) decides the formula of the merge, see the top of this module.
    """

    def __init__(self, activation: GateActivation = "sigmoid") -> None:
        super().__init__()
        self.activation = activation

    def opening(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return G, broadcastable to (B, S, D)."""
        score = self.score(old, update)
        return score.sigmoid() if self.activation == "sigmoid" else score.tanh()

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return G before its activation, broadcastable to (B, S, D)."""
        raise NotImplementedError

    def forward(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Merge `update` (B, S, D) into `old` (B, S, D)."""
        opening = self.opening(old, update)
        gain = opening if self.activation == "sigmoid" else 1 + opening
        return (1 - opening) * old + gain * update


class SumGate(ResidualGate):
    """No gate: new = old + update."""

    def forward(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Add `update` (B, S, D) to `old` (B, S, D)."""
        return old + update


class StaticGate(ResidualGate):
    """G = act(w), the same for every conversation; one w a slot (S, 1), or one in all (1)."""

    def __init__(self, num_slots: int, activation: GateActivation, per_slot: bool, init: float = 0.0) -> None:
        super().__init__(activation)
        self.weight = nn.Parameter(torch.full((num_slots, 1) if per_slot else (1,), init))

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return w."""
        return self.weight


class ElementwiseGate(ResidualGate):
    """G = act(w * z), a value per slot and dimension; w is one a slot (S, 1), or one a dimension (D)."""

    def __init__(self, dim: int, num_slots: int, activation: GateActivation, per_slot: bool, init: float = 0.0) -> None:
        super().__init__(activation)
        self.weight = nn.Parameter(torch.full((num_slots, 1) if per_slot else (dim,), init))

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return w * z."""
        return self.weight * (old + update)


class LinearGate(ResidualGate):
    """G = act(W z + b) over the embedding, a value per slot and dimension."""

    def __init__(self, dim: int, activation: GateActivation, init: float = 0.0) -> None:
        super().__init__(activation)
        self.linear = nn.Linear(dim, dim)
        nn.init.constant_(self.linear.bias, init)

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return W z + b."""
        return self.linear(old + update)


class SlotGate(ResidualGate):
    """Gates that see one number a slot, its status s: the mean of z over D, or a learned linear map D -> 1.

    The kinds of published models. `slot-elementwise`: G = act(w * s), one w a slot (S, 1); or, not per slot, a
    single w (1) and s averaged over the slots too. `slot-linear`: G = act(W s + b) over the slots, S -> S, or S -> 1.
    """

    def __init__(
        self,
        kind: GateKind,
        dim: int,
        num_slots: int,
        activation: GateActivation,
        per_slot: bool,
        status: SlotStatus,
        init: float = 0.0,
    ) -> None:
        super().__init__(activation)
        self.per_slot = per_slot
        self.status = nn.Linear(dim, 1) if status == "linear" else None
        self.linear, self.weight = None, None
        if kind == "slot-linear":
            self.linear = nn.Linear(num_slots, num_slots if per_slot else 1)
            nn.init.constant_(self.linear.bias, init)
        else:
            self.weight = nn.Parameter(torch.full((num_slots, 1) if per_slot else (1,), init))

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return the score from the status of each slot, (B, S or 1, 1)."""
        z = old + update
        status = z.mean(-1, keepdim=True) if self.status is None else self.status(z)
        if self.linear is not None:
            return self.linear(status.transpose(1, 2)).transpose(1, 2)
        if not self.per_slot and self.status is None:
            status = status.mean(1, keepdim=True)
        assert self.weight is not None
        return self.weight * status


class ContentGate(ResidualGate):
    """G = sigmoid(W [norm(old), norm(update)] + b), a value per slot and dimension; b = -1 at first.

    Sees old and new apart, so that it can learn to keep what it has: the gate that holds facts longest (see
    dev/LOG.md).
    """

    def __init__(self, dim: int, init: float = CONTENT_GATE_INIT) -> None:
        super().__init__("sigmoid")
        self.old_norm = RMSNorm(dim)
        self.update_norm = RMSNorm(dim)
        self.linear = nn.Linear(2 * dim, dim)
        nn.init.constant_(self.linear.bias, init)

    def score(self, old: Float[Tensor, "B S D"], update: Float[Tensor, "B S D"]) -> Tensor:
        """Return W [norm(old), norm(update)] + b."""
        return self.linear(torch.cat((self.old_norm(old), self.update_norm(update)), dim=-1))


def make_gate(
    kind: GateKind,
    dim: int,
    num_slots: int,
    *,
    activation: GateActivation = "sigmoid",
    per_slot: bool = True,
    status: SlotStatus = "mean",
    init: float | None = None,
) -> ResidualGate:
    """Return the gate of that name; `init` is the first value of w or b (None: -1 for `content`, else 0)."""
    first = 0.0 if init is None else float(init)
    if kind == "none":
        return SumGate()
    if kind == "static":
        return StaticGate(num_slots, activation, per_slot, first)
    if kind == "elementwise":
        return ElementwiseGate(dim, num_slots, activation, per_slot, first)
    if kind == "linear":
        return LinearGate(dim, activation, first)
    if kind == "content":
        return ContentGate(dim, CONTENT_GATE_INIT if init is None else first)
    return SlotGate(kind, dim, num_slots, activation, per_slot, status, first)
