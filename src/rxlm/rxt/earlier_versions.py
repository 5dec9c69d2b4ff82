"""Files of earlier versions, read as if this version had written them.

Format 1 differs from format 2, today's, in two things. Configurations of components were flat (see `flat_fields`).
Among the names of weights, `memory_attention` was both the network that writes the memory and the attention with which
a layer reads it.

Models that version 0.1.0 upcycled, whose slots copied the states of tokens, are gone, and with them some fields. Files
are read where these fields changed nothing.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rxlm.config import ConfigError
from rxlm.rxt.config import DecoderConfig, EncoderConfig, MemoryAttentionConfig

READER = re.compile(r"((?:^|\.)layers\.\d+\.)memory_attention\.")
WRITER = re.compile(r"(^|\.)memory_attention\.")
RENAMED = re.compile(r"(^|\.)memory_(?:reader|writer)\.")
COMPONENTS = (
    "decoder", "decoder_config", "encoder", "encoder_config", "memory", "memory_attention", "memory_attention_config",
    "config",
)  # fmt: skip
"""The names that recipes, models, and components that are saved alone give the configurations of components."""
REMOVED: Mapping[str, Any] = {"memory_layers": None, "depth": None, "write": "attention"}
"""Fields that components no longer have, and the values with which they changed nothing."""


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


def upcycled_before(owner: str) -> ConfigError:
    """Return the error that tells what to do with a file about a model that version 0.1.0 upcycled."""
    return ConfigError(
        f"{owner} is of a model that rxlm 0.1.0 upcycled: its slots copy the states of tokens. Slots that copy are "
        "gone; rxlm 0.1.0 loads it, and `rxlm upcycle MODEL OUT` makes a model of the language model that keeps tokens."
    )


def without_removed(values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return plain values with the configurations of components, without the fields that these no longer have.

    Raises `ConfigError` where they are of an upcycled model of version 0.1.0; `owner` says what they stand in.
    """
    result = dict(values)
    for name in COMPONENTS:
        if isinstance(result.get(name), Mapping):
            component = result[name]
            if any(component.get(field, plain) != plain for field, plain in REMOVED.items()):
                raise upcycled_before(owner)
            result[name] = {field: value for field, value in component.items() if field not in REMOVED}
    memory = result.get("memory_attention_config")
    if isinstance(memory, Mapping) and "kind" not in memory and result.get("encoder_config", memory) is None:
        raise upcycled_before(owner)  # whose decoder encoded for itself
    return result


def translate_configurations(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with the configurations of components as this version writes them.

    Components have the names that models (`decoder_config`, ...) or recipes (`decoder`, ...) give them; the rest stays.
    Raises `ConfigError` where a configuration cannot be honoured.
    """
    result = without_removed(values, "it")
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
