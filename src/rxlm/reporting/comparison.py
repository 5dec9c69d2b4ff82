"""The report of several runs: every figure of all of them in one plot, and their results side by side."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rxlm.reporting.catalogue import CHARTS, Chart, chart_of, label
from rxlm.reporting.charts import Line, Panel, draw
from rxlm.reporting.page import Page
from rxlm.reporting.plots import PALETTE
from rxlm.reporting.runs import Run, Series, StageLog, Table, read_run, stage_order
from rxlm.reporting.sections import (
    STAGE_CAPTION,
    STAGE_HEADER,
    add_figure,
    clipping_limit,
    drawn,
    page_path,
    phase_ends,
    remarks,
    stage_row,
)

PAGE_FILE = "comparison.html"
MANY_LAYERS = 4
MISSING = object()
DASHES = ("solid", "dashed", "dotted")


def write_comparison(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Write a page that compares runs.

    Args:
        folders: of the runs.
        output: the page, `comparison.html` beside the first run if not given; PNG files go to a folder of its name.

    Returns: the page's path. Raises `ValueError` where a folder is not a run's, or is named twice,
    or there are more runs than lines can be distinguished.
    """
    if len(folders) > len(PALETTE) * len(DASHES):
        raise ValueError(f"A comparison shows at most {len(PALETTE) * len(DASHES)} runs, got {len(folders)}.")
    runs = name_runs([read_run(folder) for folder in folders])
    path = page_path(output, folders[0].resolve().parent / PAGE_FILE)
    page = Page(f"Runs {', '.join(runs)}")
    _add_results(page, runs)
    _add_conversations(page, runs)
    _add_differences(page, runs)
    _add_stages(page, runs)
    for chart in CHARTS:
        _add_chart(page, chart, runs, path.with_suffix(""))
    page.write(path)
    return path


def name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Return runs by name: that of the folder, or its path where two have the same."""
    folders = [run.folder.resolve() for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ValueError(f"The run {folder} is named twice; a comparison takes different runs.")
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.folder): run for run in runs}


def _add_results(page: Page, runs: Mapping[str, Run]) -> None:
    tables: dict[tuple[str, tuple[Any, ...]], dict[str, Table]] = {}
    for name, run in runs.items():
        for table in run.tables:
            tables.setdefault((table.title, table.header), {})[name] = table
    if tables:
        page.heading("Results")
    for (title, header), by_run in tables.items():
        page.table([header[0], "run", *header[1:]], list(_side_by_side(by_run)), caption=title)
        for note in dict.fromkeys(table.note for table in by_run.values() if table.note):
            page.text(note)


def _side_by_side(tables: Mapping[str, Table]) -> Iterator[list[Any]]:
    """Yield the rows of tables of one form: those with the same first cell are grouped, the run in the second.

    Rows that begin alike within one table keep their order.
    """
    places: dict[tuple[str, int], dict[str, tuple[Any, ...]]] = {}
    for name, table in tables.items():
        seen: dict[str, int] = {}
        for row in table.rows:
            first = str(row[0])
            seen[first] = seen.get(first, 0) + 1
            places.setdefault((first, seen[first]), {})[name] = row
    for rows in places.values():
        for name, row in rows.items():
            yield [row[0], name, *row[1:]]


def _add_conversations(page: Page, runs: Mapping[str, Run]) -> None:
    """Show what the runs' models answer to the same messages."""
    talks = {name: run.conversation for name, run in runs.items() if run.conversation}
    by_queries: dict[tuple[str, ...], list[str]] = {}
    for name, talk in talks.items():
        by_queries.setdefault(tuple(query for query, _ in talk), []).append(name)
    if talks:
        page.heading("Conversations")
    for queries, names in by_queries.items():
        rows = [[query, *(talks[name][turn][1] for name in names)] for turn, query in enumerate(queries)]
        page.table(["person", *names], rows)


def _add_differences(page: Page, runs: Mapping[str, Run]) -> None:
    """Show in which fields the recipes differ."""
    page.heading("What differs in the recipes")
    rows = list(_differences([run.recipe for run in runs.values()]))
    if rows:
        page.table(["field", *runs], rows)
    else:
        page.text("Nothing: the runs have the same configuration.")


