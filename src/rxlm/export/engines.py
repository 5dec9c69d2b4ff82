"""What computes a model: PyTorch or ONNX Runtime, with weights of 32, 8 or 4 bits."""

import logging
import os
from pathlib import Path
from typing import cast

import torch

from rxlm.config import ConfigError
from rxlm.export.graphs import Graphs, check_exportable, use_graphs, write_graphs
from rxlm.export.names import ENGINES, Bits, Engine, bits_of
from rxlm.rxt.core import RxTModel
from rxlm.rxt.fingerprint import weights_digest

LOG = logging.getLogger(__name__)


def use_engine(model: RxTModel, engine: Engine, folder: Path | None = None) -> None:
    """Let an engine compute a model from now on; it learns nothing more then.

    Args:
        model: with weights on a CPU; they become float32.
        engine: one of `ENGINES`.
        folder: where the graphs are, or are written; None: this user's folder for them, by the digest of the weights.
            Writing takes some ten seconds for 135 million parameters.

    Raises `ConfigError` for another engine, on a GPU and for what it cannot compute, ImportError without the extra.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if engine == "torch":
        return
    if model.device.type != "cpu":
        raise ConfigError(f"The engine {engine} computes on a CPU, and the model is on {model.device}.")
    if model.engine != "torch":
        raise ConfigError(f"The model has the engine {model.engine} already: load it anew for {engine}.")
    digest, bits = weights_digest(model), bits_of(engine)
    folder = folder or cache_folder(digest, bits)
    is_there = Graphs.of(folder) == Graphs(digest, bits)
    if not is_there:
        check_exportable(model)
    model.float()
    if not is_there:
        LOG.warning("Writing the graphs of the engine %s into %s, once for these weights.", engine, folder)
        write_graphs(model, folder, bits, digest)
    use_graphs(model, folder)
    model.engine, model.source_digest = engine, digest


def cache_folder(digest: str, bits: Bits) -> Path:
    """Return where the graphs of a model are kept for this user."""
    place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "rxlm" / "engines" / f"{digest[:32]}-{bits}"


def describe(model: RxTModel) -> str:
    """Return what computes the model, in words."""
    count = torch.get_num_threads()
    threads = f"{count} thread{'s' * (count != 1)}"
    if model.engine.startswith("onnx"):
        import onnxruntime

        name = f"ONNX Runtime {onnxruntime.__version__}"
    else:
        name = f"PyTorch {torch.__version__}"
    bits = bits_of(cast(Engine, model.engine))
    weights = str(model.dtype).removeprefix("torch.") if bits == 32 else f"{bits} bits"
    return f"{name}, weights of {weights}, {threads} on {model.device}"
