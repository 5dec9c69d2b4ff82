"""Advantages equal their textbook forms, written as loops."""

import pytest
import torch

from rxlm.training.mrl.advantages import EPSILON, generalised, group_relative, one_step, standardise


def test_generalised_advantages_equal_the_sum_over_later_turns() -> None:
    torch.manual_seed(0)
    rewards, values = torch.rand(5, 3), torch.rand(5, 3)
    present = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0], [0, 1, 0]]).bool()
    rewards, values = rewards * present, values * present
    discount, lam = 0.9, 0.8
    advantages, returns = generalised(rewards, values, present, discount=discount, gae_lambda=lam)

    for row in range(3):
        turns = present[:, row].nonzero()[:, 0].tolist()
        for place, turn in enumerate(turns):
            expected = 0.0
            for step, later in enumerate(turns[place:]):
                following = float(values[later + 1, row]) if later + 1 in turns else 0.0
                delta = float(rewards[later, row]) + discount * following - float(values[later, row])
                expected += (discount * lam) ** step * delta
            assert float(advantages[turn, row]) == pytest.approx(expected, abs=1e-6)
            assert float(returns[turn, row]) == pytest.approx(expected + float(values[turn, row]), abs=1e-6)
    assert not advantages[~present].any()


def test_without_gae_a_turn_stands_for_itself() -> None:
    rewards, values = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.25, 0.75]])
    advantages, returns = one_step(rewards, values)
    assert advantages.tolist() == [[0.75, -0.25]]
    assert returns.tolist() == [[1.0, 0.5]]


def test_groups_are_compared_within_themselves_and_turn_by_turn() -> None:
    rewards = torch.tensor([[1.0, 0.0, 5.0, 5.0], [0.2, 0.4, 0.0, 1.0]])
    earns = torch.tensor([[True, True, True, True], [True, True, False, True]])
    found = group_relative(rewards, earns, 2)
    torch.testing.assert_close(found, torch.tensor([[0.5, -0.5, 0.0, 0.0], [-0.1, 0.1, 0.0, 0.0]]))


@pytest.mark.parametrize("over", ["batch", "step"])
def test_normalised_advantages_have_mean_0_and_deviation_1_over_what_counts(over: str) -> None:
    torch.manual_seed(0)
    advantages = torch.randn(3, 8) * 4 + 2
    counted = torch.rand(3, 8) < 0.7
    found = standardise(advantages, counted, over)  # type: ignore[arg-type]

    parts = [(advantages, counted, found)] if over == "batch" else list(zip(advantages, counted, found, strict=True))
    for values, taken, normal in parts:
        chosen = values[taken].tolist()
        mean = sum(chosen) / len(chosen)
        deviation = (sum((value - mean) ** 2 for value in chosen) / len(chosen)) ** 0.5
        expected = [(value - mean) / (deviation + EPSILON) for value in chosen]
        assert normal[taken].tolist() == pytest.approx(expected, abs=1e-4)
        assert not normal[~taken].any()


def test_advantages_can_be_left_as_they_are_and_one_alone_teaches_nothing() -> None:
    advantages, counted = torch.tensor([[2.0, 3.0]]), torch.tensor([[True, False]])
    assert standardise(advantages, counted, "none").tolist() == [[2.0, 0.0]]
    assert standardise(advantages, counted, "batch").tolist() == [[0.0, 0.0]]
