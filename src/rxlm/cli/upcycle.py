"""`rxlm upcycle`."""

from pathlib import Path
from typing import Annotated

import tyro

from rxlm.folders import require_new_folder


def upcycle(
    model: Annotated[str, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    memory_tokens: int = 128,
    max_seq_len: int | None = None,
    system: str | None = None,
) -> None:
    """Turn a Llama- or Qwen-style chat model into a Reactive Transformer, whose conversations have a constant cost.

    It serves at once: a conversation keeps its first tokens and the newest ones, and until it is longer than that it is
    answered as by the model itself. `rxlm train upcycled --model TARGET` teaches it which other tokens to keep.

    Args:
        model: folder or hub id of the language model, or a GGUF file.
        target: folder to write, new or empty.
        memory_tokens: tokens that each key/value head keeps of a conversation; can be changed for each conversation.
        max_seq_len: longest turn, query and answer, in tokens; if not given a quarter of the model's positions, at most
            2,048.
        system: a system prompt that conversations begin with, unless they have one of their own.
    """
    from rxlm.rxt.accounting import memory_bytes, parameter_table
    from rxlm.upcycling.model import upcycle as make

    require_new_folder(target)
    made = make(model, memory_tokens=memory_tokens, max_seq_len=max_seq_len, system=system)
    made.save_pretrained(target)
    print(
        f"Wrote {target}: {parameter_table(made)['all'].total:,} parameters; a conversation keeps {memory_tokens} "
        f"tokens in each of {len(made.decoder.layers)} layers, {memory_bytes(made):,} bytes.\n"
        f"Talk with it: rxlm chat {target}\n"
        f"Teach it what to keep: rxlm train upcycled --model {target}"
    )
