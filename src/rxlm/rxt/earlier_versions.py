"""Files of earlier versions, read as if this version had written them.

Format 1 differs from format 2, today's, in two things. Configurations of components were flat (see `flat_fields`).
Among the names of weights, `memory_attention` was both the network that writes the memory and the attention with which
a layer reads it.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rxlm.rxt.config import DecoderConfig, EncoderConfig, MemoryAttentionConfig

READER = re.compile(r"((?:^|\.)layers\.\d+\.)memory_attention\.")
WRITER = re.compile(r"(^|\.)memory_attention\.")
RENAMED = re.compile(r"(^|\.)memory_(?:reader|writer)\.")


def weight_name(name: str) -> str:
    """Return today's name of a weight; today's names stay.

    It may be that of a model, of a component saved alone, or of a train module (whose names begin with `model.`).
    """
    return WRITER.sub(r"\1memory_writer.", READER.sub(r"\1memory_reader.", name))


def first_weight_name(name: str) -> str:
    """Return the name that a weight had in format 1."""
    return RENAMED.sub(r"\1memory_attention.", name)


def translate_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by today's names, in the same order."""
    return {weight_name(name): tensor for name, tensor in weights.items()}


def translate_configurations(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with the configurations of components as this version writes them.

    Components have the names that models (`decoder_config`, ...) or recipes (`decoder`, ...) give them; the rest stays.
    Raises `ConfigError` where a configuration cannot be honoured.
    """
    result = dict(values)
    for name in ("decoder", "decoder_config"):
        if isinstance(result.get(name), Mapping):
            result[name] = DecoderConfig.of(result[name]).to_dict()
    for name in ("encoder", "encoder_config"):
        if isinstance(result.get(name), Mapping):
            result[name] = EncoderConfig.of(result[name]).to_dict()
    for name in ("memory_attention", "memory_attention_config"):
        if isinstance(result.get(name), Mapping) and "kind" not in result[name]:
            result[name] = MemoryAttentionConfig.from_dict(result[name]).to_dict()
    return result
