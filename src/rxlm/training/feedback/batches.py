"""Batches of preferences: the turns before, and the answers that people judged.

Shapes: R conversations, A answers, N turns before, M turns of a continuation, T tokens of the longest turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from rxlm.data.batches import DialogueBatch
from rxlm.data.preferences import Feedback, Preference, Rated
from rxlm.data.records import Interaction
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.training.turns import Turns


@dataclass(frozen=True)
class FeedbackBatch:
    """Conversations with the continuations of them that were judged.

    Fields:
        before: the turns before, (N, R, T), padded at the beginning, so that all end together; None where none has any.
        said: the continuations, (M, A, T): of pairs, all better ones, and then the others in the same order.
        rows: the conversation of each continuation, (A,).
        signs: 1 for a good or better answer, -1 for another, 0 for one that belongs to another query, (A,).
        margins: by how much the better answer of a pair is better, (R,); 0 where it is not known.
        seed: of first memories that are drawn.
    """

    before: Turns | None
    said: Turns
    rows: Tensor
    signs: Tensor
    margins: Tensor
    seed: int = 0

    @property
    def num_conversations(self) -> int:
        """Conversations R."""
        return int(self.rows.max()) + 1

    @property
    def num_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.said.mask.sum()) + (0 if self.before is None else int(self.before.mask.sum()))

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("said", "rows", "signs", "margins")}
        return replace(self, before=None if self.before is None else self.before.to(device), **moved)


def feedback_batch(
    feedback: Sequence[Feedback], turn_tokenizer: TurnTokenizer, *, with_others: bool = False
) -> FeedbackBatch:
    """Lay preferences and rated answers out.

    Args:
        feedback: R of them.
        turn_tokenizer: makes the tokens.
        with_others: whether each query also gets the answer of the next conversation, with sign 0, as kto needs.
    """
    judged = [(row, said, sign) for sign in (1, -1) for row, each in enumerate(feedback) for said in _said(each, sign)]
    if with_others:
        judged += [(row, _another(judged, place), 0) for place, (row, _, _) in enumerate(judged)]
    rows, said, signs = zip(*judged, strict=True)
    margins = [each.margin or 0.0 if isinstance(each, Preference) else 0.0 for each in feedback]
    return FeedbackBatch(
        _before([each.before for each in feedback], turn_tokenizer),
        _turns(said, turn_tokenizer),
        torch.tensor(rows),
        torch.tensor(signs),
        torch.tensor(margins),
    )


def _said(feedback: Feedback, sign: int) -> list[tuple[Interaction, ...]]:
    if isinstance(feedback, Rated):
        return [feedback.said] if feedback.is_good == (sign > 0) else []
    return [feedback.chosen if sign > 0 else feedback.rejected]


def _another(judged: Sequence[tuple[int, Any, int]], place: int) -> tuple[Interaction, ...]:
    """Return the query of a conversation with the answer of the next one; with its own where there is no other."""
    row, said, _ = judged[place]
    later = [*judged[place + 1 :], *judged[:place]]
    answer = next((theirs[0].answer for other, theirs, _ in later if other != row), said[0].answer)
    return (Interaction(said[0].query, answer),)


def _before(rows: Sequence[Sequence[Interaction]], turn_tokenizer: TurnTokenizer) -> Turns | None:
    if not any(rows):
        return None
    turns = turn_tokenizer.turn_batches([row[::-1] for row in rows])  # the last turns of all come first
    return Turns.of(DialogueBatch(turns[::-1], ()))


def _turns(rows: Sequence[Sequence[Interaction]], turn_tokenizer: TurnTokenizer) -> Turns:
    return Turns.of(DialogueBatch(turn_tokenizer.turn_batches(rows), ()))
