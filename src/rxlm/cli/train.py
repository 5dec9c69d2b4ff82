"""`rxlm train`."""

import json
from pathlib import Path
from typing import Annotated

import tyro

from rxlm.recipes import RECIPES
from rxlm.recipes.run import FactsRun
from rxlm.training import distributed


def train(
    recipe: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Path | None = None,
    set: tuple[str, ...] = (),  # the option's name
    dry_run: bool = False,
) -> None:
    """Train a model by a recipe, or go on with a run that was interrupted.

    Under torchrun the rows of a batch are shared among the processes: torchrun --nproc-per-node 2 -m rxlm train tiny

    Args:
        recipe: tiny (the quickstart) or retention.
        output: folder of the run; runs/RECIPE if not given.
        set: fields of the recipe to change, such as dialogues.optimizer.learning_rate=0.001.
        dry_run: print the whole recipe as JSON and stop.
    """
    if recipe not in RECIPES:
        raise ValueError(f"There is no recipe {recipe!r}; there are {', '.join(RECIPES)}.")
    chosen = RECIPES[recipe]().override(set)
    if dry_run:
        print(json.dumps(chosen.to_dict(), indent=2))
        return
    distributed.start()
    folder = output or Path("runs") / recipe
    FactsRun(chosen, folder).train()
    if distributed.rank() == 0:
        print(f"The model is in {folder}: rxlm chat {folder}")
