"""`rxlm export`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from rxlm.folders import require_new_folder


def export(
    model: Annotated[str, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    engine: Literal["onnx", "onnx:int8", "onnx:int4"] = "onnx:int4",
) -> None:
    """Write a model for a faster engine on CPUs: ONNX Runtime, with weights of 8 or 4 bits.

    The folder is opened by `rxlm chat`, `rxlm serve` and `rxlm bench memory` like any other, and needs the extra
    `onnx`. It cannot be trained further, and its conversations go on with the same bits alone.

    Args:
        model: folder or hub id of a Reactive Transformer; or a Llama- or Qwen-style chat model, GGUF files too, which
            is made one (see `rxlm upcycle`).
        target: folder to write, new or empty.
        engine: onnx (weights of 32 bits), onnx:int8 or onnx:int4.
    """
    from rxlm.export.saving import export as write
    from rxlm.upcycling.loading import open_model

    require_new_folder(target)
    write(open_model(model), target, engine)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"Wrote {target}: {size / 1e6:,.0f} MB for the engine {engine}.\nTalk with it: rxlm chat {target}")
