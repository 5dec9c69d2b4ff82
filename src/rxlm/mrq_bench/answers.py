"""Every answer of a run, as a line of a JSONL file, and how a run goes on from what is there.

A line says to which run it belongs: the configuration's digest, the seed, the data's checksum, the scorer's version.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from rxlm.data.records import Question
from rxlm.file_errors import naming
from rxlm.files import write_atomically
from rxlm.mrq_bench.protocol import Control

STAMPS = ("config", "seed", "data", "scorer")


class Place(NamedTuple):
    """Where an answer stands: which set, control, dialogue of the set, and turn."""

    set: str
    control: Control
    dialogue: int
    turn: int


@dataclass(frozen=True)
class Answer:
    """One answer, with what was asked; `grade` and `question` are None for a turn that carries no question."""

    place: Place
    source: str
    query: str
    answer: str
    reference: str
    question: Question | None
    grade: str | None

    @property
    def is_right(self) -> bool:
        """Whether the scorer says so."""
        return self.grade == "right"

    def to_line(self, stamp: Mapping[str, Any]) -> str:
        """Return the line of the JSONL file."""
        values = {**stamp, **self.place._asdict(), **asdict(self)}
        del values["place"]
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, values: Mapping[str, Any]) -> Self:
        """Return the answer of a parsed line."""
        asked: dict[str, Any] | None = values["question"]
        question = None
        if asked is not None:
            lists = {name: tuple(asked[name]) for name in ("expected", "stale")}
            question = Question(**{**asked, **lists})  # pyrefly: ignore[bad-argument-type]
        names = ("source", "query", "answer", "reference", "grade")
        return cls(Place(*(values[name] for name in Place._fields)), question=question, **{n: values[n] for n in names})


class AnswerLog:
    """The answers of one run, in memory and in a file that grows batch by batch.

    A line that was cut off when a run was killed is dropped. ValueError where the file belongs to another run.

    Args:
        path: of the JSONL file; made where it is missing.
        stamp: what identifies the run, under the names STAMPS.
    """

    def __init__(self, path: Path, stamp: Mapping[str, Any]) -> None:
        self.path, self.stamp = path, {name: stamp[name] for name in STAMPS}
        self._answers: dict[Place, Answer] = {}
        if path.is_file():
            self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._answers.values())

    def of(self, control: Control) -> list[Answer]:
        """Return the answers under one control."""
        return [answer for place, answer in self._answers.items() if place.control == control]

    def has(self, places: Sequence[Place]) -> bool:
        """Tell whether all these answers are there."""
        return all(place in self._answers for place in places)

    def append(self, answers: Sequence[Answer]) -> None:
        """Add the answers of a batch, in place of any part of it that a killed run left."""
        if any(answer.place in self._answers for answer in answers):
            for answer in answers:
                self._answers.pop(answer.place, None)
            self._write(self._answers.values())
        self._answers.update((answer.place, answer) for answer in answers)
        data = "".join(answer.to_line(self.stamp) for answer in answers).encode()
        with naming(self.path), open(self.path, "ab", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")
        whole = lines[:-1]  # after the last line's end there is nothing, or a piece of a line
        for number, line in enumerate(whole, 1):
            try:
                values = json.loads(line)
                found = {name: values[name] for name in STAMPS}
                answer = Answer.from_line(values)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}: not an answer of this benchmark ({error!r}).") from error
            if found != self.stamp:
                raise ValueError(
                    f"{self.path}, line {number}: of another run ({found}, here {self.stamp}); name another folder."
                )
            self._answers[answer.place] = answer
        if lines[-1]:
            self._write(self._answers.values())

    def _write(self, answers: Iterable[Answer]) -> None:
        text = "".join(answer.to_line(self.stamp) for answer in answers)
        write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))
