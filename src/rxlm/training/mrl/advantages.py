"""What an answer was better than expected by.

Shapes: N turns, B episodes, G episodes of a group.
"""

import torch
from torch import Tensor

from rxlm.shapes import Bool, Float
from rxlm.training import distributed
from rxlm.training.mrl.config import Normalisation

EPSILON = 1e-6


def one_step(
    rewards: Float[Tensor, "N B"], values: Float[Tensor, "N B"]
) -> tuple[Float[Tensor, "N B"], Float[Tensor, "N B"]]:
    """Return reward less value, and the reward itself as what the critic should have said, (N, B) each."""
    return rewards - values, rewards


def generalised(
    rewards: Float[Tensor, "N B"],
    values: Float[Tensor, "N B"],
    present: Bool[Tensor, "N B"],
    *,
    discount: float,
    gae_lambda: float,
) -> tuple[Float[Tensor, "N B"], Float[Tensor, "N B"]]:
    """Return generalised advantages and returns over the turns of episodes (Schulman et al., 2016, eq. 16).

    A_t = sum_k (discount * gae_lambda)^k d_(t+k), with d_t = r_t + discount * V_(t+1) - V_t, and V = 0 after the end.

    Args:
        rewards, values: (N, B); 0 at turns that earn nothing.
        present: True at the turns that an episode has and the policy answered, (N, B): they follow each other.
        discount, gae_lambda: of the formula.
    """
    following = advantage = torch.zeros_like(rewards[0])
    advantages = []
    for reward, value, is_present in zip(rewards.flip(0), values.flip(0), present.flip(0), strict=True):
        delta = reward + discount * following - value
        advantage = torch.where(is_present, delta + discount * gae_lambda * advantage, torch.zeros_like(delta))
        following = torch.where(is_present, value, torch.zeros_like(value))
        advantages.append(advantage)
    found = torch.stack(advantages).flip(0)
    return found, found + values * present


def group_relative(rewards: Float[Tensor, "N B"], earns: Bool[Tensor, "N B"], groups: int) -> Float[Tensor, "N B"]:
    """Return each reward less its group's mean, (N, B) (Shao et al., 2024).

    The rows of a group, G = `groups`, follow each other; each turn is compared with the group's turns of its number.
    Turns that earn nothing get 0. The group's standard deviation is left out (Liu et al., 2025): it makes as much of
    small differences as of large ones.
    """
    grouped = rewards.unflatten(1, (-1, groups))
    counted = earns.unflatten(1, (-1, groups)).to(rewards.dtype)
    mean = (grouped * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True).clamp(min=1)
    return ((grouped - mean) * counted).flatten(1)


def standardise(
    advantages: Float[Tensor, "N B"], counted: Bool[Tensor, "N B"], over: Normalisation
) -> Float[Tensor, "N B"]:
    """Return advantages (N, B) with mean 0 and standard deviation 1 over those that count, in all processes.

    `over` the whole "batch", or over each "step", the turns of one number. Those that do not count get 0.
    """
    if over == "none":
        return advantages.where(counted, 0)
    if over == "batch":
        return _standardise(advantages, counted, "all")
    return torch.stack(
        [_standardise(*row, str(number)) for number, row in enumerate(zip(advantages, counted, strict=True))]
    )


def _standardise(values: Tensor, counted: Tensor, name: str) -> Tensor:
    chosen = values[counted].double()
    sums = {
        f"{name}/count": float(chosen.numel()),
        f"{name}/sum": float(chosen.sum()),
        f"{name}/squares": float(chosen.square().sum()),
    }
    count, total, squares = distributed.sum_over_processes(sums).values()
    if count < 2:
        return torch.zeros_like(values)
    mean = total / count
    deviation = max(0.0, squares / count - mean**2) ** 0.5
    return ((values - mean) / (deviation + EPSILON)).where(counted, 0)
