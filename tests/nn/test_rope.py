"""Rotary embedding against the multiplication of complex numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_close
from rxlm.nn.rope import RotaryEmbedding, rotate, segment_positions, token_positions


def naive_rotation(x: torch.Tensor, positions: torch.Tensor, base: float) -> torch.Tensor:
    """Pair (2i, 2i + 1) of position p times e^(i p base^(-2i/d)), in float64; `positions` (B, T)."""
    size = x.shape[-1]
    frequencies = torch.tensor([base ** (-2 * pair / size) for pair in range(size // 2)], dtype=torch.float64)
    angles = positions[:, None, :, None].double() * frequencies
    turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(turned * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@given(
    size=st.sampled_from([2, 4, 8, 16]),
    base=st.sampled_from([100.0, 10000.0, 1e6]),
    positions=st.lists(st.integers(0, 5000), min_size=1, max_size=6),
)
def test_a_rotation_is_a_complex_multiplication(size, base, positions):
    x = torch.randn(2, 3, len(positions), size, dtype=torch.float64)
    rows = torch.tensor([positions, positions[::-1]])
    rope = RotaryEmbedding(size, base)
    assert_close(rotate(x, rope(rows)), naive_rotation(x, rows, base), 2e-3)
    assert_close(rotate(x, rope(rows[0])), naive_rotation(x, rows[:1], base), 2e-3)
    near = rows % 50  # angles are float32: near the start they are exact to seven digits
    assert_close(rotate(x, rope(near)), naive_rotation(x, near, base), 2e-5)


@given(shift=st.integers(0, 300), positions=st.lists(st.integers(0, 100), min_size=2, max_size=5))
def test_scores_depend_on_distance_only(shift, positions):
    rope, where = RotaryEmbedding(8), torch.tensor(positions)
    queries, keys = torch.randn(2, 1, 1, len(positions), 8, dtype=torch.float64)

    def scores(offset: int) -> torch.Tensor:
        rotation = rope(where + offset)
        return rotate(queries, rotation) @ rotate(keys, rotation).mT

    assert_close(scores(shift), scores(0), 1e-3)


@given(positions=st.lists(st.integers(0, 2000), min_size=1, max_size=5))
def test_a_rotation_changes_no_length(positions):
    x = torch.randn(1, 2, len(positions), 8, dtype=torch.float64)
    turned = rotate(x, RotaryEmbedding(8)(torch.tensor(positions)))
    assert_close(turned.norm(dim=-1), x.norm(dim=-1), 1e-6)


@pytest.mark.parametrize("convert", ["bfloat16", "half", "double", "float"])
def test_angles_stay_float32_whatever_the_models_type(convert):
    """In bfloat16 position 1001 would be position 1000, and frequencies would have three digits."""
    positions = torch.arange(0, 4000, 7)
    before = RotaryEmbedding(64)(positions)
    rope = getattr(torch.nn.Sequential(RotaryEmbedding(64)), convert)()[0]
    after = rope(positions)
    assert rope.inverse_frequencies.dtype == torch.float32
    assert torch.equal(before.cos, after.cos)
    assert torch.equal(before.sin, after.sin)
    x = torch.randn(1, 1, len(positions), 64).to(getattr(torch, {"half": "float16"}.get(convert, convert), torch.float))
    assert rotate(x, after).dtype == x.dtype


def test_a_copy_through_another_type_and_back_loses_nothing():
    rope = RotaryEmbedding(16, 500.0)
    exact = rope.inverse_frequencies.clone()
    rope.to(torch.bfloat16).to(torch.float32)
    assert torch.equal(rope.inverse_frequencies, exact)
    assert "inverse_frequencies" not in rope.state_dict()


def test_an_odd_head_dimension_is_refused():
    with pytest.raises(ValueError, match="even head dimension, got 7"):
        RotaryEmbedding(7)


def test_positions_count_the_real_tokens_of_each_row():
    assert token_positions(3).tolist() == [0, 1, 2]
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    positions = token_positions(4, mask)
    assert positions[mask.bool()].tolist() == [0, 1, 2, 0, 1]
    assert positions.min() == 0


def test_positions_start_again_in_every_document():
    segments = torch.tensor([[1, 1, 1, 2, 3, 3, 0], [1, 2, 2, 1, 0, 2, 1]])
    assert segment_positions(segments).tolist() == [[0, 1, 2, 0, 0, 1, 0], [0, 0, 1, 1, 0, 2, 2]]
