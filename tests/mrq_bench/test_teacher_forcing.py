"""Teacher forcing gives the losses of a naive pass, in batches of any size, from the memory that a control says."""

import math

import pytest
import torch
import torch.nn.functional as F

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue
from rxlm.memory import MemoryState
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.teacher_forcing import perplexity, predict_answers
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
    """Predict one dialogue alone, token by token."""
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


@pytest.mark.parametrize("control", ["none", "empty"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_losses_are_those_of_a_dialogue_alone(
    model: RxTAlpha, dialogues: list[Dialogue], control: Control, batch_size: int
) -> None:
    predicted = list(predict_answers(model, dialogues, control=control, batch_size=batch_size))
    expected = {dialogue.source: naive(model, dialogue, control == "empty") for dialogue in dialogues}

    assert len(predicted) == sum(map(len, dialogues))
    for answer in predicted:
        loss, tokens = expected[answer.dialogue.source][answer.number]
        assert answer.loss == pytest.approx(loss, rel=1e-6)
        assert answer.tokens == tokens
    total, count = (
        sum(column) for column in zip(*(pair for pairs in expected.values() for pair in pairs), strict=True)
    )
    assert perplexity(predicted) == pytest.approx(math.exp(total / count))
    assert math.isnan(perplexity(predicted, lambda answer: answer.number == 99))


def test_shuffled_predicts_from_another_dialogues_memory_and_updates_its_own(
    model: RxTAlpha, dialogues: list[Dialogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [dialogues[0], dialogues[2]]
    seen: list[MemoryState] = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda ids, memory: seen.append(memory) or decode(ids, memory))
    list(predict_answers(model, pair, control="none"))
    true = seen.copy()
    seen.clear()
    list(predict_answers(model, pair, control="shuffled"))

    for own, other in zip(true, seen, strict=True):
        assert torch.equal(own.slots[:, [1, 0]], other.slots)


def test_what_makes_no_sense_is_refused(model: RxTAlpha, dialogues: list[Dialogue]) -> None:
    with pytest.raises(ValueError, match="control must be one of none, empty, shuffled, got 'full-history'"):
        list(predict_answers(model, dialogues, control="full-history"))
    with pytest.raises(ValueError, match="needs at least two dialogues"):
        list(predict_answers(model, dialogues[:1], control="shuffled"))
