"""The networks that write the memory, as components of a model."""

from collections.abc import Mapping
from typing import Any, Self

from rxlm.memory import MemoryAttentionConfig, MemoryConfig, MemoryWriter
from rxlm.memory.slots.attention import MemoryAttention
from rxlm.rxt.hub import HubModule


class RxTMemoryAttention(MemoryAttention, HubModule):
    """The memory attention network of any variant, as a component that is saved and loaded on its own."""

    def __init__(self, config: MemoryAttentionConfig | Mapping[str, Any]) -> None:
        super().__init__(self._load_config(config, MemoryAttentionConfig))

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {"config": self.config.to_dict()}

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a network from what `config_dict` returned."""
        return cls(**values)


SAVED_ALONE: dict[type[MemoryConfig], type[MemoryWriter]] = {MemoryAttentionConfig: RxTMemoryAttention}
"""The components that can be saved and loaded on their own, by the configuration that they are built from."""


def build_memory_writer(config: MemoryConfig) -> MemoryWriter:
    """Return the network that a configuration describes, as a component where it can be one."""
    return SAVED_ALONE.get(type(config), type(config).build)(config)  # type: ignore[arg-type, call-arg]
