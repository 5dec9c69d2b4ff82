"""The memory's update against its equations, one conversation, layer, slot and head at a time."""

import math

import pytest
import torch
from torch import Tensor

from helpers import assert_close, randomise
from rxlm.memory.slots.attention import MemoryAttention
from rxlm.memory.slots.config import VARIANTS, MemoryAttentionConfig
from rxlm.memory.slots.gate import GATES
from rxlm.memory.slots.norm import MEMORY_NORMS
from rxlm.nn.attention import Attention

LAYERS, SLOTS, DIM, HEADS, TOKENS = 4, 5, 16, 4, 7
BASE: dict = {"num_layers": LAYERS, "dim": DIM, "num_slots": SLOTS, "max_seq_len": 16, "num_heads": HEADS}


def make(variant: str, **options: object) -> MemoryAttention:
    groups = {"num_groups": 2} if variant.startswith("grouped") else {}
    config = MemoryAttentionConfig(**BASE | groups | {"variant": variant} | options)
    return randomise(MemoryAttention(config).double())


def naive_attention(attention: Attention, queries: Tensor, keys: Tensor, turn_keys: bool) -> Tensor:
    """Slots (S, D) attend to (n, D); keys turn with their position, queries stand still."""
    size, outputs = DIM // HEADS, []
    num_queries, num_keys = attention.num_query_heads, attention.num_kv_heads
    for head in range(max(num_queries, num_keys)):
        q = head if num_queries >= num_keys else head % num_queries
        k = head if num_keys >= num_queries else head // (num_queries // num_keys)
        query = queries @ attention.q_proj.weight[q * size : (q + 1) * size].T
        key = keys @ attention.k_proj.weight[k * size : (k + 1) * size].T
        value = keys @ attention.v_proj.weight[k * size : (k + 1) * size].T
        if turn_keys:
            key = torch.stack([turned(row, position) for position, row in enumerate(key)])
        outputs.append((query @ key.T / math.sqrt(size)).softmax(-1) @ value)
    heads = torch.cat(outputs, dim=-1)
    if attention.gate_proj is not None:
        heads = heads * torch.sigmoid(queries @ attention.gate_proj.weight.T)
    out = heads @ attention.out_proj.weight.T
    return out if attention.out_proj.bias is None else out + attention.out_proj.bias


def turned(key: Tensor, position: int) -> Tensor:
    pairs = torch.view_as_complex(key.view(-1, 2).contiguous())
    angles = torch.tensor([position * 10000.0 ** (-2 * i / len(key)) for i in range(len(pairs))]).double()
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten()


def naive_update(network: MemoryAttention, slots: Tensor, encoded: Tensor) -> Tensor:
    """Update the memory of one conversation: slots (L, S, D), encoded (L, T, D)."""
    config, result = network.config, []
    for index, layer in enumerate(network.layers):
        old = m = slots[index]
        if config.variant != "simple":
            own = layer.consolidation_norm(old)
            if config.variant == "self":
                source = own
            else:
                group = LAYERS // (config.num_groups or 1)
                first = index // group * group
                mean = network.mean_norm(sum(slots[first : first + group]) / group)
                source = mean if config.variant == "interlayer" else layer.mix_gate(own[None], mean[None])[0]
            step = naive_attention(layer.consolidation_attention, own, source, turn_keys=False)
            m = layer.consolidation_gate(old[None], step[None])[0]
        read = layer.encoded_norm(encoded[index])
        update = naive_attention(layer.write_attention, layer.write_norm(m), read, turn_keys=True)
        result.append(layer.write_gate(m[None], update[None])[0])
    return torch.stack(result)


def example(tokens: int = TOKENS) -> tuple[Tensor, Tensor]:
    slots = torch.randn(LAYERS, 2, SLOTS, DIM, dtype=torch.float64)
    return slots, torch.randn(LAYERS, 2, tokens, DIM, dtype=torch.float64)


