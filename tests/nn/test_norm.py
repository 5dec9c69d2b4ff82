"""RMSNorm that learns on a CPU is PyTorch's, and so are its gradients."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import assert_close
from rxlm.nn.norm import RMSNorm


def grown(norm: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return what a norm makes of x, and the gradients of x and its weight."""
    x = x.detach().requires_grad_()
    found = norm(x)
    (found * torch.linspace(-1, 2, found.numel(), dtype=x.dtype).view_as(found)).sum().backward()
    assert x.grad is not None
    return found, x.grad, *(weight.grad for weight in norm.parameters() if weight.grad is not None)


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), scale=st.sampled_from([0.0, 1e-4, 1.0, 1e4]))
def test_it_learns_as_pytorchs(shape: list[int], scale: float) -> None:
    torch.manual_seed(0)
    x = scale * torch.randn(*shape, dtype=torch.float64)
    for eps in (None, 1e-5):
        own, theirs = RMSNorm(shape[-1], eps=eps).double(), nn.RMSNorm(shape[-1], eps=eps).double()
        nn.init.normal_(own.weight)
        theirs.load_state_dict(own.state_dict())
        for mine, wanted in zip(grown(own, x), grown(theirs, x), strict=True):
            assert_close(mine, wanted, 1e-7)


def test_a_weight_that_is_frozen_gets_no_gradient() -> None:
    norm = RMSNorm(4).requires_grad_(False)
    assert len(grown(norm, torch.randn(3, 4))) == 2


def test_half_precision_around_it_changes_nothing() -> None:
    x, norm, theirs = torch.randn(2, 3, 8), RMSNorm(8), nn.RMSNorm(8)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = grown(norm, x), grown(theirs, x)
    for mine, other in zip(found, wanted, strict=True):
        assert_close(mine, other, 1e-6)
