"""Attention of every kind against softmax(q k^T / sqrt(d)) v written out head by head, query by query."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import assert_close, randomise
from rxlm.nn.attention import Attention, AttentionConfig, KeyValues, _sdpa, padding_mask, segment_mask
from rxlm.nn.feed_forward import ACTIVATIONS
from rxlm.nn.heads import ATTENTION_VARIANTS, HeadCounts, check_head_counts, head_counts
from rxlm.nn.rope import RotaryEmbedding, rotate, segment_positions

DIM, HEADS = 16, 4
COUNTS = [(4, 4), (4, 2), (4, 1), (2, 2), (2, 1), (3, 1), (1, 1), (2, 4), (1, 4), (1, 2), (1, 3)]
every_count = pytest.mark.parametrize("counts", COUNTS, ids=lambda counts: f"{counts[0]}q{counts[1]}kv")


def naive_attention(attention: Attention, x: Tensor, y: Tensor, allowed: Tensor, rotation=None) -> Tensor:
    """One query at a time; `allowed` (T, S) is True where a query may look."""
    size, num_queries, num_keys = attention.head_dim, attention.num_query_heads, attention.num_kv_heads
    rows = []
    for source, target in zip(x, y, strict=True):
        heads = []
        for head in range(max(num_queries, num_keys)):
            query_head = head if num_queries >= num_keys else head % num_queries
            key_head = head if num_keys >= num_queries else head // (num_queries // num_keys)
            query = source @ attention.q_proj.weight[query_head * size : (query_head + 1) * size].T
            key = target @ attention.k_proj.weight[key_head * size : (key_head + 1) * size].T
            value = target @ attention.v_proj.weight[key_head * size : (key_head + 1) * size].T
            if attention.q_norm is not None:
                query, key = rms(query) * attention.q_norm.weight, rms(key) * attention.k_norm.weight
            if rotation is not None:
                query, key = rotate(query[None, None], rotation)[0, 0], rotate(key[None, None], rotation)[0, 0]
            outputs = []
            for position in range(len(source)):
                weights = [
                    math.exp(float(query[position] @ key[other]) / math.sqrt(size)) if allowed[position, other] else 0.0
                    for other in range(len(target))
                ]
                mixed = sum(weight * value[other] for other, weight in enumerate(weights))
                outputs.append(mixed / sum(weights))
            heads.append(torch.stack(outputs))
        out = torch.cat(heads, dim=-1)
        if attention.gate_proj is not None:
            out = out * attention.gate_activation(source @ attention.gate_proj.weight.T)
        out = out @ attention.out_proj.weight.T
        rows.append(out if attention.out_proj.bias is None else out + attention.out_proj.bias)
    return torch.stack(rows)


def rms(x: Tensor) -> Tensor:
    return x / x.pow(2).mean(-1, keepdim=True).sqrt()


def make(counts: tuple[int, int] = (4, 2), **options: object) -> Attention:
    return randomise(AttentionConfig(num_heads=HEADS, **HeadCounts(*counts)._asdict(), **options).build(DIM).double())


def inputs(queries: int, keys: int | None = None) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, queries, DIM, dtype=torch.float64)
    return x, x if keys is None else torch.randn(2, keys, DIM, dtype=torch.float64)


@every_count
@torch.no_grad()
def test_self_attention_sees_everything(counts):
    attention, (x, _) = make(counts), inputs(5)
    expected = naive_attention(attention, x, x, torch.ones(5, 5).bool())
    assert_close(attention(x), expected)
    assert_close(attention(x, x), expected)


@every_count
@torch.no_grad()
def test_cross_attention_sees_another_sequence(counts):
    attention, (x, y) = make(counts, out_bias=True), inputs(3, 7)
    expected = naive_attention(attention, x, y, torch.ones(3, 7).bool())
    assert_close(attention(x, y), expected)
    assert_close(attention(x, attention.keys_values(y)), expected)


@every_count
@torch.no_grad()
def test_causal_attention_sees_what_was_before(counts):
    attention, (x, _) = make(counts), inputs(6)
    assert_close(attention(x, causal=True), naive_attention(attention, x, x, torch.ones(6, 6).tril().bool()))


@every_count
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both directions"])
@given(length=st.integers(1, 12), window=st.integers(1, 13))
@torch.no_grad()
def test_windowed_attention_sees_what_is_near(counts, causal, length, window):
    """Computed in blocks; the reference masks the full square."""
    attention, (x, _) = make(counts, sliding_window=window), inputs(length)
    distance = torch.arange(length)[:, None] - torch.arange(length)
    near = (distance < window) & (distance >= 0) if causal else distance.abs() < window
    assert_close(attention(x, causal=causal), naive_attention(attention, x, x, near))


@torch.no_grad()
def test_windowed_attention_never_computes_the_full_square(monkeypatch):
    """Cost grows with length times window: no block looks at more keys than twice the window."""
    widest, sdpa = 0, torch.nn.functional.scaled_dot_product_attention

    def measuring(queries, keys, *args, **kwargs):
        nonlocal widest
        widest = max(widest, keys.shape[2] * queries.shape[2])
        return sdpa(queries, keys, *args, **kwargs)

    attention, (x, _) = make(sliding_window=4), inputs(64)
    monkeypatch.setattr("rxlm.nn.attention.F.scaled_dot_product_attention", measuring)
    attention(x, causal=True)
    assert widest <= 4 * 8


@every_count
@torch.no_grad()
def test_queries_and_keys_are_normalised_then_rotated(counts):
    attention, (x, _) = make(counts, qk_norm=True), inputs(5)
    rotation = RotaryEmbedding(attention.head_dim)(torch.arange(5))
    expected = naive_attention(attention, x, x, torch.ones(5, 5).tril().bool(), rotation)
    actual = attention(x, query_rotation=rotation, key_rotation=rotation, causal=True)
    assert_close(actual, expected, 1e-6)


@every_count
@pytest.mark.parametrize("activation", ["sigmoid", "silu", "identity"])
@torch.no_grad()
def test_a_gate_multiplies_the_heads_before_the_output_projection(counts, activation):
    attention, (x, y) = make(counts, gate=activation), inputs(3, 4)
    assert attention.gate_activation is ACTIVATIONS[activation]
    assert_close(attention(x, y), naive_attention(attention, x, y, torch.ones(3, 4).bool()))


@every_count
@given(data=st.data())
@torch.no_grad()
def test_masked_keys_are_not_seen(counts, data):
    """As a mask of the call, or as one that travels with keys projected before; both leave what they share."""
    attention, (x, y) = make(counts), inputs(3, 5)
    keys = torch.tensor(data.draw(st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda row: sum(row[:3]) > 0)))
    other = torch.tensor([True, True, True, False, True])
    expected = naive_attention(attention, x, y, keys.expand(3, 5))
    mask = keys.expand(2, 5)
    assert_close(attention(x, y, mask=padding_mask(mask)), expected)
    assert_close(attention(x, attention.keys_values(y, mask=mask)), expected)
    both = attention(x, attention.keys_values(y, mask=mask), mask=padding_mask(other.expand(2, 5)))
    assert_close(both, naive_attention(attention, x, y, (keys & other).expand(3, 5)))


@given(data=st.data(), window=st.none() | st.integers(1, 6), causal=st.booleans())
def test_a_segment_mask_lets_tokens_see_their_own_document(data, window, causal):
    """Documents may be interleaved, as real tokens and padding are in a batch padded anywhere."""
    numbers = st.lists(st.integers(0, 3), min_size=7, max_size=7)
    segments = torch.tensor([data.draw(numbers) for _ in range(2)])
    mask = segment_mask(segments, segment_positions(segments), causal=causal, sliding_window=window)
    assert mask.shape == (2, 1, 7, 7)
    for row, query in product(range(2), range(7)):
        places = (segments[row] == segments[row, query]).nonzero()[:, 0].tolist()
        rank = places.index(query)
        near = [place for i, place in enumerate(places) if window is None or abs(i - rank) < window]
        expected = [place for place in near if place <= query or not causal]
        assert mask[row, 0, query].nonzero()[:, 0].tolist() == expected


@given(data=st.data())
def test_a_padding_mask_is_that_of_the_real_tokens(data):
    real = torch.tensor([data.draw(st.lists(st.booleans(), min_size=7, max_size=7)) for _ in range(2)])
    mask = padding_mask(real).expand(2, 1, 7, 7)
    for row in range(2):
        assert (mask[row, 0] == (real[row] if real[row].any() else True)).all()


@torch.no_grad()
def test_each_query_may_have_keys_of_its_own():
    attention, (x, y) = make((4, 4)), inputs(3, 5)
    mask = torch.rand(2, 3, 5) < 0.5
    mask[..., 0] = True
    found = attention(x, attention.keys_values(y, mask=mask))
    for row in range(2):
        assert_close(found[row : row + 1], naive_attention(attention, x[row : row + 1], y[row : row + 1], mask[row]))


def test_a_mask_learns_where_nothing_else_does(monkeypatch):
    """PyTorch's kernel for GPUs has the mask's gradient only where the queries have one."""
    given = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda queries, *_, **__: given.append(queries) or queries)
    queries, keys = torch.zeros(2, 4, 3, 8, device="meta"), torch.zeros(2, 2, 5, 8, device="meta")
    for learns in (True, False):
        _sdpa(queries, keys, keys, torch.zeros(2, 2, 3, 5, device="meta", requires_grad=learns))
    assert [each.requires_grad for each in given] == [True, False]


@given(
    num_heads=st.sampled_from([4, 8, 12, 16, 32]),
    variant=st.sampled_from(ATTENTION_VARIANTS),
)
def test_every_named_variant_has_counts_that_an_attention_can_have(num_heads, variant):
    counts = head_counts(variant, num_heads)
    check_head_counts(num_heads, *counts)


def test_the_variants_of_16_heads_are_those_of_the_paper():
    counts = {variant: tuple(head_counts(variant, 16)) for variant in ATTENTION_VARIANTS}
    assert counts == {
        "mha": (16, 16), "gqa": (16, 4), "mqa": (16, 1), "sqa": (8, 4), "ssqa": (8, 8), "xsqa": (4, 4),
        "xsmqa": (4, 1), "lsqa": (12, 4), "rsqa": (4, 8),
    }  # fmt: skip


def test_fewer_query_heads_make_fewer_operations():
    """SQA: weights of queries and scores shrink with the query heads, unlike in GQA."""
    sizes = {variant: make_of(variant).q_proj.weight.shape[0] for variant in ("mha", "gqa", "sqa", "xsqa")}
    assert sizes == {"mha": 64, "gqa": 64, "sqa": 32, "xsqa": 16}


def make_of(variant: str) -> Attention:
    return AttentionConfig(**head_counts(variant, 16)._asdict()).build(64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((15,), "dim must be a multiple of num_heads, got dim=15 and num_heads=4"),
        ((16, 5), "num_query_heads must be between 1 and num_heads=4, got 5"),
        ((16, 0), "num_query_heads must be a whole number of at least 1, got 0"),
        ((16, 4, 8), "num_kv_heads must be between 1 and num_heads=4, got 8"),
        ((16, 4, 3), "must divide the other, got num_query_heads=4 and num_kv_heads=3"),
        ((16, 3, 2), "must divide the other"),
    ],
)
def test_impossible_head_counts_are_explained(arguments, message):
    dim, *counts = arguments
    fields = dict(zip(("num_query_heads", "num_kv_heads"), counts, strict=False))
    with pytest.raises(ValueError, match=message):
        AttentionConfig(num_heads=4, **fields).build(dim)


@pytest.mark.parametrize(("variant", "heads"), [("sqa", 6), ("gqa", 2), ("flash", 8)])
def test_a_variant_that_cannot_be_had_is_explained(variant, heads):
    with pytest.raises(ValueError, match=variant):
        head_counts(variant, heads)


def test_keys_projected_once_serve_many_calls():
    attention, (x, y) = make(), inputs(3, 4)
    projected = attention.keys_values(y)
    assert isinstance(projected, KeyValues)
    with torch.no_grad():
        for each in (x, x * 2):
            assert_close(attention(each, projected), attention(each, y))
