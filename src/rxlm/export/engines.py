"""What computes a model: PyTorch or ONNX Runtime, with weights of 32, 8 or 4 bits."""

import logging
import os
from pathlib import Path
from typing import cast

import torch

from rxlm.config import ConfigError
from rxlm.export.graphs import NOTE, Graphs, check_exportable, use_graphs, write_graphs
from rxlm.export.names import ENGINES, Engine, bits_of
from rxlm.folders import reading
from rxlm.rxt.checkpoint_files import CONFIG_FILE
from rxlm.rxt.core import RxTModel

LOG = logging.getLogger(__name__)


def use_engine(model: RxTModel, engine: Engine, folder: Path | None = None) -> None:
    """Let an engine compute a model from now on; it learns nothing more then.

    Args:
        model: with weights on a CPU; they become float32.
        engine: one of `ENGINES`.
        folder: where the graphs are, or are written, where it holds nothing else; None: this user's folder for them,
            by the digest of what they depend on. Writing takes some ten seconds for 135 million parameters. Damaged
            graphs are written anew.

    Raises `ConfigError` for another engine, on a GPU and for what it cannot compute, ImportError without the extra.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
    if model.engine != "torch":
        raise ConfigError(f"The model has the engine {model.engine} already: open its own weights for {engine}.")
    if engine == "torch":
        return
    if model.device.type != "cpu":
        raise ConfigError(f"The engine {engine} computes on a CPU, and the model is on {model.device}.")
    graphs = Graphs.for_model(model, bits_of(engine))
    place = folder or cache_folder(graphs)
    is_there = graphs.are_in(place)
    if not is_there:
        check_exportable(model)
        if folder is not None:
            _check_free(folder)
    model.float()
    if not is_there:
        LOG.warning("Writing the graphs of the engine %s into %s, once for these weights.", engine, place)
        write_graphs(model, place, graphs)
    with reading(place):
        use_graphs(model, place)
    model.engine = engine


def cache_folder(graphs: Graphs) -> Path:
    """Return where the graphs of a model are kept for this user."""
    place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "rxlm" / "engines" / f"{graphs.source[:32]}-{graphs.bits}"


def _check_free(folder: Path) -> None:
    """Raise `ConfigError` where graphs would take the place of other files: of a model, for example."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if names and (NOTE not in names or CONFIG_FILE in names):
        raise ConfigError(f"folder must be new, empty or of graphs alone, and {folder} has {names[0]}: name another.")


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