def check(network: MemoryAttention) -> None:
    slots, encoded = example()
    updated = network(slots, encoded)
    for row in range(2):
        assert_close(updated[:, row], naive_update(network, slots[:, row], encoded[:, row]), 1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("gate", GATES)
@torch.no_grad()
def test_every_variant_with_every_gate_is_its_equations(variant, gate):
    check(make(variant, gate=gate))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("norm", MEMORY_NORMS)
@torch.no_grad()
def test_every_variant_with_every_norm_is_its_equations(variant, norm):
    check(make(variant, norm=norm))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "heads",
    [
        {"num_query_heads": 2, "num_kv_heads": 1},
        {"num_query_heads": 1, "num_kv_heads": 4},
        {"num_kv_heads": 2, "consolidation_query_heads": 2, "consolidation_kv_heads": 1},
        {"consolidation_query_heads": 1, "consolidation_kv_heads": 2},
        {"attention_gate": "sigmoid", "attention_bias": True},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_variant_with_every_kind_of_attention_is_its_equations(variant, heads):
    check(make(variant, **heads))


@pytest.mark.parametrize("groups", [1, 2, 4])
@torch.no_grad()
def test_groups_are_consecutive_layers(groups):
    check(make("grouped-self-interlayer", num_groups=groups))


@torch.no_grad()
def test_a_layer_sees_only_the_layers_that_its_variant_lets_it_see():
    """Change layer 0 of the memory, and see which layers' next states change: all read the previous state."""
    for variant, changed in (
        ("simple", [0]),
        ("self", [0]),
        ("interlayer", [0, 1, 2, 3]),
        ("self-interlayer", [0, 1, 2, 3]),
        ("grouped-self-interlayer", [0, 1]),
    ):
        network, (slots, encoded) = make(variant), example()
        other = slots.clone()
        other[0] += 1
        difference = (network(slots, encoded) - network(other, encoded)).abs().amax(dim=(1, 2, 3))
        assert difference.gt(1e-9).nonzero()[:, 0].tolist() == changed


@torch.no_grad()
def test_memory_knows_the_order_of_the_words():
    network, (slots, encoded) = make("simple"), example()
    assert not torch.allclose(network(slots, encoded), network(slots, encoded.flip(2)))


@torch.no_grad()
def test_padding_is_neither_read_nor_counted_as_a_position():
    network, (slots, encoded) = make("interlayer"), example()
    mask = torch.tensor([[1, 0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1]]).bool()
    updated = network(slots, encoded, mask)
    assert_close(updated[:, 0], naive_update(network, slots[:, 0], encoded[:, 0, mask[0]]), 1e-6)
    assert_close(updated[:, 1], naive_update(network, slots[:, 1], encoded[:, 1]), 1e-6)


@torch.no_grad()
def test_the_state_before_is_left_as_it_was():
    network, (slots, encoded) = make("self-interlayer"), example()
    before = slots.clone()
    network(slots, encoded)
    assert torch.equal(slots, before)


# --- what conversations start from --------------------------------------------------------------------------------


def test_a_learned_memory_is_the_same_for_every_conversation_and_gets_a_gradient():
    network = make("simple", initial_memory="learned")
    slots = network.first_memory(3).slots
    assert slots.shape == (LAYERS, 3, SLOTS, DIM)
    for row in range(3):
        assert torch.equal(slots[:, row], network.initial)
    slots.sum().backward()
    assert torch.equal(network.initial.grad, torch.full_like(network.initial, 3.0))


def test_the_first_values_of_a_learned_memory_have_the_chosen_spread():
    for std in (0.02, 1.0):
        config = MemoryAttentionConfig(**BASE | {"num_slots": 500}, initial_memory="learned", initial_std=std)
        assert MemoryAttention(config).initial.detach().std() == pytest.approx(std, rel=0.05)


def test_a_memory_of_zeros_is_zero_and_nothing_to_learn():
    network = make("simple", initial_memory="zeros")
    assert not network.first_memory(2).slots.any()
    assert network.initial is None


def test_noise_is_drawn_a_conversation_by_its_seed():
    network = make("simple", initial_memory="normal", initial_std=0.5)
    four = network.first_memory(4, seed=10).slots
    assert not torch.equal(four[:, 0], four[:, 1])
    assert torch.equal(network.first_memory(2, seed=10).slots, four[:, :2])
    assert torch.equal(network.first_memory(3, seed=[13, 10, 11]).slots, four[:, [3, 0, 1]])
    assert four.dtype == torch.float64


def test_noise_has_the_chosen_spread():
    config = MemoryAttentionConfig(**BASE | {"num_slots": 500}, initial_memory="normal", initial_std=0.3)
    slots = MemoryAttention(config).first_memory(1, seed=0).slots
    assert slots.std() == pytest.approx(0.3, rel=0.05)
    assert slots.mean().abs() < 0.01


def test_without_a_seed_noise_follows_pytorchs_global_generator():
    network = make("simple", initial_memory="normal")
    torch.manual_seed(3)
    first = network.first_memory(2).slots
    assert not torch.equal(network.first_memory(2).slots, first)
    torch.manual_seed(3)
    assert torch.equal(network.first_memory(2).slots, first)


@pytest.mark.parametrize("kind", ["learned", "zeros", "normal"])
def test_writing_into_one_initial_memory_changes_no_other(kind):
    network = make("simple", initial_memory=kind)
    slots = network.first_memory(2, seed=0).slots.detach()
    slots[:, 0] = 7.0
    assert not (slots[:, 1] == 7.0).any()
    assert not (network.first_memory(2, seed=0).slots == 7.0).any()


def test_zero_memories_and_mixed_norms_train():
    """The harshest start: slots of exactly zero through a norm that divides by their root mean square."""
    network = make("self", initial_memory="zeros", norm="mixed-rms", attention_bias=False)
    slots = network.first_memory(1).slots
    encoded = torch.randn(LAYERS, 1, TOKENS, DIM, dtype=torch.float64)
    network(network(slots, encoded), encoded).square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)
