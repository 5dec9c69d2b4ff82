"""Questions about what was said earlier, found in conversations of any kind: an answer has a word of turns before.

A word that was said some turns before, not since, and that few other conversations have, is most likely known from
there. Where an answer has such a word, its turn asks for it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.words import Word, words

KIND = "said earlier"
LEAST_DISTANCE = 2
"""Turns from where a word was said last to the answer: nearer ones are mostly about the same thing."""
COMMON = 0.05
"""A word of more of all conversations, or of more turns of its own one, is common."""
_FEW_TURNS = 3


def with_mined_questions(dialogues: Sequence[Dialogue], common: frozenset[str] | None = None) -> list[Dialogue]:
    """Return dialogues whose turns ask for the word of their answers that was said longest ago, where there is one.

    `common`: words that are no questions; None: those that are common in these dialogues.
    """
    every = common_words(dialogues) if common is None else common
    return [_mined(dialogue, every) for dialogue in dialogues]


def common_words(dialogues: Sequence[Dialogue]) -> frozenset[str]:
    """Return the words of more than a twentieth of all dialogues, and of more than one."""
    counts = Counter(word for dialogue in dialogues for word in set().union(*map(_said_in, dialogue.turns)))
    return frozenset(word for word, count in counts.items() if count > max(1, COMMON * len(dialogues)))


def _mined(dialogue: Dialogue, common: frozenset[str]) -> Dialogue:
    said = list(map(_said_in, dialogue.turns))
    counts = Counter(word for turn in said for word in turn)
    often = {word for word, count in counts.items() if count > max(_FEW_TURNS, COMMON * len(said))}
    last: dict[str, int] = {}
    turns = []
    for number, turn in enumerate(dialogue.turns):
        found = _found_in(turn, number, last, common | often) if turn.is_reference and turn.question is None else None
        turns.append(turn if found is None else replace(turn, question=found))
        last.update(dict.fromkeys(said[number], number))
    return replace(dialogue, turns=tuple(turns))


def _found_in(turn: Interaction, number: int, last: dict[str, int], common: frozenset[str]) -> Question | None:
    answer, asked = words(turn.answer), {word.text for word in words(turn.query)}
    counts = Counter(word.text for word in answer)
    known = [
        word
        for word in answer
        if counts[word.text] == 1 and word.text not in asked and word.text not in common and _says_something(word)
        if number - last.get(word.text, number) >= LEAST_DISTANCE
    ]
    if not known:
        return None
    word = min(known, key=lambda word: last[word.text])
    distance = number - last[word.text]
    return Question(KIND, (turn.answer[word.start : word.end],), distance, mention_distance=distance)


def _says_something(word: Word) -> bool:
    return len(word.text) > 2 or not word.text.isascii() or word.text.isdecimal()


def _said_in(turn: Interaction) -> set[str]:
    return {word.text for word in _words_of((turn.query, turn.answer))}


def _words_of(texts: Iterable[str]) -> Iterable[Word]:
    return (word for text in texts for word in words(text))
