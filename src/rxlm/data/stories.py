"""Stories for language modelling: old children's books, picture books, and FairytaleQA (Xu et al., 2022).

Books and stories are texts for stage 1. FairytaleQA has stories in sections, with questions; they become dialogues, in
which each section, with an acknowledgement, and each question is a turn. Some of its stories are in the books, too:
`rxlm.data.contamination` finds them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rxlm.data.fields import RecordError, list_in, name_in, object_at, text_in, texts_in
from rxlm.data.opened_files import lines_of
from rxlm.data.passages import sentence_pieces
from rxlm.data.records import Dialogue, Interaction, Question, text_of
from rxlm.data.text_files import PathLike, find_files, records_in

ACKNOWLEDGEMENT = "Go on."


def read_gutenberg(folder: PathLike) -> dict[str, str]:
    """Return the books in a folder of Project Gutenberg text files, without headers and footers, by file name.

    Files named in capitals (SOURCE.txt, README.txt) are about the books and are left out. Files that are not UTF-8 are
    read as Latin-1.
    """
    books = {}
    for file in find_files(folder, suffixes=(".txt",)):
        if not file.stem.isupper():
            try:
                books[file.name] = strip_gutenberg(_decode(file.read_bytes()))
            except ValueError as error:
                raise RecordError(f"{file}: {error}") from error
    return books


def strip_gutenberg(text: str) -> str:
    """Return a book without Project Gutenberg's header, footer and notes on who made the file.

    A paragraph is one line; blank lines separate paragraphs. ValueError if there is no header or footer.
    """
    lines = text.replace("\r\n", "\n").lstrip("\ufeff").split("\n")
    starts = [number for number, line in enumerate(lines) if _HEADER_END.search(line)]
    if not starts:
        raise ValueError("no end of a Project Gutenberg header: '*** START OF' or '*END* THE SMALL PRINT'")
    ends = [number for number, line in enumerate(lines) if number > starts[0] and _FOOTER_START.search(line)]
    if not ends:
        raise ValueError("no start of a Project Gutenberg footer: '*** END OF' or 'End of Project Gutenberg'")
    start = max(number for number in starts if number < ends[0])
    kept = []
    for paragraph in _paragraphs("\n".join(lines[start + 1 : ends[0]])):
        if _NOTES_AT_END.search(paragraph):
            break
        if not _ABOUT_FILE.search(paragraph):
            kept.append(paragraph)
    return "\n\n".join(kept)


def read_picture_books(path: PathLike) -> list[str]:
    """Return the stories of a JSONL file of `{"title", "pages"}`: the title, then one paragraph per page."""
    stories = []
    for place, record in records_in(path):
        title, pages = text_of(record, place, "title"), texts_in(record, "pages", place)
        if pages:  # some books have pictures only
            stories.append("\n\n".join([title, *pages]))
    return stories


def read_tiny_stories(path: PathLike) -> list[str]:
    """Return the stories of a text file in which blank lines separate paragraphs and single line ends stories.

    Wrongly decoded quotation marks are corrected. A piece too short for a story belongs to the story before it: some
    stories contain single line ends.
    """
    text = _mend("".join(lines_of(Path(path))))
    stories: list[str] = []
    for piece in re.split(r"(?<!\n)\n(?!\n)", text):
        if stories and len(piece.split()) < _SHORTEST_STORY:
            stories[-1] = f"{stories[-1]}\n{piece}".rstrip()
        elif piece.strip():
            stories.append(piece.strip())
    return stories


@dataclass(frozen=True)
class FairytaleQuestion:
    """A question about a story, its reference answers, and the numbers of the sections that answer it, from 0."""

    text: str
    answers: tuple[str, ...]
    sections: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class Fairytale:
    """A story of FairytaleQA: its name, its sections, and the questions about it."""

    name: str
    sections: tuple[str, ...]
    questions: tuple[FairytaleQuestion, ...]


def read_fairytales(path: PathLike) -> list[Fairytale]:
    """Read a JSONL file of `{"story", "sections", "section_ids", "qa": [{"q", "answers", "sections", "attr"}]}`."""
    return [fairytale_of(record, place) for place, record in records_in(path)]


def fairytale_of(record: Mapping[str, Any], place: str) -> Fairytale:
    """Return the story of a record in the form that `read_fairytales` reads; `RecordError` names the place."""
    story, sections = text_in(record, "story", place), texts_in(record, "sections", place)
    ids = [name_in({"id": each}, "id", "", f"{place}, section_ids") for each in list_in(record, "section_ids", place)]
    if len(ids) != len(sections):
        raise RecordError(f"{place}: field 'section_ids' has {len(ids)} for the {len(sections)} of 'sections'")
    numbers = {name: number for number, name in enumerate(ids)}
    questions = [
        _fairytale_question(object_at(qa, f"{place}, qa[{number}]"), numbers, f"{place}, qa[{number}]")
        for number, qa in enumerate(list_in(record, "qa", place))
    ]
    whole = tuple(" ".join(section.split()) for section in sections)
    return Fairytale(story, whole, tuple(question for question in questions if question.answers))


def _fairytale_question(qa: Mapping[str, Any], numbers: Mapping[str, int], place: str) -> FairytaleQuestion:
    names = [name.strip() for name in text_in(qa, "sections", place).split(",")]
    if unknown := [name for name in names if name not in numbers]:
        raise RecordError(f"{place}: field 'sections' names {unknown[0]!r:.80}; the story has {', '.join(numbers)}")
    return FairytaleQuestion(
        text=text_in(qa, "q", place).strip(),
        answers=tuple(answer.strip() for answer in texts_in(qa, "answers", place) if answer.strip()),
        sections=tuple(numbers[name] for name in names),
        kind=text_in(qa, "attr", place),
    )


def fairytale_dialogue(tale: Fairytale, *, max_words: int = 60) -> Dialogue:
    """Return a story as a dialogue: it is told turn by turn, then its questions follow.

    Args:
        tale: the story.
        max_words: a section with more words is divided between sentences into several turns.

    The `distance` of a question is to the first turn of the oldest section that answers it. `details` has the
    story's name as "id" and "story", and the "references": the reference answers of each turn, of which the first is
    the turn's answer.
    """
    turns: list[Interaction] = []
    first_turns = []
    for section in tale.sections:
        first_turns.append(len(turns))
        turns += [Interaction(piece, ACKNOWLEDGEMENT) for piece in sentence_pieces(section, max_words)]
    references: list[tuple[str, ...]] = [()] * len(turns)
    for question in tale.questions:
        distance = len(turns) - min(first_turns[section] for section in question.sections)
        asked = Question(question.kind, question.answers[:1], distance)
        turns.append(Interaction(question.text, question.answers[0], question=asked))
        references.append(question.answers)
    details = {"id": tale.name, "story": tale.name, "references": tuple(references)}
    return Dialogue(tuple(turns), f"FairytaleQA {tale.name}", details)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _mend(text: str) -> str:
    for wrong, right in _MOJIBAKE.items():
        text = text.replace(wrong, right)
    return text


_HEADER_END = re.compile(r"^\*+ ?START OF TH(E|IS) PROJECT GUTENBERG|^\*END\*? ?THE SMALL PRINT", re.IGNORECASE)
_FOOTER_START = re.compile(
    r"^\*+ ?END OF TH(E|IS) PROJECT GUTENBERG|^End of (The |this )?Project Gutenberg|^\*Project Gutenberg Etext of",
    re.IGNORECASE,
)
_ABOUT_FILE = re.compile(
    r"gutenberg|\be-?(text|book)\b|^(Produced|Transcribed|Scanned) (by|from)|^HTML version|^\[Portions of this|"
    r"^and may be reprinted only|^\[(Illustration|Picture)",
    re.IGNORECASE,
)
_NOTES_AT_END = re.compile(r"^Transcriber.s notes?:", re.IGNORECASE)
_SHORTEST_STORY = 25  # words
_MOJIBAKE = {
    "\u00e2\u20ac\u0153": '"',
    "\u00e2\u20ac\u009d": '"',
    "\u00e2\u20ac\u2122": "'",
    "\u00e2\u20ac\u02dc": "'",
    "\u00e2\u20ac\u201c": "-",
    "\u00e2\u20ac\u201d": "-",
    "\u00e2\u20ac\u00a6": "...",
    "\u00e2\u20ac": '"',
}
