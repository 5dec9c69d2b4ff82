"""The state of a generated conversation about facts, and the words of its next turn."""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import FactKind
from rxlm.data.fact_plans import Event
from rxlm.data.records import Interaction, Question
from rxlm.data.small_talk import chatter, unknown_answers
from rxlm.data.world_questions import world_questions

_T = TypeVar("_T")

_MODULUS = 10  # one pair of facts in ten is for test
_DISJOINT = 5  # about one value in five is for test
_SALT = 15  # with it, every kind has three values or more for test
_MORE_SHARE = 0.75  # of facts, where there are values beyond the lists


def is_test_value(value: str) -> bool:
    """Return whether a value is for test dialogues only, with disjoint values: about one in five is, in each kind."""
    return zlib.crc32(f"{_SALT} {value}".encode()) % _DISJOINT == 0


class KindValues:
    """A kind of fact, with the indices of the values that this split may use."""

    def __init__(self, number: int, kind: FactKind, config: FactsConfig, more: Sequence[str] = ()) -> None:
        count = len(kind.values)
        kind = kind.with_answers(config.answer_wording)
        self.number, self.kind = number, replace(kind, values=(*kind.values, *more)) if more else kind
        self.more = range(count, count + len(more))
        self.values = [
            index
            for index in range(count)
            if config.values == "shared" or is_test_value(kind.values[index]) == (config.split == "test")
        ]

    def partner(self, other: "KindValues", value: int) -> int:
        """Return the residue of this kind's values that make a test pair with another kind's `value`."""
        return -(value + self.number * other.number + self.number + other.number) % _MODULUS


@dataclass(slots=True)
class _Fact:
    """A fact that the conversation holds, with its earlier values."""

    value: int
    told: int
    mentioned: int
    asked: bool
    earlier: list[int]


class FactConversation:
    """The facts that a conversation holds, and its next turn."""

    def __init__(self, config: FactsConfig, kinds: Sequence[KindValues], rng: random.Random) -> None:
        self._config, self._all, self._rng = config, kinds, rng
        self._chatter = chatter(config.variety)
        self._unknown = unknown_answers(config.variety, config.answer_wording)
        topics = list(kinds)
        self._topics = [topics.pop(int(rng.random() * len(topics))) for _ in range(config.max_facts)]
        self._facts: dict[KindValues, _Fact] = {}
        self._waiting: dict[int, KindValues] = {}  # question turn -> its kind, which must not change before

    def turn(self, number: int, event: Event) -> Interaction:
        """Return the turn for an event; an impossible one (for example, all kinds are known) becomes small talk."""
        made: Interaction | None = None
        if event.action == "tell":
            made = self._tell(number, event.partner)
        elif event.action == "ask":
            kind = self._waiting.pop(number, None)
            made = None if kind is None else self._ask(number, kind)
        elif event.action == "ask-again":
            asked = [kind for kind, fact in self._facts.items() if fact.asked and kind not in self._waiting.values()]
            made = self._ask(number, self._pick(asked)) if asked else self._tell(number, None)
        elif event.action == "ask-unknown":
            made = self._ask_unknown()
        if made is None:
            asks = self._config.world_share and self._rng.random() < self._config.world_share
            query, answer = self._pick(world_questions() if asks else self._chatter)
            made = Interaction(query, answer)
        return made

    def _tell(self, number: int, question: int | None) -> Interaction | None:
        waiting = set(self._waiting.values())
        free = [kind for kind in self._topics if kind not in waiting]
        told = [kind for kind in free if kind in self._facts]
        new = [kind for kind in free if kind not in self._facts]
        update_first = self._rng.random() < self._config.update_share
        for kinds in (told, new) if update_first else (new, told):
            while kinds:
                kind = kinds.pop(int(self._rng.random() * len(kinds)))
                value = self._draw_value(kind)
                if value is not None:
                    return self._tell_value(number, kind, value, question)
        return None

    def _tell_value(self, number: int, kind: KindValues, value: int, question: int | None) -> Interaction:
        before = self._facts.get(kind)
        wordings = kind.kind.tell if before is None else kind.kind.update
        earlier = [] if before is None else [before.value, *(old for old in before.earlier if old != before.value)]
        self._facts[kind] = _Fact(value, number, number, asked=False, earlier=earlier)
        if question is not None:
            self._waiting[question] = kind
        old = "" if before is None else kind.kind.values[before.value]
        return Interaction(*self._pick(wordings).fill(kind.kind.values[value], old))

    def _draw_value(self, kind: KindValues) -> int | None:
        """Draw a value other than the current one, within the pairs of the split; None if there is none."""
        held = self._facts.get(kind)
        if kind.more and self._rng.random() < _MORE_SHARE:
            value = self._pick(kind.more)
            return None if held is not None and value == held.value else value
        values = [value for value in kind.values if held is None or value != held.value]
        others = [other for other in self._facts if other is not kind]
        if self._config.values == "shared" and others:
            partners = {kind.partner(other, self._facts[other].value) for other in others}
            is_test = self._config.split == "test"
            values = [value for value in values if (value % _MODULUS in partners) == is_test]
        return self._pick(values) if values else None

    def _ask(self, number: int, kind: KindValues) -> Interaction:
        fact, values = self._facts[kind], kind.kind.values
        query, answer = self._pick(kind.kind.ask).fill(values[fact.value])
        question = Question(
            kind=kind.kind.name,
            expected=(values[fact.value],),
            distance=number - fact.told,
            mention_distance=number - fact.mentioned,
            stale=tuple(values[old] for old in fact.earlier if old != fact.value),
            facts_held=len(self._facts),
        )
        fact.mentioned, fact.asked = number, True
        return Interaction(query, answer, question=question)

    def _ask_unknown(self) -> Interaction | None:
        unknown = [kind for kind in self._all if kind not in self._facts]
        if not unknown:
            return None
        kind = self._pick(unknown)
        query = self._pick(kind.kind.ask).query
        question = Question(kind=kind.kind.name, expected=(), distance=None, facts_held=len(self._facts))
        return Interaction(query, self._pick(self._unknown), question=question)

    def _pick(self, items: Sequence[_T]) -> _T:
        return items[int(self._rng.random() * len(items))]
