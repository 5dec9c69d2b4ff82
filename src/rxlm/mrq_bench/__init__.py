"""The memory-retention benchmark: what a model still knows of what it was told some turns ago."""
