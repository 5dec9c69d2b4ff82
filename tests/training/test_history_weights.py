"""Weights of tokens by what the history is worth to the language model (LongCE), against a slow reference."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retention_models import SIZE, batch_of, facts, gated, generator, language_model, learns
from rxlm.data.records import Dialogue, Interaction
from rxlm.nn.cache import Layout
from rxlm.nn.key_values import KeyValues
from rxlm.training.retention.dialogues import Dialogues
from rxlm.training.retention.module import Retention

MOST = 1.05
"""A greatest weight that some tokens reach and some do not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


class Placed:
    """Lets tokens stand at given positions, each seeing the ones before it."""

    def __init__(self, positions: list[int]) -> None:
        self.positions = torch.tensor(positions)

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        return Layout(self.positions, None, causal=True)

    def note(self, layer: int, scores: Tensor) -> None:
        pass

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        return KeyValues(keys, values)


def naive_weights(module: Retention, batch: Dialogues) -> Tensor:
    """Return min(MOST, exp(loss of the token without history - its loss with it)), one turn after the other."""
    decoder, weights = module.language_model.decoder, torch.ones(batch.ids.shape)
    for row in range(len(batch.ids)):
        ids, turns = batch.ids[row].tolist(), batch.turns[row].tolist()
        whole = decoder(torch.tensor([ids]), None)[0].log_softmax(-1)
        for turn in range(max(turns) + 1):
            own = [place for place, number in enumerate(turns) if number == turn]
            seen = sorted({*range(module.first), *own} if turn else own)
            states = decoder.hidden_states(torch.tensor([[ids[place] for place in seen]]), None, cache=Placed(seen))
            alone = decoder.head(states)[0].log_softmax(-1)
            for place in own:
                target = place + 1
                if target < len(ids) and (batch.words | batch.kept)[row, target]:
                    gain = whole[place, ids[target]] - alone[seen.index(place), ids[target]]
                    weights[row, target] = min(MOST, float(gain.exp()))
    return weights


@torch.no_grad()
def test_weights_and_losses_are_those_of_the_slow_way(folder: Path) -> None:
    model = gated(folder)
    talk = Dialogue(tuple(Interaction(f"I like {word}.", "So do I.", is_reference=False) for word in "abcdef"))
    module = learns(model, history_weight=MOST, wording_share=1.0)
    batch = module.prepare(batch_of(model, [talk, facts(model).dialogues[0]]), generator())
    expected = naive_weights(module, batch)
    found = module._history_weights(batch, module._with_history(batch))
    assert found is not None
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for marked in (batch.kept, batch.words):
        assert (expected[marked] == MOST).any()
        assert (expected[marked] < 1).any()

    module.temperature = None
    counts = module.counts(batch)
    figures = module(batch, counts).figures
    logits = model.decoder.head(module.states(batch.ids, batch.turns, SIZE, None)).log_softmax(-1)
    aims = module.language_model.decoder(batch.ids, None).log_softmax(-1)
    kept = words = values = torch.zeros(())
    for row, place in (batch.kept | batch.words | batch.values).nonzero().tolist():
        before, weight = (row, place - 1), expected[row, place]
        loss = -logits[before][batch.ids[row, place]]
        kept = kept + batch.kept[row, place] * weight * F.kl_div(logits[before], aims[before], log_target=True,
                                                                 reduction="sum")  # fmt: skip
        words, values = words + batch.words[row, place] * weight * loss, values + batch.values[row, place] * loss
    torch.testing.assert_close(figures["keeping_loss"], kept / counts["kept"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(figures["answer_loss"], (values + 0.3 * words) / counts["answer"], atol=1e-4, rtol=1e-4)


def test_without_the_setting_every_token_weighs_one(folder: Path) -> None:
    model = gated(folder)
    module = learns(model)
    batch = module.prepare(facts(model), generator())
    assert module._history_weights(batch, module._with_history(batch)) is None


def test_where_no_token_is_marked_all_weigh_one_in_any_precision(tmp_path: Path) -> None:
    """A process whose rows have none reads the language model all the same where weights are divided."""
    module = learns(gated(language_model(tmp_path)).double())
    ids, turns = torch.arange(8, 40)[None], torch.zeros(1, 32, dtype=torch.long)
    read, none = module.language_model.states(ids), torch.zeros(1, 32, dtype=torch.bool)
    weights = module.language_model.history_weights(ids, turns, none, read, first=4, most=5.0)
    assert torch.equal(weights, torch.ones(1, 32))
