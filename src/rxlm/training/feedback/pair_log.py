"""Some of the pairs that a stage learnt from, with what it made of them, as JSONL for people to read.

`rxlm report` makes a page of it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from rxlm.data.preferences import Feedback, Rated, Turns
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.files import write_text
from rxlm.training.feedback.batches import FeedbackBatch, feedback_batch

PAIRS_FILE = "pairs.jsonl"

Scores = Callable[[FeedbackBatch], Tensor]
"""Scores each continuation of a batch."""


def write_pairs(
    path: Path, feedback: Sequence[Feedback], turn_tokenizer: TurnTokenizer, before: Scores, after: Scores
) -> None:
    """Write pairs with their margins before a stage and after it.

    Of an answer that was rated by itself it is its score, with a minus where it was not good.
    """
    lines = []
    for each in feedback:
        batch = feedback_batch([each], turn_tokenizer)
        margins = [float((scores(batch).cpu() * batch.signs).sum()) for scores in (before, after)]
        record = {"turns": [(turn.query, turn.answer) for turn in each.before], "query": each.answers[0][0].query}
        if isinstance(each, Rated):
            record |= {"chosen" if each.is_good else "rejected": _text(each.said)}
        else:
            record |= {"chosen": _text(each.chosen), "rejected": _text(each.rejected), "differs": each.differs}
        lines.append(json.dumps(record | dict(zip(("before", "after"), margins, strict=True)), ensure_ascii=False))
    write_text(path, "".join(line + "\n" for line in lines))


def _text(said: Turns) -> str:
    """Return a continuation as text: the answer, and the turns after it."""
    first, *more = said
    return "\n".join([first.answer, *(f"{turn.query}\n{turn.answer}" for turn in more)])
