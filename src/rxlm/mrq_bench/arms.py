"""The same reference answers, predicted by the same weights from more or less of the conversation.

Teacher forcing: what is remembered of a turn is its reference answer, so that the arms differ in nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rxlm.data.records import Dialogue, Interaction
from rxlm.mrq_bench.benchmark_data import DialogueSet
from rxlm.mrq_bench.protocol import Control, LanguageRespondent
from rxlm.mrq_bench.replies import batches_of, texts_of, turns_at

Arm = Literal["empty", "another", "newest", "memory", "everything"]

ARMS: Mapping[Arm, tuple[Control, ...]] = {
    "empty": ("empty",),
    "another": ("shuffled",),
    "newest": ("newest",),
    "memory": ("none",),
    "everything": ("everything", "full-history"),
}
"""What the answers are predicted from, and the controls that give it: the first one that a model has."""

ARM_NAMES: Mapping[Arm, str] = {
    "empty": "nothing",
    "another": "another's memory",
    "newest": "newest tokens",
    "memory": "the memory",
    "everything": "everything",
}

ArmProgress = Callable[[int, int, Arm], None]
"""Called with the number of dialogues done, of all dialogues of all arms, and the arm at work."""


@dataclass(frozen=True)
class PredictedTurn:
    """A reference answer with the nats of each of its tokens, (tokens,), by arm.

    Fields:
        place: set and number of the dialogue, as the bootstrap names it.
        number: of the turn, from 0.
    """

    place: tuple[str, int]
    dialogue: Dialogue
    number: int
    nats: Mapping[Arm, Tensor]

    @property
    def turn(self) -> Interaction:
        """The turn itself."""
        return self.dialogue.turns[self.number]


def references_of(dialogue: Dialogue, number: int) -> tuple[str, ...]:
    """Return the reference answers of a turn; none where the answer only goes on, such as "Go on" in a tale.

    A dialogue with several reference answers has them in its `details`, under "references".
    """
    references = dialogue.details.get("references")
    if references is not None:
        return tuple(references[number])
    turn = dialogue.turns[number]
    return (turn.answer,) if turn.is_reference else ()


def arms_of(respondent: LanguageRespondent, sets: Sequence[DialogueSet], batch_size: int) -> dict[Arm, Control]:
    """Return the arms that a model has with the control of each.

    Another dialogue's memory needs two dialogues in every batch.
    """
    found = {
        arm: next((control for control in controls if control in respondent.controls), None)
        for arm, controls in ARMS.items()
    }
    is_alone = any(len(rows) < 2 for group in sets for rows in batches_of(len(group.dialogues), batch_size))
    return {arm: control for arm, control in found.items() if control and not (control == "shuffled" and is_alone)}


def predict_in_arms(
    respondent: LanguageRespondent,
    sets: Sequence[DialogueSet],
    arms: Mapping[Arm, Control],
    batch_size: int,
    progress: ArmProgress = lambda done, total, arm: None,
) -> list[PredictedTurn]:
    """Return how the reference answers of all turns after the first are predicted in each arm.

    Dialogues of similar length share a batch. ValueError where an answer has not as many tokens in one arm as in
    another.
    """
    batches = [(group, rows) for group in sets for rows in _by_length(group.dialogues, batch_size)]
    total, done = len(arms) * sum(len(rows) for _, rows in batches), 0
    nats: dict[tuple[tuple[str, int], int], dict[Arm, Tensor]] = {}
    for group, rows in batches:
        dialogues = [group.dialogues[row] for row in rows]
        for arm, control in arms.items():
            progress(done, total, arm)
            for place, number, found in _predict(respondent, dialogues, control):
                nats.setdefault(((group.name, rows[place]), number), {})[arm] = found
            done += len(rows)
    dialogues_by_place = {(group.name, row): dialogue for group in sets for row, dialogue in enumerate(group.dialogues)}
    predicted = [
        PredictedTurn(place, dialogues_by_place[place], number, by_arm)
        for (place, number), by_arm in sorted(nats.items(), key=lambda item: item[0])
    ]
    for turn in predicted:
        _check_same_tokens(turn)
    return [turn for turn in predicted if all(map(len, turn.nats.values()))]


def _by_length(dialogues: Sequence[Dialogue], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(dialogues)), key=lambda row: (len(dialogues[row]), dialogues[row].num_characters))
    return [[order[place] for place in places] for places in batches_of(len(order), batch_size)]


def _predict(
    respondent: LanguageRespondent, dialogues: Sequence[Dialogue], control: Control
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield row, turn and nats of each reference answer after the first turn; a turn is read once."""
    respondent.reset(len(dialogues), control)
    last = max(map(len, dialogues)) - 1
    for number in range(last + 1):
        turns = turns_at(dialogues, number)
        counts = [
            bool(number and turn and references_of(dialogue, number))
            for dialogue, turn in zip(dialogues, turns, strict=True)
        ]
        if any(counts):
            asked = [turn if counts[row] else None for row, turn in enumerate(turns)]
            for row, nats in enumerate(respondent.token_losses(*texts_of(asked))):
                if counts[row]:
                    yield row, number, nats
        if number < last:
            respondent.follow(*texts_of(turns))


def _check_same_tokens(turn: PredictedTurn) -> None:
    lengths = {arm: len(nats) for arm, nats in turn.nats.items()}
    if len(set(lengths.values())) > 1:
        name, row = turn.place
        raise ValueError(
            f"{name}, dialogue {row + 1}, turn {turn.number + 1}: token_losses must give an answer the same tokens "
            f"under every control, got {lengths}."
        )
