"""Stage 5 is a stage like the others: it resumes bit for bit, accumulates, logs, and earns more as it goes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mrl_runs import BOOK, REWARDS, length, rollout, settings, source, talker, trainer
from process_groups import group
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.rewards import Reward, RewardError, Rewards
from rxlm.training.mrl.trajectories import TRAJECTORIES_FILE, TrajectoryLog
from rxlm.training.trainer import Trainer
from two_players import shared_run, train_share


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def stop_before(run: Trainer, step: int) -> None:
    train_step = run._train_step

    def failing() -> tuple[dict[str, float], Any]:
        if run.step == step:
            raise KeyboardInterrupt
        return train_step()

    run._train_step = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize("stop", [3, 4])  # within a rollout, and between two
@pytest.mark.parametrize(
    "chosen",
    [
        settings(carry_probability=0.5, replay_share=0.5, replay_size=6),
        settings("ppo", memory_from="reference"),
        settings("grpo", kl_weight=0.0),
    ],
    ids=["impo", "ppo", "grpo"],
)
def test_a_resumed_run_is_the_straight_one_bit_for_bit(chosen: Any, stop: int, tmp_path: Path) -> None:
    straight = trainer(tmp_path / "straight", chosen)
    straight.run()
    stop_before(trainer(tmp_path / "resumed", chosen), stop)
    resumed = trainer(tmp_path / "resumed", chosen, network=talker(seed=9))
    resumed.run()

    expected = weights(straight.module)
    assert any(
        not torch.equal(tensor, weights(trainer(tmp_path / "new", chosen).module)[name])
        for name, tensor in expected.items()
    )
    for name, tensor in weights(resumed.module).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("algorithm", ["impo", "grpo"])
def test_accumulated_rollouts_give_the_gradient_of_one(algorithm: str) -> None:
    chosen = settings(algorithm, normalise="none", told_weight=0.5)
    module = MemoryReinforcement(talker().double(), chosen)
    played = module.annotate(rollout(module.policy, chosen, rows=4))
    half = played.batch_size // 2
    parts = [played.rows(range(half)), played.rows(range(half, 2 * half))]
    module.train()

    module(played, module.counts(played)).total.backward()
    expected = {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
    module.zero_grad()
    counts = [module.counts(part) for part in parts]
    totals = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    for part in parts:
        module(part, totals).total.backward()
    for name, weight in module.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(weight.grad, expected[name], rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("algorithm", ["impo", "ppo", "grpo"])
def test_it_learns_what_is_rewarded(algorithm: str, tmp_path: Path) -> None:
    chosen = settings(algorithm, updates_per_rollout=2, entropy_weight=0.0, kl_weight=0.0)
    run = trainer(tmp_path, chosen, steps=40, checkpoint_every=None, rewards=Rewards([Reward("length", length)]))
    run.run()

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    earned = [line["reward"] for line in lines if "reward" in line]
    assert sum(earned[-5:]) / 5 > sum(earned[:5]) / 5 + 1.5


def test_figures_have_the_names_of_trl_and_the_values_of_the_rollout(tmp_path: Path) -> None:
    chosen = settings()
    module = MemoryReinforcement(talker(), chosen)
    batches = source(module.policy, module, chosen)
    batches.log = TrajectoryLog(tmp_path, every=2, episodes=2)
    played = next(batches)
    figures = {name: float(value) for name, value in module(played, module.counts(played)).figures.items()}

    assert figures["reward"] == pytest.approx(float(played.rewards[played.earns].mean()))
    lengths = played.answered.sum(2)[played.answered.any(dim=2)]
    assert figures["completions/mean_length"] == pytest.approx(float(lengths.float().mean()))
    assert figures["completions/max_length"] == float(lengths.max())
    known = played.by_name["sometimes"][~played.by_name["sometimes"].isnan()]
    assert figures["rewards/sometimes/mean"] == pytest.approx(float(known.mean()))
    assert figures["rewards/sometimes/std"] == pytest.approx(float(known.std(correction=0)))
    assert {"kl", "entropy", "value_loss", "explained_variance", "policy_consistency", "memory_change"} <= set(figures)
    assert {"time/generation", "time/reward", "frac_reward_zero_std", "clip_ratio/low_mean"} <= set(figures)

    (first, second) = (json.loads(line) for line in (tmp_path / TRAJECTORIES_FILE).read_text().splitlines())
    assert first["turns"][0]["query"] == played.words[0][0].query
    assert first["turns"][0]["reward"] is None  # told, not asked
    assert second["turns"][1]["reward"] == pytest.approx(float(played.rewards[1, 1]))


def test_each_rollout_is_used_as_often_as_is_said_and_then_played_anew() -> None:
    chosen = settings(updates_per_rollout=3)
    module = MemoryReinforcement(talker(), chosen)
    batches = source(module.policy, module, chosen)
    drawn = [next(batches) for _ in range(6)]
    assert drawn[0] is drawn[1] is drawn[2]
    assert drawn[3] is not drawn[2]
    assert drawn[3] is drawn[5]


def test_good_episodes_come_back() -> None:
    chosen = settings(replay_share=0.5, updates_per_rollout=1)
    module = MemoryReinforcement(talker(), chosen)
    batches = source(module.policy, module, chosen)
    first, second, third = (next(batches) for _ in range(3))
    assert first.batch_size == 4
    assert second.batch_size == 5  # one was good enough to be kept
    assert third.batch_size == 6
    best = int((first.rewards.sum(0) / first.earns.sum(0)).argmax())
    length = int(first.mask[1, best].sum())
    assert torch.equal(second.ids[1, 4, :length], first.ids[1, best, :length])


def test_the_critic_learns_alone_at_first() -> None:
    chosen = settings(critic_warmup=2)
    module = MemoryReinforcement(talker(), chosen)
    played = module.annotate(rollout(module.policy, chosen))
    module.train()
    for step, learns in ((1, False), (2, True)):
        module.zero_grad()
        module.start_step(step)
        module(played, module.counts(played)).total.backward()
        assert any(weight.grad is not None for weight in module.model.parameters()) == learns
        assert module.critic is not None
        assert module.critic.head.weight.grad is not None


def test_a_reward_that_is_no_number_stops_the_run_by_its_name(tmp_path: Path) -> None:
    broken = Rewards([*REWARDS.rewards, Reward("broken", lambda turn: [math.nan] * len(turn))])
    with pytest.raises(RewardError, match="The reward 'broken', at turn 1, returned nan"):
        trainer(tmp_path, settings(), rewards=broken).run()
    assert len(BOOK) == 40


def test_two_processes_equal_one_with_all_episodes(tmp_path: Path) -> None:
    alone = shared_run(tmp_path / "alone")
    alone.run()
    ended = group(train_share, tmp_path / "two")
    assert [process.status for process in ended] == [0, 0], ended

    two = shared_run(tmp_path / "two")
    two.run()  # loads the last checkpoint, and has nothing left to do
    start = weights(shared_run(tmp_path / "start").module)
    assert any(not torch.equal(tensor, start[name]) for name, tensor in weights(alone.module).items())
    for (name, one), other in zip(weights(alone.module).items(), weights(two.module).values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9, msg=name)
