"""Writes a model's layers as ONNX graphs, tells what a folder of them holds, and lets a model compute with them."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from rxlm.config import ConfigError
from rxlm.export.calibration import moments_of
from rxlm.export.chain import chained
from rxlm.export.decoder import OnnxDecoder
from rxlm.export.experts import computable
from rxlm.export.names import Bits
from rxlm.export.rounding import Rounding
from rxlm.export.session import Session, check_packages
from rxlm.export.step import HeadStep, LayerStep, NormStep, Step
from rxlm.export.update import OnnxEncoder, OnnxMemoryAttention, encoder_steps, updates_by_graphs, writer_steps
from rxlm.folders import saving
from rxlm.memory.slots.attention import MemoryAttention
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.core import RxTModel

LAYERS, HEAD, ENCODER, WRITER = "layers.onnx", "head.onnx", "encoder.onnx", "writer.onnx"
NOTE = "engine.json"
FORM = 3
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
def write_graphs(model: RxTModel, folder: Path, bits: Bits, weights: str) -> None:
    """Write the graphs of a model's decoder and, where it can have them, of its encoder and memory attention.

    Args:
        model: its weights in float32 on a CPU.
        folder: made where it is missing. bits: of the decoder's weights. weights: the model's digest.

    Raises `ConfigError` for experts that there is no operator for, and ImportError where the extra `onnx` is missing.
    """
    check_exportable(model)
    decoder, rounding = model.decoder, Rounding(bits, moments_of(model) if bits == 4 else {})
    with saving(folder) as draft, _quietly():
        size = ({0: torch.export.Dim("rows")},)
        head = torch.onnx.export(
            HeadStep(decoder, rounding).eval(), (torch.zeros(2, decoder.config.dim),), dynamo=True, dynamic_shapes=size,
            input_names=["hidden"], output_names=["logits"], opset_version=OPSET, verbose=False,
        )  # fmt: skip
        assert head is not None
        _save(head.model, draft / HEAD)
        layers = cast(list[TransformerLayer], list(decoder.layers))
        steps: list[Step] = [LayerStep(layer, rounding) for layer in layers]
        if decoder.config.final_norm is not None:
            steps.append(NormStep(decoder.final_norm, decoder.config.dim))
        _save(chained(steps, OPSET), draft / LAYERS)
        write_update_graphs(model, draft)
        (draft / NOTE).write_text(json.dumps(asdict(Graphs(weights, bits)), indent=2) + "\n", encoding="utf-8")


def write_update_graphs(model: RxTModel, folder: Path) -> None:
    """Write the graphs of encoder and memory attention, where they can be written."""
    if not updates_by_graphs(model):
        return
    steps: dict[str, Sequence[Step]] = {
        ENCODER: encoder_steps(model.needed_encoder()),
        WRITER: writer_steps(cast(MemoryAttention, model.memory_writer)),
    }
    with _quietly():
        for name, each in steps.items():
            _save(chained(each, OPSET), folder / name)


def use_graphs(model: RxTModel, folder: Path) -> None:
    """Let a model compute with the graphs of a folder."""
    model.decoder = OnnxDecoder(model.decoder, Session(folder / LAYERS), Session(folder / HEAD))
    use_update_graphs(model, folder)


def use_update_graphs(model: RxTModel, folder: Path) -> None:
    """Let a model write its memory with the graphs of a folder, where it can."""
    if updates_by_graphs(model):
        model.encoder = OnnxEncoder(model.needed_encoder(), Session(folder / ENCODER))
        model.memory_writer = OnnxMemoryAttention(cast(MemoryAttention, model.memory_writer), Session(folder / WRITER))


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


def check_exportable(model: RxTModel) -> None:
    """Raise `ConfigError` where a decoder cannot be exported, and ImportError where what does it is missing."""
    if not computable(model.decoder.layers):
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
