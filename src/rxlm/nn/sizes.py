"""Sizes that no model has: a configuration that names larger ones is refused before anything is made of it."""

from rxlm.config import Config, require_at_most

MOST_LAYERS = 1 << 12
MOST_EXPERTS = 1 << 16
WIDEST_HEAD = 1 << 16
LARGEST = 1 << 24
"""Of dimensions, vocabularies, slots, and tokens of a turn."""


def require_sizes(config: Config) -> None:
    """Raise `ConfigError` where a size of a configuration is beyond all bounds."""
    has = {name for name in ("dim", "vocab_size", "max_seq_len", "num_slots", "num_tokens") if hasattr(config, name)}
    require_at_most(config, LARGEST, *has)
    require_at_most(config, MOST_LAYERS, "num_layers")
