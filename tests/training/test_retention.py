"""Retention training: one pass over a dialogue is the turns one after the other (law 9), and gates learn from it."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from retention_models import SIZE, batch_of, facts, gated, generator, language_model, learns
from rxlm.config import ConfigError
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue, Interaction
from rxlm.memory.retained.gate import Granularity, RetentionGateConfig
from rxlm.nn import half_attention
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.module import Retention
from rxlm.upcycling.model import upcycle, with_gates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


@pytest.mark.parametrize("granularity", get_args(Granularity))
@torch.no_grad()
def test_one_pass_over_a_dialogue_gives_what_its_turns_give_one_after_the_other(
    granularity: Granularity, folder: Path
) -> None:
    """Law 9: logits of every turn, though the memory is soon full and heads, layers or tokens have other scores."""
    model = gated(folder, granularity=granularity).double()
    module, batch = learns(model), facts(model)
    whole = module.prepare(batch, generator())
    parallel = model.decoder.head(module.states(whole.ids, whole.turns, SIZE, None))
    memory = model.init_memory(batch.batch_size)
    places = [len(module.form.prefix)] * batch.batch_size
    for turn in batch.turns:
        logits = model.decode(turn.ids, memory, turn.mask)
        for row, count in enumerate(turn.mask.sum(1).tolist()):
            begin = places[row]
            assert whole.ids[row, begin : begin + count].tolist() == turn.ids[row, :count].tolist()
            # The end of the answer is read with the next turn.
            torch.testing.assert_close(logits[row, : count - 1], parallel[row, begin : begin + count - 1])
            places[row] += count + len(model.memory_writer.config.answer_end) - 1
        memory = model.update_memory(memory, turn.ids, turn.mask)
    assert (memory.num_kept == SIZE).all()
    kept = memory.positions[:, 0]
    assert (kept[:, 0] != kept[:, 1]).any() == (granularity == "head")
    assert (kept[0] != kept[1]).any() == (granularity != "token")
    assert (kept.diff() > 1).any()  # and not the newest alone


@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_dialogues_teach_alike_as_one_row_and_padded(
    granularity: Granularity, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of unlike lengths, in several blocks each, with all losses."""
    monkeypatch.setattr(half_attention, "BLOCK", 32)
    model = gated(folder, granularity=granularity).double()
    module = learns(model, history_weight=5.0, wording_share=1.0)
    told = FactGenerator(FactsConfig(variety="full", num_turns=5)).dialogues(2)
    natural = [Interaction("Hello!", "Hi.", is_reference=False), Interaction("So?", "It rains.", is_reference=False)]
    batch = module.prepare(batch_of(model, [told[0], Dialogue(tuple(natural)), told[1]]), generator())
    lengths = (batch.turns >= 0).sum(1)
    assert lengths.min() < lengths.max() / 2
    assert all(each.any() for each in (batch.values, batch.words, batch.kept))
    results = []
    for padded in (False, True):
        if padded:
            monkeypatch.setattr(Retention, "_real", lambda *_: None)
        module.zero_grad()
        found = module(batch, module.counts(batch))
        found.total.backward()
        gradients = {name: each.grad for name, each in module.named_parameters() if each.grad is not None}
        results.append({"total": found.total.detach(), **found.figures, **gradients})
    one, other = results
    assert one.keys() == other.keys()
    assert any(".retention_gate." in name and each.any() for name, each in one.items())
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=name)


@torch.no_grad()
def test_padding_and_other_rows_change_nothing(folder: Path) -> None:
    model = gated(folder).double()
    module, batch = learns(model), facts(model, count=3)
    whole = module.prepare(batch, generator())
    for temperature in (None, 0.5):
        together = module.states(whole.ids, whole.turns, SIZE, temperature)
        for row in range(3):
            count = int((whole.turns[row] >= 0).sum())
            alone = module.states(
                whole.ids[row : row + 1, :count], whole.turns[row : row + 1, :count], SIZE, temperature
            )
            torch.testing.assert_close(together[row, :count], alone[0])


