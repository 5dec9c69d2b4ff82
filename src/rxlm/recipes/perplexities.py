"""How well reference answers are predicted with the true, an empty, and another dialogue's memory, as figures."""

import math
from collections.abc import Callable, Mapping, Sequence

from rxlm.data.records import Dialogue
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.teacher_forcing import PredictedAnswer, perplexity, predict_answers
from rxlm.recipes.run_results import ResultTable
from rxlm.rxt.models import RxTAlpha

NOTE = (
    "Perplexity of the reference answers' tokens, predicted from the memory of the turns before, from the memory of a "
    "new conversation, and from the memory of another dialogue after as many turns. What the true memory gains over "
    "the other two is what was remembered."
)
MEMORIES: Mapping[str, Control] = {"true": "none", "empty": "empty", "shuffled": "shuffled"}
"""The memories that answers are predicted from, by the names of their figures."""

Counts = Callable[[PredictedAnswer], bool]


def is_follow_up(answer: PredictedAnswer) -> bool:
    """Whether there was anything to remember: all turns but the first."""
    return answer.number > 0


def is_question(answer: PredictedAnswer) -> bool:
    """Whether the turn asks for something told before."""
    return answer.turn.question is not None


def memory_perplexities(
    model: RxTAlpha, dialogues: Sequence[Dialogue], counts: Counts = is_follow_up
) -> Mapping[str, float]:
    """Return the perplexity of the answers that count, by the memory they are predicted from.

    With a single dialogue there is no other memory: "shuffled" is then NaN.
    """
    model.eval()
    figures = dict.fromkeys(MEMORIES, math.nan)
    for name, control in MEMORIES.items():
        if control != "shuffled" or len(dialogues) > 1:
            figures[name] = perplexity(predict_answers(model, dialogues, control=control), counts)
    return figures


def perplexity_table(figures: Mapping[str, Mapping[str, float]]) -> ResultTable:
    """Return perplexities by data set and memory as a table."""
    rows = tuple((name, *(f"{row[memory]:.2f}" for memory in MEMORIES)) for name, row in figures.items())
    return ResultTable("Perplexity of answers", ("answers", *(f"{memory} memory" for memory in MEMORIES)), rows, NOTE)
