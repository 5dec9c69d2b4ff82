"""What was understood of conversations that were read: counts, lengths, duplicates, and what is not used."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from rxlm.data.dialogue_forms import Conversations
from rxlm.data.held_out import words_of
from rxlm.data.records import Dialogue, Interaction

Length = Callable[[Interaction], int]


class Lengths(NamedTuple):
    """The shortest, the middle and the longest of some lengths."""

    shortest: int
    middle: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "Lengths":
        """Return those of lengths, of which there is at least one."""
        return cls(min(lengths), round(median(lengths)), max(lengths))


@dataclass(frozen=True)
class ConversationCheck:
    """What was understood of conversations.

    Fields:
        conversations, turns: how many.
        learnt: answers that a model is to learn to give; the others are said and not learnt.
        thoughts: answers with a thought before them.
        roles: messages by the name of their role in the files; those of files that have no messages are not in it.
        turns_each: turns of a conversation.
        turn_lengths, conversation_lengths: in the units of `length`.
        too_long: places of the turns that are longer than the limit: conversation and turn, from 1.
        duplicates: places of conversations whose words an earlier one has.
        left_out: messages that are part of no turn.
        skipped: records that cannot be read.
    """

    conversations: int
    turns: int
    learnt: int
    thoughts: int
    roles: Counter[str]
    turns_each: Lengths
    turn_lengths: Lengths
    conversation_lengths: Lengths
    too_long: list[str]
    duplicates: list[str]
    left_out: list[str]
    skipped: list[str]


def check_conversations(read: Conversations, length: Length, limit: int | None = None) -> ConversationCheck:
    """Return what was understood; `length` measures a turn, and one over `limit` is too long."""
    turns = [turn for dialogue in read.dialogues for turn in dialogue.turns]
    lengths = [[length(turn) for turn in dialogue.turns] for dialogue in read.dialogues]
    return ConversationCheck(
        conversations=len(read.dialogues),
        turns=len(turns),
        learnt=sum(turn.is_reference for turn in turns),
        thoughts=sum(turn.thought is not None for turn in turns),
        roles=sum((Counter(dialogue.details.get("roles", {})) for dialogue in read.dialogues), Counter()),
        turns_each=Lengths.of([len(dialogue) for dialogue in read.dialogues]),
        turn_lengths=Lengths.of([each for row in lengths for each in row]),
        conversation_lengths=Lengths.of(list(map(sum, lengths))),
        too_long=[
            f"{dialogue.source}, turn {number}"
            for dialogue, row in zip(read.dialogues, lengths, strict=True)
            for number, each in enumerate(row, 1)
            if limit is not None and each > limit
        ],
        duplicates=_duplicates(read.dialogues),
        left_out=[place for dialogue in read.dialogues for place in dialogue.details.get("left_out", ())],
        skipped=read.skipped,
    )


def without_thoughts(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue as a model takes it that does not think."""
    return replace(dialogue, turns=tuple(replace(turn, thought=None) for turn in dialogue.turns))


def _duplicates(dialogues: Sequence[Dialogue]) -> list[str]:
    first: dict[str, str] = {}
    found = []
    for dialogue in dialogues:
        words = words_of(dialogue)
        if words in first:
            found.append(f"{dialogue.source}: as {first[words]}")
        first.setdefault(words, dialogue.source)
    return found
