"""A model's replies to dialogues, turn by turn and many at once."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rxlm.data.records import Dialogue, Interaction
from rxlm.mrq_bench.protocol import WITHOUT_HISTORY, Control, Respondent, check_control


class Reply(NamedTuple):
    """A model's answer to one turn: of which dialogue of the batch, at which place, to what."""

    row: int
    number: int
    turn: Interaction
    answer: str


def replies_of(respondent: Respondent, dialogues: Sequence[Dialogue], control: Control = "none") -> Iterator[Reply]:
    """Let a model answer a batch of dialogues of any lengths, and yield its replies to all their turns, turn by turn.

    Under a control that leaves no history only turns with a question are answered: the others change nothing.
    """
    check_control(control, respondent)
    respondent.reset(len(dialogues), control)
    for number in range(max(map(len, dialogues))):
        turns = turns_at(dialogues, number)
        if control in WITHOUT_HISTORY:
            turns = [turn if turn and turn.question else None for turn in turns]
        if any(turns):
            answers = respondent.respond(texts_of(turns)[0])
            for row, (turn, answer) in enumerate(zip(turns, answers, strict=True)):
                if turn:
                    yield Reply(row, number, turn, answer)


def turns_at(dialogues: Sequence[Dialogue], number: int) -> list[Interaction | None]:
    """Return the turn of this number of each dialogue, None where the dialogue is over."""
    return [dialogue.turns[number] if number < len(dialogue) else None for dialogue in dialogues]


def texts_of(turns: Sequence[Interaction | None]) -> tuple[list[str | None], list[str | None]]:
    """Return the queries and the answers of turns, as a respondent takes them."""
    return [turn.query if turn else None for turn in turns], [turn.answer if turn else None for turn in turns]


def batches_of(count: int, batch_size: int) -> list[range]:
    """Divide numbers 0 to count - 1 into batches of at most `batch_size`, as equal as can be.

    With batches of three or more none is left with a single dialogue, which has no other one to take a memory from.
    """
    parts = -(-count // batch_size)
    bounds = [part * count // parts for part in range(parts + 1)] if parts else [0]
    return [range(start, end) for start, end in pairwise(bounds)]
