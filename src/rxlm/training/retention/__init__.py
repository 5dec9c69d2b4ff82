"""Retention: a pretrained chat model learns which tokens it will need, and to read what it has kept."""
