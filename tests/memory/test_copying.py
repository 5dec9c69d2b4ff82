"""Slots that copy: each is a mean of what it held and of tokens' states, with weights of one softmax."""

import math
import re

import pytest
import torch
from torch import Tensor

from helpers import assert_close, randomise
from rxlm.config import ConfigError
from rxlm.memory.slots.attention import MemoryAttention
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.memory.slots.copying import CopyAttention
from rxlm.nn.attention import AttentionConfig

LAYERS, SLOTS, DIM, TOKENS, ROWS = 2, 5, 16, 7, 3


def network() -> MemoryAttention:
    config = MemoryAttentionConfig(
        num_layers=LAYERS, dim=DIM, num_slots=SLOTS, max_seq_len=16, variant="simple", write="copy",
        initial_memory="zeros",
    )  # fmt: skip
    return randomise(MemoryAttention(config).double())


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.double)


def naive_update(copying: CopyAttention, slots: Tensor, tokens: Tensor) -> Tensor:
    """One conversation: slots (S, D) copy of tokens (n, D)."""
    updated = []
    for number, slot in enumerate(slots):
        held = slot / (slot.square().mean() + torch.finfo(slot.dtype).eps).sqrt() * copying.slot_norm.weight
        asking = copying.identity_proj.weight @ copying.identity[number] + copying.slot_proj.weight @ held
        longer = math.log(max(1, len(tokens) / 16))
        scores = [(copying.keep_gate.weight @ held + copying.keep_gate_bias[number])[0] + longer]
        scores += [asking @ (copying.k_proj.weight @ token) / DIM**0.5 for token in tokens]
        weights = torch.stack(scores).softmax(0)
        updated.append(weights[0] * slot + sum(share * token for share, token in zip(weights[1:], tokens, strict=True)))
    return torch.stack(updated)


@torch.no_grad()
@pytest.mark.parametrize("num_tokens", [TOKENS, 50])
def test_the_update_is_that_of_the_equations(num_tokens: int) -> None:
    memory, slots, encoded = network(), drawn(LAYERS, 1, SLOTS, DIM), drawn(LAYERS, 1, num_tokens, DIM)
    found = memory(slots, encoded)
    for number, layer in enumerate(memory.layers):
        tokens = layer.encoded_norm(encoded[number, 0])
        assert_close(found[number, 0], naive_update(layer.copy_attention, slots[number, 0], tokens))


@torch.no_grad()
def test_tokens_behind_the_mask_are_never_copied_and_a_row_without_any_keeps_its_memory() -> None:
    memory, slots, encoded = network(), drawn(LAYERS, ROWS, SLOTS, DIM), drawn(LAYERS, ROWS, TOKENS, DIM)
    mask = torch.tensor([[True] * TOKENS, [True, False, True] + [False] * 4, [False] * TOKENS])
    found = memory(slots, encoded, mask)
    changed = torch.where(mask[None, :, :, None], encoded, 100 * encoded)
    assert torch.equal(memory(slots, changed, mask), found)
    assert torch.equal(found[:, 2], slots[:, 2])
    assert_close(found[:, 1:2], memory(slots[:, 1:2], encoded[:, 1:2, [0, 2]]))


@torch.no_grad()
def test_shares_are_weights_of_a_mean() -> None:
    copying = network().layers[0].copy_attention
    kept, copied = copying.shares(drawn(ROWS, SLOTS, DIM), drawn(ROWS, TOKENS, DIM))
    assert kept.shape == (ROWS, SLOTS, 1)
    assert copied.shape == (ROWS, SLOTS, TOKENS)
    assert_close(kept[..., 0] + copied.sum(-1), torch.ones(ROWS, SLOTS, dtype=torch.double))
    assert min(kept.min(), copied.min()) >= 0


@torch.no_grad()
def test_a_slot_that_keeps_is_the_same_to_the_bit_and_one_that_copies_is_the_token() -> None:
    copying, slots, tokens = CopyAttention(DIM, SLOTS).double(), drawn(ROWS, SLOTS, DIM), drawn(ROWS, TOKENS, DIM)
    copying.keep_gate_bias.fill_(1e4)
    assert torch.equal(copying(slots, tokens), slots)
    copying.keep_gate_bias.fill_(-1e4)
    only = torch.zeros(ROWS, TOKENS, dtype=torch.bool)
    only[:, 4] = True
    assert torch.equal(copying(slots, tokens, only), tokens[:, 4:5].expand_as(slots))


@torch.no_grad()
def test_new_slots_keep_mostly_and_copy_each_a_token_of_its_own() -> None:
    torch.manual_seed(0)
    copying = CopyAttention(256, 64)
    # A language model's states of a turn have some directions in common: scores differ by 3 as they do for these.
    kept, copied = copying.shares(torch.zeros(4, 64, 256), 0.63 * torch.randn(4, 16, 256))
    assert 0.5 < float(kept.mean()) < 0.75
    assert all(len(row.unique()) > 12 for row in copied.argmax(-1))


@torch.no_grad()
def test_a_long_turn_displaces_about_as_much_as_a_short_one() -> None:
    torch.manual_seed(0)
    copying = CopyAttention(256, 64)
    kept = [float(copying.shares(torch.zeros(8, 64, 256), 0.63 * torch.randn(8, n, 256))[0].mean()) for n in (16, 160)]
    assert abs(kept[0] - kept[1]) < 0.15, "ten times as long"
    # The length is that of what may be copied, wherever it stands.
    tokens, mask = 0.63 * torch.randn(1, 160, 256), torch.zeros(1, 160, dtype=torch.bool)
    mask[0, 40:100] = True
    hidden, alone = (
        copying.shares(torch.zeros(1, 64, 256), *each)[0] for each in ((tokens, mask), (tokens[:, 40:100],))
    )
    torch.testing.assert_close(hidden, alone)


def test_it_learns_under_autocast_and_the_memory_keeps_its_own_precision() -> None:
    memory = network().float()
    slots = drawn(LAYERS, 1, SLOTS, DIM).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        updated = memory(slots, drawn(LAYERS, 1, TOKENS, DIM).float())
    assert updated.dtype == torch.float32
    updated.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in memory.parameters())


def test_options_of_an_attention_that_writes_are_refused() -> None:
    changes = {
        "slot_identity": True, "rope_base": 1e6, "gate": "linear", "norm": "mixed-rms", "num_query_heads": 2,
        "attention_bias": True, "consolidation": AttentionConfig(),
    }  # fmt: skip
    named = {"num_query_heads": "attention=.*num_query_heads=2", "attention_bias": "attention=.*out_bias=True"}
    for name, value in changes.items():
        told = named.get(name, re.escape(f"{name}={value!r}"))
        with pytest.raises(ConfigError, match=f"{told}.* means nothing to slots that copy"):
            MemoryAttentionConfig(write="copy", variant="simple", **{name: value})
    MemoryAttentionConfig(write="copy", variant="self", gate="linear", num_query_heads=8)  # for consolidation
    MemoryAttentionConfig(write="copy", variant="simple", dim=20)  # there are no heads to divide it
    with pytest.raises(ConfigError, match=r"write must be one of 'attention', 'copy', got 'paste'"):
        MemoryAttentionConfig(write="paste")  # type: ignore[arg-type]
