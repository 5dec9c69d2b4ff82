"""Norms of memory slots against their formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import assert_close, randomise
from rxlm.memory.slots.norm import MEMORY_NORMS, make_memory_norm

SLOTS, DIM, EPS = 5, 8, 1e-6
MIXED = [kind for kind in MEMORY_NORMS if kind != "rms"]


def make(kind: str, per_dim_scale: bool = True) -> nn.Module:
    return randomise(make_memory_norm(kind, DIM, SLOTS, per_dim_scale).double())


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("per_dim_scale", [True, False])
@given(scale=st.sampled_from([0.01, 1.0, 100.0]))
@torch.no_grad()
def test_a_mixed_norm_is_its_formula(kind, per_dim_scale, scale):
    norm, x = make(kind, per_dim_scale), torch.randn(2, SLOTS, DIM, dtype=torch.float64) * scale
    actual = norm(x)
    for b in range(2):
        for s in range(SLOTS):
            row = x[b, s]
            if kind == "mixed-layer":
                normed = (row - row.mean()) / (row.var(correction=0) + EPS).sqrt()
            else:
                root_mean_square = row.pow(2).mean().sqrt()
                divisor = norm.average_rms[s, 0] if kind == "mixed-positional" else root_mean_square
                normed = row / (divisor + EPS).sqrt()
            gate = norm.gate[s, 0] if kind == "mixed-positional" else norm.gate[0]
            g = 1 / (1 + (-gate).exp())
            factor = norm.scale if per_dim_scale else norm.scale[s]
            assert_close(actual[b, s], g * normed * factor + (1 - g) * row)


def test_a_norm_has_the_values_of_its_kind():
    shapes = {kind: {name: tuple(t.shape) for name, t in make(kind).state_dict().items()} for kind in MEMORY_NORMS}
    assert shapes == {
        "rms": {"weight": (DIM,)},
        "mixed-layer": {"gate": (1,), "scale": (DIM,)},
        "mixed-rms": {"gate": (1,), "scale": (DIM,)},
        "mixed-positional": {"gate": (SLOTS, 1), "scale": (DIM,), "average_rms": (SLOTS, 1)},
    }
    assert make("mixed-positional", per_dim_scale=False).scale.shape == (SLOTS, 1)


@torch.no_grad()
def test_the_plain_norm_is_rmsnorm():
    norm, x = make("rms"), torch.randn(2, SLOTS, DIM, dtype=torch.float64)
    assert_close(norm(x), x / x.pow(2).mean(-1, keepdim=True).sqrt() * norm.weight)


@pytest.mark.parametrize("kind", MIXED)
def test_a_new_mixed_norm_is_half_norm_half_input(kind):
    x = torch.randn(1, SLOTS, DIM)
    norm = make_memory_norm(kind, DIM, SLOTS)
    assert_close(norm(x).detach(), 0.5 * norm._norm(x) + 0.5 * x, 1e-6)


@pytest.mark.parametrize("kind", MEMORY_NORMS)
def test_a_memory_of_zeros_has_a_gradient(kind):
    """Slots that start from zeros are normalised in the first turn: no square root may answer with infinity there."""
    x = torch.zeros(1, SLOTS, DIM, dtype=torch.float64, requires_grad=True)
    make(kind)(x).sum().backward()
    assert x.grad.isfinite().all()
