"""A seeded generator of dialogues in which people tell facts, chat, change their mind, and ask for what they said.

Dialogue number i of a configuration is always the same, whatever was generated before it. Training and test dialogues
share words and values but not combinations: every pair of facts is either for training or for test, no training
dialogue ever holds two facts that are a pair for test, and every fact told in a test dialogue makes such a pair with
one that is held there (the first one has no other). With `values="disjoint"` even the values are others.
"""

import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, TypeVar, get_args, overload

from rxlm.data.fact_kinds import FactKind, Variety, fact_kinds
from rxlm.data.fact_plans import DistanceLaw, Distances, Event, Shares, plan_dialogue, plan_stream
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.small_talk import chatter, unknown_answers

Split = Literal["train", "test"]
Values = Literal["shared", "disjoint"]

_MODULUS = 10  # one pair of facts in ten is for test
_DISJOINT = 5  # about one value in five is for test
_SALT = 15  # with it, every kind has three values or more for test
_MORE_SHARE = 0.75  # of facts, where there are values beyond the lists


@dataclass(frozen=True, kw_only=True)
class FactsConfig:
    """What generated dialogues are like.

    Fields:
        num_turns: turns of a dialogue.
        variety: "small" has 8 kinds of 20 values in a few short wordings, "full" many kinds, values and wordings.
        split: "train" or "test".
        values: "shared" by both splits, or "disjoint" (four in five are for training).
        max_facts: kinds of fact that one conversation talks about; no more facts can be held at once.
        question_share: share of turns that ask for a fact that was told.
        repeat_share: share of these questions that ask once more about a fact that was asked for already.
        unknown_share: share of turns that ask for a fact that was never told.
        chatter_share: share of turns that need no memory. The turns that these shares leave tell facts.
        update_share: share of tellings that change a fact told before, wherever one can be changed.
        min_distance, max_distance: bounds of the distance from fact to question in turns; None: num_turns - 1.
        distance_law: "uniform", or "log-uniform" (each distance as likely as 1/distance) within these bounds.
        seed: other seeds give other dialogues.
    """

    num_turns: int = 8
    variety: Variety = "small"
    split: Split = "train"
    values: Values = "shared"
    max_facts: int = 6
    question_share: float = 0.4
    repeat_share: float = 0.0
    unknown_share: float = 0.05
    chatter_share: float = 0.1
    update_share: float = 0.5
    min_distance: int = 1
    max_distance: int | None = None
    distance_law: DistanceLaw = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                allowed = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"FactsConfig.{name} must be one of {allowed}, got {getattr(self, name)!r}.")
        for name in ("question_share", "repeat_share", "unknown_share", "chatter_share", "update_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"FactsConfig.{name} must be between 0 and 1, got {getattr(self, name)!r}.")
        self._check_whole("num_turns", 2, None)
        self._check_whole("max_facts", 1, len(fact_kinds(self.variety)))
        self._check_whole("min_distance", 1, self.num_turns - 1)
        if self.max_distance is not None:
            self._check_whole("max_distance", self.min_distance, None)
        shares = self.shares
        if shares.tell < shares.ask - 1e-9:
            raise ValueError(
                "FactsConfig: question_share, unknown_share and chatter_share must leave as many turns for telling "
                f"facts as ask for them the first time ({shares.ask:.0%}), and leave {max(shares.tell, 0):.0%}."
            )

    def _check_whole(self, name: str, low: int, high: int | None) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or value < low or (high is not None and value > high):
            allowed = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"FactsConfig.{name} must be a whole number {allowed}, got {value!r}.")

    @property
    def shares(self) -> Shares:
        """Shares of turns by what they are for."""
        return Shares(
            ask=self.question_share * (1 - self.repeat_share),
            ask_again=self.question_share * self.repeat_share,
            ask_unknown=self.unknown_share,
            chat=self.chatter_share,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated anew."""
        return type(self)(**{**self.to_dict(), **changes})


_CHOICES = {
    "variety": get_args(Variety),
    "split": get_args(Split),
    "values": get_args(Values),
    "distance_law": get_args(DistanceLaw),
}


def is_test_value(value: str) -> bool:
    """Tell whether a value is for test dialogues only, where values are disjoint: one in five is, in whatever kind."""
    return zlib.crc32(f"{_SALT} {value}".encode()) % _DISJOINT == 0


class FactGenerator:
    """Dialogues and endless conversations about facts, each reproducible by its number.

    Args:
        config: what they are like.
        more_values: further values by the name of their kind, for training with `values="disjoint"`: three in four
            facts then have one of these.
    """

    def __init__(self, config: FactsConfig, more_values: Mapping[str, Sequence[str]] | None = None) -> None:
        if more_values and (config.values, config.split) != ("disjoint", "train"):
            raise ValueError(
                'more_values are for training with values="disjoint", '
                f"got values={config.values!r} and split={config.split!r}."
            )
        self.config = config
        kinds = enumerate(fact_kinds(config.variety))
        self._kinds = [_Kind(number, kind, config, (more_values or {}).get(kind.name, ())) for number, kind in kinds]
        longest = config.max_distance or config.num_turns - 1
        self._stream_distances = Distances(config.distance_law, config.min_distance, longest)
        self._distances = Distances(config.distance_law, config.min_distance, min(longest, config.num_turns - 1))

    def dialogue(self, index: int) -> Dialogue:
        """Return dialogue number `index`, of `config.num_turns` turns."""
        rng = self._rng("dialogue", index)
        config = self.config
        plan = plan_dialogue(config.num_turns, config.shares, self._distances, config.max_facts, rng)
        conversation = _Conversation(config, self._kinds, rng)
        turns = tuple(conversation.turn(number, event) for number, event in enumerate(plan))
        return Dialogue(turns, source=f"facts {config.split} seed {config.seed} dialogue {index}")

    def dialogues(self, count: int) -> "FactDialogues":
        """Return the first `count` dialogues as a sequence that generates each when it is asked for."""
        return FactDialogues(self, range(count))

    def stream(self, index: int) -> Iterator[Interaction]:
        """Yield the turns of conversation number `index`, which never ends."""
        rng = self._rng("stream", index)
        config = self.config
        conversation = _Conversation(config, self._kinds, rng)
        for number, event in enumerate(plan_stream(config.shares, self._stream_distances, config.max_facts, rng)):
            yield conversation.turn(number, event)

    def _rng(self, form: str, index: int) -> random.Random:
        return random.Random(f"{self.config.seed}/{self.config.split}/{form}/{index}")


class FactDialogues(Sequence[Dialogue]):
    """A sequence of generated dialogues that takes no memory; a slice is one, too."""

    def __init__(self, generator: FactGenerator, indices: range) -> None:
        self.generator = generator
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Dialogue: ...
    @overload
    def __getitem__(self, index: slice) -> "FactDialogues": ...
    def __getitem__(self, index: int | slice) -> "Dialogue | FactDialogues":
        if isinstance(index, slice):
            return FactDialogues(self.generator, self._indices[index])
        return self.generator.dialogue(self._indices[index])


class _Kind:
    """A kind of fact with the values that this split may use, sorted by their residue."""

    def __init__(self, number: int, kind: FactKind, config: FactsConfig, more: Sequence[str] = ()) -> None:
        count = len(kind.values)
        self.number, self.kind = number, replace(kind, values=(*kind.values, *more)) if more else kind
        self.more = range(count, count + len(more))
        self.values = [
            index
            for index in range(count)
            if config.values == "shared" or is_test_value(kind.values[index]) == (config.split == "test")
        ]

    def partner(self, other: "_Kind", value: int) -> int:
        """Return the residue of this kind's values that are a pair for test with another kind's `value`."""
        return -(value + self.number * other.number + self.number + other.number) % _MODULUS


@dataclass(slots=True)
class _Fact:
    """A fact that the conversation holds."""

    value: int
    told: int
    mentioned: int
    asked: bool
    earlier: list[int]


class _Conversation:
    """The state of a conversation, and the words for its next turn."""

    def __init__(self, config: FactsConfig, kinds: Sequence[_Kind], rng: random.Random) -> None:
        self._config, self._all, self._rng = config, kinds, rng
        self._chatter, self._unknown = chatter(config.variety), unknown_answers(config.variety)
        topics = list(kinds)
        self._topics = [topics.pop(int(rng.random() * len(topics))) for _ in range(config.max_facts)]
        self._facts: dict[_Kind, _Fact] = {}
        self._waiting: dict[int, _Kind] = {}  # the turn of a question -> its kind, which must not change before

    def turn(self, number: int, event: Event) -> Interaction:
        """Return the turn for an event; one that cannot be (all kinds are known, say) becomes small talk."""
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
            query, answer = self._pick(self._chatter)
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

    def _tell_value(self, number: int, kind: _Kind, value: int, question: int | None) -> Interaction:
        before = self._facts.get(kind)
        wordings = kind.kind.tell if before is None else kind.kind.update
        earlier = [] if before is None else [before.value, *(old for old in before.earlier if old != before.value)]
        self._facts[kind] = _Fact(value, number, number, asked=False, earlier=earlier)
        if question is not None:
            self._waiting[question] = kind
        old = "" if before is None else kind.kind.values[before.value]
        return Interaction(*self._pick(wordings).fill(kind.kind.values[value], old))

    def _draw_value(self, kind: _Kind) -> int | None:
        """Draw a value that differs from the present one and keeps to the split's pairs; None if there is none."""
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

    def _ask(self, number: int, kind: _Kind) -> Interaction:
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

    def _pick(self, items: "Sequence[_T]") -> "_T":
        return items[int(self._rng.random() * len(items))]


_T = TypeVar("_T")


def texts_of(dialogues: Iterable[Dialogue]) -> Iterator[str]:
    """Yield the queries, thoughts and answers of dialogues, as a tokenizer is trained on them."""
    for dialogue in dialogues:
        for turn in dialogue.turns:
            yield turn.query
            if turn.thought is not None:
                yield turn.thought
            yield turn.answer
