"""Measures of text, on token ids. Stands alone: PyTorch and numpy are all that it imports."""
