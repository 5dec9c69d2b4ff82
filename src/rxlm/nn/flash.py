"""The optional flash-attn kernels, and the reasons for which they cannot be used."""

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from rxlm.shapes import Float


@cache
def _package() -> Any:
    try:
        return import_module("flash_attn")
    except ImportError:
        return None


def flash_unavailable(queries: Tensor | None = None) -> str | None:
    """Say why flash-attn cannot run, for these queries if given; None where it can."""
    if _package() is None:
        return "the package flash-attn is not installed (see Installation in the README)."
    if queries is None:
        return None
    if not queries.is_cuda:
        return f"flash-attn runs on CUDA devices, and the model is on {queries.device}."
    if queries.dtype not in (torch.float16, torch.bfloat16):
        return f"flash-attn computes in float16 or bfloat16, and the model is in {queries.dtype}."
    if queries.shape[-1] > 256:
        return f"flash-attn has head dimensions up to 256, and the model's is {queries.shape[-1]}."
    return None


def flash_attention(
    queries: Float[Tensor, "B H T d"],
    keys: Float[Tensor, "B K S d"],
    values: Float[Tensor, "B K S d"],
    *,
    causal: bool,
    window: int | None,
) -> Float[Tensor, "B H T d"]:
    """Attention without a mask through flash-attn; shapes as in SDPA, (B, H, T, d).

    `window` counts the positions that a query sees to its left, itself included (and to its right unless causal).
    """
    reach = -1 if window is None else window - 1
    heads = _package().flash_attn_func(
        queries.transpose(1, 2),
        keys.transpose(1, 2),
        values.transpose(1, 2),
        causal=causal,
        window_size=(reach, 0 if causal else reach),
    )
    return heads.transpose(1, 2)
