"""From counts to scores: brevity penalty, smoothed precisions and their mean, as NLTK and as sacreBLEU have them.

m are the matched and l all n-grams of the candidate, by order n along the last axis; any axes may precede it.
"""

import math
import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from .variant import Variant

LOG_OF_ZERO = math.log(sys.float_info.min)
"""The smallest number, whose logarithm NLTK uses for a precision of 0; it is finite, so weights still matter."""


@dataclass(frozen=True)
class Statistics:
    """The counts that a score is computed from.

    Args:
        matches: (..., N) n-grams of the candidate that a reference holds, clipped.
        totals: (..., N) n-grams of the candidate.
        divisors: (..., N) what NLTK divides by: a sentence without n-grams counts as one with 1.
        candidate_length: (...), tokens.
        reference_length: (...), tokens of the reference whose length is closest.
    """

    matches: Tensor
    totals: Tensor
    divisors: Tensor
    candidate_length: Tensor
    reference_length: Tensor


def score(statistics: Statistics, variant: Variant, dtype: torch.dtype) -> Tensor:
    """Return the score, (...)."""
    numbers = Statistics(**{name: counts.to(dtype) for name, counts in vars(statistics).items()})
    return _nltk(numbers, variant) if variant.variant == "nltk" else _sacrebleu(numbers, variant)


def _brevity_penalty(statistics: Statistics) -> Tensor:
    candidate, reference = statistics.candidate_length, statistics.reference_length
    penalty = torch.exp((1 - reference / candidate.clamp(min=1)).clamp(max=0))
    return penalty.masked_fill(candidate == 0, 0)


def _nltk(statistics: Statistics, variant: Variant) -> Tensor:
    precisions = _smooth(statistics, variant)
    # In methods 0 and 6 a precision of 0 counts; in the others NLTK leaves it out of the mean.
    log_of_zero = LOG_OF_ZERO if variant.method in ("method0", "method6") else 0.0
    logs = precisions.log().masked_fill(precisions == 0, log_of_zero)
    mean = torch.zeros_like(logs[..., 0])
    # Weights as plain numbers: a tensor of them would have to be copied to the device, and the host would wait for it.
    for place, weight in enumerate(variant.order_weights):
        mean += weight * logs[..., place]
    return (_brevity_penalty(statistics) * mean.exp()).masked_fill(statistics.matches[..., 0] == 0, 0)


def _smooth(statistics: Statistics, variant: Variant) -> Tensor:
    """Return p_1 to p_max_n after one of the smoothing methods of Chen and Cherry (2014), as NLTK has them."""
    precisions = statistics.matches / statistics.divisors
    match variant.method:
        case "method1":
            smoothed = precisions.where(statistics.matches > 0, variant.smoothing_epsilon / statistics.divisors)
        case "method2":
            k = torch.full_like(precisions, variant.smoothing_k)
            k[..., 0] = 0
            smoothed = (statistics.matches + k) / (statistics.divisors + k)
        case "method3":
            smoothed = precisions.where(statistics.matches > 0, 1 / _halvings(statistics) / statistics.divisors)
        case "method4":
            smoothed = _by_length(statistics, precisions, variant.method4_k)
        case "method5":
            smoothed = _by_neighbours(precisions, precisions, variant.max_n)
        case "method6":
            smoothed = _by_trend(statistics, precisions, variant.method6_alpha)
        case "method7":
            smoothed = _by_neighbours(_by_length(statistics, precisions, variant.method4_k), precisions, variant.max_n)
        case _:
            smoothed = precisions
    return smoothed[..., : variant.max_n]


def _halvings(statistics: Statistics) -> Tensor:
    """Return 2 for the first order of which nothing matches, 4 for the next, and so on."""
    return 2.0 ** (statistics.matches == 0).cumsum(-1)


def _by_length(statistics: Statistics, precisions: Tensor, k: float) -> Tensor:
    """Method 4: p_n = ln(length) / (2^i k l_n) at the i-th order without a match, if there are two tokens or more."""
    length = statistics.candidate_length[..., None]
    smoothed = length.clamp(min=1).log() / (_halvings(statistics) * k * statistics.divisors)
    return precisions.where((statistics.matches > 0) | (length < 2), smoothed)


def _by_neighbours(precisions: Tensor, unsmoothed: Tensor, max_n: int) -> Tensor:
    """Method 5: p_n = (p_(n-1) + p_n + p_(n+1)) / 3 with p_0 = p_1 + 1, p_(n-1) after smoothing, the others before.

    After the last order NLTK uses the precision of 5-grams, whatever that order is.
    """
    following = torch.cat([precisions[..., 1:max_n], unsmoothed[..., 4:5]], dim=-1)
    smoothed = [precisions[..., 0] + 1]
    for place in range(max_n):
        smoothed.append((smoothed[-1] + precisions[..., place] + following[..., place]) / 3)
    return torch.stack(smoothed[1:], dim=-1)


def _by_trend(statistics: Statistics, precisions: Tensor, alpha: float) -> Tensor:
    """Method 6: from 3-grams on, p_n = (m_n + alpha p_(n-1)^2 / p_(n-2)) / (l_n + alpha)."""
    smoothed = list(precisions.unbind(-1))
    for place in range(2, len(smoothed)):
        before, last = smoothed[place - 2], smoothed[place - 1]
        prior = (last**2 / before).masked_fill(before == 0, 0)
        smoothed[place] = (statistics.matches[..., place] + alpha * prior) / (statistics.totals[..., place] + alpha)
    return torch.stack(smoothed, dim=-1)


def _sacrebleu(statistics: Statistics, variant: Variant) -> Tensor:
    """Return sacreBLEU's score, divided by 100."""
    matches, totals = statistics.matches, statistics.totals
    if variant.method == "add-k":
        k = torch.full_like(matches, variant.smoothing_k)
        k[..., 0] = 0
        matches, totals = matches + k, totals + k
    is_reached = totals > 0
    divisors = totals.where(is_reached, 1)
    precisions = matches / divisors
    if variant.method == "exp":
        precisions = precisions.where(matches > 0, 1 / _halvings(statistics) / divisors)
    elif variant.method == "floor":
        precisions = precisions.where(matches > 0, variant.smoothing_epsilon / divisors)
    # An order that the candidate is too short for ends the mean, or makes the score 0.
    logs = precisions.masked_fill(~is_reached, 0).log()
    if variant.uses_effective_order:
        mean = logs.masked_fill(~is_reached, 0).sum(-1) / is_reached.sum(-1).clamp(min=1)
    else:
        mean = logs.mean(-1)
    nothing = (statistics.matches == 0).all(-1)
    return (_brevity_penalty(statistics) * mean.exp()).masked_fill(nothing, 0)
