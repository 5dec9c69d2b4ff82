"""What a run of the benchmark measures, and on what."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from rxlm.data.babi import ALL_TASKS
from rxlm.data.fact_config import Values
from rxlm.data.fact_kinds import Variety
from rxlm.mrq_bench.protocol import Control

DataKind = Literal["facts", "babi", "sgd", "jsonl", "dialogues"]
Report = Literal["retention", "capacity", "updates", "controls", "language", "cost", "worth"]
ALL_REPORTS: tuple[Report, ...] = get_args(Report)
USUAL_REPORTS = ALL_REPORTS[:-1]
OF_ANSWERS: tuple[Report, ...] = ("retention", "capacity", "updates", "controls")
"""Reports that are made of answers alone: whatever answers has them."""
WITHOUT_ANSWERS: tuple[Report, ...] = ("cost", "worth")
"""Reports that need no answers of a dialogue led by the model."""

_ONLY_FOR: dict[str, tuple[DataKind, ...]] = {
    "turns": ("facts",),
    "facts": ("facts",),
    "variety": ("facts",),
    "values": ("facts",),
    "tasks": ("babi",),
    "abstentions": ("jsonl",),
    "source": ("babi", "sgd", "jsonl", "dialogues"),
    "held_out": ("babi", "sgd", "jsonl", "dialogues"),
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure, and on what.

    Args:
        data: facts (generated test dialogues), babi, sgd, jsonl (dialogues of your own, their questions marked), or
            dialogues (of any form that `rxlm.data.dialogue_forms` knows: speakers, messages, tales, meetings).
        source: file or folder of the data, for all but facts.
        tasks: bAbI's tasks.
        held_out: take only the tenth of the dialogues that `rxlm.data.held_out` keeps from training.
        turns: lengths of the generated dialogues.
        facts: how many kinds of fact a generated dialogue may hold; several give a set of dialogues each.
        variety: of the generated dialogues: small (as in the quickstart) or full.
        values: of the generated dialogues: shared with training, or disjoint from it.
        abstentions: phrases that say in your dialogues that something was not told, besides those that are known in
            some twenty languages (`rxlm.data.abstentions`).
        dialogues: dialogues of each set: of each length and number of facts, of each task.
        controls: what to measure beside the model itself: empty, shuffled, never-updated, full-history, everything,
            newest. The report worth measures what the model has of these, named or not.
        reports: retention, capacity, updates, controls, language, cost; and worth, where it is named: what the history
            is worth, and how much of it the memory keeps.
        cost_turns: turns of a conversation whose cost is measured.
        seed: of the generated dialogues and of the bootstrap.
        batch_size: dialogues answered at once.
    """

    data: DataKind = "facts"
    source: Path | None = None
    tasks: tuple[int, ...] = (1,)
    held_out: bool = False
    turns: tuple[int, ...] = (8, 16, 32, 64)
    facts: tuple[int, ...] = (6,)
    variety: Variety = "small"
    values: Values = "shared"
    abstentions: tuple[str, ...] = ()
    dialogues: int = 100
    controls: tuple[Control, ...] = ("empty", "shuffled")
    reports: tuple[Report, ...] = USUAL_REPORTS
    cost_turns: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    seed: int = 0
    batch_size: int = 100

    def __post_init__(self) -> None:
        for field in fields(self):
            kinds = _ONLY_FOR.get(field.name, (self.data,))
            if self.data not in kinds and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} means something for {' and '.join(kinds)} only, data is {self.data!r}.")
        if self.data != "facts" and self.source is None:
            raise ValueError(f"data {self.data!r} needs a source: the file or folder to read.")
        for name, least in (("dialogues", 1), ("batch_size", 3 if "shuffled" in self.controls else 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        if any(turn < 1 for turn in self.cost_turns):
            raise ValueError(f"cost_turns must be numbers of turns, from 1, got {self.cost_turns}.")
        for name in ("tasks", "turns", "facts", "reports", "cost_turns"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one.")
        for task in self.tasks:
            if task not in ALL_TASKS:
                raise ValueError(f"tasks must be numbers from 1 to 20, got {task}.")

    @property
    def all_controls(self) -> tuple[Control, ...]:
        """The model itself ("none") first, then the controls."""
        return tuple(dict.fromkeys(("none", *self.controls)))

    @property
    def needs_answers(self) -> bool:
        """Whether the model is to lead the dialogues: all reports but `WITHOUT_ANSWERS` are made of its answers."""
        return not set(self.reports) <= set(WITHOUT_ANSWERS)


def digest(values: Any) -> str:
    """Return a short SHA-256 of plain values."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