def test_gates_learn_what_later_turns_need(folder: Path) -> None:
    """The loss of the last answer alone reaches the gates, and a few steps lower it."""
    model = gated(folder, seed=None)
    module = learns(model, learned_share=0.0)
    batch = module.prepare(facts(model), generator())
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert all("retention_gate" in name for name in learning)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=3e-2)
    losses = []
    for _ in range(12):
        loss = module(batch, module.counts(batch)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.005


def test_gates_that_learn_alone_take_a_step_where_all_is_kept(folder: Path) -> None:
    """Short dialogues tell them nothing, and training goes on."""
    module = Retention(gated(folder), RetentionConfig(sizes=(400,), learned_share=0.0))
    module.start_step(0)
    batch = module.prepare(facts(module.model, num_turns=2), generator())
    module(batch, module.counts(batch)).total.backward()
    gates = [each for name, each in module.named_parameters() if "retention_gate" in name]
    assert all(each.grad is not None and not each.grad.any() for each in gates)


def test_gates_learn_the_same_in_half_precision(folder: Path) -> None:
    """Their gradients come through the bias of attention, which not every way to attend has one for."""

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        module = learns(gated(folder), wording_share=1.0)
        module.load_state_dict(weights)
        batch = module.prepare(facts(module.model, num_turns=8), generator())
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            module(batch, module.counts(batch)).total.backward()
        return [each.grad for name, each in module.named_parameters() if "retention_gate" in name and each.dim() > 1]

    weights = learns(gated(folder)).state_dict()
    for half, full in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert full.norm() > 0
        assert torch.cosine_similarity(half.flatten(), full.flatten(), dim=0) > 0.95


def test_natural_dialogue_keeps_to_the_language_model(folder: Path) -> None:
    """With everything kept there is nothing to lose; with little kept there is, but not in first turns."""
    model = gated(folder, seed=None)
    talk = Dialogue(tuple(Interaction(f"I like {word}.", "So do I.", is_reference=False) for word in "abcdef"))
    divergences = []
    for size in (200, 2 * len(learns(model).form.prefix) + 2):
        module = Retention(model, RetentionConfig(sizes=(size,)))
        batch = module.prepare(batch_of(model, [talk]), generator())
        assert not batch.values.any()
        assert not batch.words.any()
        module.temperature = None
        figures = module(batch, module.counts(batch)).figures
        divergences.append(figures["keeping_loss"].item())
        assert figures["language_change"].item() == pytest.approx(0, abs=1e-5)
    assert divergences[0] == pytest.approx(0, abs=1e-5)
    assert divergences[1] > 1e-4


def test_the_change_of_language_is_what_first_turns_diverge(folder: Path) -> None:
    """Whatever stands in later turns, and in further dialogues without natural answers."""
    model = gated(folder, seed=None)
    module = Retention(model, RetentionConfig(sizes=(200,)))
    with torch.no_grad():
        model.decoder.layers[-1].attention.out_proj.weight.mul_(1.5)
    module.temperature = None
    first = Interaction("I like apples.", "So do I.", is_reference=False)
    changes = []
    for turns in ([first], [first, replace(first, answer="Why is that so?")]):
        batch = module.prepare(batch_of(model, [Dialogue(tuple(turns))]), generator())
        changes.append(module(batch, module.counts(batch)).figures["language_change"].item())
    assert changes[0] > 1e-4
    assert changes[1] == pytest.approx(changes[0], rel=1e-4)


def test_what_is_predicted_of_references(folder: Path) -> None:
    model = gated(folder)
    module = learns(model, wording_share=0.0)
    batch = module.prepare(facts(model), generator())
    tokenizer = model.needed_tokenizer()
    assert batch.values.any()
    assert not (batch.values & batch.words).any()
    turns = [turn for each in facts(model).dialogues for turn in each.turns if turn.question]
    expected = {value for turn in turns for value in turn.question.expected}
    firsts = [
        tokenizer.encode(turn.answer, add_special_tokens=False)[0] for turn in turns
    ]  # "I" do not know, or "Your"
    predicted = batch.ids[batch.values].tolist()
    assert all(predicted.count(first) >= firsts.count(first) for first in firsts)
    assert any(not turn.question.was_told for turn in turns)
    text = tokenizer.decode(batch.ids[batch.values])
    assert any(value.split()[0] in text for value in expected)
    counts = module.counts(batch)
    assert counts["answer"] == pytest.approx(counts["values"] + 0.3 * int(batch.words.sum()))


def test_the_temperature_falls_and_stays() -> None:
    settings = RetentionConfig(first_temperature=1.0, last_temperature=0.25, cooling_steps=10)
    assert [settings.temperature(step) for step in (0, 5, 10, 99)] == pytest.approx([1.0, 0.5, 0.25, 0.25])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ()}, "sizes must be numbers of tokens of at least 8"),
        ({"last_temperature": 0.0}, "last_temperature must be positive, got 0.0"),
        ({"keep": -1.0}, "keep must not be negative, got -1.0"),
        ({"history_weight": 0.5}, "history_weight must be at least 1, got 0.5"),
        ({"learned_share": 2.0}, "learned_share must be between 0 and 1, got 2.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RetentionConfig(**changes)


def test_one_score_a_token_is_learnt_by_the_gate_of_the_first_layer(folder: Path) -> None:
    model = gated(folder, seed=None, granularity="token")
    module = learns(model, learned_share=0.0)
    batch = module.prepare(facts(model), generator())
    assert {name.partition(".retention_gate")[0] for name, each in model.named_parameters() if each.requires_grad} == {
        "decoder.layers.0"
    }
    module(batch, module.counts(batch)).total.backward()
    assert model.decoder.layers[0].retention_gate.out_proj.weight.grad.any()


def test_gates_of_models_that_were_saved_first_are_read() -> None:
    for value, granularity in ((True, "head"), (False, "layer")):
        values = {"hidden_dim": 8, "per_head": value}
        assert RetentionGateConfig.from_dict(values) == RetentionGateConfig(hidden_dim=8, granularity=granularity)


def test_a_model_does_not_get_other_gates_than_it_has(folder: Path) -> None:
    model = gated(folder, granularity="layer")
    assert with_gates(model) is model
    with pytest.raises(ConfigError, match=r"has retention gates already: .*'layer'.* cannot have .*'token'"):
        with_gates(model, RetentionGateConfig(granularity="token"))


def test_models_that_cannot_learn_it_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="whose memory keeps tokens and whose layers have gates"):
        Retention(upcycle(folder, max_seq_len=64), RetentionConfig())
    with pytest.raises(ConfigError, match=r"sizes must be at least .* twice what is kept for good, got"):
        Retention(with_gates(upcycle(folder, max_seq_len=64, system="Be kind.")), RetentionConfig(sizes=(8,)))
