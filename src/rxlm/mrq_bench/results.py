"""A whole run: the answers, the reports made from them, and `results.json`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rxlm import __version__
from rxlm.file_errors import read_json_object
from rxlm.files import write_text
from rxlm.mrq_bench.arms import ARM_NAMES
from rxlm.mrq_bench.benchmark_data import BenchmarkData
from rxlm.mrq_bench.config import ALL_REPORTS, OF_ANSWERS, BenchmarkConfig, Report
from rxlm.mrq_bench.protocol import LanguageRespondent, check_respondent
from rxlm.mrq_bench.reports.capacity import capacity
from rxlm.mrq_bench.reports.controls import controls
from rxlm.mrq_bench.reports.cost import cost
from rxlm.mrq_bench.reports.language import language
from rxlm.mrq_bench.reports.recall import Findings
from rxlm.mrq_bench.reports.retention import retention
from rxlm.mrq_bench.reports.updates import updates
from rxlm.mrq_bench.reports.worth import WORTH_FILE, worth
from rxlm.mrq_bench.runner import ProgressReport, answer_all, run_identity, stamp_of

RESULTS_FILE = "results.json"
FORMAT = 1
OWN = "the model's own"

BenchmarkResults = Mapping[str, Any]


def measure(
    name: str,
    respondent: LanguageRespondent,
    data: BenchmarkData,
    config: BenchmarkConfig,
    folder: Path,
    *,
    embedder: tuple[str, LanguageRespondent] | None = None,
    progress: ProgressReport = lambda done, total, label: None,
) -> BenchmarkResults:
    """Ask a model everything, make the reports, write `results.json` into the folder, and return what is in it.

    Args:
        name: of the model, for tables and plots.
        respondent: the model.
        data, config: the dialogues, and what to measure on them.
        folder: of the run; one that holds the same run goes on with it, see `answer_all`, and keeps its other reports.
        embedder: name and model whose token embeddings the cosines are made of; the model itself if not given.
        progress: called with what is being done.

    TypeError, before any work, for a respondent that lacks what the configuration asks for.
    """
    check_respondent(respondent, answers=config.needs_answers, language=not set(config.reports) <= set(OF_ANSWERS))
    log = answer_all(respondent, data, config, folder, progress=progress)
    identity = run_identity(respondent, data, config)
    questions = sum(turn.question is not None for dialogue in data.dialogues for turn in dialogue.turns)
    reports: dict[str, Any] = {}
    results: dict[str, Any] = {
        "format": FORMAT,
        "rxlm": __version__,
        "name": name,
        "model": identity["model"],
        "data": {**identity["data"], "notes": list(data.notes), "questions": questions},
        "run": stamp_of(identity),
        "queries cut": sum(respondent.cuts(turn.query) for dialogue in data.dialogues for turn in dialogue.turns),
        "reports": reports,
    }
    findings = Findings.of(log, data, config.seed)
    report = _Reports(respondent, findings, config, embedder or (OWN, respondent), folder, progress)
    earlier = _earlier_reports(folder, results)
    for wanted in ALL_REPORTS:
        if wanted in config.reports:
            progress(len(log), len(log), f"report on {wanted}")
            reports[wanted] = report.make(wanted)
        elif wanted in earlier:
            reports[wanted] = earlier[wanted]
    text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
    write_text(folder / RESULTS_FILE, text)
    return json.loads(text)


def read_results(folder: Path) -> BenchmarkResults:
    """Read the results of a run; ValueError where they are of another format."""
    path = folder / RESULTS_FILE
    results = read_json_object(path)
    if results.get("format") != FORMAT:
        raise ValueError(f"{path} is in format {results.get('format')!r}; this version of rxlm reads {FORMAT}.")
    return results


def _earlier_reports(folder: Path, results: BenchmarkResults) -> Mapping[str, Any]:
    """Return the reports that this very run, by this version, has left in the folder."""
    if not (folder / RESULTS_FILE).is_file():
        return {}
    earlier = read_results(folder)
    return earlier["reports"] if all(earlier[name] == results[name] for name in ("run", "rxlm")) else {}


class _Reports(NamedTuple):
    """All that the reports are made from."""

    respondent: LanguageRespondent
    findings: Findings
    config: BenchmarkConfig
    embedder: tuple[str, LanguageRespondent]
    folder: Path
    progress: ProgressReport

    def make(self, name: Report) -> dict[str, Any] | None:
        """Return a report as plain values; None where the data have nothing for it."""
        if name == "language":
            return language(self.findings, self.respondent, self.embedder, self.config.batch_size)
        if name == "cost":
            return cost(self.respondent, self.findings.data, self.config.seed, self.config.cost_turns)
        if name == "worth":
            return self._worth()
        if not self.findings.told():
            return None
        controls_asked = self.config.all_controls
        reports: dict[Report, Callable[[], dict[str, Any] | None]] = {
            "retention": lambda: retention(self.findings, controls_asked),
            "capacity": lambda: capacity(self.findings),
            "updates": lambda: updates(self.findings),
            "controls": lambda: controls(self.findings, controls_asked),
        }
        return reports[name]()

    def _worth(self) -> dict[str, Any] | None:
        return worth(
            self.findings.data,
            self.findings.bootstrap,
            self.respondent,
            self.config.batch_size,
            file=self.folder / WORTH_FILE,
            stamp=self.findings.log.stamp,
            progress=lambda done, total, arm: self.progress(done, total, f"worth of history: {ARM_NAMES[arm]}"),
        )
