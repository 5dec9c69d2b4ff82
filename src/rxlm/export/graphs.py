"""Writes a decoder's layers and its head as two ONNX graphs, and tells what a folder of them holds."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rxlm.config import ConfigError
from rxlm.export.chain import chained_layers
from rxlm.export.experts import has_operator
from rxlm.export.names import Bits
from rxlm.export.session import check_packages
from rxlm.export.step import HeadStep
from rxlm.folders import saving
from rxlm.nn.moe import MixtureOfExperts
from rxlm.rxt.decoder import RxTDecoder

LAYERS, HEAD, NOTE = "layers.onnx", "head.onnx", "engine.json"
FORM = 2
"""Of the graphs' arguments; others are written anew."""
OPSET = 20


@dataclass(frozen=True)
class Graphs:
    """What a folder of graphs holds.

    Fields:
        weights: digest of the weights that they were made of (`rxlm.rxt.fingerprint`). bits: of each.
        form: of the graphs' arguments.
    """

    weights: str
    bits: Bits
    form: int = FORM

    @classmethod
    def of(cls, folder: Path) -> "Graphs | None":
        """Return what a folder holds; None where it holds no graphs of this version."""
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            return cls(**note) if note.get("form") == FORM else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None


@torch.no_grad()
def write_graphs(decoder: RxTDecoder, folder: Path, bits: Bits, weights: str) -> None:
    """Write both graphs, and what they are.

    Args:
        decoder: its weights in float32 on a CPU.
        folder: made where it is missing. bits: of the weights. weights: their digest.

    Raises `ConfigError` for experts that it has no operator for, and ImportError where the extra `onnx` is missing.
    """
    check_exportable(decoder)
    with saving(folder) as draft, _quietly():
        size = ({0: torch.export.Dim("rows")},)
        head = torch.onnx.export(
            HeadStep(decoder, bits).eval(), (torch.zeros(2, decoder.config.dim),), dynamo=True, dynamic_shapes=size,
            input_names=["hidden"], output_names=["logits"], opset_version=OPSET, verbose=False,
        )  # fmt: skip
        assert head is not None
        for model, name in ((chained_layers(decoder, bits, OPSET), LAYERS), (head.model, HEAD)):
            _save(model, draft / name)
        (draft / NOTE).write_text(json.dumps(asdict(Graphs(weights, bits)), indent=2) + "\n", encoding="utf-8")


def _save(model: Any, path: Path) -> None:
    """Write a graph, and its weights beside it."""
    import onnx_ir as ir

    class Written(ir.Tensor):
        """A tensor whose file is written by Python, which says why it could not be; NumPy does not."""

        def tofile(self, file: Any) -> None:
            file.write(self.tobytes())

    for value in model.graph.initializers.values():
        value.const_value = Written(value.const_value.numpy(), name=value.name)
    ir.save(model, path, external_data=f"{path.name}.data")


def check_exportable(decoder: RxTDecoder) -> None:
    """Raise `ConfigError` where a decoder cannot be exported, and ImportError where what does it is missing."""
    parts = [layer.feed_forward for layer in decoder.layers]
    if not all(has_operator(each) for each in parts if isinstance(each, MixtureOfExperts)):
        raise ConfigError(
            "Experts that are not gated by silu cannot be computed by ONNX Runtime: take the engine torch."
        )
    check_packages("onnx", "onnxruntime", "onnxscript")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporter says of its own progress from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
