"""Each loss of stage 6 and its gradient are those of the formulas, written pair by pair and token by token."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from feedback_runs import KINDS, gradients, moved, naive_log_probs, network, pairs, rated, turn_tokenizer
from rxlm.config import ConfigError
from rxlm.data.preferences import Feedback, Preference
from rxlm.recipes import tiny, upcycled
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.module import PreferenceOptimisation

SEED = 11
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "dpo, smoothed": {"label_smoothing": 0.2, "chosen_weight": 0.3},
    "ipo": {"beta": 0.7},
    "kto": {"beta": 0.5},
    "simpo": {"beta": 2.0, "target_margin": 0.4, "label_smoothing": 0.1},
    "sft": {},
}


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + (-value).exp())


def naive_loss(module: PreferenceOptimisation, feedback: list[Feedback]) -> Tensor:
    """The loss by loops over pairs, turns and tokens; nothing is batched."""
    chosen = module.settings

    def ratio(row: int, said: Any) -> tuple[Tensor, int, Tensor]:
        before = feedback[row].before
        own, count = naive_log_probs(module.model, before, said, SEED + row, chosen.unroll)  # type: ignore[arg-type]
        if module.reference is None:
            return own, count, own
        with torch.no_grad():
            other = naive_log_probs(module.reference.model, before, said, SEED + row)[0]  # type: ignore[arg-type]
        return own - other, count, own

    good = [(row, each.answers[0]) for row, each in enumerate(feedback) if getattr(each, "is_good", True)]
    bad = [(row, each.answers[-1]) for row, each in enumerate(feedback) if not getattr(each, "is_good", False)]
    better, worse = [ratio(*each) for each in good], [ratio(*each) for each in bad]
    nll = -torch.stack([own for *_, own in better]).sum() / sum(count for _, count, _ in better)
    if chosen.loss == "sft":
        return nll
    if chosen.loss == "kto":
        judged = [*good, *bad]
        others = []
        for place, (row, said) in enumerate(judged):
            answer = next(
                text[0].answer for other, text in [*judged[place + 1 :], *judged[:place]] if other != row
            )  # fmt: skip
            others.append(ratio(row, (replace(said[0], answer=answer, question=None),))[0])
        z = torch.stack(others).mean().clamp(min=0).detach()
        losses = [1 - sigmoid(chosen.used_beta * (each - z)) for each, *_ in better]
        losses += [1 - sigmoid(chosen.used_beta * (z - each)) for each, *_ in worse]
        return torch.stack(losses).mean()
    losses = []
    for (first, tokens, _), (second, others, _) in zip(better, worse, strict=True):
        smoothing = chosen.label_smoothing
        if chosen.loss == "ipo":
            losses.append((first / tokens - second / others - 1 / (2 * chosen.used_beta)) ** 2)
            continue
        if chosen.loss == "dpo":
            margin = chosen.used_beta * (first - second)
        else:
            margin = chosen.used_beta * (first / tokens - second / others) - chosen.used_target_margin
        losses.append(-(1 - smoothing) * sigmoid(margin).log() - smoothing * sigmoid(-margin).log())
    return torch.stack(losses).mean() + chosen.chosen_weight * nll


def prepared(kind: str, folder: Path, **settings: Any) -> tuple[PreferenceOptimisation, list[Feedback]]:
    module = PreferenceOptimisation(network(kind, folder), PreferenceConfig(**settings)).train()
    moved(module.model)  # type: ignore[arg-type]
    feedback: list[Feedback] = [*pairs()]
    return module, rated(pairs()) if settings.get("loss") == "kto" else feedback


def loss_of(module: PreferenceOptimisation, feedback: list[Feedback]) -> Tensor:
    batch = feedback_batch(
        feedback,
        turn_tokenizer(module.model),  # type: ignore[arg-type]
        with_others=module.settings.loss == "kto",
    )
    batch = replace(batch, seed=SEED)
    return module(batch, module.counts(batch)).total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_those_of_the_formulas(kind: str, name: str, tmp_path: Path) -> None:
    module, feedback = prepared(kind, tmp_path, loss=name.partition(",")[0], **LOSSES[name])
    loss, expected = loss_of(module, feedback), naive_loss(module, feedback)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    found, wanted = gradients(module, loss), gradients(module, expected)
    assert set(found) == set(wanted)
    for part in ("encoder.layers", "memory_writer") if kind == "slots" else ("decoder.layers",):
        assert any(each.startswith(f"model.{part}") for each in found)
    for each, gradient in wanted.items():
        torch.testing.assert_close(found[each], gradient, rtol=1e-6, atol=1e-10, msg=each)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_flows_through_so_many_updates_as_the_unroll_says(kind: str, tmp_path: Path) -> None:
    module, feedback = prepared(kind, tmp_path, unroll=1)
    loss, expected = loss_of(module, feedback), naive_loss(module, feedback)
    found, wanted = gradients(module, loss), gradients(module, expected)
    for each, gradient in wanted.items():
        torch.testing.assert_close(found[each], gradient, rtol=1e-6, atol=1e-10, msg=each)
    module.settings = module.settings.replace(unroll=99)
    further = gradients(module, loss_of(module, feedback))
    assert any(not torch.allclose(found[each], further[each], rtol=1e-3) for each in found)


def test_at_its_start_dpo_is_log_2_and_prefers_nothing(tmp_path: Path) -> None:
    module = PreferenceOptimisation(network("slots", tmp_path), PreferenceConfig())
    batch = feedback_batch(pairs(), turn_tokenizer(module.model))  # type: ignore[arg-type]
    losses = module(module.prepare(batch, torch.Generator().manual_seed(0)), module.counts(batch))
    assert float(losses.total.detach()) == pytest.approx(float(torch.tensor(2.0).log()), abs=1e-6)
    assert float(losses.figures["rewards/margins"]) == pytest.approx(0.0, abs=1e-9)


def test_of_a_share_of_the_layers_the_last_ones_learn_and_the_rest_is_shared_with_the_reference(tmp_path: Path) -> None:
    model = network("retained", tmp_path)
    module = PreferenceOptimisation(model, PreferenceConfig(learned_share=0.28))
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.split(".")[2] for name in learns if ".layers." in name} == {"5", "6"}
    assert {name for name in learns if ".layers." not in name} == {"decoder.final_norm.weight"}
    assert module.reference is not None
    others = dict(module.reference.model.named_parameters())
    for name, weight in model.named_parameters():
        assert (others[name] is weight) == (name not in learns)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "ppo"}, "loss must be one of 'dpo', 'ipo', 'kto', 'simpo', 'sft'"),
        ({"beta": 0.0}, "beta must be above 0"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing is for dpo and simpo; it must be 0 for ipo"),
        ({"label_smoothing": 0.5}, "label_smoothing must be from 0 to below 0.5"),
        ({"target_margin": 1.0}, "target_margin is for simpo; it must be 0 for dpo"),
        ({"loss": "sft", "chosen_weight": 1.0}, "chosen_weight must be 0 for sft"),
        ({"learned_share": 0.0}, "learned_share must be above 0"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PreferenceConfig(**fields)


def test_each_loss_has_its_usual_beta_so_that_another_one_may_be_taken() -> None:
    for recipe in (tiny(), upcycled()):
        for loss, beta in (("dpo", 0.1), ("ipo", 0.1), ("kto", 0.1), ("simpo", 2.0)):
            settings = recipe.override([f"feedback.settings.loss={loss}"]).stage("feedback").settings
            assert (settings.used_beta, settings.chosen_weight) == (beta, 1.0)


def test_a_batch_has_pairs_in_order_and_each_query_with_another_answer_for_kto(tmp_path: Path) -> None:
    feedback: list[Feedback] = [*pairs()]
    batch = feedback_batch(feedback, turn_tokenizer(network("slots", tmp_path)), with_others=True)
    assert batch.signs.tolist() == [1] * 5 + [-1] * 5 + [0] * 10
    assert batch.rows.tolist() == [*range(5)] * 4
    assert batch.margins.tolist() == [0, 0, 0, 0, 2]
    assert batch.before is not None
    present = batch.before.mask.any(dim=2)
    assert [int(each) for each in present.sum(0)] == [len(each.before) for each in feedback]
    assert bool(present[-1, 1:].all()), "conversations end together"
    assert isinstance(feedback[0], Preference)
