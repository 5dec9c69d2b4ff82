"""Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon): the step of a matrix is made orthogonal.

A step is the gradient's running mean with all of its singular values drawn near to 1, so that rare directions are
learnt as fast as common ones; for matrices alone. Here equal shapes are computed together, and in float32 on a CPU:
`torch.optim.Muon` takes one matrix after the other in bfloat16, which a CPU without such products computes 19 times as
slowly (dev/LOG.md).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.shapes import Float
from rxlm.training.sharding import divided_like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of an iteration, as Jordan has them: steepest at small singular values, which end between .5 and 1.5."""
ITERATIONS = 5
MOST_NUMBERS = 2**24
"""That are computed together: where weights are divided among processes, these are whole for a moment in each."""
RMS = 0.2
"""Of the numbers of a step, as AdamW's have it (Liu et al., 2025, arXiv 2502.16982, equation 4)."""


class Muon(torch.optim.Optimizer):
    """Updates matrices; AdamW's learning rates and weight decay serve here as well.

    Args:
        groups: of parameters of two dimensions or more; the last two are a matrix, as in a stack of experts.
        momentum: of the gradient's running mean.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: defaultdict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for shape, parameters in alike.items():
                at_once = max(1, MOST_NUMBERS // math.prod(shape))
                for first in range(0, len(parameters), at_once):
                    self._step(parameters[first : first + at_once], group)
        return loss

    def _step(self, parameters: Sequence[nn.Parameter], group: Mapping[str, Any]) -> None:
        """Update parameters of one shape together."""
        rate = group["lr"] * RMS * max(parameters[0].shape[-2:]) ** 0.5
        means = [self._running_mean(each, group["momentum"]) for each in parameters]
        for parameter, step in zip(parameters, orthogonal(torch.stack(means)), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(divided_like(step.type_as(parameter), parameter), alpha=rate)

    def _running_mean(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Count a gradient in, and return the mean with the gradient ahead of it (Nesterov), whole."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return whole(gradient.lerp(state["momentum"], momentum))


def orthogonal(matrices: Float[Tensor, "*B M N"]) -> Float[Tensor, "*B M N"]:
    """Return matrices of the same singular vectors whose singular values are about 1 (Newton-Schulz)."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # none is larger than 1
    x = x.bfloat16() if x.is_cuda else x
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x.mT if is_tall else x
