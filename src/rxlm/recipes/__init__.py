"""Recipes: functions that return one complete, runnable configuration each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rxlm.recipes.babi import babi
from rxlm.recipes.facts import FactsRecipe, retention, tiny
from rxlm.recipes.llm import CORPORA, LanguageModelRecipe, LanguageModelRun, llm
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.run import Run
from rxlm.recipes.stories import stories
from rxlm.recipes.training_run import TrainingRun
from rxlm.recipes.upcycled import UpcycledRecipe, UpcycledRun, upcycled

AnyRecipe = Recipe | LanguageModelRecipe | UpcycledRecipe

RECIPES: dict[str, Callable[[], AnyRecipe]] = {**CORPORA, "llm": llm, "upcycled": upcycled}


def open_run(recipe: AnyRecipe, folder: Path, device: torch.device | str = "cpu") -> TrainingRun[Any]:
    """Open a run of a recipe in a folder, new or begun, that computes on `device`."""
    if isinstance(recipe, LanguageModelRecipe):
        return LanguageModelRun(recipe, folder, device)
    return UpcycledRun(recipe, folder, device) if isinstance(recipe, UpcycledRecipe) else Run(recipe, folder, device)


__all__ = [
    "RECIPES",
    "FactsRecipe",
    "LanguageModelRecipe",
    "Recipe",
    "UpcycledRecipe",
    "babi",
    "llm",
    "open_run",
    "retention",
    "stories",
    "tiny",
    "upcycled",
]
