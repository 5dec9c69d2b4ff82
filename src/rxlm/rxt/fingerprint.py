"""Fingerprints that tell whether two models, and the tokenizers beside them, are the same."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from rxlm import config
from rxlm.memory.tensor_file import add_tensors
from rxlm.rxt.core import RxTModel
from rxlm.rxt.earlier_versions import first_weight_name, translate_configurations
from rxlm.rxt.hub import FORMAT_VERSION


def fingerprint(model: RxTModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return what identifies a model: its class, its configuration, and digests of its weights and its tokenizer.

    Where its weights were rounded for an engine, the digest is of those before, and the engine is named. Weights of 4
    bits have a digest of their own, for they depend on the machine that rounded them.
    """
    return {
        "format_version": FORMAT_VERSION,
        "architecture": type(model).__name__,
        **model.config_dict(),
        **({} if model.engine == "torch" else {"engine": model.engine}),
        **({} if model.rounded_digest is None else {"rounded_weights": model.rounded_digest}),
        "weights": model.source_digest or weights_digest(model),
        "tokenizer": tokenizer_digest(tokenizer),
    }


def differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """Say what differs between two fingerprints, a phrase a difference; empty where nothing does.

    `saved` may be of an earlier format; `present` is of this version.
    """
    version = saved.get("format_version", 1)
    if version not in range(1, FORMAT_VERSION + 1):
        return [f"it was saved in format {version!r}, and this version of rxlm reads formats up to {FORMAT_VERSION}"]
    try:
        translated = translate_configurations(saved)
    except config.ConfigError as error:  # of a model that there can no longer be
        return [str(error).rstrip(".")]
    own = {"engine": "torch"}
    return config.differences({**own, **translated, "format_version": FORMAT_VERSION}, {**own, **present})


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 of all weights with their names, types and shapes.

    Names count as they were in format 1, so that a model is recognised whichever version digested it.
    """
    digest = hashlib.sha256()
    weights = {first_weight_name(name): tensor for name, tensor in model.state_dict().items()}
    add_tensors(digest, weights)
    return digest.hexdigest()


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the SHA-256 of what turns text into ids and back; padding and truncation settings do not count."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: value for name, value in parts.items() if name not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
