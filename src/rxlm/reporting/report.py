"""The report of one run: a page with its results and charts, and the charts as PNG files."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from rxlm.reporting.catalogue import CHARTS, Chart, beside_training, chart_of, label
from rxlm.reporting.charts import Line, Panel, draw
from rxlm.reporting.page import Page
from rxlm.reporting.pairs import PAIRS_FILE, write_pairs
from rxlm.reporting.plots import PALETTE, shades
from rxlm.reporting.runs import Run, Series, read_run, stage_order
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
from rxlm.reporting.trajectories import TRAJECTORIES_FILE, write_trajectories

PAGE_FILE = "report.html"
PAGES = {
    TRAJECTORIES_FILE: (write_trajectories, "Episodes of {}, turn by turn"),
    PAIRS_FILE: (write_pairs, "Pairs that {} learnt from"),
}
"""Pages of what stages log besides figures: who writes them, and what leads to them."""


def write_report(folder: Path, output: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        folder: of the run.
        output: the page, `report.html` in the run's folder if not given; PNG files go to a folder of its name.

    Returns: the page's path. Raises `ValueError` where `folder` is not a run's.
    """
    run = read_run(folder)
    path = page_path(output, folder / PAGE_FILE)
    page = Page(f"Run {run.name}")
    page.text(_summary(run))
    _add_results(page, run)
    if run.stages:
        _add_stages(page, run)
    _add_pages(page, run, path)
    for chart in CHARTS:
        panels = _panels(chart, run)
        if panels:
            page.heading(chart.title)
            labels = {line.label for panel in panels for line in panel.lines}
            figure = draw(chart, panels, legend=chart.split or len(labels) > 1)
            add_figure(page, figure, chart.caption, panels, path.with_suffix("") / f"{chart.file}.png")
    if run.recipe:
        page.heading("Recipe")
        page.code(json.dumps(run.recipe, indent=2), summary="The whole configuration of the run")
    page.write(path)
    return path


def _summary(run: Run) -> str:
    recipe = run.recipe.get("name")
    made = f"By the recipe {recipe}." if recipe else "Without a recipe."
    steps = sum(stage.last_step for stage in run.stages)
    return f"{made} Stages logged: {len(run.stages)}, with {steps:,} steps in all."


def _add_results(page: Page, run: Run) -> None:
    if run.tables:
        page.heading("Results")
    for table in run.tables:
        page.table(table.header, table.rows, caption=table.title)
        if table.note:
            page.text(table.note)
    if run.conversation:
        page.heading("A conversation")
        page.text("Every answer comes from the memory alone: the model does not see the turns before it again.")
        page.table(["person", "model"], run.conversation)


def _add_stages(page: Page, run: Run) -> None:
    page.heading("Stages")
    page.table(STAGE_HEADER, [stage_row(run, stage) for stage in run.stages], caption=STAGE_CAPTION)
    for stage in run.stages:
        phases = run.phases(stage)
        if phases:
            ends = "; ".join(f"to step {end:,}: {kind}" for end, kind in phases)
            page.text(f"Phases of {stage.name}: {ends}.")
    for remark in remarks(run):
        page.text(remark)


def _add_pages(page: Page, run: Run, path: Path) -> None:
    """Write the pages of what stages logged besides figures, and link to them."""
    for file, (write, title) in PAGES.items():
        logs = sorted(run.folder.glob(f"*/{file}"), key=lambda log: stage_order(log.parent.name))
        for log in logs:
            stage = log.parent.name
            beside = path.with_suffix("") / f"{stage}-{log.stem}.html"
            write(log, beside)
            page.link(title.format(stage), f"{beside.parent.name}/{beside.name}")


def _panels(chart: Chart, run: Run) -> list[Panel]:
    groups: dict[tuple[str, str], dict[str, Series]] = {}
    for stage in run.stages:
        for name, series in drawn(stage).items():
            if chart_of(name) is chart:
                groups.setdefault((stage.name, chart.group(name, series)), {})[name] = series
    colors = _colors(name for figures in groups.values() for name in figures)
    stages = {stage.name: stage for stage in run.stages}
    panels = []
    for (stage_name, group), figures in groups.items():
        stage = stages[stage_name]
        lines = [Line(label(chart, name), series, colors[name], _dash(chart, name)) for name, series in figures.items()]
        title = f"{stage_name}: {group}" if group else stage_name
        panels.append(Panel(title, lines, phase_ends(run, stage), clipping_limit(chart, run, stage)))
    return panels


def _colors(names: Iterable[str]) -> dict[str, str]:
    """Give each figure its colour: layers go from dark to light, and an evaluation shares that of its figure."""
    bare = {name: name.removeprefix("evaluation/") for name in names}
    numbers = {name: int(found.group(1)) for name in bare.values() if (found := re.search(r"layer_(\d+)$", name))}
    layers = sorted(set(numbers.values()))
    by_layer = dict(zip(layers, shades(len(layers)), strict=True))
    others = dict.fromkeys(name for name in bare.values() if name not in numbers)
    colors = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(others)}
    colors |= {name: by_layer[number] for name, number in numbers.items()}
    return {name: colors[figure] for name, figure in bare.items()}


def _dash(chart: Chart, name: str) -> str:
    return "dashed" if beside_training(chart, name) or name.endswith("_empty") else "solid"
