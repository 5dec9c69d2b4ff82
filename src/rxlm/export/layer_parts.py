"""Puts parts in place of a layer's modules."""

from collections.abc import Callable

from torch import nn

from rxlm.export.attention_parts import SelfAttentionPart, SlotAttentionPart
from rxlm.export.experts import ExpertsPart
from rxlm.export.parts import NormPart, as_linear
from rxlm.export.rounding import Rounding
from rxlm.nn.attention import Attention
from rxlm.nn.moe import MixtureOfExperts


def as_parts(
    modules: nn.ModuleList,
    rounding: Rounding,
    attention: Callable[[Attention, Rounding], nn.Module] = SelfAttentionPart,
) -> nn.ModuleList:
    """Let modules stand as they do in a graph, the larger linear layers with weights rounded; returns them.

    `attention` is what stands for attention that does not read the memory.
    """
    for parent in list(modules.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Attention):
                part = SlotAttentionPart if name == "memory_reader" else attention
                setattr(parent, name, part(child, rounding))
            elif isinstance(child, MixtureOfExperts):
                setattr(parent, name, ExpertsPart(child))
    for parent in list(modules.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.RMSNorm):
                setattr(parent, name, NormPart(child))
            elif isinstance(child, nn.Linear):
                setattr(parent, name, as_linear(child, rounding))
    return modules
