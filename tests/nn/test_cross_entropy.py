"""The loss in chunks is PyTorch's cross-entropy of all logits at once, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.nn import cross_entropy
from rxlm.nn.cross_entropy import token_loss

NUM_TOKENS, DIM, VOCAB = 11, 6, 13


def inputs(dtype: torch.dtype = torch.float64, count: int = NUM_TOKENS) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    hidden, weight, bias = torch.randn(count, DIM), torch.randn(VOCAB, DIM), torch.randn(VOCAB)
    parameters = [value.to(dtype).requires_grad_() for value in (hidden, weight, bias)]
    return *parameters, torch.randint(VOCAB, (count,))  # type: ignore[return-value]


def reference(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(logits, targets, reduction="sum"), (logits.argmax(-1) == targets).sum()


@pytest.fixture(autouse=True, params=[1, 4 * VOCAB, 10**6], ids=["row by row", "four rows", "all rows"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK", request.param)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("count", [NUM_TOKENS, 1, 0])
def test_loss_count_and_gradients_are_those_of_all_logits_at_once(biased: bool, count: int) -> None:
    hidden, weight, bias, targets = inputs(count=count)
    learned = (hidden, weight, bias) if biased else (hidden, weight)
    found, correct = token_loss(hidden, weight, bias if biased else None, targets)
    expected, right = reference(hidden, weight, bias if biased else None, targets)

    torch.testing.assert_close(found, expected)
    assert correct == right
    gradients = zip(torch.autograd.grad(found / 7, learned), torch.autograd.grad(expected / 7, learned), strict=True)
    for one, other in gradients:
        torch.testing.assert_close(one, other)


def test_what_does_not_learn_gets_no_gradient() -> None:
    hidden, weight, bias, targets = inputs()
    (found,) = torch.autograd.grad(token_loss(hidden, weight.detach(), bias.detach(), targets).loss, hidden)
    (expected,) = torch.autograd.grad(reference(hidden, weight, bias, targets)[0], hidden)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert not token_loss(hidden, weight, bias, targets).loss.requires_grad


def test_large_logits_overflow_nothing() -> None:
    hidden, weight, bias, targets = inputs(torch.float32)
    found, expected = token_loss(1000 * hidden, weight, bias, targets), reference(1000 * hidden, weight, bias, targets)
    torch.testing.assert_close(found.loss, expected[0])
    found.loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_autocast_rounds_products_and_keeps_loss_and_gradients_in_float32() -> None:
    hidden, weight, bias, targets = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = token_loss(hidden, weight, bias, targets).loss
    expected, _ = reference(hidden, weight, bias, targets)

    assert found.dtype == torch.float32
    assert found != expected
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)
    for one, other in zip(
        torch.autograd.grad(found, (hidden, weight, bias)),
        torch.autograd.grad(expected, (hidden, weight, bias)),
        strict=True,
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
