"""Residual gates against their formulas, slot by slot and dimension by dimension."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import assert_close, randomise
from rxlm.memory.slots.gate import GATES, PER_SLOT_GATES, STATUS_GATES, ResidualGate, make_gate

SLOTS, DIM = 5, 4

KINDS = [
    (kind, activation, per_slot, status)
    for kind, activation, per_slot, status in product(GATES, ("sigmoid", "tanh"), (True, False), ("mean", "linear"))
    if (activation == "sigmoid" or kind not in ("none", "content"))
    and (per_slot or kind in PER_SLOT_GATES)
    and (status == "mean" or kind in STATUS_GATES)
]


def make(kind: str, activation: str = "sigmoid", per_slot: bool = True, status: str = "mean") -> ResidualGate:
    gate = make_gate(kind, DIM, SLOTS, activation=activation, per_slot=per_slot, status=status)
    return randomise(gate.double())


def naive_score(gate: ResidualGate, kind: str, per_slot: bool, status: str, old: Tensor, new: Tensor, s: int, d: int):
    """The score of slot s, dimension d, of one conversation; old and new (S, D)."""
    z = old + new
    if kind == "static":
        return gate.weight[s, 0] if per_slot else gate.weight[0]
    if kind == "elementwise":
        return (gate.weight[s, 0] if per_slot else gate.weight[d]) * z[s, d]
    if kind == "linear":
        return gate.linear.weight[d] @ z[s] + gate.linear.bias[d]
    if kind == "content":
        seen = torch.cat([rms(old[s]) * gate.old_norm.weight, rms(new[s]) * gate.update_norm.weight])
        return gate.linear.weight[d] @ seen + gate.linear.bias[d]

    def status_of(slot: int) -> Tensor:
        return z[slot].mean() if status == "mean" else gate.status.weight[0] @ z[slot] + gate.status.bias[0]

    if kind == "slot-elementwise":
        if per_slot:
            return gate.weight[s, 0] * status_of(s)
        return gate.weight[0] * (z.mean() if status == "mean" else status_of(s))
    assert kind == "slot-linear"
    row = s if per_slot else 0
    return sum(gate.linear.weight[row, k] * status_of(k) for k in range(SLOTS)) + gate.linear.bias[row]


def rms(x: Tensor) -> Tensor:
    return x / x.pow(2).mean().sqrt()


@pytest.mark.parametrize(("kind", "activation", "per_slot", "status"), KINDS)
@torch.no_grad()
def test_a_gate_is_its_formula(kind, activation, per_slot, status):
    gate = make(kind, activation, per_slot, status)
    old, new = torch.randn(2, 3, SLOTS, DIM, dtype=torch.float64)
    merged = gate(old, new)
    for b, s, d in product(range(3), range(SLOTS), range(DIM)):
        before, update = float(old[b, s, d]), float(new[b, s, d])
        if kind == "none":
            expected = before + update
        else:
            score = float(naive_score(gate, kind, per_slot, status, old[b], new[b], s, d))
            if activation == "sigmoid":
                opening = 1 / (1 + math.exp(-score))
                expected = (1 - opening) * before + opening * update
            else:
                expected = (1 - math.tanh(score)) * before + (1 + math.tanh(score)) * update
        assert float(merged[b, s, d]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("kind", "activation", "per_slot", "status"), KINDS)
@torch.no_grad()
def test_a_gate_treats_conversations_apart(kind, activation, per_slot, status):
    gate = make(kind, activation, per_slot, status)
    old, new = torch.randn(2, 4, SLOTS, DIM, dtype=torch.float64)
    merged = gate(old, new)
    for row in range(4):
        assert_close(gate(old[row : row + 1], new[row : row + 1])[0], merged[row])


@pytest.mark.parametrize("kind", [kind for kind in GATES if kind not in ("none", "content")])
def test_a_new_gate_is_half_open_unless_told_otherwise(kind):
    """Published gates start in the middle: sigmoid(0), and tanh(0), which is a plain sum."""
    old, new = torch.rand(2, 1, SLOTS, DIM)
    for activation, expected in (("sigmoid", (old + new) / 2), ("tanh", old + new)):
        gate = make_gate(kind, DIM, SLOTS, activation=activation)
        if kind not in ("linear", "slot-linear"):
            assert_close(gate(old, new).detach(), expected, 1e-6)
        else:
            assert not gate.linear.bias.any()


def test_a_new_content_gate_is_nearly_closed():
    gate = make_gate("content", DIM, SLOTS)
    assert torch.equal(gate.linear.bias, torch.full((DIM,), -1.0))
    torch.nn.init.zeros_(gate.linear.weight)
    opening = gate.opening(*torch.randn(2, 1, SLOTS, DIM))
    assert_close(opening.detach(), torch.full((1, SLOTS, DIM), 1 / (1 + math.e)), 1e-6)


@given(init=st.floats(-3, 3))
@pytest.mark.parametrize("kind", [kind for kind in GATES if kind != "none"])
def test_the_first_value_of_a_gate_can_be_chosen(kind, init):
    gate = make_gate(kind, DIM, SLOTS, init=init)
    first = gate.weight if getattr(gate, "weight", None) is not None else gate.linear.bias
    assert_close(first.detach(), torch.full_like(first, init), 1e-6)


def test_only_the_content_gate_tells_old_from_new():
    """The others see the sum: exchange old and update, and the opening stays the same."""
    old, new = torch.randn(2, 1, SLOTS, DIM, dtype=torch.float64)
    for kind in GATES:
        if kind != "none":
            gate = make(kind)
            same = torch.allclose(gate.opening(old, new), gate.opening(new, old))
            assert same == (kind != "content")
