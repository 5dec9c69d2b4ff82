"""Muon makes the step of a matrix orthogonal, as PyTorch's own does."""

import pytest
import torch
from torch import nn

from rxlm.config import ConfigError
from rxlm.training import muon
from rxlm.training.config import OptimizerConfig
from rxlm.training.muon import Muon, orthogonal

SHAPES = [(12, 12), (24, 8), (8, 24), (3, 24, 8)]


def parameters() -> list[nn.Parameter]:
    """Return two matrices of each shape, with gradients."""
    torch.manual_seed(0)
    found = [nn.Parameter(torch.randn(shape)) for shape in SHAPES for _ in range(2)]
    for each in found:
        each.grad = torch.randn_like(each)
    return found


def test_singular_vectors_stay_and_singular_values_come_near_to_one() -> None:
    for matrix in parameters():
        left, values, right = torch.linalg.svd(matrix.detach(), full_matrices=False)
        found = left.mT @ orthogonal(matrix.detach()) @ right.mT
        of_vectors = found.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(found, torch.diag_embed(of_vectors), atol=1e-4, rtol=0)
        assert values.max() > 2 * values.min()
        assert 0.3 < of_vectors.min() < of_vectors.max() < 1.3


def test_a_matrix_without_a_gradient_to_speak_of_does_not_move() -> None:
    assert not orthogonal(torch.zeros(4, 3)).any()


def test_steps_are_those_of_pytorch() -> None:
    """But for its bfloat16, whose singular values are a hundredth off."""
    ours, theirs = ([each for each in parameters() if each.dim() == 2] for _ in range(2))
    own = Muon([{"params": ours, "lr": 0.01, "weight_decay": 0.1}], momentum=0.9)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    before = [each.detach().clone() for each in ours]
    for _ in range(3):
        own.step()
        reference.step()
    for start, each, other in zip(before, ours, theirs, strict=True):
        moved, wanted = each.detach() - start, other.detach() - start
        assert (moved - wanted).norm() < 0.02 * wanted.norm()


def test_a_stack_of_matrices_moves_as_its_matrices_do() -> None:
    stack = next(each for each in parameters() if each.dim() == 3)
    assert stack.grad is not None
    alone = [nn.Parameter(each.detach().clone()) for each in stack]
    for each, gradient in zip(alone, stack.grad, strict=True):
        each.grad = gradient.clone()
    for moved in ([stack], alone):
        Muon([{"params": moved, "lr": 0.1, "weight_decay": 0.0}], momentum=0.95).step()
    torch.testing.assert_close(stack.detach(), torch.stack(alone).detach())


def test_it_is_the_same_step_however_many_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together, apart = parameters(), parameters()
    for some, most in ((together, 2**24), (apart, 1)):
        monkeypatch.setattr(muon, "MOST_NUMBERS", most)
        Muon([{"params": some, "lr": 0.1, "weight_decay": 0.0}], momentum=0.95).step()
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.detach(), other.detach())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_as_long_as_the_rate_says(shape: tuple[int, ...]) -> None:
    """Its numbers are of the size that AdamW's have, .2 of the rate, whatever the shape and the gradient's length."""
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    Muon([{"params": [weight], "lr": 0.01, "weight_decay": 0.0}], momentum=0.95).step()
    assert 0.5 * 0.002 < weight.detach().square().mean().sqrt() < 1.5 * 0.002


def test_a_mean_that_no_gradient_changes_is_refused() -> None:
    with pytest.raises(ConfigError, match="momentum must be less than 1, got 1"):
        OptimizerConfig(momentum=1.0)
