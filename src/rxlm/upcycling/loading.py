"""From a name on the command line to a Reactive Transformer: a saved one, or a chat model that becomes one now."""

from pathlib import Path
from typing import Literal

import torch

from rxlm.config import ConfigError
from rxlm.export.engines import use_engine
from rxlm.export.names import Engine
from rxlm.export.saving import is_exported, open_exported
from rxlm.nn.device import Dtype, dtype_of
from rxlm.rxt.hub import CheckpointFiles
from rxlm.rxt.models import RxTAlpha
from rxlm.upcycling.adapters import take_adapters


def kind_of(name: str | Path) -> Literal["rxt", "transformers"]:
    """Tell a checkpoint's kind: those of `transformers` say in their configuration of which `model_type` they are."""
    if str(name).lower().endswith(".gguf"):
        return "transformers"
    return "transformers" if "model_type" in CheckpointFiles(name).config() else "rxt"


def open_model(
    name: str | Path,
    *,
    memory_tokens: int | None = None,
    device: torch.device | str = "cpu",
    dtype: Dtype = "auto",
    engine: Engine | None = None,
    adapters: str | Path | None = None,
) -> RxTAlpha:
    """Load a Reactive Transformer; a language model is made one, which keeps the newest tokens of a conversation.

    Args:
        name: folder, hub id, or a GGUF file of a language model.
        memory_tokens: tokens S that conversations keep; None: as many as the model says.
        device: where the weights go. dtype: their type there, see `dtype_of`.
        engine: what computes the model, see `use_engine`; None: PyTorch, or what the model was exported for.
        adapters: folder of adapters that were trained beside this model, see `take_adapters`.
    """
    wanted = dtype_of(dtype, device)
    if engine not in (None, "torch"):
        _check_dtype(wanted, engine)
    if kind_of(name) == "transformers":
        from rxlm.upcycling.model import upcycle  # imports the models of transformers, which takes a second

        model = upcycle(name).to(device, wanted)
    elif is_exported(name):
        model = open_exported(name, device=device)
        _check_dtype(wanted, model.engine)
    else:
        model = RxTAlpha.from_pretrained(name, device=device, dtype=wanted)
    if adapters is not None:
        take_adapters(model, adapters)
    if engine is not None and engine != model.engine:
        use_engine(model, engine)
    if memory_tokens is not None:
        model.set_memory_tokens(memory_tokens)
    return model


def _check_dtype(wanted: torch.dtype | None, engine: str) -> None:
    """Raise `ConfigError` where weights shall have a type that an engine of ONNX does not compute with."""
    if wanted not in (None, torch.float32):
        name = str(wanted).removeprefix("torch.")
        raise ConfigError(f"dtype must be auto or float32 for the engine {engine}, got {name!r}.")
