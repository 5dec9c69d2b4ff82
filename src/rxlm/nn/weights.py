"""What is wrong with weights that were read: some are missing, unknown, of another shape, or not numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

TELL_ALL: Mapping[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Options of `from_pretrained` of `transformers` with which it leaves it to `check_loaded` to say what is wrong."""


class WeightsError(ValueError):
    """Weights that do not make the model that their configuration describes; the message names them."""


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Say of each weight that is missing, unknown or of another shape what is wrong, in the order of names."""
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not part of the model" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {tuple(found[name].shape)} where {tuple(expected[name].shape)} is due"
        for name in expected.keys() & found.keys()
        if expected[name].shape != found[name].shape
    ]
    return sorted(problems)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Say of each tensor that holds NaN or infinity that it does."""
    return [f"{name} holds NaN or infinity" for name, tensor in tensors.items() if not is_finite(tensor)]


def listed(problems: Iterable[str]) -> str:
    """Return the first five problems, and how many more there are, as a text."""
    all_of_them = list(problems)
    more = f", and {len(all_of_them) - 5} more" if len(all_of_them) > 5 else ""
    return "; ".join(all_of_them[:5]) + more


def check_loaded(model: Any, info: Mapping[str, Any], source: str, *, strict: bool = True) -> None:
    """Raise `WeightsError` unless a model of `transformers` has all its weights from its files, and they are numbers.

    Args:
        model: the model. source: name of its folder, for the message.
        info: what `from_pretrained(..., **TELL_ALL)` says of it.
        strict: whether weights that the model has no place for are an error, too.
    """
    problems = [f"{name} is missing" for name in sorted(info["missing_keys"])]
    problems += [f"{name} is not part of the model" for name in sorted(info["unexpected_keys"]) if strict]
    problems += [
        f"{name} has shape {tuple(found)} where {tuple(due)} is due"
        for name, found, due in sorted(info["mismatched_keys"])
    ]
    problems += map(str, info.get("error_msgs") or ())
    if problems:
        raise WeightsError(f"The weights of {source} do not fit its configuration: {listed(problems)}.")
    damaged = not_finite(model.state_dict())
    if damaged:
        raise WeightsError(f"The weights of {source} are damaged: {listed(damaged)}.")


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all values are numbers; both extremes are found in one pass, and NaN is one where there is one."""
    if not (tensor.is_floating_point() and tensor.numel()) or tensor.is_meta:
        return True
    values = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()  # 8 bits have no order
    return bool(torch.stack(values.aminmax()).isfinite().all())
