"""The short-term memory of a conversation: what every kind of memory is and does, and the kinds."""

from rxlm.memory.protocol import FinishedTurn, MemoryConfig, MemoryReading, MemoryState, MemoryWriter
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.retained.state import RetainedState
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.memory.slots.state import SlotState

__all__ = [
    "FinishedTurn",
    "MemoryAttentionConfig",
    "MemoryConfig",
    "MemoryReading",
    "MemoryState",
    "MemoryWriter",
    "RetainedMemoryConfig",
    "RetainedState",
    "SlotState",
]
