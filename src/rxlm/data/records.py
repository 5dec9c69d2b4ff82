"""Interactions and dialogues, which training data consists of, and how to make them of the records of a file.

An interaction is a query with its answer; a dialogue is a list of interactions. Records may have these shapes:
`{"query", "answer"}`, `{"prompt", "completion"}`, `{"messages"}`, and `{"query", "answer", "interactions"}`. Any other
record raises `RecordError`, which names the place of the record and the error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rxlm.data.fields import RecordError, json_list_in, object_at, text_in, unicode_text


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


INTERACTION_SHAPES = '{"query", "answer"}, {"prompt", "completion"} or {"messages": [...]}'
DIALOGUE_SHAPES = '{"query", "answer", "interactions": [...]} or {"messages": [...]}'

_PAIRS = (("query", "answer"), ("prompt", "completion"))
_THOUGHTS = ("thought", "reasoning_content", "thinking")


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

    Messages must be one user message with its answer. A system message may come first; it is put before the query.
    The field `thought` (or `reasoning_content`, `thinking`) of an answer is its thought.
    """
    messages = _messages_of(record, place)
    if messages is not None:
        turns = _turns_of_messages(messages, place)
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
    a format without lists (CSV), "interactions" and "messages" may be JSON text.
    """
    messages = _messages_of(record, place)
    if messages is not None:
        return Dialogue(tuple(_turns_of_messages(messages, place)), source=place)
    if record.get("interactions") is None:
        raise RecordError(
            f"{place}: no dialogue: expected {DIALOGUE_SHAPES}; the fields are: {_names(record)}"
            + (". One interaction a record is for stage 2: load_interactions" if _has_pair(record) else "")
        )
    first = _pair_of(record, place, DIALOGUE_SHAPES)
    others = json_list_in(record, "interactions", place)
    rest = [_pair_of(object_at(turn, where), where, _INTERACTION) for turn, where in _places(others, place)]
    return Dialogue((first, *rest), source=place)


_INTERACTION = '{"query", "answer"}'


def _pair_of(record: Mapping[str, Any], place: str, allowed: str) -> Interaction:
    for query, answer in _PAIRS:
        if query in record and answer in record:
            return Interaction(
                query=text_in(record, query, place),
                answer=text_in(record, answer, place),
                thought=_thought_of(record, place),
            )
        for present, missing in ((query, answer), (answer, query)):
            if present in record:
                raise RecordError(f"{place}: field {missing!r} is missing beside {present!r}: expected {allowed}")
    raise RecordError(f"{place}: no interaction: expected {allowed}; the fields are: {_names(record)}")


def _has_pair(record: Mapping[str, Any]) -> bool:
    return any(query in record and answer in record for query, answer in _PAIRS)


def _messages_of(record: Mapping[str, Any], place: str) -> list[tuple[Any, str]] | None:
    """Return a record's messages, each with its place; None if it has no messages."""
    if record.get("messages") is not None:
        return _places(json_list_in(record, "messages", place), place, "messages")
    # TRL's conversational form: the prompt and the completion are lists of messages themselves.
    if isinstance(record.get("prompt"), list) and isinstance(record.get("completion"), list):
        return [
            *_places(record["prompt"], place, "prompt"),
            *_places(record["completion"], place, "completion"),
        ]
    return None


def _turns_of_messages(messages: Sequence[tuple[Any, str]], place: str) -> list[Interaction]:
    system, query, turns = "", None, []
    for number, (message, where) in enumerate(messages):
        message = object_at(message, where)
        role, content = message.get("role"), _content_of(message, where)
        if role == "system" and number == 0:
            system = f"{content}\n\n"
        elif role == "user" and query is None:
            query = system + content
            system = ""
        elif role == "assistant" and query is not None:
            turns.append(Interaction(query, content, _thought_of(message, where)))
            query = None
        else:
            expected = "'user'" if query is None else "'assistant'"
            raise RecordError(
                f"{where}: field 'role' is {role!r}; expected {expected}: users and assistants take turns, "
                "after at most one system message"
            )
    if query is not None or not turns:
        raise RecordError(f"{place}: the messages must end with an answer of the assistant")
    return turns


def _content_of(message: Mapping[str, Any], place: str) -> str:
    parts = message.get("content")
    if isinstance(parts, list):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
        if not all(isinstance(text, str) for text in texts):
            raise RecordError(f"{place}: field 'content' has a part that is not text; only text can be read")
        message = {"content": "".join(map(str, texts))}
    return text_in(message, "content", place)


def _thought_of(record: Mapping[str, Any], place: str) -> str | None:
    for name in _THOUGHTS:
        if record.get(name):
            return text_in(record, name, place)
    return None


def _places(items: Sequence[Any], place: str, name: str = "interactions") -> list[tuple[Any, str]]:
    return [(item, f"{place}, {name}[{number}]") for number, item in enumerate(items)]


def _names(record: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in record) or "none"
