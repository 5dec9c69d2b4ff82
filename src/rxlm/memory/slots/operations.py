"""Floating-point operations of an update of slots."""

from typing import TYPE_CHECKING

from torch import nn

from rxlm.memory.slots.gate import SlotGate
from rxlm.nn.attention import Attention

if TYPE_CHECKING:
    from rxlm.memory.slots.attention import MemoryAttention


def write_flops(writer: "MemoryAttention", num_tokens: int) -> int:
    """Return the operations of one update by `num_tokens` encoded tokens: 2 a weight, 4 a score and head element."""
    config = writer.config
    slots, head_dim = config.num_slots, config.attention.width(config.dim)
    total = 0
    for layer in writer.layers:
        from_tokens = _key_value_weights(layer.write_attention)
        over_slots = sum(_weights_over_slots(module) for module in layer.modules())
        everything = sum(parameter.numel() for parameter in layer.parameters())
        total += 2 * from_tokens * num_tokens + 2 * (everything - from_tokens - over_slots) * slots + 2 * over_slots
        total += 4 * max(config.write_heads) * head_dim * slots * num_tokens
        if config.variant != "simple":
            total += 4 * max(config.consolidation_heads) * head_dim * slots**2
    return total


def _key_value_weights(attention: object) -> int:
    """Count the weights that make keys and values."""
    assert isinstance(attention, Attention)
    return attention.k_proj.weight.numel() + attention.v_proj.weight.numel()


def _weights_over_slots(module: nn.Module) -> int:
    """Weights that serve once a memory and not once a slot: those of a gate that maps all slots."""
    return module.linear.weight.numel() if isinstance(module, SlotGate) and module.linear is not None else 0
