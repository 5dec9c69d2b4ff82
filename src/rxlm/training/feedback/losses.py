"""The losses of preference optimisation and of reward models, one value a pair or an answer.

Shapes: R pairs, A answers. A log-ratio is log pi(y | x) - log pi_ref(y | x), summed over the tokens of an answer y; x
is the query with the memory that it was answered from.
"""

import torch.nn.functional as F
from torch import Tensor

from rxlm.shapes import Bool, Float


def logistic(margins: Float[Tensor, " R"], smoothing: float = 0.0) -> Float[Tensor, " R"]:
    """Return -(1 - s) log sigmoid(m) - s log sigmoid(-m): Bradley-Terry, for labels of which a share s is wrong.

    Source: Bradley and Terry, 1952; with s, Mitchell, "A note on DPO with noisy preferences", 2023.
    """
    loss = -(1 - smoothing) * F.logsigmoid(margins)
    return loss - smoothing * F.logsigmoid(-margins) if smoothing else loss


def dpo(
    chosen: Float[Tensor, " R"], rejected: Float[Tensor, " R"], *, beta: float, smoothing: float = 0.0
) -> Float[Tensor, " R"]:
    """Return -log sigmoid(beta (chosen - rejected)) of log-ratios (R,). Source: Rafailov et al., 2023, eq. 7."""
    return logistic(beta * (chosen - rejected), smoothing)


def ipo(chosen: Float[Tensor, " R"], rejected: Float[Tensor, " R"], *, beta: float) -> Float[Tensor, " R"]:
    """Return (chosen - rejected - 1 / (2 beta))^2 of log-ratios a token (R,). Source: Azar et al., 2024, eq. 17."""
    return (chosen - rejected - 1 / (2 * beta)).square()


def simpo(
    chosen: Float[Tensor, " R"],
    rejected: Float[Tensor, " R"],
    *,
    beta: float,
    target_margin: float = 0.0,
    smoothing: float = 0.0,
) -> Float[Tensor, " R"]:
    """Return -log sigmoid(beta (chosen - rejected) - gamma) of log-probabilities a token (R,).

    Source: Meng et al., 2024, eq. 6.
    """
    return logistic(beta * (chosen - rejected) - target_margin, smoothing)


def kto(
    ratios: Float[Tensor, " A"], is_good: Bool[Tensor, " A"], divergence: Float[Tensor, ""], *, beta: float
) -> Float[Tensor, " A"]:
    """Return 1 - sigmoid(beta (ratio - z)) of good answers, and 1 - sigmoid(beta (z - ratio)) of bad ones.

    Args:
        ratios: log-ratios (A,). is_good: which answers people liked, (A,).
        divergence: z, how far the policy has gone from the reference policy on answers that do not belong to their
            queries, at least 0, without a gradient.

    Source: Ethayarajh et al., 2024, eq. 7.
    """
    return 1 - (beta * (ratios - divergence)).where(is_good, beta * (divergence - ratios)).sigmoid()
