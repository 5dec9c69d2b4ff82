"""Runs the benchmark: every dialogue under every control, each answer logged, a finished batch never asked again."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rxlm.config import differences
from rxlm.data.scoring import SCORER_VERSION
from rxlm.file_errors import read_json_object
from rxlm.files import write_text
from rxlm.mrq_bench.answers import Answer, AnswerLog, Place
from rxlm.mrq_bench.benchmark_data import BenchmarkData, DialogueSet
from rxlm.mrq_bench.config import BenchmarkConfig, digest
from rxlm.mrq_bench.protocol import WITHOUT_HISTORY, Control, Respondent, check_control
from rxlm.mrq_bench.replies import batches_of, replies_of

RUN_FILE = "run.json"
ANSWERS_FILE = "answers.jsonl"

ProgressReport = Callable[[int, int, str], None]
"""Called with the number of dialogues done, of all dialogues, and what is being done."""


class Job(NamedTuple):
    """A batch of dialogues of a set to be answered under a control."""

    group: DialogueSet
    control: Control
    rows: range

    def places(self) -> list[Place]:
        """List the answers that the job gives."""
        return [
            Place(self.group.name, self.control, row, number)
            for row in self.rows
            for number, turn in enumerate(self.group.dialogues[row].turns)
            if turn.question is not None or self.control not in WITHOUT_HISTORY
        ]


def answer_all(
    respondent: Respondent,
    data: BenchmarkData,
    config: BenchmarkConfig,
    folder: Path,
    *,
    progress: ProgressReport = lambda done, total, label: None,
) -> AnswerLog:
    """Ask a model everything that a configuration says, and return its answers.

    They go to `answers.jsonl` in the folder as they come, beside `run.json`, the whole configuration. Started again
    with the same configuration the run goes on where it was; controls may be added. Nothing is asked where no report
    needs it. ValueError where the folder holds a run of another configuration, or the model cannot answer under a
    control.
    """
    for control in config.all_controls:
        check_control(control, respondent)
    identity = run_identity(respondent, data, config)
    _keep_identity(folder, identity)
    log = AnswerLog(folder / ANSWERS_FILE, stamp_of(identity))
    log.path.touch()
    jobs = list(_jobs(data, config)) if config.needs_answers else []
    total, done = sum(len(job.rows) for job in jobs), 0
    for job in jobs:
        label = job.group.name + ("" if job.control == "none" else f", {job.control}")
        progress(done, total, label)
        if not log.has(job.places()):
            log.append(_answers(respondent, data, job))
        done += len(job.rows)
        progress(done, total, label)
    return log


def run_identity(respondent: Respondent, data: BenchmarkData, config: BenchmarkConfig) -> dict[str, Any]:
    """Return, as plain values, all that the answers depend on."""
    return json.loads(
        json.dumps(
            {
                "model": dict(respondent.describe()),
                "data": {"name": data.name, "checksum": data.checksum, "sets": [group.name for group in data.sets]},
                "seed": config.seed,
                "batch_size": config.batch_size,
                "scorer": SCORER_VERSION,
            },
            default=str,
        )
    )


def stamp_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every answer's line says about its run."""
    return {
        "config": digest(identity),
        "seed": identity["seed"],
        "data": identity["data"]["checksum"],
        "scorer": identity["scorer"],
    }


def _jobs(data: BenchmarkData, config: BenchmarkConfig) -> Iterator[Job]:
    for control in config.all_controls:
        for group in data.sets:
            for rows in batches_of(len(group.dialogues), config.batch_size):
                job = Job(group, control, rows)
                if job.places():
                    yield job


def _answers(respondent: Respondent, data: BenchmarkData, job: Job) -> list[Answer]:
    dialogues = [job.group.dialogues[row] for row in job.rows]
    found = []
    for row, number, turn, text in replies_of(respondent, dialogues, job.control):
        grade = None if turn.question is None else str(data.scorer.grade(text, turn))
        place = Place(job.group.name, job.control, job.rows[row], number)
        found.append(Answer(place, dialogues[row].source, turn.query, text, turn.answer, turn.question, grade))
    return sorted(found, key=lambda answer: answer.place[2:])


def _keep_identity(folder: Path, identity: Mapping[str, Any]) -> None:
    path = folder / RUN_FILE
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        saved = read_json_object(path)
        if saved != identity:
            found = "; ".join(differences(saved, identity))
            raise ValueError(f"{folder} holds a run of another configuration ({found}); name another folder.")
        return
    write_text(path, json.dumps(identity, indent=2) + "\n")
