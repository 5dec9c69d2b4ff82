"""Names of engines: what computes a model, and how many bits its weights have."""

from typing import Literal, cast, get_args

Engine = Literal["torch", "onnx", "onnx:int8", "onnx:int4"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Bits = Literal[4, 8, 32]


def bits_of(engine: Engine) -> Bits:
    """Return the bits of an engine's weights; 32: as the model has them."""
    return cast(Bits, int(engine.partition(":int")[2] or 32))
