"""Meetings of QMSum (Zhong et al., 2021): a part of a transcript is told turn by turn, and then asked about.

A meeting has about nine thousand words, and a question is about some five hundred of them. So the dialogues of a
meeting are windows: each has the utterances that answer a question, some before or after them, and the questions that
they answer.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rxlm.data.fields import RecordError, list_in, name_in
from rxlm.data.passages import sentence_pieces
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.stories import ACKNOWLEDGEMENT
from rxlm.data.text_files import PathLike, records_in

KIND = "meeting"


@dataclass(frozen=True)
class MeetingQuestion:
    """A question about a meeting, its reference answer, and spans: first and last utterances that answer it, from 0."""

    text: str
    answer: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Meeting:
    """A transcript: its name, its utterances, each a speaker and a text, and the questions about them."""

    name: str
    utterances: tuple[tuple[str, str], ...]
    questions: tuple[MeetingQuestion, ...]


@dataclass(frozen=True)
class Telling:
    """Some lines "Speaker: text", and the numbers of the utterances that they have, or a part of."""

    text: str
    utterances: tuple[int, ...]

    def has_of(self, spans: tuple[tuple[int, int], ...]) -> bool:
        """Return whether the telling has an utterance, or a part of one, from these spans."""
        return any(first <= number <= last for first, last in spans for number in self.utterances)


def read_meetings(source: PathLike) -> list[Meeting]:
    """Read files of `{"id", "utterances": [[speaker, text]], "queries": [{"query", "answer", "spans": [[0, 9]]}]}`.

    Texts lose the spaces before their punctuation, as in "we 're done ." `RecordError` names the file, the line and
    the field that does not fit.
    """
    return [meeting_of(record, place) for place, record in records_in(source)]


def meeting_of(record: Mapping[str, Any], place: str) -> Meeting:
    """Return the meeting of a record in the form that `read_meetings` reads."""
    utterances = []
    for number, utterance in enumerate(list_in(record, "utterances", place)):
        match utterance:
            case [str(speaker), str(text)] if speaker.strip():
                utterances.append((speaker.strip(), _without_spaces(text)))
            case _:
                raise RecordError(f"{place}, utterances[{number}]: expected [speaker, text], found {utterance!r:.80}")
    questions = [
        _question(query, len(utterances), f"{place}, queries[{number}]")
        for number, query in enumerate(list_in(record, "queries", place))
    ]
    return Meeting(name_in(record, "id", place, place), tuple(utterances), tuple(questions))


def tellings(meeting: Meeting, max_words: int = 100) -> list[Telling]:
    """Return the whole meeting in tellings of at most `max_words` words, speakers' names apart, or one longer sentence.

    Consecutive utterances of one speaker are one line. A longer utterance is divided between sentences. Utterances
    without words (noises, in the transcript) are left out.
    """
    told: list[Telling] = []
    lines: list[tuple[str, str]] = []
    numbers: list[int] = []
    words = 0
    for number, (speaker, text) in enumerate(meeting.utterances):
        for piece in sentence_pieces(text, max_words):
            added = len(piece.split())
            if lines and words + added > max_words:
                told.append(Telling(_written(lines), tuple(numbers)))
                lines, numbers, words = [], [], 0
            if lines and lines[-1][0] == speaker:
                lines[-1] = speaker, f"{lines[-1][1]} {piece}"
            else:
                lines.append((speaker, piece))
            numbers.append(number)
            words += added
    return [*told, Telling(_written(lines), tuple(numbers))] if lines else told


def meeting_dialogues(
    meeting: Meeting,
    *,
    seed: int = 0,
    max_words: int = 100,
    least: int = 8,
    most: int = 16,
    max_questions: int = 4,
) -> list[Dialogue]:
    """Return dialogues of bounded length, in which each question of a meeting is asked at most once.

    A dialogue is made for the first question that has not been asked: a window of the meeting with all that answers
    it, then this question and others that the window answers, too. How long the window is, and where in it the answer
    lies, is drawn. A question whose spans extend over more than `most` tellings is left out.

    Args:
        meeting: what is told.
        seed: of the draws.
        max_words: words of a telling; see `tellings`.
        least, most: number of tellings in a dialogue; fewer than `least` if the meeting has fewer.
        max_questions: questions asked in a dialogue.

    The answer to a telling is an acknowledgement. A question's `distance` is to the first telling that it needs.
    `details` hold the meeting's name as "id", and its "utterances": the first and last that are told.
    """
    for name, value in (("max_words", max_words), ("least", least), ("max_questions", max_questions)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if most < least:
        raise ValueError(f"most must be at least least={least}, got {most}")
    told = tellings(meeting, max_words)
    needed = {number: span for number in range(len(meeting.questions)) if (span := _needed(meeting, number, told))}
    open_questions = {number for number, (first, last) in needed.items() if last - first < most}
    dialogues = []
    while open_questions:
        number = min(open_questions)
        rng = random.Random(f"{seed}/{meeting.name}/{number}")
        window = _window(needed[number], len(told), rng, least, most)
        others = [other for other in sorted(open_questions) if other != number and _within(needed[other], window)]
        asked = sorted([number, *others[: max_questions - 1]])
        open_questions.difference_update(asked)
        dialogues.append(_dialogue(meeting, told, window, {question: needed[question][0] for question in asked}))
    return dialogues


def _needed(meeting: Meeting, question: int, told: list[Telling]) -> tuple[int, int] | None:
    """Return the first and last telling that a question needs; None if its spans have no words."""
    found = [place for place, telling in enumerate(told) if telling.has_of(meeting.questions[question].spans)]
    return (found[0], found[-1]) if found else None


def _window(needed: tuple[int, int], num_told: int, rng: random.Random, least: int, most: int) -> tuple[int, int]:
    """Draw the first and last telling of a window that has the needed ones."""
    first, last = needed
    length = min(rng.randint(max(least, last - first + 1), most), num_told)
    start = rng.randint(max(0, last - length + 1), min(first, num_told - length))
    return start, start + length - 1


def _within(needed: tuple[int, int], window: tuple[int, int]) -> bool:
    return window[0] <= needed[0] and needed[1] <= window[1]


def _dialogue(meeting: Meeting, told: list[Telling], window: tuple[int, int], asked: dict[int, int]) -> Dialogue:
    """Return a window and the questions about it; `asked` has for each question the first telling that it needs."""
    start, end = window
    turns = [Interaction(telling.text, ACKNOWLEDGEMENT) for telling in told[start : end + 1]]
    for number, first in asked.items():
        question = meeting.questions[number]
        marked = Question(KIND, (question.answer,), distance=len(turns) - (first - start))
        turns.append(Interaction(question.text, question.answer, question=marked))
    details = {"id": meeting.name, "utterances": (told[start].utterances[0], told[end].utterances[-1])}
    return Dialogue(tuple(turns), f"QMSum {meeting.name}", details)


def _question(query: Any, num_utterances: int, place: str) -> MeetingQuestion:
    match query:
        case {"query": str(text), "answer": str(answer), "spans": [_, *_] as spans} if text.strip() and answer.strip():
            pass
        case _:
            raise RecordError(f"{place}: expected {{'query', 'answer', 'spans': [[first, last]]}}, found {query!r:.80}")
    for span in spans:
        match span:
            case [bool(), _] | [_, bool()]:
                allowed = False
            case [int(first), int(last)]:
                allowed = 0 <= first <= last < num_utterances
            case _:
                allowed = False
        if not allowed:
            raise RecordError(
                f"{place}: a span is the first and the last of utterances 0 to {num_utterances - 1}; found {span!r:.80}"
            )
    return MeetingQuestion(text.strip(), answer.strip(), tuple((first, last) for first, last in spans))


def _written(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"{speaker}: {text}" for speaker, text in lines)


def _without_spaces(text: str) -> str:
    """Return a transcript's text as people write: "we 're on - line ." as "we're on-line.", "L_C_D_" as "LCD"."""
    text = re.sub(r"\s+([.,!?;:%)]|n't\b|'(?:s|re|ve|ll|d|m|t)\b)", r"\1", " ".join(text.split()))
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)
    return re.sub(r"\b(?:[A-Z]_)+", lambda letters: letters[0].replace("_", ""), text)
