"""Reactive Transformers: language models whose conversation lives in a fixed-size memory."""

__version__ = "0.1.0"
