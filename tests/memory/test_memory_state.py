"""MemoryState: a value that is selected, joined, saved, moved and measured."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from helpers import assert_close
from rxlm.memory import MemoryState, SlotState


def some_state(batch_size: int = 3, seed: int = 0, layers: int = 2) -> MemoryState:
    generator = torch.Generator().manual_seed(seed)
    return SlotState(torch.randn(layers, batch_size, 4, 8, generator=generator))


def test_a_state_knows_its_shape():
    state = some_state()
    assert (state.num_layers, state.batch_size) == (2, 3)
    assert state.num_bytes == 2 * 3 * 4 * 8 * 4
    assert state.to(dtype=torch.bfloat16).num_bytes == 2 * 3 * 4 * 8 * 2


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, 8).long()], ids=["shape", "type"])
def test_what_is_no_memory_is_refused(wrong):
    with pytest.raises(ValueError, match=r"\(layers, conversations, slots, dim\)"):
        SlotState(wrong)


def test_a_state_cannot_be_exchanged_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        some_state().slots = torch.zeros(2, 3, 4, 8)


@given(rows=st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_selected_conversations_come_in_the_order_given(rows):
    state = some_state()
    selected = state.select(rows)
    assert selected.batch_size == len(rows)
    for place, row in enumerate(rows):
        assert torch.equal(selected.slots[:, place], state.slots[:, row])


def test_a_single_conversation_keeps_its_axis():
    assert torch.equal(some_state().select(1).slots, some_state().slots[:, 1:2])


def test_a_conversation_that_is_not_there_cannot_be_selected():
    with pytest.raises(IndexError):
        some_state().select(3)


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_joining_undoes_selecting(sizes):
    states = [some_state(size, seed) for seed, size in enumerate(sizes)]
    joined = MemoryState.join(states)
    assert joined.batch_size == sum(sizes)
    start = 0
    for state in states:
        again = joined.select(range(start, start + state.batch_size))
        assert torch.equal(again.slots, state.slots)
        start += state.batch_size


@pytest.mark.parametrize("states", [[], [some_state(), some_state(layers=3)]], ids=["nothing", "two shapes"])
def test_only_memories_of_one_shape_are_joined(states):
    with pytest.raises(ValueError, match="Only memories of one form"):
        MemoryState.join(states)


def test_a_detached_state_has_no_history():
    slots = torch.randn(2, 1, 4, 8, requires_grad=True)
    state = SlotState(slots * 2)
    assert state.slots.requires_grad
    assert not state.detach().slots.requires_grad
    assert torch.equal(state.detach().slots, state.slots)


def test_drift_is_the_root_mean_square_of_the_change_a_layer_and_conversation():
    before, after = some_state(seed=1), some_state(seed=2)
    drift = after.drift(before)
    assert drift.shape == (2, 3)
    for layer in range(2):
        for row in range(3):
            change = (after.slots[layer, row] - before.slots[layer, row]).flatten()
            assert_close(drift[layer, row], (change @ change / len(change)).sqrt(), 1e-6)
    assert not before.drift(before).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_state_comes_back_to_the_bit(dtype, tmp_path):
    state = some_state().to(dtype=dtype)
    state.save(tmp_path / "state")
    again = MemoryState.load(tmp_path / "state")
    assert again.slots.dtype == dtype
    assert torch.equal(again.slots, state.slots)
    assert torch.equal(MemoryState.load(str(tmp_path / "state")).slots, state.slots)


def test_states_with_a_history_and_selections_can_be_saved(tmp_path):
    state = SlotState(torch.randn(2, 3, 4, 8, requires_grad=True) * 1)
    for each in (state, state.select([2, 0]), state.select(1)):
        each.save(tmp_path / "state")
        assert torch.equal(MemoryState.load(tmp_path / "state").slots, each.slots)


def test_a_loaded_state_does_not_change_when_its_file_does(tmp_path):
    some_state(seed=1).save(tmp_path / "state")
    loaded = MemoryState.load(tmp_path / "state")
    some_state(seed=2).save(tmp_path / "state")
    assert torch.equal(loaded.slots, some_state(seed=1).slots)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no memory file .*nowhere"):
        MemoryState.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no memory file"):
        MemoryState.load(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_called_damaged(kept, tmp_path):
    path = tmp_path / "state"
    some_state().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged"):
        MemoryState.load(path)


def test_a_file_of_something_else_is_refused_with_what_it_holds(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds no memory: Slots are one tensor, 'memory', got weight"):
        MemoryState.load(tmp_path / "other")
    save_file({"memory": torch.zeros(3)}, tmp_path / "flat")
    with pytest.raises(ValueError, match="memory state"):
        MemoryState.load(tmp_path / "flat")
