"""Recipes: functions that return one complete, runnable configuration each."""

from rxlm.recipes.facts import FactsRecipe, retention, tiny

RECIPES = {"tiny": tiny, "retention": retention}

__all__ = ["RECIPES", "FactsRecipe", "retention", "tiny"]
