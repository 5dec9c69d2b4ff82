"""What a model costs: parameters by component, memory of a conversation, floating-point operations of a token."""

from typing import NamedTuple

from torch import nn

from rxlm.nn.attention import Attention
from rxlm.nn.moe import Experts, MixtureOfExperts
from rxlm.rxt.core import RxTModel


class ParameterCount(NamedTuple):
    """Parameters of a component in all, and those that one token uses: of routed experts, the chosen ones."""

    total: int
    active: int


def parameter_table(model: RxTModel) -> dict[str, ParameterCount]:
    """Count the parameters of each component, then of the whole model (`all`). Shared weights count once.

    An embedding is a table from which a token reads one row: its parameters count in full as total and as none
    active, unless the head shares them.
    """
    decoder, tied = model.decoder, model.decoder.config.tie_head
    embedding = decoder.embedding.weight.numel()
    head = sum(parameter.numel() for parameter in decoder.head.parameters())
    table = {
        "embedding": ParameterCount(embedding, 0),
        "decoder": _count(decoder.layers, decoder.final_norm),
        "head": ParameterCount(0 if tied else head, head),
        **({} if model.encoder is None else {"encoder": _count(model.encoder.layers)}),
        "memory attention": _count(model.memory_writer),
    }
    table["all"] = ParameterCount(*(sum(column) for column in zip(*table.values(), strict=True)))
    return table


def memory_bytes(model: RxTModel) -> int:
    """Bytes of one conversation's memory: all that a conversation keeps between turns."""
    return model.memory_writer.num_bytes(model.decoder.embedding.weight.element_size())


def decoding_parameters(model: RxTModel) -> int:
    """Parameters that the decoder reads for one new token; memory's key and value projections ran before."""
    table = parameter_table(model)
    readers = [layer.memory_reader for layer in model.decoder.memory_layers]
    projected = sum(_key_value_weights(reader) for reader in readers if reader is not None)
    return table["decoder"].active + table["head"].active - projected


def decoding_flops(model: RxTModel, position: int) -> int:
    """Floating-point operations of one new token at `position` of its turn: 2 a weight, 4 a score and head element."""
    config = model.decoder.config
    scores = len(model.decoder.layers) * max(config.attention_heads) * config.width_of_head * (position + 1)
    reads = (
        len(model.decoder.memory_layers)
        * max(config.memory_heads)
        * config.width_of_head
        * model.memory_writer.num_places
    )
    return 2 * decoding_parameters(model) + 4 * (scores + reads)


def update_flops(model: RxTModel, num_tokens: int) -> int:
    """Floating-point operations of writing an interaction of `num_tokens` tokens to the memory."""
    writer = model.memory_writer
    if not writer.reads_encoded:
        return writer.flops(num_tokens)
    encoder = model.needed_encoder()
    config = encoder.config
    weights = 2 * _count(encoder.layers).active * num_tokens
    scores = 4 * len(encoder.layers) * max(config.attention_heads) * config.width_of_head * num_tokens**2
    return weights + scores + writer.flops(num_tokens)


def _count(*modules: nn.Module) -> ParameterCount:
    total = sum(parameter.numel() for module in modules for parameter in module.parameters())
    idle = 0
    for module in modules:
        for mixture in module.modules():
            if isinstance(mixture, MixtureOfExperts):
                idle += _idle(mixture.experts, mixture.experts_per_token)
    return ParameterCount(total, total - idle)


def _key_value_weights(attention: Attention) -> int:
    return attention.k_proj.weight.numel() + attention.v_proj.weight.numel()


def _idle(experts: Experts, chosen: int) -> int:
    count = experts.w_in.shape[0]
    return sum(parameter.numel() for parameter in experts.parameters()) * (count - chosen) // count
