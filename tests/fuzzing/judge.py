"""What may not have been taken for a value: what is no number, no text, or another value's text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

NOT_TEXTS = {str(value) for value in (None, True, False, float("nan"), [], [None], [[]], {}, {"a": 1}, ["a", "b"])}
"""What a reader makes that takes str() of values of `damage.ODD` that are no text; numbers may be answers."""


class WrongValueError(Exception):
    """Something was accepted that is no value of its kind."""


def check_tensors(tensors: Iterable[torch.Tensor]) -> None:
    """Raise where a tensor holds what is no number."""
    for tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WrongValueError("NaN or infinity was accepted")


def check_texts(value: Any) -> None:
    """Raise where a text, anywhere in what was read, cannot be written as UTF-8, or was no text in the file."""
    for text in _texts(value):
        if text in NOT_TEXTS:
            raise WrongValueError(f"the text {text!r} was made of what is no text")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise WrongValueError(f"the text {text!r:.80} is no Unicode") from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _texts(list(value.items()))
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, torch.Tensor)):
        for part in value:
            yield from _texts(part)
