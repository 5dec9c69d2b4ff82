"""`rxlm quickstart`: the whole way from nothing to a model that remembers."""

import time
from pathlib import Path

from rich.console import Console

from rxlm.cli.train import finish
from rxlm.recipes.facts import tiny
from rxlm.recipes.run import Run


def quickstart(*, output: Path = Path("runs/quickstart")) -> None:
    """Train a small Reactive Transformer on this machine and see what it remembers.

    Trains a tokenizer and the model `tiny` through stages 1 to 4 on generated dialogues (about ten minutes on two
    cores), talks with it, prints how often it answers exactly, by the distance in turns between a fact and the
    question about it, and writes a report. Started again it goes on where it stopped, and shows the results of a
    finished run.

    Args:
        output: folder of the run.
    """
    console = Console(highlight=False)
    run = Run(tiny(), output)
    console.rule("Training")
    console.print(
        f"Stages {', '.join(stage.folder for stage in run.stages())}, in {output}; about ten minutes on two cores."
    )
    started = time.perf_counter()
    model = run.train()
    console.print(f"Trained in {(time.perf_counter() - started) / 60:.1f} minutes.")
    finish(run, model, console)
