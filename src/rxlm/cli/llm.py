"""`rxlm llm`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from rxlm.folders import require_new_folder


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

    The result answers worse until it is trained further. transformers trains and loads it as any causal model, after
    `import rxlm.llm`.

    Args:
        source: folder or hub id of the model, or a GGUF file (needs the package gguf).
        target: folder to write, new or empty.
        attention: a kind, such as sqa or xsqa, whose proportions of heads are used.
        query_heads: how many query heads, instead of a kind.
        kv_heads: how many key/value heads, instead of a kind.
        method: keep the heads with the largest output, or pool those that share their keys and values.
        carry_code: copy the model's code into the folder, for trust_remote_code where rxlm is not installed.
    """
    from rxlm.llm.conversion import from_gqa, save_converted

    require_new_folder(target)
    model = from_gqa(source, attention, query_heads=query_heads, kv_heads=kv_heads, method=method)
    save_converted(model, source, target, carries_code=carry_code)
    config = model.config
    print(
        f"Wrote {target}: {config.num_query_heads} query heads and {config.num_key_value_heads} key/value heads of "
        f"{config.num_attention_heads}, {model.num_parameters():,} parameters."
    )
