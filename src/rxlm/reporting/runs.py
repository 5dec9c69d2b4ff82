"""Reads the folder of a run: its recipe, the figures that its stages logged, and its results."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

RECIPE_FILE, METRICS_FILE, RESULTS_FILE = "recipe.json", "metrics.jsonl", "results.json"
RUN_FOLDER = (
    f"A run's folder has {RECIPE_FILE}, a folder for each stage with its {METRICS_FILE} "
    f"(such as 1-language/{METRICS_FILE}), and, once the run is measured, {RESULTS_FILE}; "
    "`rxlm train RECIPE --output FOLDER` makes one."
)
NO_FIGURES = ("stage", "step", "time")


@dataclass(frozen=True)
class Series:
    """Values of a figure, and the steps that they belong to, in order."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def final(self) -> float:
        """Return the mean of the last twentieth of the finite values, so that one odd batch does not decide."""
        finite = [value for value in self.values if math.isfinite(value)]
        last = finite[-max(1, len(finite) // 20) :]
        return sum(last) / len(last) if last else math.nan


@dataclass(frozen=True)
class StageLog:
    """What a stage logged: its figures by name, and how many lines of its log could not be read."""

    name: str
    figures: Mapping[str, Series]
    unreadable: int = 0

    @property
    def last_step(self) -> int:
        """The last step that was logged."""
        return max((series.steps[-1] for series in self.figures.values()), default=0)

    @property
    def seconds(self) -> float | None:
        """Time that the logged steps took, without pauses between processes; None where it was not logged."""
        pace = self.figures.get("seconds_per_step")
        if pace is None:
            return None
        before = (0, *pace.steps)
        return sum((step - last) * value for last, step, value in zip(before, pace.steps, pace.values, strict=False))


@dataclass(frozen=True)
class Table:
    """A table of results, with a note on how to read it."""

    title: str
    header: tuple[Any, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Run:
    """A run: its folder, its recipe, what its stages logged, its results, and a conversation with its model."""

    folder: Path
    recipe: Mapping[str, Any]
    stages: tuple[StageLog, ...]
    tables: tuple[Table, ...] = ()
    conversation: tuple[tuple[str, str], ...] = ()

    @cached_property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    def settings(self, stage: StageLog) -> Mapping[str, Any]:
        """Return the recipe's part for a stage: that of `4-dialogues` is `dialogues`; empty where there is none."""
        # An earlier version had the stages among the recipe's other fields.
        part = self.recipe.get("stages", self.recipe).get(stage.name.partition("-")[2])
        return part if isinstance(part, dict) else {}

    def phases(self, stage: StageLog) -> list[tuple[int, str]]:
        """Return the phases of a stage: the step that each ends at, and what it is; empty where it has none."""
        settings = self.settings(stage)
        phases = settings.get("phases", self.recipe.get("phases"))
        if not phases or sum(phase["steps"] for phase in phases) != settings.get("steps"):
            return []
        ends, end = [], 0
        for phase in phases:
            end += phase["steps"]
            kind = "streams, {} turns at a time" if phase.get("streams") else "dialogues of {} turns"
            ends.append((end, kind.format(phase["num_turns"])))
        return ends


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises `ValueError` where the folder is not one of a run, or its files are not what they should be.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. {RUN_FOLDER}")
    logs = sorted(folder.glob(f"*/{METRICS_FILE}"), key=lambda path: stage_order(path.parent.name))
    stages = tuple(stage for stage in map(read_stage, logs) if stage.figures)
    results = _read_object(folder / RESULTS_FILE)
    if not stages and not results:
        started = "holds no figures yet: nothing was logged" if (folder / RECIPE_FILE).is_file() else "is not a run"
        raise ValueError(f"{folder} {started}. {RUN_FOLDER}")
    return Run(
        folder,
        _read_object(folder / RECIPE_FILE),
        stages,
        tuple(_tables(results, folder / RESULTS_FILE)),
        tuple(_conversation(results, folder / RESULTS_FILE)),
    )


def read_stage(path: Path) -> StageLog:
    """Read what a stage logged.

    A run that was cut off and resumed logs some steps again: the later record of a step counts, and steps that the
    resumed run has not reached again do not. A line that was cut off is left out.
    """
    figures: dict[str, dict[int, float]] = {}
    unreadable, latest = 0, 0
    text = path.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines(keepends=True):
        records, whole = _records(line)
        unreadable += not whole and line.endswith("\n")  # a line without its end may still be written
        for record in records:
            step = record["step"]
            if step < latest:
                figures = {name: {at: values[at] for at in values if at < step} for name, values in figures.items()}
            latest = step
            for name, value in record.items():
                if name not in NO_FIGURES and isinstance(value, int | float):
                    figures.setdefault(name, {})[step] = float(value)
    series = {name: Series(tuple(values), tuple(values.values())) for name, values in figures.items() if values}
    return StageLog(path.parent.name, series, unreadable)


def stage_order(name: str) -> tuple[float, str]:
    """Return what sorts stages: `2-interactions` before `10-reward`, and names without a number last."""
    number = re.match(r"\d+", name)
    return (int(number.group()) if number else math.inf, name)


def _records(line: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the records of a line, one as a rule, and whether there is nothing else in it.

    After a process was killed in the middle of a line, the next one's first record follows the torn one in that line.
    Records are flat, so that each begins with the next brace.
    """
    parts = [part.strip() for part in re.split(r"(?={)", line) if part.strip()]
    records = [record for part in parts if (record := _record(part)) is not None]
    return records, len(records) == len(parts)


def _record(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, and holds a {type(content).__name__}.")
    return content


def _tables(results: Mapping[str, Any], path: Path) -> Iterator[Table]:
    for number, table in enumerate(results.get("tables", [])):
        named = isinstance(table, dict) and {"title", "header", "rows"} <= table.keys()
        if (
            not named
            or not table["header"]
            or not all(isinstance(row, list) for row in (table["header"], *table["rows"]))
        ):
            raise ValueError(f"{path}: tables[{number}] must have a title, a header and rows, each a list of cells.")
        header, rows = tuple(table["header"]), tuple(map(tuple, table["rows"]))
        wrong = next((row for row in rows if len(row) != len(header)), None)
        if wrong is not None:
            raise ValueError(f"{path}: tables[{number}] has {len(header)} columns, and the row {list(wrong)!r}.")
        yield Table(str(table["title"]), header, rows, str(table.get("note", "")))


def _conversation(results: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    for number, turn in enumerate(results.get("conversation", [])):
        if not (isinstance(turn, list) and len(turn) == 2):
            raise ValueError(f"{path}: conversation[{number}] must be a query and its answer, got {turn!r}.")
        yield str(turn[0]), str(turn[1])
