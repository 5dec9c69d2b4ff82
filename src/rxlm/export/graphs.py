"""Writes a model's layers as ONNX graphs, tells what a folder of them holds, and lets a model compute with them."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
from rxlm.folders import MARKER, damage, reading, saving
from rxlm.memory.slots.attention import MemoryAttention
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.alpha import RxTAlpha
from rxlm.rxt.core import RxTModel
from rxlm.rxt.fingerprint import tokenizer_digest, weights_digest

LAYERS, HEAD, ENCODER, WRITER = "layers.onnx", "head.onnx", "encoder.onnx", "writer.onnx"
NOTE = "engine.json"
FORM = 4
"""Of the graphs' arguments and of the rounding; others are written anew."""
OPSET = 20


@dataclass(frozen=True)
class Graphs:
    """What a folder of graphs holds.

    Fields:
        weights: digest of the weights that they were made of (`rxlm.rxt.fingerprint`). bits: of each.
        source: digest of all that they depend on: configuration, weights, and the tokenizer, where rounding reads text.
        rounded: digest of weights of 4 bits, which depend on how the machine that rounds them adds up; else empty.
        form: of the graphs' arguments and of the rounding.
    """

    weights: str
    bits: Bits
    source: str
    rounded: str = ""
    form: int = FORM

    @classmethod
    def for_model(cls, model: RxTModel, bits: Bits) -> "Graphs":
        """Return what the graphs of a model are to be, before they are rounded."""
        weights = weights_digest(model)
        tokenizer = model.tokenizer if isinstance(model, RxTAlpha) and bits == 4 else None
        parts = [model.config_dict(), weights, None if tokenizer is None else tokenizer_digest(tokenizer)]
        return cls(weights, bits, hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest())

    def are_in(self, folder: Path) -> bool:
        """Tell whether a folder holds these graphs, whole."""
        if not folder.is_dir():
            return False
        with reading(folder):
            found = Graphs.of(folder)
            return found is not None and replace(found, rounded="") == self and _is_whole(folder)

    @classmethod
    def of(cls, folder: Path) -> "Graphs | None":
        """Return what a folder holds; None where it holds no graphs of this version."""
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
            return cls(**note) if note.get("form") == FORM else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def _is_whole(folder: Path) -> bool:
    """Tell whether the files of a folder are those that were saved together."""
    try:
        return (folder / MARKER).is_file() and not damage(folder)
    except ValueError:  # the marker is damaged
        return False


@torch.no_grad()
def write_graphs(model: RxTModel, folder: Path, graphs: Graphs) -> None:
    """Write the graphs of a model's decoder and, where it can have them, of its encoder and memory attention.

    Args:
        model: its weights in float32 on a CPU.
        folder: made where it is missing. graphs: what they are to be.

    Raises `ConfigError` for experts that there is no operator for, and ImportError where the extra `onnx` is missing.
    """
    check_exportable(model)
    decoder, rounding = model.decoder, Rounding(graphs.bits, moments_of(model) if graphs.bits == 4 else {})
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
        if graphs.bits == 4:
            graphs = replace(graphs, rounded=_digest(draft / f"{name}.data" for name in (LAYERS, HEAD)))
        (draft / NOTE).write_text(json.dumps(asdict(graphs), indent=2) + "\n", encoding="utf-8")


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
    graphs = Graphs.of(folder)
    assert graphs is not None
    model.decoder = OnnxDecoder(model.decoder, Session(folder / LAYERS), Session(folder / HEAD))
    use_update_graphs(model, folder)
    model.source_digest, model.rounded_digest = graphs.weights, graphs.rounded or None


def use_update_graphs(model: RxTModel, folder: Path) -> None:
    """Let a model write its memory with the graphs of a folder, where it can."""
    if updates_by_graphs(model):
        model.encoder = OnnxEncoder(model.needed_encoder(), Session(folder / ENCODER))
        model.memory_writer = OnnxMemoryAttention(cast(MemoryAttention, model.memory_writer), Session(folder / WRITER))


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


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
