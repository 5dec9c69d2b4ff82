"""Interactions and dialogues, which training data consists of, and how to make them of the records of a file.

An interaction is a query with its answer; a dialogue is a list of interactions. INTERACTION_SHAPES and DIALOGUE_SHAPES
say which shapes records may have. Any other record raises `RecordError`, which names its place and the error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rxlm.data.chatgpt_export import shown_messages
from rxlm.data.fields import RecordError, json_list_in, object_at, text_in, unicode_text
from rxlm.data.messages import BETWEEN, exchanges_of, thought_of


@dataclass(frozen=True, slots=True)
class Question:
    """A question about facts told in earlier turns, as evaluation scores the answer to it.

    Fields:
        kind: the kind of fact, for example "home"; the values of a kind compete with each other.
        expected: the values that the answer must name; empty if the fact was never told.
        distance: turns from the oldest fact that the answer needs to this question, 1 for the turn before; None if it
            was never told.
        mention_distance: turns since the value was last mentioned, in a statement or an answer; equal to `distance` at
            the first question about the fact. None: never told, or not known.
        stale: earlier values of the fact, which have changed since.
        facts_held: number of facts told so far, without overwritten ones; 0: not known.
    """

    kind: str
    expected: tuple[str, ...]
    distance: int | None
    mention_distance: int | None = None
    stale: tuple[str, ...] = ()
    facts_held: int = 0

    @property
    def was_told(self) -> bool:
        """Whether the dialogue has told the fact; if not, the right answer is to say so."""
        return self.distance is not None


@dataclass(frozen=True, slots=True)
class Interaction:
    """One turn: a query and its answer, with the thought before the answer and the question in the query, if any.

    An answer that is not a reference is remembered, but a model is not trained to give it.
    """

    query: str
    answer: str
    thought: str | None = None
    question: Question | None = None
    is_reference: bool = True


@dataclass(frozen=True)
class Dialogue:
    """The turns of one conversation; `source`: where it comes from; `details`: what else the data has about it."""

    turns: tuple[Interaction, ...]
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.turns:
            raise RecordError(f"{self.source or 'a dialogue'}: turns must hold at least one interaction, got none")

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def num_characters(self) -> int:
        """Characters of all queries, thoughts and answers: an estimate of the work."""
        return sum(len(turn.query) + len(turn.thought or "") + len(turn.answer) for turn in self.turns)


INTERACTION_SHAPES = (
    '{"query", "answer"}, {"prompt", "completion"}, {"instruction", "input", "output"} (Alpaca) or {"messages": [...]}'
)
DIALOGUE_SHAPES = (
    '{"query", "answer", "interactions": [...]}, {"messages": [...]}, {"conversations": [...]} (ShareGPT) or '
    '{"mapping": {...}, "current_node"} (ChatGPT)'
)

_PAIRS = (("query", "answer"), ("prompt", "completion"), ("instruction", "output"))
_INPUT = "input"
"""What the instruction of an Alpaca record is about; it may be blank."""
_LISTS = ("messages", "conversations")


def text_of(record: Mapping[str, Any], place: str, column: str = "text") -> str:
    """Return the text in one column of a record; `RecordError` if there is none."""
    if column not in record:
        raise RecordError(f"{place}: no column {column!r}; the columns are: {_names(record)}")
    text = record[column]
    if not isinstance(text, str):
        raise RecordError(f"{place}: column {column!r} holds {text!r:.80}, not a string")
    return unicode_text(text, column, place)


def interaction_of(record: Mapping[str, Any], place: str) -> Interaction:
    """Return the interaction of a record in one of INTERACTION_SHAPES.

    Messages must be one query with its answer; `rxlm.data.messages` says how they are joined. The field `thought` (or
    `reasoning_content`, `thinking`) of an answer is its thought.
    """
    if _has_messages(record):
        turns = dialogue_of(record, place).turns
        if len(turns) > 1:
            raise RecordError(
                f"{place}: expected one interaction, found {len(turns)}; dialogues are read by load_dialogues"
            )
        return turns[0]
    if "interactions" in record:
        raise RecordError(f"{place}: field 'interactions' belongs to a dialogue; dialogues are read by load_dialogues")
    return _pair_of(record, place, INTERACTION_SHAPES)


def dialogue_of(record: Mapping[str, Any], place: str) -> Dialogue:
    """Return the dialogue of a record in one of DIALOGUE_SHAPES.

    With "interactions", the record's own query and answer are the first turn, and the list has the following turns. In
    a format without lists (CSV), "interactions", "messages" and "conversations" may be JSON text. The `details` have
    the record's "id", the number of messages by the name of their "roles", and the messages that are no part of any
    turn, "left_out", those of them that there are.
    """
    if _has_messages(record):
        messages, left_out = _messages_of(record, place)
        exchanges = exchanges_of(messages, place)
        return _dialogue(
            [Interaction(**exchange._asdict()) for exchange in exchanges.found],
            record,
            place,
            roles=exchanges.roles,
            left_out=(*left_out, *exchanges.left_out),
        )
    if record.get("interactions") is None:
        raise RecordError(
            f"{place}: no dialogue: expected {DIALOGUE_SHAPES}; the fields are: {_names(record)}"
            + (". One interaction a record is for stage 2: load_interactions" if _has_pair(record) else "")
        )
    first = _pair_of(record, place, DIALOGUE_SHAPES)
    others = json_list_in(record, "interactions", place)
    rest = [_pair_of(object_at(turn, where), where, _INTERACTION) for turn, where in _places(others, place)]
    return _dialogue([first, *rest], record, place)


def conversation_of(record: Mapping[str, Any], place: str) -> Dialogue:
    """Return the dialogue of a record in one of DIALOGUE_SHAPES, or that of one turn in one of INTERACTION_SHAPES."""
    if _has_messages(record) or record.get("interactions") is not None or not _has_pair(record):
        return dialogue_of(record, place)
    return _dialogue([_pair_of(record, place, INTERACTION_SHAPES)], record, place)


def _dialogue(turns: Sequence[Interaction], record: Mapping[str, Any], place: str, **details: Any) -> Dialogue:
    name = next((record[name] for name in ("id", "conversation_id") if record.get(name) is not None), None)
    return Dialogue(
        tuple(turns),
        place,
        {key: value for key, value in {"id": name, **details}.items() if value not in (None, (), {})},
    )


_INTERACTION = '{"query", "answer"}'


def _pair_of(record: Mapping[str, Any], place: str, allowed: str) -> Interaction:
    for query, answer in _PAIRS:
        if query in record and answer in record:
            _refuse_rejected(record, place)
            if record.get("history"):
                raise RecordError(f"{place}: field 'history' is not read; write the turns before as {DIALOGUE_SHAPES}")
            given = record.get(_INPUT) if query == "instruction" else None
            has_input = given is not None and not (isinstance(given, str) and not given.strip())
            parts = [text_in(record, name, place) for name in (query, *([_INPUT] if has_input else []))]
            return Interaction(
                query=BETWEEN.join((*system_of(record, place), *parts)),
                answer=text_in(record, answer, place),
                thought=thought_of(record, place),
            )
        for present, missing in ((query, answer), (answer, query)):
            if present in record:
                raise RecordError(f"{place}: field {missing!r} is missing beside {present!r}: expected {allowed}")
    raise RecordError(f"{place}: no interaction: expected {allowed}; the fields are: {_names(record)}")


def _refuse_rejected(record: Mapping[str, Any], place: str) -> None:
    """Refuse TRL's unpaired preferences that say no."""
    if record.get("label") is False:
        raise RecordError(f"{place}: field 'label' is false: an answer that people rejected is not to be learnt")


