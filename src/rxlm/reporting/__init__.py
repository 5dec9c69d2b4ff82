"""Plots, self-contained HTML pages, and the report of a training run. Imports no other room."""
