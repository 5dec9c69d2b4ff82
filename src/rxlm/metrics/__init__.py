"""Measures of text, on token ids. Imports PyTorch and numpy only, and no other room."""
