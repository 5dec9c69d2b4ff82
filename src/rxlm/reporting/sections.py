"""What the report of one run and that of several have in common."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rxlm.files import write_atomically
from rxlm.reporting.catalogue import Chart
from rxlm.reporting.charts import Panel
from rxlm.reporting.page import Page
from rxlm.reporting.runs import Run, Series, StageLog

STAGE_HEADER = ("stage", "steps", "loss", "answer loss", "… with empty memory", "token accuracy", "time")
STAGE_CAPTION = "Figures are means over the last twentieth of what a stage logged; the time is that of its steps alone."


def page_path(output: Path | None, default: Path) -> Path:
    """Return where a page goes; raises `ValueError` for a name that no page has."""
    if output is not None and output.suffix != ".html":
        raise ValueError(f"output must be a file that ends with .html, got {output}.")
    return output or default


def add_figure(page: Page, figure: Figure, caption: str, panels: Sequence[Panel], png: Path) -> None:
    """Add a drawn chart to a page, and write it as a PNG file, too."""
    shown = "; ".join(f"{panel.title}: {', '.join(line.label for line in panel.lines)}" for panel in panels)
    content = page.figure(figure, caption, alt=f"Line charts against the step. {shown}.")
    png.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(png, lambda temporary: temporary.write_bytes(content))


def stage_row(run: Run, stage: StageLog) -> list[str | None]:
    """Return a stage's row under `STAGE_HEADER`."""
    planned = run.settings(stage).get("steps")
    steps = f"{stage.last_step:,}" + (f" of {planned:,}" if isinstance(planned, int) else "")
    names = ("loss", "answer_loss", "answer_loss_empty", "token_accuracy")
    figures = [f"{stage.figures[name].final():.3f}" if name in stage.figures else None for name in names]
    return [stage.name, steps, *figures, _duration(stage.seconds)]


def remarks(run: Run) -> Iterator[str]:
    """Yield what a reader must know about the figures before trusting them."""
    for stage in run.stages:
        if stage.unreadable:
            yield f"{stage.name}: broken lines of the log, left out: {stage.unreadable}. Every kill may leave one."
        for name, series in stage.figures.items():
            steps = [step for step, value in zip(series.steps, series.values, strict=True) if not math.isfinite(value)]
            if steps:
                share = f"{len(steps):,} of {len(series.steps):,} logged steps"
                yield f"{stage.name}: {name} is not a finite number at {share}, first at step {steps[0]:,}."


def drawn(stage: StageLog) -> dict[str, Series]:
    """Return the figures of a stage, without a total loss that has one part only."""
    total = stage.figures.get("loss")
    parts = [name for name, series in stage.figures.items() if name != "loss" and series == total]
    return {name: series for name, series in stage.figures.items() if not (parts and name == "loss")}


def clipping_limit(chart: Chart, run: Run, stage: StageLog) -> float | None:
    """Return the norm that gradients were clipped to, for the chart of gradients."""
    return run.settings(stage).get("optimizer", {}).get("max_grad_norm") if chart.file == "gradients" else None


def phase_ends(run: Run, stage: StageLog) -> list[int]:
    """Return the steps at which a phase of a stage ends and the next begins."""
    return [end for end, _ in run.phases(stage)[:-1] if end < stage.last_step]


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
