"""Plots, self-contained HTML pages, and the report of a training run. Imports nothing else of rxlm."""
