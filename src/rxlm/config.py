"""Frozen, keyword-only configurations that validate themselves and round-trip through JSON."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

C = TypeVar("C", bound=type[Any])

DIGESTS = {
    "weights": "the weights differ",
    "rounded_weights": "weights of 4 bits were rounded otherwise, or not at all",
    "tokenizer": "the tokenizer differs",
}
"""What is said of two that differ."""


class ConfigError(ValueError):
    """A configuration that cannot be honoured; the message names the field, its value and what is allowed."""


class Config:
    """Base of every configuration: conversion from and to plain JSON values.

    `flat_names` are further names for fields of the configurations within it, {name: ("part.field", ...)}: wherever
    fields are given they can be, and set the field of each part that there is.
    """

    flat_names: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration, and those within it, from plain values; unknown names raise `ConfigError`."""
        require(isinstance(values, Mapping), f"{cls.__name__} is made of a dict of its fields, got {values!r:.80}.")
        hints = _hints(cls)
        return cls(**{name: _nested(hints.get(name), value) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold and `from_dict` reads back."""
        return {name: _plain(value) for name, value in _shallow(self).items()}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, and validate it."""
        return type(self)(**{**_shallow(self), **changes})

    @classmethod
    def nest(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return fields in which values given under flat names are in the parts that they are of."""
        result = {name: value for name, value in values.items() if name not in cls.flat_names}
        changes: dict[str, dict[str, Any]] = {}
        for name in [name for name in cls.flat_names if name in values]:
            places = [path.split(".") for path in cls.flat_names[name]]
            there = [place for place in places if result.get(place[0], _default(cls, place[0])) is not None]
            absent = " and ".join(part for part, _ in places)
            require(bool(there), f"{cls.__name__} takes no {name}={values[name]!r}: {absent} is None.")
            for part, field in there:
                changes.setdefault(part, {})[field] = values[name]
        for part, fields in changes.items():
            base = result.get(part, _default(cls, part))
            require(isinstance(base, Config), f"{cls.__name__}.{part} must be a configuration, got {base!r:.80}.")
            result[part] = base.replace(**fields)
        return result


@dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: C) -> C:
    """Make `cls` a frozen, keyword-only dataclass whose constructor explains unknown field names."""
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    names = [field.name for field in dataclasses.fields(made)]
    allowed = [*names, *made.flat_names]
    generated = made.__init__

    def initialise(self: Any, **values: Any) -> None:
        for name in values:
            if name not in allowed:
                close = difflib.get_close_matches(name, allowed, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise ConfigError(f"{cls.__name__} has no field {name!r}.{hint} Fields: {', '.join(names)}.")
        # JSON knows lists only; a frozen configuration holds tuples.
        nested = {name: _tuples(value) for name, value in made.nest(values).items()}
        if missing := [field.name for field in dataclasses.fields(made) if _is_missing(field, nested)]:
            raise ConfigError(f"{cls.__name__} needs {', '.join(missing)}, which nothing gives.")
        hints = _hints(made)
        for name, value in nested.items():
            if not _is_of(hints[name], value):
                raise ConfigError(f"{cls.__name__}.{name} must be {_described(hints[name])}, got {value!r:.80}.")
        generated(self, **nested)

    functools.update_wrapper(initialise, generated)  # keeps the signature for help() and editors
    made.__init__ = initialise
    return made


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def require_int(config: Any, *names: str, minimum: int = 1, maximum: int | None = None) -> None:
    """Check that the named fields are whole numbers from `minimum` to `maximum`; None passes where a field has it."""
    allowed = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    for name in names:
        value = getattr(config, name)
        if value is None and _default_is_none(config, name):
            continue
        valid = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
        valid = valid and (maximum is None or value <= maximum)
        require(valid, f"{_label(config, name)} must be a whole number {allowed}, got {value!r:.80}.")


def require_at_most(config: Any, maximum: int, *names: str) -> None:
    """Check that the named fields, numbers, are at most `maximum`."""
    for name in names:
        value = getattr(config, name)
        require(value <= maximum, f"{_label(config, name)} must be at most {maximum:,}, got {value}.")


def require_between(config: Any, minimum: float, maximum: float, *names: str) -> None:
    """Check that the named fields are numbers from `minimum` to `maximum`; None passes where a field has it."""
    for name in names:
        value = getattr(config, name)
        if value is None and _default_is_none(config, name):
            continue
        valid = isinstance(value, (int, float)) and not isinstance(value, bool) and minimum <= value <= maximum
        require(valid, f"{_label(config, name)} must be from {minimum:,} to {maximum:,}, got {value!r:.80}.")


def require_share(config: Any, *names: str) -> None:
    """Check that the named fields are numbers between 0 and 1."""
    for name in names:
        value = getattr(config, name)
        valid = isinstance(value, (int, float)) and 0 <= value <= 1
        require(valid, f"{_label(config, name)} must be between 0 and 1, got {value!r:.80}.")


def require_choice(config: Any, name: str, allowed: tuple[Any, ...]) -> None:
    """Check that the named field is one of `allowed`."""
    value = getattr(config, name)
    choices = ", ".join(repr(choice) for choice in allowed)
    require(value in allowed, f"{_label(config, name)} must be one of {choices}, got {value!r:.80}.")


def require_bool(config: Any, *names: str) -> None:
    """Check that the named fields are true or false, not merely truthy."""
    for name in names:
        value = getattr(config, name)
        require(isinstance(value, bool), f"{_label(config, name)} must be true or false, got {value!r:.80}.")


def require_config(config: Any, name: str, *kinds: type[Config] | None) -> None:
    """Check that the named field is a configuration of one of the kinds, or None where that is one of them."""
    value = getattr(config, name)
    allowed = " or ".join("None" if kind is None else kind.__name__ for kind in kinds)
    valid = any(value is None if kind is None else isinstance(value, kind) for kind in kinds)
    require(valid, f"{_label(config, name)} must be {allowed}, got {value!r:.80}.")


def differences(saved: Mapping[str, Any], present: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Say which fields of two nested configurations differ, a phrase a field; of digests only that they do."""
    found = []
    for name in dict.fromkeys([*saved, *present]):
        there, here = saved.get(name), present.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            found += differences(there, here, f"{prefix}{name}.")
        elif there != here:
            found.append(DIGESTS.get(name) or f"{prefix}{name} is {_short(there)} there and {_short(here)} here")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _is_missing(field: Any, given: Mapping[str, Any]) -> bool:
    has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return field.init and not has_default and field.name not in given


def _is_of(hint: Any, value: Any) -> bool:
    """Tell whether a value is of a field's type: what is neither named here nor a class fits anything."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is_of(part, value) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        of_items = parts[:1] * len(value) if parts[-1:] == (...,) else parts
        return len(value) == len(of_items) and all(map(_is_of, of_items, value))
    if hint in (int, float):
        if isinstance(value, float):
            return hint is float and math.isfinite(value)
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, hint) if isinstance(hint, type) else True


def _described(hint: Any) -> str:
    """Return a field's type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(_described(part) for part in parts)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin is tuple:
        return f"a list of {' and '.join(_described(part) for part in parts if part is not ...)}"
    words = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", type(None): "null"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _label(config: Any, name: str) -> str:
    return f"{type(config).__name__}.{name}"


def _default_is_none(config: Any, name: str) -> bool:
    return config.__dataclass_fields__[name].default is None


def _shallow(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _nested(hint: Any, value: Any) -> Any:
    """Build the configurations that a field's type says are in it: alone, optional, one of several, or in a tuple."""
    kinds = list(_configurations(hint))
    if not kinds:
        return value
    if isinstance(value, Mapping):
        return max(kinds, key=lambda kind: len(value.keys() & kind.__dataclass_fields__.keys())).from_dict(value)
    if isinstance(value, (list, tuple)):
        return tuple(_nested(hint, item) for item in value)
    return value


def _configurations(hint: Any) -> Iterator[Any]:
    """Yield the configurations that a type names."""
    if isinstance(hint, type) and issubclass(hint, Config):
        yield hint
    for part in get_args(hint):
        yield from _configurations(part)


def _default(cls: Any, name: str) -> Any:
    return cls.__dataclass_fields__[name].default


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _tuples(value: Any) -> Any:
    """Return lists, and those within them, as tuples: JSON has no others."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