def _has_pair(record: Mapping[str, Any]) -> bool:
    return any(query in record and answer in record for query, answer in _PAIRS)


def _has_messages(record: Mapping[str, Any]) -> bool:
    return any(record.get(name) is not None for name in (*_LISTS, "mapping")) or _is_conversational(record)


def _is_conversational(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is in TRL's conversational form: prompt and completion are lists of messages."""
    return isinstance(record.get("prompt"), list) and isinstance(record.get("completion"), list)


def _messages_of(record: Mapping[str, Any], place: str) -> tuple[list[tuple[Any, str]], list[str]]:
    """Return a record's messages, each with its place, and what was left out of them."""
    found: list[tuple[Any, str]] = []
    left_out: list[str] = []
    name = next((name for name in _LISTS if record.get(name) is not None), None)
    if _is_conversational(record):
        _refuse_rejected(record, place)
    if name is not None:
        found = _places(json_list_in(record, name, place), place, name)
    elif _is_conversational(record):
        found = [*_places(record["prompt"], place, "prompt"), *_places(record["completion"], place, "completion")]
    else:
        found, left_out = shown_messages(record, place)  # pyrefly: ignore[bad-assignment]
    system = [({"role": "system", "content": text}, f"{place}, system") for text in system_of(record, place)]
    return [*system, *found], left_out


def system_of(record: Mapping[str, Any], place: str) -> list[str]:
    """Return the system message that a record has beside its texts, as ShareGPT and Alpaca files have it, as a list."""
    system = record.get("system")
    if not isinstance(system, str | None):
        raise RecordError(f"{place}: field 'system' is {system!r:.80}; expected a text")
    return [system] if system and system.strip() else []


def _places(items: Sequence[Any], place: str, name: str = "interactions") -> list[tuple[Any, str]]:
    return [(item, f"{place}, {name}[{number}]") for number, item in enumerate(items)]


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in record) or "none"
