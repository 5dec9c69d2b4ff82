"""Checks the shapes in rxlm's annotations in every call of a test: `install` before rxlm is imported.

A function is checked if an annotation of it holds a type of `rxlm.shapes`; all others stay as they are. A check takes
longer than a small layer, so a function is checked once for each set of shapes and types that it is called with. What
torch.compile traces is not checked.
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, get_args

import torch
from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped


def install() -> None:
    """Check what is imported from now on."""
    sys.meta_path.insert(0, _Finder())


def checked(function: FunctionType) -> Callable[..., Any]:
    """Return a function that checks arguments and result of `function` against the shapes in its annotations."""
    parts = (function.__name__, function.__defaults__, function.__closure__)
    twin = FunctionType(function.__code__, function.__globals__, *parts)
    twin.__kwdefaults__, twin.__qualname__ = function.__kwdefaults__, function.__qualname__
    twin.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if _is_shape(hint)}
    with_checks = jaxtyped(twin, typechecker=beartype)
    known: set[Any] = set()

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **options)
        form = tuple(map(_form, (*args, *options.values()))), *options
        if form in known:
            return function(*args, **options)
        result = with_checks(*args, **options)
        known.add(form)
        return result

    return call


def _form(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else type(value)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "rxlm":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
        for place in [module, *filter(inspect.isclass, own)]:
            for name, value in list(vars(place).items()):
                if _has_shapes(value) and value.__module__ == module.__name__:
                    setattr(place, name, checked(value))


def _has_shapes(value: Any) -> bool:
    return isinstance(value, FunctionType) and any(map(_is_shape, value.__annotations__.values()))


def _is_shape(hint: Any) -> bool:
    is_array = isinstance(hint, type) and issubclass(hint, AbstractArray)
    return is_array or any(map(_is_shape, get_args(hint)))
