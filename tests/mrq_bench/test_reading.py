"""Reading gives the losses of a naive walk, in batches of any size, and the memory that is asked for."""

import math

import pytest
import torch
import torch.nn.functional as F

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue
from rxlm.memory import MemoryState
from rxlm.mrq_bench.reading import perplexity, read_dialogues
from rxlm.rxt.models import RxTAlpha
from text_models import tiny_text_model


@pytest.fixture(scope="module")
def model() -> RxTAlpha:
    return tiny_text_model(max_seq_len=96).eval().double()


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    made = list(FactGenerator(FactsConfig(num_turns=4)).dialogues(4))
    return [made[0], Dialogue(made[1].turns[:2], made[1].source, {}), made[2], made[3]]


@torch.no_grad()
def naive(model: RxTAlpha, dialogue: Dialogue, empty: bool) -> list[tuple[float, int]]:
    """Walk one dialogue alone, token by token."""
    tokens, memory, losses = model.tokenizer_config, model.init_memory(1, seed=0), []
    for turn in dialogue.turns:
        ids = model.tokenize_full_interaction(turn.query, turn.answer)["input_ids"]
        start = ids[0].tolist().index(tokens.answer_token_id) + 1
        seen = model.init_memory(1, seed=0) if empty else memory
        logits = model.decode(ids, seen)[0]
        loss = sum(float(F.cross_entropy(logits[place - 1], ids[0, place])) for place in range(start, ids.shape[1]))
        losses.append((loss, ids.shape[1] - start))
        memory = model.update_memory(memory, ids)
    return losses


@pytest.mark.parametrize("memory", ["true", "empty"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_losses_are_those_of_a_walk_alone(
    model: RxTAlpha, dialogues: list[Dialogue], memory: str, batch_size: int
) -> None:
    read = list(read_dialogues(model, dialogues, memory=memory, batch_size=batch_size))  # type: ignore[arg-type]
    expected = {dialogue.source: naive(model, dialogue, memory == "empty") for dialogue in dialogues}

    assert len(read) == sum(map(len, dialogues))
    for turn in read:
        loss, tokens = expected[turn.dialogue.source][turn.number]
        assert turn.loss == pytest.approx(loss, rel=1e-6)
        assert turn.tokens == tokens
    total, count = (
        sum(column) for column in zip(*(pair for pairs in expected.values() for pair in pairs), strict=True)
    )
    assert perplexity(read) == pytest.approx(math.exp(total / count))
    assert perplexity(read, lambda turn: turn.number == 99) != perplexity(read)


def test_another_dialogues_memory_is_read_with_and_the_own_one_updated(
    model: RxTAlpha, dialogues: list[Dialogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [dialogues[0], dialogues[2]]
    seen: list[MemoryState] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda ids, memory: seen.append(memory) or decode(ids, memory))
    list(read_dialogues(model, pair, memory="true"))
    true = seen.copy()
    seen.clear()
    list(read_dialogues(model, pair, memory="shuffled"))

    for own, other in zip(true, seen, strict=True):
        assert torch.equal(own.slots[:, [1, 0]], other.slots)


def test_what_makes_no_sense_is_refused(model: RxTAlpha, dialogues: list[Dialogue]) -> None:
    with pytest.raises(ValueError, match="memory must be one of true, empty, shuffled, got 'none'"):
        list(read_dialogues(model, dialogues, memory="none"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs two dialogues"):
        list(read_dialogues(model, dialogues[:1], memory="shuffled"))
