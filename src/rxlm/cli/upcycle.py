"""`rxlm upcycle`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def upcycle(
    model: Annotated[str, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    memory_layers: tuple[int, ...] | None = None,
    num_slots: int = 128,
    max_seq_len: int = 256,
    encoder: Literal["self", "own"] = "self",
    system: str | None = None,
    seed: int = 0,
) -> None:
    """Turn a Llama- or Qwen-style chat model into a Reactive Transformer, whose memory is still to be trained.

    Until then it answers as the language model does, because the memory is not read. `rxlm train upcycled --model
    TARGET` teaches it to remember.

    Args:
        model: folder or hub id of the language model, or a GGUF file (needs the package gguf).
        target: folder to write, new or empty.
        memory_layers: numbers of the layers that read the memory, from 0; five from its middle if not given.
        num_slots: memory slots of each.
        max_seq_len: longest turn, query and answer, in tokens.
        encoder: self (the language model encodes what was said), or own (an encoder with new weights).
        system: a system prompt that is read in each turn.
        seed: of the memory's first weights.
    """
    import torch

    from rxlm.rxt.accounting import memory_bytes, parameter_table
    from rxlm.rxt.upcycling import upcycle as make

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder: name another one.")
    torch.manual_seed(seed)
    made = make(
        model, memory_layers=memory_layers, num_slots=num_slots, max_seq_len=max_seq_len, encoder=encoder, system=system
    )
    made.save_pretrained(target)
    layers = ", ".join(map(str, made.decoder.config.memory_layers or ()))
    table = parameter_table(made)
    print(
        f"Wrote {target}: {table['all'].total:,} parameters, {table['memory attention'].total:,} of them in memory "
        f"attention; layers {layers} of {len(made.decoder.layers)} read a memory of {memory_bytes(made):,} bytes a "
        f"conversation.\nIt remembers nothing yet. Go on: rxlm train upcycled --model {target}"
    )
