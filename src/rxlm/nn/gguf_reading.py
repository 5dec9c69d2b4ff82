"""Reading a GGUF file once: `transformers` opens it anew for configuration, tokenizer and weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module, util
from typing import Any

READERS = ("GGUFReader", "get_tensor_name_map")
"""What of the package gguf takes seconds: loops of Python over the vocabulary, and over the names of all layers."""


class GGUFReading:
    """Lets the package gguf do what takes long once for all that is loaded while this is `shared`."""

    def __init__(self) -> None:
        self._once: dict[str, Callable[..., Any]] = {}

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Put what remembers its results in place of the package's own functions."""
        if util.find_spec("gguf") is None:  # needed by GGUF files alone, and told there
            yield
            return
        gguf = import_module("gguf")
        own = {name: getattr(gguf, name) for name in READERS}
        try:
            for name, function in own.items():
                setattr(gguf, name, self._once.setdefault(name, lru_cache(maxsize=4)(function)))
            yield
        finally:
            for name, function in own.items():
                setattr(gguf, name, function)