def _differences(values: Sequence[Any], path: str = "") -> Iterator[list[str | None]]:
    """Yield the fields in which nested configurations differ: the path, and each one's value as JSON.

    A field that some have not is empty there; a part that is settings in one and none in another is "settings".
    """
    if all(isinstance(value, Mapping) for value in values):
        for name in dict.fromkeys(name for value in values for name in value):
            parts = [value.get(name, MISSING) for value in values]
            yield from _differences(parts, f"{path}.{name}" if path else name)
    elif any(value != values[0] for value in values):
        yield [path, *map(_setting, values)]


def _setting(value: Any) -> str | None:
    if value is MISSING:
        return None
    return "settings" if isinstance(value, Mapping) else json.dumps(value)


def _add_stages(page: Page, runs: Mapping[str, Run]) -> None:
    rows = []
    for stage_name in _stage_names(runs):
        for name, stage in _logs(runs, stage_name).items():
            _, *cells = stage_row(runs[name], stage)
            rows.append([stage_name, name, *cells])
    if rows:
        page.heading("Stages")
        page.table([STAGE_HEADER[0], "run", *STAGE_HEADER[1:]], rows, caption=STAGE_CAPTION)
    for name, run in runs.items():
        for remark in remarks(run):
            page.text(f"{name}, {remark}")


def _stage_names(runs: Mapping[str, Run]) -> list[str]:
    return sorted({stage.name for run in runs.values() for stage in run.stages}, key=stage_order)


def _logs(runs: Mapping[str, Run], stage_name: str) -> dict[str, StageLog]:
    """Return what the runs that have a stage logged in it."""
    return {name: stage for name, run in runs.items() for stage in run.stages if stage.name == stage_name}


def _add_chart(page: Page, chart: Chart, runs: Mapping[str, Run], folder: Path) -> None:
    stages = {stage_name: _panels(chart, runs, stage_name) for stage_name in _stage_names(runs)}
    if any(stages.values()):
        page.heading(chart.title)
        page.text(chart.caption)
    for stage_name, panels in stages.items():
        if panels:
            caption = f"{stage_name}: a line for each run."
            add_figure(page, draw(chart, panels), caption, panels, folder / f"{chart.file}-{stage_name}.png")


def _panels(chart: Chart, runs: Mapping[str, Run], stage_name: str) -> list[Panel]:
    """Return a panel for each figure of a stage, with a line for each run that has it."""
    logs = _logs(runs, stage_name)
    figures = {name: _few_layers(drawn(stage)) for name, stage in logs.items()}
    ends = {tuple(phase_ends(runs[name], stage)) for name, stage in logs.items()}
    limits = {clipping_limit(chart, runs[name], stage) for name, stage in logs.items()}
    styles = dict(zip(runs, product(DASHES, PALETTE), strict=False))
    panels = []
    for figure in dict.fromkeys(figure for by_name in figures.values() for figure in by_name):
        if chart_of(figure) is chart:
            lines = [
                Line(name, by_name[figure], color=styles[name][1], dash=styles[name][0])
                for name, by_name in figures.items()
                if figure in by_name
            ]
            # Runs whose phases or limits differ have none that belong to the whole plot.
            marks = next(iter(ends)) if len(ends) == 1 else ()
            limit = next(iter(limits)) if len(limits) == 1 and figure == "gradient_norm" else None
            words = ": ".join((stage_name, *chart.family(figure), label(chart, figure)))
            panels.append(Panel(words, lines, marks, limit))
    return panels


def _few_layers(figures: Mapping[str, Series]) -> dict[str, Series]:
    """Put the mean over the layers in the place of a figure of many layers."""
    families: dict[str, list[str]] = {}
    for name in figures:
        families.setdefault(re.sub(r"/layer_\d+$", "/mean_of_layers", name), []).append(name)
    few: dict[str, Series] = {}
    for family, names in families.items():
        if len(names) > MANY_LAYERS:
            few[family] = _mean([figures[name] for name in names])
        else:
            few.update((name, figures[name]) for name in names)
    return few


def _mean(members: Sequence[Series]) -> Series:
    """Return the mean of figures at the steps that all of them have."""
    by_step = [dict(zip(series.steps, series.values, strict=True)) for series in members]
    steps = [step for step in members[0].steps if all(step in values for values in by_step)]
    return Series(tuple(steps), tuple(sum(values[step] for values in by_step) / len(members) for step in steps))
