"""How well reference answers are predicted with the true, an empty, and another dialogue's memory, as figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

from rxlm.data.records import Dialogue
from rxlm.mrq_bench.reading import ReadingMemory, ReadTurn, perplexity, read_dialogues
from rxlm.recipes.run_results import ResultTable
from rxlm.rxt.models import RxTAlpha

NOTE = (
    "Perplexity of the reference answers' tokens, read with the memory of the turns before, with the memory of a new "
    "conversation, and with the memory of another dialogue after as many turns. What the true memory gains over the "
    "other two is what was remembered."
)
Counts = Callable[[ReadTurn], bool]


def is_follow_up(read: ReadTurn) -> bool:
    """Whether there was anything to remember: all turns but the first."""
    return read.number > 0


def is_question(read: ReadTurn) -> bool:
    """Whether the turn asks for something told before."""
    return read.turn.question is not None


def memory_perplexities(
    model: RxTAlpha, dialogues: Sequence[Dialogue], counts: Counts = is_follow_up
) -> Mapping[str, float]:
    """Return the perplexity of the turns that count, by the memory they are read with.

    A single dialogue has no other's memory to be read with: NaN.
    """
    model.eval()
    figures = dict.fromkeys(get_args(ReadingMemory), math.nan)
    for memory in get_args(ReadingMemory):
        if memory != "shuffled" or len(dialogues) > 1:
            figures[memory] = perplexity(read_dialogues(model, dialogues, memory=memory), counts)
    return figures


def perplexity_table(figures: Mapping[str, Mapping[str, float]]) -> ResultTable:
    """Return perplexities by data set and memory as a table."""
    memories = get_args(ReadingMemory)
    rows = tuple((name, *(f"{row[memory]:.2f}" for memory in memories)) for name, row in figures.items())
    return ResultTable("Perplexity of answers", ("answers", *(f"{m} memory" for m in memories)), rows, NOTE)
