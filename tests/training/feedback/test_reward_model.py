"""Reward models learn by Bradley-Terry, save and load, and know nothing of a conversation but its memory."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from feedback_runs import KINDS, gradients, moved, network, pairs, turn_tokenizer
from rxlm.config import ConfigError
from rxlm.data.fact_preferences import FROM_MEMORY, FactPreferences
from rxlm.data.preferences import Preference
from rxlm.data.records import Interaction
from rxlm.data.samplers import ShuffledBatches
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.feedback.accuracy import ALL, LONGER, SHORTER, Compared, accuracies, compare
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.preference_reward import PreferenceReward
from rxlm.training.feedback.reward import REWARD_FOLDER, RewardConfig, RewardTraining, scores_of
from rxlm.training.mrl.rewards import TurnAnswers
from rxlm.training.trainer import Trainer
from training_runs import facts, model

SEED = 5


def scoring(kind: str, folder: Path) -> RewardModel:
    """A reward model with random weights, its head too, in float64."""
    made = RewardModel(network(kind, folder))
    moved(made.double())  # type: ignore[arg-type]
    return made


def naive_score(made: RewardModel, before: tuple[Interaction, ...], said: tuple[Interaction, ...], seed: int) -> Tensor:
    """The score of a continuation, turn after turn."""
    own, tokenizer = made.model, turn_tokenizer(made.model)
    memory, total = own.init_memory(1, seed), torch.zeros((), dtype=torch.float64)
    for number, turn in enumerate((*before, *said)):
        ids = torch.tensor([tokenizer.encode(turn).ids])
        if number >= len(before):
            encoded, states = tokenizer.encode(turn), own.decoder.hidden_states(ids, memory)[0]
            places = range(encoded.first_target, encoded.end_of_targets)
            scores = own.decoder.head(states).log_softmax(-1)
            likely = torch.stack([scores[place - 1, ids[0, place]] for place in places]).mean()
            total = total + made.score.weight[0] @ torch.cat((states[-1], likely[None])) + made.score.bias[0]
        memory = own.update_memory(memory, ids)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_the_formula(kind: str, tmp_path: Path) -> None:
    made = scoring(kind, tmp_path)
    module = RewardTraining(made, RewardConfig(label_smoothing=0.1, centre_weight=0.05)).train()
    preferences = pairs()
    batch = replace(feedback_batch(preferences, turn_tokenizer(made.model)), seed=SEED)
    losses = module(batch, module.counts(batch))
    expected = []
    for row, pair in enumerate(preferences):
        better, worse = (naive_score(made, pair.before, said, SEED + row) for said in pair.answers)
        probability = 1 / (1 + (-(better - worse - (pair.margin or 0.0))).exp())
        expected.append(-0.9 * probability.log() - 0.1 * (1 - probability).log() + 0.05 * (better + worse) ** 2)
    wanted = torch.stack(expected).mean()
    assert float(losses.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-9)
    found, naive = gradients(module, losses.total), gradients(module, wanted)
    assert set(found) == set(naive)
    assert any("encoder" in name for name in found) == (kind == "slots")
    for name, gradient in naive.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-10, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_it_saves_and_loads_as_a_model_does(kind: str, tmp_path: Path) -> None:
    made = scoring(kind, tmp_path).float().eval()
    RewardTraining(made, RewardConfig()).save(tmp_path)
    loaded = RewardModel.from_pretrained(tmp_path / REWARD_FOLDER)
    batch = feedback_batch(pairs(), turn_tokenizer(loaded.model))
    with torch.no_grad():
        assert torch.equal(scores_of(loaded, batch, unroll=1), scores_of(made, batch, unroll=1))
    with pytest.raises(ValueError, match="holds a RewardModel, not a RxTAlpha"):
        RxTAlpha.from_pretrained(tmp_path / REWARD_FOLDER)


def test_without_its_memory_the_turns_before_change_nothing(tmp_path: Path) -> None:
    made = scoring("slots", tmp_path).eval()
    pair = pairs()[2]
    others = Preference(pair.before[::-1] * 2, pair.chosen, pair.rejected)
    tokenizer = turn_tokenizer(made.model)
    with torch.no_grad():
        for forgets in (False, True):
            first, second = (
                scores_of(made, feedback_batch([each], tokenizer), unroll=1, forgets=forgets) for each in (pair, others)
            )
            assert torch.allclose(first, second) == forgets


def test_as_a_reward_it_reads_texts_by_its_own_tokenizer_whoever_said_them(tmp_path: Path) -> None:
    made = scoring("retained", tmp_path).eval()
    (pair,) = pairs()[1:2]
    before = [(turn.query, turn.answer) for turn in pair.before]
    (query, better), worse = (pair.chosen[0].query, pair.chosen[0].answer), pair.rejected[0].answer
    others = [[5, 6]] * 2  # tokens of another model's tokenizer
    turn = TurnAnswers(1, [query] * 2, [better, worse], [better] * 2, others, others, [None] * 2, [before] * 2)
    with torch.no_grad():
        expected = scores_of(made, feedback_batch([pair], turn_tokenizer(made.model)), unroll=1).sigmoid()
    torch.testing.assert_close(PreferenceReward(made)(turn), expected)


def test_it_learns_what_people_prefer_and_accuracies_are_counted_by_what_differs(tmp_path: Path) -> None:
    learnt = FactPreferences(facts(4), 40, differences=("fluent", "value"))[:]
    made = RewardModel(model(initial_memory="normal"))
    tokenizer = turn_tokenizer(made.model)
    config = TrainingConfig(
        steps=40, batch_size=8, precision="float32", checkpoint_every=None,
        optimizer=OptimizerConfig(learning_rate=0.005, warmup_steps=2, critic_scale=5.0),
    )  # fmt: skip
    batches = ShuffledBatches(learnt, partial(feedback_batch, turn_tokenizer=tokenizer), batch_size=8)
    Trainer("6-reward", RewardTraining(made, RewardConfig()), batches, config, tmp_path).run()
    found = accuracies(compare(made, learnt, tokenizer, batch_size=7), FROM_MEMORY)
    assert found["fluent"].with_memory > 0.9
    assert (found["fluent"].count, found["value"].count, found[ALL].count) == (20, 20, 40)
    assert found["from memory alone"] == found["value"]
    assert found[LONGER].count + found[SHORTER].count <= 40


def test_a_draw_counts_half_and_differences_weigh_the_same() -> None:
    def pair(differs: str, better: str, worse: str) -> Preference:
        return Preference((), (Interaction("?", better),), (Interaction("?", worse),), differs)

    compared = [
        Compared(pair("value", "a", "b"), 1.0, 0.0),
        Compared(pair("value", "a", "bb"), -1.0, 1.0),
        Compared(pair("value", "a", "bb"), -1.0, -1.0),
        Compared(pair("stale", "aa", "b"), 2.0, -1.0),
    ]
    found = accuracies(compared, FROM_MEMORY)
    assert found["value"].with_memory == pytest.approx(1 / 3)
    assert found["value"].without_memory == pytest.approx(0.5)
    assert found["from memory alone"].with_memory == pytest.approx(2 / 3)
    assert found["from memory alone"].without_memory == pytest.approx(0.25)
    assert (found[ALL].with_memory, found[LONGER].count, found[SHORTER].count) == (0.5, 1, 2)


@pytest.mark.parametrize("fields", [{"label_smoothing": 0.6}, {"centre_weight": -1.0}, {"unroll": 0}])
def test_settings_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RewardConfig(**fields)  # type: ignore[arg-type]
