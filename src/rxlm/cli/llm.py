"""`rxlm llm`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def from_gqa(
    source: Annotated[str, tyro.conf.Positional],
    target: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    attention: str | None = None,
    query_heads: int | None = None,
    kv_heads: int | None = None,
    method: Literal["keep", "pool"] = "pool",
    carry_code: bool = False,
) -> None:
    """Turn a Llama- or Qwen-style language model into one with Sparse Query Attention: fewer query heads.

    The result answers worse until it is trained further, as any causal model of transformers is; `import rxlm.llm`
    makes it known there.

    Args:
        source: folder or hub id of the model, or a GGUF file (needs the package gguf).
        target: folder to write, new or empty.
        attention: kind of attention, as sqa or xsqa, in the proportions of its heads.
        query_heads: how many query heads, instead of a kind.
        kv_heads: how many key/value heads, instead of a kind.
        method: keep the heads that write most, or pool those that share their keys and values.
        carry_code: write the model's code beside its weights, for trust_remote_code where rxlm is not installed.
    """
    from rxlm.llm import portable
    from rxlm.llm.conversion import from_gqa, save_converted

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder: name another one.")
    model = from_gqa(source, attention, query_heads=query_heads, kv_heads=kv_heads, method=method)
    save_converted(model, source, target)
    if carry_code:
        portable.carry_code(target)
    config = model.config
    print(
        f"Wrote {target}: {config.num_query_heads} query heads and {config.num_key_value_heads} key/value heads of "
        f"{config.num_attention_heads}, {model.num_parameters():,} parameters."
    )
