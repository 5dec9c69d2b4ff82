"""Law 4: save a memory in one process, load it in another: the next turn is bit-equal to the uninterrupted one."""

import pytest
import torch
from safetensors.torch import load_file

from helpers import ARCHITECTURES, assert_same_memory, build, shared_model, some_ids, some_memory
from process_groups import executed
from rxlm.memory import MemoryState, SlotState
from rxlm.rxt.models import RxTAlpha

NEXT_TURN = """
import sys, torch
from safetensors.torch import save_file
from rxlm.memory import MemoryState, SlotState
from rxlm.rxt.models import RxTAlpha
torch.set_num_threads(1)
model, state, query, result = sys.argv[1:]
model = RxTAlpha.from_pretrained(model)
model.load_stm_state(MemoryState.load(state))
query = torch.tensor([[int(token) for token in query.split()]])
answer = list(model.interact(query, temperature=0.9, top_k=20, seed=11))
save_file({"answer": torch.tensor(answer), "memory": model.export_stm_state()}, result)
"""


def test_a_conversation_goes_on_in_another_process_bit_for_bit(tmp_path):
    model = build("mqa-moe-grouped-static").float()
    model.save_pretrained(tmp_path / "model")
    for turn in range(2):
        list(model.interact(some_ids(1, 4, seed=turn), seed=turn))
    SlotState(model.export_stm_state()).save(tmp_path / "conversation.safetensors")

    query = some_ids(1, 5, seed=7)
    answer = list(model.interact(query, temperature=0.9, top_k=20, seed=11))

    paths = [str(tmp_path / name) for name in ("model", "conversation.safetensors")]
    arguments = [*paths, " ".join(map(str, query[0].tolist())), str(tmp_path / "result")]
    process = executed(NEXT_TURN, *arguments)
    assert process.status == 0, process.errors
    result = load_file(tmp_path / "result")
    assert result["answer"].tolist() == answer
    assert torch.equal(result["memory"], model.export_stm_state())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_saved_conversation_goes_on_with_a_saved_model_bit_for_bit(name, dtype, tmp_path):
    """Weights that come from a file must not be rounded differently from those that were made in memory."""
    model = build(name).to(dtype)
    model.save_pretrained(tmp_path / "model")
    other = RxTAlpha.from_pretrained(tmp_path / "model")
    model.reset_stm_state(seed=1)
    list(model.interact(some_ids(1, 4), seed=1))
    model.current.get().save(tmp_path / "conversation")
    list(other.interact(some_ids(1, 6, seed=3), seed=5))  # another conversation, which must leave no trace
    other.load_stm_state(MemoryState.load(tmp_path / "conversation"))
    turns = [list(each.interact(some_ids(1, 5, seed=2), seed=2)) for each in (model, other)]
    assert turns[0] == turns[1]
    assert_same_memory(model.current.get(), other.current.get(), 0.0)


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_a_loaded_memory_gives_the_same_next_turn_bit_for_bit(name, tmp_path):
    model = shared_model(name)
    memory = model.update_memory(some_memory(model, [0, 1]), some_ids(2, 5))
    memory.save(tmp_path / "memory")
    loaded = MemoryState.load(tmp_path / "memory")
    assert_same_memory(loaded, memory, 0.0)
    query = some_ids(2, 7, seed=1)
    assert torch.equal(model.decode(query, loaded), model.decode(query, memory))
    assert_same_memory(model.update_memory(loaded, query), model.update_memory(memory, query), 0.0)


def test_a_batch_of_saved_conversations_goes_on_together_as_apart(tmp_path):
    """Join memories from files into one batch, and take one of them out again."""
    model = shared_model("reverse-gated-selfinterlayer-slotelementwise")
    for row in range(2):
        SlotState(torch.randn(2, 1, 6, 16, dtype=torch.float64)).save(tmp_path / str(row))
    states = [MemoryState.load(tmp_path / str(row)) for row in range(2)]
    model.set_batch_mode(True, 2)
    model.load_stm_state(MemoryState.join(states))
    query = some_ids(2, 4)
    answers = model.batch_interactions(query, seed=[4, 9])
    after = SlotState(model.export_stm_state())
    model.set_batch_mode(False)
    for row, seed in enumerate([4, 9]):
        model.load_stm_state(states[row])
        assert list(model.interact(query[row : row + 1], seed=seed))[:-2] == answers[row]
        torch.testing.assert_close(model.export_stm_state(), after.select(row).slots, atol=1e-9, rtol=1e-9)
