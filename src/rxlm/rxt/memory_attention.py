"""The memory attention network as a component that is saved and loaded on its own."""

from collections.abc import Mapping
from typing import Any, Self

from rxlm.memory.slots.attention import MemoryAttention
from rxlm.memory.slots.config import MemoryAttentionConfig
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
