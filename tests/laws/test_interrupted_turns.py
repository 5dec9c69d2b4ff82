"""Law 5: export, load and reset do what their names say; an interrupted turn leaves memory as it was before it."""

import pytest
import torch

from helpers import ARCHITECTURES, build, shared_model, some_ids, some_memory
from rxlm.memory import SlotState
from rxlm.rxt.current_memory import MEMORY_UPDATE_STARTS

QUERY = some_ids(1, 4, seed=1)


@pytest.fixture
def model():
    model = build("mqa-moe-grouped-static")
    model.load_stm_state(some_memory(model, [0]))
    return model


class InterruptionError(Exception):
    """What a user's program or a machine may throw into a turn."""


@pytest.mark.parametrize("tokens_before", [0, 1, 5])
def test_a_turn_closed_in_the_middle_leaves_memory_as_it_was(model, tokens_before):
    before = model.export_stm_state()
    turn = model.interact(QUERY, seed=1, ignore_eos=True)
    for _ in range(tokens_before):
        next(turn)
    turn.close()
    assert torch.equal(model.export_stm_state(), before)


def test_a_turn_closed_after_its_last_token_leaves_memory_as_it_was(model):
    before = model.export_stm_state()
    turn = model.interact(QUERY, seed=1)
    while next(turn) != MEMORY_UPDATE_STARTS:
        pass
    turn.close()
    assert torch.equal(model.export_stm_state(), before)


@pytest.mark.parametrize("component", ["decoder", "encoder", "memory_writer"])
def test_a_turn_that_fails_leaves_memory_as_it_was_and_the_model_usable(model, component, monkeypatch):
    """The decoder fails while it writes, the others in the update: each after the work of earlier steps."""
    before, calls = model.export_stm_state(), 0
    expected = list(model.interact(QUERY, seed=1))
    after = model.export_stm_state()
    model.load_stm_state(before)
    layer = getattr(model, component).layers[-1]
    forward = layer.forward

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > (3 if component == "decoder" else 0):
            raise InterruptionError
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", failing)
        with pytest.raises(InterruptionError):
            list(model.interact(QUERY, seed=1))
    assert torch.equal(model.export_stm_state(), before)
    assert list(model.interact(QUERY, seed=1)) == expected
    assert torch.equal(model.export_stm_state(), after)


def test_a_failure_of_the_last_projection_leaves_memory_and_its_reading_together(model, monkeypatch):
    """The memory is replaced only when its keys and values are ready, never one without the other."""
    before, expected = model.export_stm_state(), list(model.interact(QUERY, seed=1))
    model.load_stm_state(before)

    def failing(*args, **kwargs):
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(model.decoder.layers[-2], "read_memory", failing)
        with pytest.raises(InterruptionError):
            list(model.interact(QUERY, seed=1))
    assert torch.equal(model.export_stm_state(), before)
    assert list(model.interact(QUERY, seed=1)) == expected


def test_a_batch_that_fails_leaves_all_memories_as_they_were(model, monkeypatch):
    model.set_batch_mode(True, 2)
    before = model.export_stm_state()

    def failing(*args, **kwargs):
        raise InterruptionError

    with monkeypatch.context() as patch:
        patch.setattr(model.encoder.layers[0], "forward", failing)
        with pytest.raises(InterruptionError):
            model.batch_interactions(some_ids(2, 4), seed=0)
    assert torch.equal(model.export_stm_state(), before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_memory_changes_only_between_the_two_signs_of_the_update(name):
    model = shared_model(name)
    model.set_batch_mode(False)
    before = model.current.get()
    seen = [(token, model.current.get() is before) for token in model.interact(QUERY, seed=0)]
    assert all(same for _, same in seen[:-1])
    assert [token for token, _ in seen[-2:]] == [-1, -2]
    assert not seen[-1][1]


def test_export_and_load_fork_a_conversation(model):
    list(model.interact(QUERY, seed=0))
    fork = model.export_stm_state()
    branches = []
    for query in (some_ids(1, 3, seed=5), some_ids(1, 3, seed=6), some_ids(1, 3, seed=5)):
        model.load_stm_state(fork)
        branches.append((list(model.interact(query, seed=2)), model.export_stm_state()))
    assert branches[0][0] == branches[2][0]
    assert torch.equal(branches[0][1], branches[2][1])
    assert not torch.equal(branches[0][1], branches[1][1])


def test_loading_the_memory_before_a_turn_undoes_it(model):
    before = model.export_stm_state()
    first = list(model.interact(QUERY, seed=0))
    model.load_stm_state(before)
    assert list(model.interact(QUERY, seed=0)) == first


def test_exported_and_loaded_memories_are_copies(model):
    exported = model.export_stm_state()
    mine = exported.clone()
    exported.zero_()
    assert torch.equal(model.export_stm_state(), mine)
    model.load_stm_state(mine)
    mine.zero_()
    assert not torch.equal(model.export_stm_state(), mine)


def test_reset_gives_the_initial_memory(model):
    list(model.interact(QUERY, seed=0))
    model.reset_stm_state()
    assert torch.equal(model.export_stm_state(), model.init_memory().slots)


def test_reset_draws_new_noise_where_conversations_start_from_noise():
    model = build("sqa-qknorm-interlayer-slotlinear")
    model.reset_stm_state(seed=4)
    first = model.export_stm_state()
    model.reset_stm_state()
    assert not torch.equal(model.export_stm_state(), first)
    model.reset_stm_state(seed=4)
    assert torch.equal(model.export_stm_state(), first)


def test_init_starts_from_a_memory_that_has_read_the_given_interaction(model):
    ids, mask = some_ids(1, 6), torch.tensor([[1, 1, 1, 1, 0, 0]])
    model.init_stm_state(ids, mask)
    expected = model.update_memory(model.init_memory(), ids[:, :4]).slots
    torch.testing.assert_close(model.export_stm_state(), expected, atol=1e-9, rtol=1e-9)
    model.set_batch_mode(True, 3)
    model.init_stm_state(ids, mask)
    torch.testing.assert_close(model.export_stm_state(), expected.expand(-1, 3, -1, -1), atol=1e-9, rtol=1e-9)


def test_training_changes_neither_a_state_at_hand_nor_the_current_memory(model):
    """An optimizer changes the learned initial memory in place: what started from it is a value of its own."""
    model.reset_stm_state()
    state, current = model.init_memory(), model.export_stm_state()
    before = state.slots.detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert torch.equal(state.slots, before)
    assert torch.equal(model.export_stm_state(), current)
    assert not torch.equal(model.init_memory().slots, before)


def test_a_turn_reads_its_memory_with_the_weights_of_the_moment(model):
    """Training between two turns must not leave keys and values of the old weights behind."""
    model.reset_stm_state()
    state = SlotState(model.export_stm_state())
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(0.7)
    answer = list(model.interact(QUERY, seed=3))
    model.load_stm_state(state)
    assert list(model.interact(QUERY, seed=3)) == answer


def test_two_models_share_no_memory():
    one, other = build(seed=0), build(seed=0)
    before = other.export_stm_state()
    list(one.interact(QUERY, seed=0))
    assert torch.equal(other.export_stm_state(), before)


def test_a_memory_that_was_replaced_in_mid_turn_stays(model):
    turn = model.interact(QUERY, ignore_eos=True)
    next(turn)
    model.load_stm_state(some_memory(model, [5]))

    with pytest.raises(ValueError, match="The memory was replaced while this turn was answered"):
        list(turn)
    assert (model.export_stm_state() == some_memory(model, [5]).slots).all()
