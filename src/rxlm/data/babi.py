"""The bAbI tasks (Weston et al., 2015) as dialogues: each statement (acknowledged) and each question is a turn.

`1 Mary moved to the bathroom.` is line 1 of a story, a statement; `3 Where is Mary?<tab>bathroom<tab>1` is line 3, a
question with its answer and the lines that support it. A story ends where the numbers start at 1 again.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from rxlm.data.held_out import divided, words_of
from rxlm.data.opened_files import lines_of
from rxlm.data.records import Dialogue, Interaction, Question, RecordError
from rxlm.data.text_files import PathLike, find_files

ALL_TASKS = tuple(range(1, 21))

TASK_NOTES = {
    3: "many copies of the 10,000-question files have only 1,000 questions for task 3",
    4: "741 of the 1,000 stories of the test file are in the training file, too",
}
"""Why a task cannot be compared with published figures, and is left out of headlines."""

HEADLINE_TASKS = tuple(task for task in ALL_TASKS if task not in TASK_NOTES)

ACKNOWLEDGEMENT = "Okay."
"""The answer to a statement."""


def read_babi(source: PathLike | Iterable[PathLike], *, tasks: Collection[int] = ALL_TASKS) -> list[Dialogue]:
    """Read the stories of bAbI files; each becomes a dialogue.

    Args:
        source: files, folders or glob patterns; a file's name tells its task: qa1_single-supporting-fact_train.txt.
        tasks: numbers of the tasks to read.

    `details` of a dialogue holds its "task", its "story" (the number in its file, from 1) and, where TASK_NOTES has
    one, a "note". A question's `distance` goes back to the oldest line that supports its answer; `kind` is "task 1".
    FileNotFoundError where a task has no file; `RecordError` names the file and line that does not fit.
    """
    wanted = sorted(set(tasks))
    for task in wanted:
        if task not in ALL_TASKS:
            raise ValueError(f"tasks must be numbers from 1 to 20, got {task!r}")
    files = [(task, file) for file in find_files(source, suffixes=(".txt",)) if (task := _task_of(file)) in wanted]
    missing = sorted(set(wanted).difference(task for task, _ in files))
    if missing:
        raise FileNotFoundError(f"no file of task {', '.join(map(str, missing))} in {str(source)!r}")
    return [dialogue for task, file in sorted(files) for dialogue in _stories_of(file, task)]


def hold_out(dialogues: Sequence[Dialogue], share: float = 0.1) -> tuple[list[Dialogue], list[Dialogue]]:
    """Divide dialogues into those for training and those for validation, which are about `share` of them.

    Only a hash of a dialogue's words decides: equal stories are on the same side, in any set of files.
    """
    return divided(dialogues, words_of, share)


def _task_of(file: Path) -> int | None:
    match = re.match(r"qa(\d+)_", file.name)
    return int(match[1]) if match else None


def _stories_of(file: Path, task: int) -> Iterator[Dialogue]:
    note = {"note": TASK_NOTES[task]} if task in TASK_NOTES else {}
    turns: list[Interaction] = []
    story = first_line = 0

    def finished() -> Dialogue:
        return Dialogue(tuple(turns), f"{file.name}, line {first_line}", {"task": task, "story": story, **note})

    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        match = re.fullmatch(r"([0-9]{1,6}) (.+)", line.rstrip())
        if match is None:
            raise RecordError(f"{place}: expected a line number and a sentence, found {line.rstrip()!r:.80}")
        line_number = int(match[1])
        if line_number == 1:
            if turns:
                yield finished()
            turns, story, first_line = [], story + 1, number
        if line_number != len(turns) + 1:
            raise RecordError(f"{place}: the line numbers of a story count up from 1, found {line_number}")
        turns.append(_turn(match[2], line_number, task, place))
    if turns:
        yield finished()


def _turn(text: str, line_number: int, task: int, place: str) -> Interaction:
    fields = text.split("\t")
    if len(fields) == 1:
        return Interaction(text, ACKNOWLEDGEMENT)
    if len(fields) != 3:
        raise RecordError(f"{place}: a question has an answer and the numbers of its lines, separated by tabs")
    query, answer, words = fields[0].strip(), fields[1].strip(), fields[2].split()
    supports = [int(word) for word in words if re.fullmatch("[0-9]{1,6}", word)]
    if (
        not query
        or not answer
        or not supports
        or not all(1 <= line < line_number for line in supports)
        or (len(supports) < len(words))
    ):
        raise RecordError(f"{place}: a question, its answer or the lines that support it are missing")
    distance = line_number - min(supports)
    return Interaction(query, answer, question=Question(f"task {task}", (answer,), distance))
