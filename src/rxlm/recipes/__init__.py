"""Recipes: functions that return one complete, runnable configuration each."""

from collections.abc import Callable

from rxlm.recipes.babi import babi
from rxlm.recipes.facts import FactsRecipe, retention, tiny
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.scale import scale_recipe
from rxlm.recipes.stories import stories

RECIPES: dict[str, Callable[[], Recipe]] = {
    "tiny": tiny,
    "retention": retention,
    "babi": babi,
    "stories": stories,
    **{preset: scale_recipe(preset) for preset in ("nano", "micro", "mini", "alpha")},
}

__all__ = ["RECIPES", "FactsRecipe", "Recipe", "babi", "retention", "stories", "tiny"]
