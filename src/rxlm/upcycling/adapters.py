"""What retention training with adapters has learnt, in a small folder of its own, in PEFT's format.

`adapter_config.json` says what the adapters are (LoRA, their rank and scale); `adapter_model.safetensors` holds them by
the names that PEFT gives them, and with them the retention gates, which learn beside them.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rxlm.file_errors import read_json_object
from rxlm.nn.weights import listed, not_finite
from rxlm.rxt.models import RxTAlpha

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


class AdaptersError(ValueError):
    """Adapters that are damaged, or belong to another model; the message names the folder and what is wrong."""


@torch.no_grad()
def take_adapters(model: RxTAlpha, folder: str | Path) -> None:
    """Add what adapters have learnt to the weights of the model that they were trained beside, and take its gates.

    The model is an ordinary one afterwards. Raises `AdaptersError`, and changes nothing, where the folder's adapters
    are damaged or not of this model.
    """
    folder = Path(folder)
    scale, saved = _read(folder)
    parameters = dict(model.named_parameters())
    deltas: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    problems = not_finite(saved)
    for name, value in saved.items():
        if name.endswith(DOWN):
            other = saved.get(name.removesuffix(DOWN) + UP)
            target = name.removesuffix(DOWN) + ".weight"
            own = parameters.get(target)
            if other is None or own is None or (other.shape[0], value.shape[1]) != own.shape:
                problems.append(f"{target} is not a part of the model, or of another shape")
            else:
                deltas[target] = scale * (other.double() @ value.double())
        elif not name.endswith(UP):
            values[name] = value
            if name not in parameters or parameters[name].shape != value.shape:
                problems.append(f"{name} is not a part of the model, or of another shape")
    if problems or not deltas:
        raise AdaptersError(f"The adapters in {folder} do not fit the model: {listed(problems) or 'there are none'}.")
    for name, delta in deltas.items():
        parameters[name].copy_(parameters[name].double() + delta)
    for name, value in values.items():
        parameters[name].copy_(value)


def _read(folder: Path) -> tuple[float, dict[str, Tensor]]:
    """Return what adapters are multiplied by, and their weights by the names that they have in the model."""
    if not (folder / CONFIG).is_file():
        raise AdaptersError(f"{folder} is no folder of adapters: it has no {CONFIG}.")
    config = read_json_object(folder / CONFIG, AdaptersError)
    try:
        scale = float(config["lora_alpha"]) / int(config["r"])
        weights = load_file(folder / WEIGHTS)
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError, SafetensorError) as error:
        raise AdaptersError(f"The adapters in {folder} cannot be read ({type(error).__name__}: {error}).") from error
    return scale, {name.removeprefix(PREFIX): value for name, value in weights.items()}
