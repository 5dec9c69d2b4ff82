"""The dialogues of a run of the benchmark, in sets, with the scorer that belongs to them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rxlm.data.babi import HEADLINE_TASKS, hold_out, read_babi
from rxlm.data.dialogue_forms import open_dialogues
from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import values_by_kind
from rxlm.data.facts import FactGenerator
from rxlm.data.held_out import hold_out_by_id
from rxlm.data.records import Dialogue
from rxlm.data.sgd import read_sgd
from rxlm.mrq_bench.config import BenchmarkConfig, digest
from rxlm.mrq_bench.own_dialogues import read_own_dialogues
from rxlm.mrq_bench.scoring import SameAnswerScorer, Scorer, ValueScorer, asked, audit
from rxlm.mrq_bench.service_questions import ServiceScorer, ask_for_service_values, service_values


@dataclass(frozen=True)
class DialogueSet:
    """Dialogues of one sort, such as those of 16 turns, or of one bAbI task."""

    name: str
    dialogues: Sequence[Dialogue]


@dataclass(frozen=True)
class BenchmarkData:
    """All that a model is asked.

    Fields:
        name: of the data, such as "facts".
        sets: the dialogues.
        scorer: grades the answers to their questions.
        notes: what a reader of the results must know about the data.
    """

    name: str
    sets: tuple[DialogueSet, ...]
    scorer: Scorer
    notes: tuple[str, ...] = ()

    @cached_property
    def checksum(self) -> str:
        """A digest of every word of the dialogues and of what is known about their questions."""
        return digest([[group.name, [_plain(dialogue) for dialogue in group.dialogues]] for group in self.sets])

    @property
    def dialogues(self) -> list[Dialogue]:
        """The dialogues of all sets."""
        return [dialogue for group in self.sets for dialogue in group.dialogues]

    @property
    def chance(self) -> float | None:
        """How often a blind guess is right, over all questions about what was told; None where there are none."""
        chances = [
            self.scorer.chance(turn.question)
            for turn in asked(self.dialogues)
            if turn.question is not None and turn.question.was_told
        ]
        return sum(chances) / len(chances) if chances else None


def load_data(config: BenchmarkConfig) -> BenchmarkData:
    """Generate or read the dialogues that a configuration asks for."""
    if config.data == "facts":
        return _facts(config)
    assert config.source is not None
    if config.data == "babi":
        return _babi(config)
    if config.data == "sgd":
        every = read_sgd(config.source)
        chosen = _part(every, config)
        values = service_values(every)
        group = DialogueSet("sgd", [ask_for_service_values(dialogue) for dialogue in chosen])
        note = "A question is a turn whose reference answer names a slot value that was said in an earlier turn only."
        return BenchmarkData("sgd", (group,), ServiceScorer(values), (note, "The data is under CC BY-SA 4.0."))
    if config.data == "dialogues":
        every = open_dialogues(config.source, seed=config.seed)
        chosen = _first(hold_out_by_id(every)[1] if config.held_out else every, config)
        return BenchmarkData(
            "dialogues", (DialogueSet(Path(config.source).stem, chosen),), SameAnswerScorer(_expected_by_kind(every))
        )
    dialogues = read_own_dialogues(config.source)
    scorer, chosen = ValueScorer(_expected_by_kind(dialogues), config.abstentions), _part(dialogues, config)
    return BenchmarkData("jsonl", (DialogueSet("dialogues", chosen),), scorer, _doubts(chosen, scorer))


def _doubts(dialogues: Sequence[Dialogue], scorer: Scorer) -> tuple[str, ...]:
    """Return a note where the scorer cannot judge some questions of somebody's own dialogues."""
    found = audit(dialogues, scorer)
    if not found.unclear:
        return ()
    turn = found.unclear[0]
    return (
        f"The scorer cannot judge {len(found.unclear)} of {found.num_questions} questions: it does not grade the "
        f"reference answer right, or grades a wrong one right. The first one: {turn.query!r:.80}, answer "
        f"{turn.answer!r:.80}, expected {list(turn.question.expected) if turn.question else []!r:.80}.",
    )


def _facts(config: BenchmarkConfig) -> BenchmarkData:
    sets = []
    for num_turns in config.turns:
        for max_facts in config.facts:
            settings = FactsConfig(
                num_turns=num_turns, max_facts=max_facts, variety=config.variety, values=config.values,
                split="test", seed=config.seed,
            )  # fmt: skip
            name = f"{num_turns} turns" + (f", {max_facts} facts" if len(config.facts) > 1 else "")
            sets.append(DialogueSet(name, list(FactGenerator(settings).dialogues(config.dialogues))))
    return BenchmarkData("facts", tuple(sets), ValueScorer(values_by_kind(config.variety)))


def _babi(config: BenchmarkConfig) -> BenchmarkData:
    assert config.source is not None
    dialogues = read_babi(config.source, tasks=config.tasks)
    sets = []
    for task in sorted(set(config.tasks)):
        of_task = [dialogue for dialogue in dialogues if dialogue.details["task"] == task]
        sets.append(DialogueSet(f"task {task}", _part(of_task, config)))
    notes = tuple(
        f"Task {group.dialogues[0].details['task']} is not comparable with published figures: "
        f"{group.dialogues[0].details['note']}."
        for group in sets
        if group.dialogues[0].details["task"] not in HEADLINE_TASKS
    )
    return BenchmarkData("babi", tuple(sets), SameAnswerScorer(_expected_by_kind(dialogues)), notes)


def _part(dialogues: Sequence[Dialogue], config: BenchmarkConfig) -> list[Dialogue]:
    return _first(hold_out(dialogues)[1] if config.held_out else list(dialogues), config)


def _first(chosen: list[Dialogue], config: BenchmarkConfig) -> list[Dialogue]:
    if not chosen:
        raise ValueError(f"{config.source} has no dialogues" + (" that are held out." if config.held_out else "."))
    return chosen[: config.dialogues]


def _expected_by_kind(dialogues: Iterable[Dialogue]) -> dict[str, list[str]]:
    values: dict[str, dict[str, None]] = {}
    for turn in asked(dialogues):
        if turn.question is not None:
            values.setdefault(turn.question.kind, {}).update(dict.fromkeys(turn.question.expected))
    return {kind: list(of_kind) for kind, of_kind in values.items()}


def _plain(dialogue: Dialogue) -> list[Any]:
    return [asdict(replace(turn, thought=None)) for turn in dialogue.turns]
