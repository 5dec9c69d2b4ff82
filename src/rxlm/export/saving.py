"""An exported model as a folder: the graphs, the weights that are not in them, and the tokenizer."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from rxlm.config import ConfigError
from rxlm.data.tokenizer import load_tokenizer_from_file
from rxlm.export.graphs import Graphs, use_graphs, write_graphs
from rxlm.export.names import ENGINES, Engine, bits_of
from rxlm.folders import reading, require_new_folder, saving
from rxlm.rxt.alpha import RxTAlpha
from rxlm.rxt.checkpoint_files import CheckpointError, CheckpointFiles
from rxlm.rxt.hub import check_weights, reading_config, split_header, write_checkpoint
from rxlm.rxt.models import KINDS

IN_GRAPHS = ("decoder.layers.", "decoder.head.")
READS_SLOTS = (".memory_reader.", ".slot_norm.")


def export(model: RxTAlpha, folder: Path, engine: Engine) -> None:
    """Write a model for an engine of ONNX: what opens the folder needs no other weights.

    Args:
        model: with its weights on a CPU, as they were trained. folder: new or empty.
        engine: onnx, onnx:int8 or onnx:int4.

    Raises as `use_engine` does, and ValueError where the folder holds something, before anything is written.
    """
    require_new_folder(folder)
    if not engine.startswith("onnx"):
        raise ConfigError(f"engine must be one of {', '.join(ENGINES[1:])}, got {engine!r}: others need no export.")
    if model.engine != "torch":
        raise ConfigError(f"The model is rounded for the engine {model.engine}: export it as it was trained.")
    tokenizer, graphs = model.needed_tokenizer(), Graphs.for_model(model, bits_of(engine))
    model.float()
    with saving(folder) as draft:
        write_graphs(model, draft, graphs)
        write_checkpoint(model, _beside_graphs(model), draft, engine=engine)
        tokenizer.save_pretrained(draft)


def is_exported(name: str | Path) -> bool:
    """Tell whether a model was exported for an engine."""
    return "engine" in CheckpointFiles(name).config()


def open_exported(name: str | Path, *, device: torch.device | str = "cpu") -> RxTAlpha:
    """Open a model that `export` wrote, from a folder, in evaluation mode; `CheckpointError` where it is damaged."""
    files = CheckpointFiles(name)
    if torch.device(device).type != "cpu":
        raise ConfigError(f"{files.name} was exported for ONNX Runtime on a CPU: device must be cpu, got {device}.")
    with reading(files.name):
        config = files.config()
        engine = config.pop("engine")
        graphs = Graphs.of(Path(files.name))
        if engine not in ENGINES or graphs is None or graphs.bits != bits_of(engine):
            raise CheckpointError(f"{files.name} has no graphs for the engine {engine!r}: export the model again.")
        header, values = split_header(config, files.name)
        with reading_config(files.name), torch.device("meta"):
            model = KINDS[header["architecture"]].from_config_dict(values)
        weights = files.weights()
        check_weights(_beside_graphs(model), weights, files.name)
        model.load_state_dict(weights, strict=False, assign=True)
        model.tie_weights()
        files.check()
        use_graphs(model, Path(files.name))
    model.engine = engine
    model.set_tokenizer(load_tokenizer_from_file(files.name))
    return cast(RxTAlpha, model.eval())


def _beside_graphs(model: RxTAlpha) -> dict[str, Tensor]:
    """Return the weights that are stored beside the graphs: those that are in them are not, nor second names."""
    ties = model.stored_ties()
    return {
        name: each
        for name, each in model.state_dict().items()
        if name not in ties and (not name.startswith(IN_GRAPHS) or any(part in name for part in READS_SLOTS))
    }
