"""Files of conversations and memories are read and checked whole before anything is made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rxlm.memory import MemoryState, SlotState
from rxlm.rxt.conversation import Conversation, ConversationError, Turn
from rxlm.rxt.conversation_file import SavedConversation
from text_models import tiny_retained_model, tiny_text_model

MODELS = {"slots": tiny_text_model(), "retained": tiny_retained_model()}
Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


def spoilt(place: str, value: float, name: str) -> Change:
    """Put a value in one place of a tensor."""
    return lambda record, tensors: tensors[f"memory.{place}.{name}"].flatten()[:1].fill_(value)


def put(name: str, tensor: torch.Tensor) -> Change:
    return lambda record, tensors: tensors.update({name: tensor})


def of_turn(field: str, value: object) -> Change:
    return lambda record, tensors: record["turns"][0].update({field: value})


def every_tensor(change: Callable[[str, torch.Tensor], torch.Tensor]) -> Change:
    return lambda record, tensors: tensors.update({name: change(name, own) for name, own in tensors.items()})


def twice(name: str, tensor: torch.Tensor) -> torch.Tensor:
    axis = 1 if tensor.dim() >= 4 else 0
    return torch.cat((tensor, tensor), axis)


def rewrite(path: Path, change: Change, version: int = 3) -> None:
    """Change a saved conversation, and write it as a version without a digest would have, in one of the formats."""
    tensors = load_file(path)
    record = json.loads(tensors.pop("conversation").numpy().tobytes())
    record["version"] = version
    change(record, tensors)
    head = {"version": record.pop("version")} if version == 3 else record
    if version == 3:
        tensors["conversation"] = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
    save_file({name: own.contiguous() for name, own in tensors.items()}, path, {"conversation": json.dumps(head)})


FAULTS: list[tuple[str, Change, str]] = [
    ("slots", spoilt("1", torch.nan, "memory"), r"the tensor 'memory\.1\.memory' holds NaN or infinity"),
    ("slots", spoilt("0", torch.inf, "memory"), r"the tensor 'memory\.0\.memory' holds NaN or infinity"),
    ("retained", spoilt("1", -torch.inf, "values"), r"the tensor 'memory\.1\.values' holds NaN or infinity"),
    ("retained", spoilt("1", 9999, "positions"), "after 1 turns, the tensor 'positions' holds values that no"),
    ("retained", spoilt("1", -1, "ids"), "the tensor 'ids' holds values that no"),
    ("retained", spoilt("1", 0, "limit"), "the tensor 'limit' holds values that no"),
    ("retained", put("memory.1.ids", torch.zeros(2, 1, 1, 1).int()), "the tensor 'ids' has shape"),
    ("slots", every_tensor(twice), "its memory after . turns is of 2 conversations"),
    ("retained", every_tensor(twice), "its memory after . turns is of 2 conversations"),
    ("slots", every_tensor(lambda _, own: own[:, :, :3]), "has form .*; this model's have"),
    ("slots", every_tensor(lambda _, own: own.double()), "of torch.float64; this model's have"),
    ("slots", put("memory.5.memory", torch.zeros(2, 1, 4, 16)), "a memory after 5 turns, and 1 turns"),
    ("slots", put("weight", torch.zeros(1)), "the tensor 'weight' belongs to no memory"),
    ("slots", of_turn("ids", [2, 5, 100_000]), r"Turn 1 .* the largest 100000; this model has \d+"),
    ("slots", of_turn("ids", [2] * 500), "Turn 1 of the saved conversation has 500 tokens"),
    ("slots", of_turn("ids", [2, -5]), "the ids of turn 1 are no tokens"),
    ("slots", of_turn("ids", [2, 5.5]), "the ids of turn 1 are no tokens"),
    ("slots", of_turn("ids", []), "the ids of turn 1 are no tokens"),
    ("slots", of_turn("query", None), "query or answer of turn 1 are no text"),
    ("slots", of_turn("thought", 7), "the thought of turn 1 is 7"),
    ("slots", of_turn("cut", True), "the cut of turn 1 is True"),
    ("slots", lambda record, _: record.update(system=["Be kind."]), r"its system prompt is \['Be kind"),
    ("slots", lambda record, _: record.update(seed="x"), "damaged"),
    ("slots", lambda record, _: record.update(draws=-1), "its number of draws is -1"),
    ("slots", lambda record, _: record.update(turns={"a": 1}), "damaged"),
    ("slots", lambda record, _: record.update(fingerprint=[]), "its fingerprint is"),
    ("slots", lambda record, _: record.update(version=9), "it is in format 9, and rxlm reads 1 to 3"),
    ("slots", lambda record, _: record.pop("draws"), "draws"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fault", "message"), FAULTS)
def test_a_fault_is_named_and_the_conversation_stays_as_it_was(
    kind: str, fault: Change, message: str, tmp_path: Path
) -> None:
    chat = Conversation(MODELS[kind], seed=1)
    list(chat.send("My dog is called Rex."))
    chat.save(tmp_path / "chat")
    rewrite(tmp_path / "chat", fault)
    other = Conversation(MODELS[kind], seed=2)
    list(other.send("You"))
    before = (other.turns, other.memory, other.system, other.seed)

    with pytest.raises(ConversationError, match=message) as raised:
        other.load(tmp_path / "chat")
    assert str(tmp_path / "chat") in str(raised.value)
    assert (other.turns, other.memory, other.system, other.seed) == before


@pytest.mark.parametrize("version", [2, 3])
def test_without_a_fault_such_a_file_is_taken_in_earlier_formats_too(version: int, tmp_path: Path) -> None:
    chat = Conversation(MODELS["retained"], seed=1)
    list(chat.send("My dog is called Rex."))
    before = (chat.turns, chat.seed, chat.memory.tensors())
    chat.save(tmp_path / "chat")
    rewrite(tmp_path / "chat", lambda record, tensors: None, version)
    chat.reset()
    chat.load(tmp_path / "chat")

    assert (chat.turns, chat.seed) == before[:2]
    assert all(torch.equal(own, before[2][name]) for name, own in chat.memory.tensors().items())


def test_a_conversation_of_a_hundred_thousand_turns_is_saved_and_read(tmp_path: Path) -> None:
    turn = Turn("word " * 160, "Sch\u00f6n, half an emoji: \ud83d. " * 8, None, tuple(range(80)))
    memory = SlotState(torch.zeros(2, 1, 4, 16))
    saved = SavedConversation({}, None, 1, 0, (turn,) * 100_000, {0: memory, 99_999: memory, 100_000: memory})
    saved.write(tmp_path / "chat")
    assert (tmp_path / "chat").stat().st_size > 100_000_000

    assert SavedConversation.read(tmp_path / "chat").turns == saved.turns


def test_a_changed_byte_of_a_memory_is_seen(tmp_path: Path) -> None:
    chat = Conversation(MODELS["slots"], seed=1)
    chat.save(tmp_path / "chat")
    chat.memory.save(tmp_path / "memory")
    for name in ("chat", "memory"):
        data = bytearray((tmp_path / name).read_bytes())
        data[-6] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConversationError, match="chat is damaged: its digest is not that of what it holds"):
        chat.load(tmp_path / "chat")
    with pytest.raises(ValueError, match="memory is damaged: its digest"):
        MemoryState.load(tmp_path / "memory")


def test_nan_is_neither_saved_nor_loaded_nor_gone_on_from(tmp_path: Path) -> None:
    wrong = SlotState(torch.full((2, 1, 4, 16), torch.nan))
    SlotState(torch.zeros(2, 1, 4, 16)).save(tmp_path / "memory")
    before = (tmp_path / "memory").read_bytes()
    with pytest.raises(ValueError, match=r"not saved to .*memory: the tensor 'memory' holds NaN or infinity"):
        wrong.save(tmp_path / "memory")
    assert (tmp_path / "memory").read_bytes() == before
    save_file(wrong.tensors(), tmp_path / "memory", {"kind": "slots"})
    with pytest.raises(ValueError, match="memory is damaged: the tensor 'memory' holds NaN or infinity"):
        MemoryState.load(tmp_path / "memory")
    with pytest.raises(ValueError, match="the tensor 'memory' holds NaN or infinity"):
        MemoryState.from_state_dict(wrong.state_dict())
    model = MODELS["slots"]
    present = model.current.get()
    with pytest.raises(ValueError, match="the tensor 'memory' holds NaN or infinity"):
        model.load_stm_state(wrong)
    assert model.current.get() is present


def test_a_saved_conversation_keeps_its_size_unless_another_one_was_asked_for(tmp_path: Path) -> None:
    model = MODELS["retained"]
    chat = Conversation(model, memory_tokens=40, seed=1)
    list(chat.send("My dog is called Rex."))
    chat.save(tmp_path / "chat")

    other = Conversation(model)
    other.load(tmp_path / "chat")
    assert other.memory.num_tokens == 40
    asked = Conversation(model, memory_tokens=30)
    with pytest.raises(ConversationError, match="keeps 40 tokens, and memory_tokens is 30: leave it out, or give 40"):
        asked.load(tmp_path / "chat")
    assert asked.memory.num_tokens == 30
    Conversation(model, memory_tokens=40).load(tmp_path / "chat")
