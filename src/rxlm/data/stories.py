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

from rxlm.data.passages import sentence_pieces
from rxlm.data.records import Dialogue, Interaction, Question, RecordError
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
                raise ValueError(f"{file}: {error}") from error
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
        title, pages = record.get("title"), record.get("pages")
        if not isinstance(title, str) or not isinstance(pages, list):
            raise RecordError(f"{place}: expected fields 'title', a text, and 'pages', a list of texts")
        if pages:  # some books have pictures only
            stories.append("\n\n".join([title, *map(str, pages)]))
    return stories


def read_tiny_stories(path: PathLike) -> list[str]:
    """Return the stories of a text file in which blank lines separate paragraphs and single line ends stories.

    Wrongly decoded quotation marks are corrected. A piece too short for a story belongs to the story before it: some
    stories contain single line ends.
    """
    text = _mend(Path(path).read_text(encoding="utf-8"))
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
    try:
        numbers = {str(name): number for number, name in enumerate(record["section_ids"])}
        questions = tuple(
            FairytaleQuestion(
                text=qa["q"].strip(),
                answers=tuple(answer.strip() for answer in qa["answers"] if answer.strip()),
                sections=tuple(numbers[name.strip()] for name in qa["sections"].split(",")),
                kind=qa["attr"],
            )
            for qa in record["qa"]
        )
        sections = tuple(" ".join(section.split()) for section in record["sections"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{place}: not a story of FairytaleQA ({type(error).__name__}: {error})") from error
    return Fairytale(record["story"], sections, tuple(question for question in questions if question.answers))


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
