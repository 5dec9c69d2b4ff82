"""Stage 6 is a stage like the others: it resumes bit for bit, accumulates, and learns what people prefer."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from feedback_runs import turn_tokenizer
from rxlm.data.fact_preferences import FactPreferences
from rxlm.data.samplers import ShuffledBatches
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.module import PreferenceOptimisation
from rxlm.training.trainer import Trainer
from training_runs import facts, model

PAIRS = FactPreferences(facts(4), 24)[:]


def trainer(folder: Path, network: RxTAlpha, steps: int = 6, **settings: Any) -> Trainer:
    module = PreferenceOptimisation(network, PreferenceConfig(**settings))
    collate = partial(feedback_batch, turn_tokenizer=turn_tokenizer(network), with_others=settings.get("loss") == "kto")
    config = TrainingConfig(
        steps=steps,
        batch_size=4,
        precision="float32",
        log_every=1,
        checkpoint_every=1,
        optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=2, schedule="constant"),
    )
    return Trainer("6-feedback", module, ShuffledBatches(PAIRS, collate, batch_size=4), config, folder)


def new_model(seed: int = 0) -> RxTAlpha:
    return model(seed, initial_memory="normal")


def stopped_before(run: Trainer, step: int) -> None:
    train_step: Callable[[], Any] = run._train_step

    def failing() -> Any:
        if run.step == step:
            raise KeyboardInterrupt
        return train_step()

    run._train_step = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize("loss", ["dpo", "kto", "simpo"])
def test_a_resumed_run_is_the_straight_one_bit_for_bit(loss: str, tmp_path: Path) -> None:
    straight = trainer(tmp_path / "straight", new_model(), loss=loss)
    straight.run()
    stopped_before(trainer(tmp_path / "resumed", new_model(), loss=loss), 3)
    resumed = trainer(tmp_path / "resumed", new_model(seed=9), loss=loss)
    resumed.run()
    for name, weight in resumed.module.state_dict().items():
        assert torch.equal(weight, straight.module.state_dict()[name]), name


def test_accumulated_pairs_give_the_gradient_of_one_batch() -> None:
    module = PreferenceOptimisation(new_model().double(), PreferenceConfig(loss="ipo", chosen_weight=0.5))
    batch = partial(feedback_batch, turn_tokenizer=turn_tokenizer(module.model))  # type: ignore[arg-type]
    # With first memories that are drawn by row, a half must be drawn as it was in the whole.
    whole, first = batch(PAIRS[:4]), batch(PAIRS[:2])
    second = type(first)(**{**vars(batch(PAIRS[2:4])), "seed": 2})
    totals = {name: module.counts(first)[name] + module.counts(second)[name] for name in module.counts(first)}
    assert totals == module.counts(whole)
    module(whole, totals).total.backward()
    expected = {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
    module.zero_grad()
    for part in (first, second):
        module(part, totals).total.backward()
    for name, weight in module.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto", "simpo", "sft"])
def test_better_answers_become_likelier_than_the_others(loss: str, tmp_path: Path) -> None:
    beta = {"simpo": 2.0}.get(loss, 0.1)
    run = trainer(tmp_path, new_model(), steps=30, loss=loss, beta=beta)
    run.run()
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    if loss == "sft":
        assert logged[-1]["chosen_loss"] < 0.8 * logged[0]["chosen_loss"]
        return
    margins = [line["rewards/chosen"] - line["rewards/rejected"] for line in logged]
    assert sum(margins[-5:]) > sum(margins[:5])
    if loss in ("dpo", "ipo", "simpo"):
        assert sum(line["rewards/accuracies"] for line in logged[-5:]) / 5 > 0.7
