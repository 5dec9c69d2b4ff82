"""Dialogues of one's own, a JSON object a line, with questions where the writer has marked them."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from rxlm.data.fields import RecordError, json_list_in, name_in
from rxlm.data.record_files import located_records
from rxlm.data.records import Dialogue, Question, dialogue_of
from rxlm.data.text_files import PathLike, find_files


def read_own_dialogues(source: PathLike) -> list[Dialogue]:
    """Read dialogues from files of records, in the shapes of `rxlm.data.records.dialogue_of`.

    In the form `{"query", "answer", "interactions": [...]}` a turn may carry a "question": an object with the fields of
    `rxlm.data.records.Question`, of which "expected" (a list of values; empty where nothing was told) and "distance"
    (turns back to the fact; null where nothing was told) must be there, and "kind" is "question" if not given. All
    expected values of one kind compete with each other.

    `RecordError` names the file, the line and the turn that does not fit.
    """
    return [_with_questions(dialogue_of(record, place), record, place) for place, record in _records(source)]


def _records(source: PathLike) -> list[tuple[str, Mapping[str, Any]]]:
    return list(located_records(find_files(source, suffixes=(".jsonl", ".json"))))


def _with_questions(dialogue: Dialogue, record: Mapping[str, Any], place: str) -> Dialogue:
    if record.get("messages") is not None or record.get("interactions") is None:
        return dialogue
    turns = [record, *json_list_in(record, "interactions", place)]
    if not any("question" in turn for turn in turns):
        return dialogue
    marked = [
        replace(turn, question=_question(given["question"], number, f"{place}, turn {number + 1}"))
        if given.get("question") is not None
        else turn
        for number, (turn, given) in enumerate(zip(dialogue.turns, turns, strict=True))
    ]
    return replace(dialogue, turns=tuple(marked))


def _question(given: Any, number: int, place: str) -> Question:
    names = [field.name for field in fields(Question)]
    if not isinstance(given, Mapping) or not set(given) <= set(names) or not {"expected", "distance"} <= set(given):
        raise RecordError(
            f"{place}: field 'question' must be an object with 'expected' and 'distance', and of {', '.join(names)} "
            f"whatever is known; found {given!r:.80}"
        )
    expected, distance = given["expected"], given["distance"]
    texts = [expected, given.get("stale", [])]
    if not all(isinstance(part, list) and all(isinstance(text, str) and text for text in part) for part in texts):
        raise RecordError(f"{place}: 'expected' and 'stale' of a question must be lists of texts, found {given!r:.80}")
    if (distance is None) != (not expected):
        raise RecordError(f"{place}: a question has expected values and a distance, or neither; found {given!r:.80}")
    if distance is not None and not (type(distance) is int and 1 <= distance <= number):
        raise RecordError(f"{place}: the distance of a question must be from 1 to {number} turns, got {distance!r}")
    counts = {name: given.get(name) for name in ("mention_distance", "facts_held")}
    if any(count is not None and (type(count) is not int or count < 0) for count in counts.values()):
        raise RecordError(f"{place}: the counts of a question must be whole numbers from 0, found {counts!r:.80}")
    values: dict[str, Any] = {
        **{name: value for name, value in given.items() if value is not None},
        "distance": distance,
        "kind": name_in(given, "kind", "question", f"{place}, question"),
        "expected": tuple(expected),
        "stale": tuple(given.get("stale", ())),
    }
    return Question(**values)
