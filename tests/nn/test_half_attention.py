"""Attention that learns in half precision on a CPU: that of float64, up to rounding, with and without the products."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.nn import half_attention
from rxlm.nn.attention import Attention, AttentionConfig
from rxlm.nn.half_attention import LARGEST, SMALLEST, half_attention_pays
from rxlm.nn.heads import HeadCounts

ROWS, DIM, HEADS = 2, 32, 4


@pytest.fixture(params=[True, False], ids=["products", "kernel"])
def by_products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_attention, "SMALLEST", 1 if request.param else 10**9)


def attend(
    attention: Attention, x: Tensor, y: Tensor, mask: Tensor | None, causal: bool
) -> tuple[Tensor, list[Tensor]]:
    out = attention(x, y, mask=mask, causal=causal)
    learned = [x, y, *attention.parameters()]
    return out.detach(), list(torch.autograd.grad(out.double().square().sum(), learned))


@pytest.mark.usefixtures("by_products")
@pytest.mark.parametrize("counts", [(4, 4), (4, 2), (4, 1), (2, 1), (2, 4)], ids=str)
@pytest.mark.parametrize("kind", ["all", "causal", "keys", "each", "window"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_attention_up_to_rounding_and_so_are_its_gradients(
    counts: tuple[int, int], kind: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    window = 3 if kind == "window" else None
    attention = AttentionConfig(num_heads=HEADS, **HeadCounts(*counts)._asdict(), sliding_window=window).build(DIM)
    tokens = 7
    x, y = torch.randn(ROWS, tokens, DIM), torch.randn(ROWS, tokens, DIM)
    mask = None
    if kind in ("keys", "each"):
        mask = torch.rand(ROWS, 1, 1 if kind == "keys" else tokens, tokens) < 0.5
        mask[..., 2] = True
    causal = kind in ("causal", "window")
    results = []
    for wanted in (torch.float64, dtype):
        own = AttentionConfig(num_heads=HEADS, **HeadCounts(*counts)._asdict(), sliding_window=window).build(DIM)
        own.load_state_dict(attention.state_dict())
        inputs = (x.to(wanted).requires_grad_(), y.to(wanted).requires_grad_())
        results.append(attend(own.to(wanted), *inputs, mask, causal))
    (expected, gradients), (found, rounded) = results

    assert found.dtype == dtype
    for one, other in zip([found, *rounded], [expected, *gradients], strict=True):
        assert one.isfinite().all()
        scale = float(other.square().mean().sqrt())
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.05 * scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize("tokens", [3, 9, 16])
def test_what_a_bias_hides_of_later_keys_need_not_be_computed(
    dtype: torch.dtype, past: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_attention, "BLOCK", 4)
    torch.manual_seed(0)
    shapes = ((ROWS, 4, tokens, 8), (ROWS, 2, past + tokens, 8), (ROWS, 2, past + tokens, 8))
    visible = torch.ones(tokens, past + tokens, dtype=torch.bool).tril(past)
    results = []
    for causal in (False, True):
        torch.manual_seed(1)
        bias = torch.randn(ROWS, 2, tokens, past + tokens, dtype=dtype).masked_fill(~visible, -1e4).requires_grad_()
        inputs = [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]
        found = half_attention.half_attention(inputs[0], inputs[1], inputs[2], bias, causal)
        results.append((found, *torch.autograd.grad(found.double().square().sum(), [*inputs, bias])))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0.02 if dtype == torch.bfloat16 else 1e-9, atol=0.02 if dtype == torch.bfloat16 else 1e-9
        )


@pytest.mark.parametrize("autocast", [False, True])
def test_scores_are_computed_in_float32(autocast: bool) -> None:
    """Scores near 50 that differ by less than bfloat16 has steps there."""
    queries = torch.full((1, 1, 1, 64), 1.0, dtype=torch.bfloat16, requires_grad=True)
    keys = torch.full((1, 1, SMALLEST, 64), 6.0, dtype=torch.bfloat16)
    keys[0, 0, 0, :8] += 0.0625
    values = torch.eye(1, SMALLEST, dtype=torch.bfloat16).T[None, None].expand(-1, -1, -1, 64)
    assert half_attention_pays(queries, keys, None)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = half_attention.half_attention(queries, keys, values, None)
    expected = F.scaled_dot_product_attention(queries.double(), keys.double(), values.double())
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0)


def test_it_is_taken_where_it_pays() -> None:
    def sized(tokens: int) -> Tensor:
        return torch.empty(1, 1, tokens, 4, dtype=torch.bfloat16)

    assert [half_attention_pays(sized(tokens), sized(64), None) for tokens in (SMALLEST // 64 - 1, SMALLEST // 64)] == [
        False,
        True,
    ]
    assert not half_attention_pays(sized(LARGEST // 64 + 1), sized(64), None)
    assert not half_attention_pays(sized(64).float(), sized(64).float(), None)
    assert half_attention_pays(sized(4).float(), sized(4).float(), torch.zeros(4, 4, requires_grad=True))


@pytest.mark.parametrize("shape", [(ROWS, 2, 5, 6), (1, 1, 5, 6), (ROWS, 1, 1, 6)], ids=str)
@pytest.mark.parametrize("num_query_heads", [2, 6])
def test_a_bias_learns_as_in_the_kernel(shape: tuple[int, ...], num_query_heads: int) -> None:
    torch.manual_seed(1)
    queries = torch.randn(ROWS, num_query_heads, 5, 4, dtype=torch.float64, requires_grad=True)
    keys, values = (torch.randn(ROWS, 2, 6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    learned = [queries, keys, values, bias]
    of_query_heads = bias.expand(-1, 2, -1, -1).repeat_interleave(num_query_heads // 2, 1)
    grouped = num_query_heads > 2
    expected = F.scaled_dot_product_attention(queries, keys, values, of_query_heads, enable_gqa=grouped)
    found = half_attention.half_attention(queries, keys, values, bias)

    torch.testing.assert_close(found, expected)
    for one, other in zip(
        *(torch.autograd.grad(out.square().sum(), learned) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)
