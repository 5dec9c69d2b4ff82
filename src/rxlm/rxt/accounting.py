"""What a model costs: parameters by component, memory of a conversation, floating-point operations of a token."""

from typing import NamedTuple, cast

from torch import nn

from rxlm.memory.slots.copying import CopyAttention
from rxlm.memory.slots.gate import SlotGate
from rxlm.nn.attention import Attention
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Experts, MixtureOfExperts
from rxlm.rxt.core import RxTModel
from rxlm.rxt.encoder import RxTEncoder


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
        "encoder": _count(model.encoder.layers),
        "memory attention": _count(model.memory_writer),
    }
    table["all"] = ParameterCount(*(sum(column) for column in zip(*table.values(), strict=True)))
    return table


def memory_bytes(model: RxTModel) -> int:
    """Bytes of one conversation's memory, L x S x D values: all that a conversation keeps between turns."""
    config = model.memory_writer.config
    return config.num_layers * config.num_slots * config.dim * model.decoder.embedding.weight.element_size()


def decoding_parameters(model: RxTModel) -> int:
    """Parameters that the decoder reads for one new token; memory's key and value projections ran before."""
    table = parameter_table(model)
    projected = sum(_key_value_weights(layer.memory_reader) for layer in model.decoder.memory_layers)
    return table["decoder"].active + table["head"].active - projected


def decoding_flops(model: RxTModel, position: int) -> int:
    """Floating-point operations of one new token at `position` of its turn: 2 a weight, 4 a score and head element."""
    config = model.decoder.config
    scores = len(model.decoder.layers) * max(config.attention_heads) * config.width_of_head * (position + 1)
    reads = len(model.decoder.memory_layers) * max(config.memory_heads) * config.width_of_head * config.num_slots
    return 2 * decoding_parameters(model) + 4 * (scores + reads)


def update_flops(model: RxTModel, num_tokens: int) -> int:
    """Floating-point operations of folding an interaction of `num_tokens` tokens into the memory."""
    encoder, memory = model.encoder.config, model.memory_writer.config
    slots = memory.num_slots
    layers = _encoding_layers(model)
    encode = 2 * _count(*layers).active * num_tokens
    encode += 4 * len(layers) * max(encoder.attention_heads) * encoder.width_of_head * num_tokens**2
    head_dim = memory.dim // memory.num_heads
    write_dim = memory.dim if memory.write == "copy" else max(memory.write_heads) * head_dim
    write = update = 0
    for layer in model.memory_writer.layers:
        writer = layer.write_attention if layer.copy_attention is None else layer.copy_attention
        from_tokens = _key_value_weights(writer)
        over_slots = sum(_weights_over_slots(module) for module in layer.modules())
        everything = sum(parameter.numel() for parameter in layer.parameters())
        update += 2 * from_tokens * num_tokens + 2 * (everything - from_tokens - over_slots) * slots + 2 * over_slots
        write += 4 * write_dim * slots * num_tokens
        if memory.variant != "simple":
            write += 4 * max(memory.consolidation_heads) * head_dim * slots**2
    return encode + write + update


def _encoding_layers(model: RxTModel) -> list[nn.Module]:
    """Return the parts that encode: the encoder's layers, or the decoder's up to its last memory layer."""
    if isinstance(model.encoder, RxTEncoder):
        return list(model.encoder.layers)
    last = max(number for number, (_, is_memory) in enumerate(model.decoder.config.layer_kinds) if is_memory)
    own = cast(list[TransformerLayer], list(model.decoder.layers))[:last]
    return [
        nn.ModuleList((layer.attention_norm, layer.attention, layer.feed_forward_norm, layer.feed_forward))
        for layer in own
    ]


def _count(*modules: nn.Module) -> ParameterCount:
    total = sum(parameter.numel() for module in modules for parameter in module.parameters())
    idle = 0
    for module in modules:
        for mixture in module.modules():
            if isinstance(mixture, MixtureOfExperts):
                idle += _idle(mixture.experts, mixture.experts_per_token)
    return ParameterCount(total, total - idle)


def _key_value_weights(attention: object) -> int:
    if isinstance(attention, CopyAttention):
        return attention.k_proj.weight.numel()
    if not isinstance(attention, Attention):
        return 0
    return attention.k_proj.weight.numel() + attention.v_proj.weight.numel()


def _weights_over_slots(module: nn.Module) -> int:
    """Weights that serve once a memory and not once a slot: of a gate that maps all slots, and what each slot has."""
    if isinstance(module, CopyAttention):
        return module.identity.numel() + module.keep_gate_bias.numel()
    return module.linear.weight.numel() if isinstance(module, SlotGate) and module.linear is not None else 0


def _idle(experts: Experts, chosen: int) -> int:
    count = experts.w_in.shape[0]
    return sum(parameter.numel() for parameter in experts.parameters()) * (count - chosen) // count
