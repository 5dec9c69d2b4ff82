"""Recipes: functions that return one complete, runnable configuration each."""
