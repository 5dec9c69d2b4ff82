"""`rxlm bench memory` and `rxlm bench compare`: what a model remembers, measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rxlm.cli.output import Output
from rxlm.cli.results import rich_table
from rxlm.folders import require_folder
from rxlm.mrq_bench.answers import AnswerLog
from rxlm.mrq_bench.benchmark_data import BenchmarkData, load_data
from rxlm.mrq_bench.compare import PLOT_FILE, check_comparable, write_comparison
from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.loading import ModelOptions, check_model, load_respondent
from rxlm.mrq_bench.protocol import LanguageRespondent
from rxlm.mrq_bench.report_page import write_report
from rxlm.mrq_bench.results import RESULTS_FILE, BenchmarkResults, measure, read_results
from rxlm.mrq_bench.runner import ANSWERS_FILE, ProgressReport, run_identity, stamp_of
from rxlm.mrq_bench.scoring import audit as audit_scorer
from rxlm.mrq_bench.tables import (
    ANSWERED_TITLE,
    DISTANCE_TITLE,
    WORTH_TITLE,
    answered_table,
    distance_table,
    summary_table,
    worth_table,
)

RUNS = Path("runs/bench")
SUMMARY_TITLE = "with 95 % intervals"
FACTS = BenchmarkConfig()
OPTIONS = ModelOptions()


def memory(
    model: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    measuring: tyro.conf.OmitArgPrefixes[BenchmarkConfig] = FACTS,
    loading: tyro.conf.OmitArgPrefixes[ModelOptions] = OPTIONS,
    embeddings: str | None = None,
    output: Path | None = None,
    audit: bool = False,
) -> None:
    """Measure what a model remembers: seven reports, tables, plots and a page.

    The model answers dialogues turn by turn, and each answer to a question about an earlier turn is right
    or wrong. Every answer goes to answers.jsonl in the output folder, the figures to results.json, the plots to
    PNG files and to report.html. When the command is given again, a run goes on where it stopped. The report on the
    worth of history has a file of its own, worth.jsonl, and is made where it is named: --reports worth.

    Example: rxlm bench memory runs/quickstart --data babi --source babi/train --tasks 1 6

    Args:
        model: folder or hub id of a Reactive Transformer, or of a causal language model of transformers.
        embeddings: a model whose token embeddings the cosines are computed from; the model's own if not given.
        output: folder of the run; one in runs/bench if not given.
        audit: do not run a model: check that the scorer grades all reference answers right and all wrong ones wrong.
    """
    console = Output()
    if audit:
        _audit(load_data(measuring), console)
        return
    if model is None:
        raise ValueError("Name a model: a folder or a hub id (or --audit, which needs none).")
    require_folder(output or RUNS)
    for name in (model, embeddings):
        if name is not None:
            check_model(name, loading, strict=name == model)
    data = load_data(measuring)
    results, folder = _run(model, data, measuring, loading, embeddings, output, console)
    for title, table in {
        DISTANCE_TITLE: distance_table(results),
        WORTH_TITLE: worth_table(results),
        ANSWERED_TITLE: answered_table(results),
    }.items():
        if table.rows:
            console.print(rich_table(title, table.header, table.rows))
    summary = summary_table([results])
    console.print(rich_table(SUMMARY_TITLE, summary.header, summary.rows))
    console.print(f"All figures, answers and plots: {folder}/report.html")


def compare(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    measuring: tyro.conf.OmitArgPrefixes[BenchmarkConfig] = FACTS,
    loading: tyro.conf.OmitArgPrefixes[ModelOptions] = OPTIONS,
    embeddings: str | None = None,
    output: Path = RUNS / "comparison",
) -> None:
    """Measure several models on the same data: one table and one plot.

    The results of a folder that `rxlm bench memory` wrote are used as they are. A model is measured first, with the
    options below, in a folder inside the output. --history and --template are for stateless models.

    Args:
        models: folders of runs, or models as `rxlm bench memory` takes them; two or more.
        embeddings: a model whose token embeddings the cosines of all are computed from; each model's own if not given.
        output: folder for comparison.png, comparison.html and the runs of models.
    """
    if len(models) < 2:
        raise ValueError(f"Name two models or more to compare, got {len(models)}.")
    console = Output()
    require_folder(output)
    # What is not there is told before anything is measured.
    finished = {name: read_results(Path(name)) for name in models if _is_run(name)}
    unmeasured = [name for name in models if name not in finished]
    for name in unmeasured:
        check_model(name, loading, strict=False)
    if embeddings is not None and unmeasured:
        check_model(embeddings, loading, strict=False)
    if finished:
        check_comparable(list(finished.values()))
    measured = {}
    if unmeasured:
        data = load_data(measuring)
        for name in dict.fromkeys(unmeasured):
            measured[name] = _run(name, data, measuring, loading, embeddings, output, console, is_one_of_many=True)[0]
    results = _with_own_names([finished.get(name) or measured[name] for name in models])
    page = write_comparison(results, output)
    summary = summary_table(results)
    console.print(rich_table(SUMMARY_TITLE, summary.header, summary.rows))
    console.print(f"The plot: {output / PLOT_FILE}; with the table: {page}")


def _run(
    name: str,
    data: BenchmarkData,
    config: BenchmarkConfig,
    options: ModelOptions,
    embeddings: str | None,
    folder: Path | None,
    console: Output,
    is_one_of_many: bool = False,
) -> tuple[BenchmarkResults, Path]:
    respondent = load_respondent(name, options, strict=not is_one_of_many)
    stamp = stamp_of(run_identity(respondent, data, config))
    label = _label(name, respondent)
    if folder is None:
        folder = RUNS / f"{label}-{data.name}-{stamp['config'][:8]}"
    elif is_one_of_many:
        folder = folder / label
    embedder = None if embeddings is None else (embeddings, load_respondent(embeddings, options, strict=False))
    console.print(f"{escape(label)}: {sum(len(group.dialogues) for group in data.sets)} dialogues, into {folder}")
    for note in data.notes:
        console.print(f"Note: {escape(note)}")
    with _progress(console) as progress:
        results = measure(label, respondent, data, config, folder, embedder=embedder, progress=progress)
    write_report(results, list(AnswerLog(folder / ANSWERS_FILE, stamp)), folder)
    return results, folder


def _audit(data: BenchmarkData, console: Output) -> None:
    found = audit_scorer(data.dialogues, data.scorer)
    console.print(
        f"{found.num_questions:,} questions of {data.name}: {found.gold:.2%} of the gold answers are graded right "
        f"(must be 100 %), {found.wrong:.2%} of the wrong ones (must be 0 %)."
    )
    for turn in found.unclear[:10]:
        expected = [] if turn.question is None else list(turn.question.expected)
        text = f"Not judged: {turn.query!r}, answer {turn.answer!r}, expected {expected!r}"
        console.print(text, markup=False)
    if not found.passed:
        raise ValueError("The scorer or the data fail the audit.")


def _is_run(name: str) -> bool:
    # A folder of `rxlm train` has a results.json, too, and is a model to be measured.
    return all((Path(name) / file).is_file() for file in (RESULTS_FILE, ANSWERS_FILE))


def _label(name: str, respondent: LanguageRespondent) -> str:
    label = Path(name).resolve().name if Path(name).exists() else name.rsplit("/", 1)[-1]
    history = str(respondent.describe().get("history", "full"))
    return label if history == "full" else f"{label}-{history.replace(':', '-')}"


def _with_own_names(results: list[BenchmarkResults]) -> list[BenchmarkResults]:
    """Number results whose names are the same."""
    names = [str(result["name"]) for result in results]
    return [
        {**result, "name": f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name}
        for place, (result, name) in enumerate(zip(results, names, strict=True))
    ]


@contextmanager
def _progress(console: Output) -> Iterator[ProgressReport]:
    """Show a bar on a terminal, and elsewhere a line for each thing that begins."""
    if not console.is_terminal:
        seen: set[str] = set()

        def tell(done: int, total: int, label: str) -> None:
            if label not in seen:
                seen.add(label)
                console.print(f"{done}/{total} {escape(label)}")

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, label: bar.update(task, completed=done, total=total, description=escape(label))
