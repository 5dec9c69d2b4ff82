"""Rewards are weighed as their weights say, and one that fails stops the run with its name."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from answered_turns import answered
from rxlm.training.mrl.rewards import Reward, RewardError, Rewards, TurnAnswers


def always(values: Any) -> Any:
    return lambda turn: values


def raises(turn: TurnAnswers) -> Sequence[float]:
    raise KeyError("colour")


def test_the_total_is_the_scaled_weighted_mean_of_the_rewards_that_apply() -> None:
    rewards = Rewards(
        [
            Reward("exact", always([1.0, None, 0.0, None]), 3.0),
            Reward("length", always(torch.tensor([0.0, 0.5, 1.0, 0.25]))),
            Reward("style", always([None, True, None, 0]), 2.0),
        ],
        scale=4.0,
    )
    scores = rewards(answered(["a", "b", "c", "d"]))

    expected = [4 * 3 / 4, 4 * (0.5 + 2) / 3, 4 * 1 / 4, 4 * 0.25 / 3]
    assert scores.total.tolist() == pytest.approx(expected)
    assert scores.applies.all()
    assert scores.by_name["length"].tolist() == [0.0, 0.5, 1.0, 0.25]
    assert scores.by_name["exact"].isnan().tolist() == [False, True, False, True]


def test_an_answer_to_which_nothing_applies_earns_nothing_and_says_so() -> None:
    scores = Rewards([Reward("exact", always([None, -2.0]))])(answered(["a", "b"]))

    assert scores.total.tolist() == [0.0, -20.0]
    assert scores.applies.tolist() == [False, True]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (raises, "'broken', at turn 3, raised KeyError: 'colour'"),
        (always([1.0]), r"'broken', at turn 3, returned values of shape \(1,\); the turn has 2 answers"),
        (always(torch.ones(2, 1)), r"'broken', at turn 3, returned values of shape \(2, 1\)"),
        (always(None), "'broken', at turn 3, returned a NoneType"),
        (always(1.0), "'broken', at turn 3, returned a float"),
        (always([1.0, float("nan")]), "'broken', at turn 3, returned nan for row 1, the answer 'second'"),
        (always(torch.tensor([float("inf"), 0])), "'broken', at turn 3, returned inf for row 0, the answer 'first'"),
        (always([1.0, "1.0"]), "'broken', at turn 3, returned '1.0' for row 1"),
        (always([1.0, torch.tensor(float("nan"))]), "returned tensor.nan. for row 1"),
    ],
)
def test_a_reward_that_fails_is_named(function: Any, message: str) -> None:
    rewards = Rewards([Reward("fine", always([0.0, 0.0])), Reward("broken", function)])

    with pytest.raises(RewardError, match=message):
        rewards(answered(["first", "second"], turn=3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rewards([]), "rewards is empty"),
        (lambda: Rewards([Reward("a", raises), Reward("a", raises)]), "several of the name a"),
        (lambda: Rewards([Reward("a", raises)], scale=0.0), "scale is 0.0"),
        (lambda: Reward("two words", raises), "'two words'; it must be of letters"),
        (lambda: Reward("a", raises, 0.0), "Reward.weight of 'a' is 0.0; it must be a number above 0"),
        (lambda: Reward("a", raises, float("nan")), "Reward.weight of 'a' is nan"),
        (lambda: answered(["a"], ["b", "c"]), "TurnAnswers.references has 2 rows; .* each of the 1 queries"),
        (lambda: answered([]), "TurnAnswers.queries is empty"),
    ],
)
def test_bad_input_is_refused_before_work_starts(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_gradients_and_other_dtypes_of_a_tensor_do_not_matter() -> None:
    values = torch.tensor([1, 0], dtype=torch.bfloat16, requires_grad=True)
    total: Tensor = Rewards([Reward("a", always(values))])(answered(["a", "b"])).total

    assert total.dtype == torch.float32
    assert not total.requires_grad
    assert total.tolist() == [10.0, 0.0]
