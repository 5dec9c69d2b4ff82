"""`rxlm report`."""

from pathlib import Path
from typing import Annotated

import tyro

from rxlm.reporting.comparison import write_comparison
from rxlm.reporting.report import write_report


def report(runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), /, *, output: Path | None = None) -> None:
    """Draw what a run logged, or compare several runs, as one HTML page and as PNG files.

    The page has the run's results, a conversation with its model, and a chart of each kind of figure with how to
    read it; it needs no other file. Of several runs it shows each figure in one chart and the results side by side.

    Example: rxlm report runs/tiny runs/retention

    Args:
        runs: folders of runs, also of those that are still in training.
        output: the page; report.html in the run's folder if not given, or comparison.html beside the first of several
            runs. The PNG files go to a folder of its name.
    """
    if not runs:
        raise ValueError("Name the folder of a run, or of several to compare, such as runs/quickstart.")
    path = write_report(runs[0], output) if len(runs) == 1 else write_comparison(runs, output)
    print(path)
