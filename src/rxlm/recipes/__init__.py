"""Recipes: functions that return one complete, runnable configuration each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rxlm.recipes.babi import babi
from rxlm.recipes.facts import FactsRecipe, retention, tiny
from rxlm.recipes.llm import CORPORA, LanguageModelRecipe, LanguageModelRun, llm
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.recipe import ReactiveRecipe, Recipe
from rxlm.recipes.stories import stories
from rxlm.recipes.training_run import TrainingRun
from rxlm.recipes.upcycled import UpcycledRecipe, UpcycledRun, upcycled, upcycled_gpu
from rxlm.training.distributed import Parallel

RECIPES: dict[str, Callable[[], Recipe]] = {**CORPORA, "llm": llm, "upcycled": upcycled, "upcycled-gpu": upcycled_gpu}
RUNS: dict[type[Recipe], Callable[..., TrainingRun[Any, Any]]] = {
    ReactiveRecipe: ReactiveRun,
    LanguageModelRecipe: LanguageModelRun,
    UpcycledRecipe: UpcycledRun,
}
"""The runs of kinds of recipes."""


def open_run(
    recipe: Recipe,
    folder: Path,
    device: torch.device | str = "cpu",
    parallel: Parallel = "ddp",
    *,
    shares_rows: bool = False,
) -> TrainingRun[Any, Any]:
    """Open a run of a recipe in a folder, new or begun; other arguments are those of `TrainingRun`."""
    kind = next(run for kind, run in RUNS.items() if isinstance(recipe, kind))
    return kind(recipe, folder, device, parallel, shares_rows=shares_rows)


__all__ = [
    "RECIPES",
    "FactsRecipe",
    "LanguageModelRecipe",
    "ReactiveRecipe",
    "Recipe",
    "UpcycledRecipe",
    "babi",
    "llm",
    "open_run",
    "retention",
    "stories",
    "tiny",
    "upcycled",
    "upcycled_gpu",
]
