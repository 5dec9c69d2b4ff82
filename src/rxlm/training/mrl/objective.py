"""The terms of the loss, each a sum over what it counts.

Shapes: K tokens that answers were made of, V vocabulary, R turns, L memory layers, B episodes, S slots, D dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.memory.protocol import Change
from rxlm.rxt.core import RxTModel
from rxlm.shapes import Bool, Float
from rxlm.training.memory_chain import decoding_groups
from rxlm.training.turns import Turns


class AnswerStates(NamedTuple):
    """The decoder's states from which the tokens of answers were chosen.

    Fields:
        hidden: in the order of turns, then tokens, (K, D). rows: which turn n * B + b each belongs to, (K,).
    """

    hidden: Tensor
    rows: Tensor

    def first_of(self, num_rows: int) -> Float[Tensor, "R D"]:
        """Return the first state of each turn, the one at the end of its query, (R, D); 0 for turns without."""
        first = torch.ones_like(self.rows, dtype=torch.bool)
        first[1:] = self.rows[1:] != self.rows[:-1]
        found = self.hidden.new_zeros(num_rows, self.hidden.shape[1])
        return found.index_put((self.rows[first],), self.hidden[first])


def answer_states(model: RxTModel, turns: Turns, memories: MemoryState) -> AnswerStates:
    """Decode the turns that have an answer, each with its memory (N * B rows); `turns.answer_mask` says which."""
    ids, mask, wanted = (part.flatten(0, 1) for part in (turns.ids, turns.mask, turns.answer_mask))
    present = wanted.any(dim=1).nonzero()[:, 0]
    reading = memories.read()
    parts, places = [], []
    for group, width in decoding_groups(model, mask[present]):
        rows = present[group]
        hidden = model.decoder.hidden_states(ids[rows, :width], reading.select(rows))
        chosen = wanted[rows, :width]
        parts.append(hidden[:, :-1][chosen[:, 1:]])
        places.append((rows[:, None] * ids.shape[1] + torch.arange(width, device=ids.device))[chosen])
    place = torch.cat(places)
    order = place.argsort()
    return AnswerStates(torch.cat(parts)[order], place[order] // ids.shape[1])


class Clipped(NamedTuple):
    """The clipped objective: its sum, and how many tokens were clipped at either side."""

    loss: Tensor
    low: Tensor
    high: Tensor


def clipped_objective(
    log_probs: Float[Tensor, " K"],
    old_log_probs: Float[Tensor, " K"],
    advantages: Float[Tensor, " K"],
    *,
    clip_low: float,
    clip_high: float,
) -> Clipped:
    """Return the sum over tokens of -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), all arguments (K,).

    r = exp(log_probs - old_log_probs). Source: Schulman et al., 2017 (PPO), eq. 7.
    """
    ratio = (log_probs - old_log_probs).exp()
    kept = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, kept * advantages).sum()
    low = ((ratio < 1 - clip_low) & (advantages < 0)).sum()
    high = ((ratio > 1 + clip_high) & (advantages > 0)).sum()
    return Clipped(loss, low, high)


def value_objective(
    values: Float[Tensor, " R"], old_values: Float[Tensor, " R"], returns: Float[Tensor, " R"], clip: float | None
) -> Float[Tensor, ""]:
    """Return the sum of (V - return)^2 / 2 over turns (R,), for the worse of V and V kept within `clip` of the old."""
    loss = (values - returns).square()
    if clip is not None:
        kept = old_values + (values - old_values).clamp(-clip, clip)
        loss = torch.maximum(loss, (kept - returns).square())
    return loss.sum() / 2


def reference_divergence(log_probs: Float[Tensor, " K"], reference: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Return the sum of exp(d) - d - 1, d = reference - log_probs, (K,): an estimate of KL(policy, reference).

    It is never below 0. Source: Schulman, "Approximating KL divergence", 2020 (its k3).
    """
    difference = reference - log_probs
    return (difference.exp() - difference - 1).sum()


def turn_divergence(scores: Float[Tensor, "K V"], earlier: Float[Tensor, "K V"]) -> Float[Tensor, ""]:
    """Return the sum over tokens of KL(P, E), both log-probabilities of all tokens, (K, V).

    P is the policy with the memory that an answer was given from, E with the one before that: one update must not
    change what the model says of everything else.
    """
    return (scores.exp() * (scores - earlier)).sum()


def memory_movement(
    before: MemoryState, after: MemoryState, present: Bool[Tensor, "N B"], kind: Change
) -> Float[Tensor, ""]:
    """Return what the updates of all turns cost, summed over the turns and episodes that have one.

    "mse": sqrt(t + 1) times the mean squared change of the slots by turn t, from 0. "cosine": 1 less the cosine
    similarity of the slots before and after.

    Args:
        before: the memory before each turn, of N * B rows. after: the one after the last, of B.
        present: True at the turns that an episode has, (N, B).
    """
    num_turns, size = present.shape
    following = MemoryState.join([before.select(range(size, num_turns * size)), after])
    change = following.change(before, kind).view(num_turns, size)
    if kind == "mse":
        change = torch.arange(1, num_turns + 1, device=change.device).sqrt()[:, None] * change
    return (change * present).sum()
