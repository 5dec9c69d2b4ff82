"""What goes wrong is told once, and so is its end."""

from collections.abc import Mapping

import pytest

from rxlm.training.mrl.watch import Watch

FINE = {
    "frac_reward_zero_std": 0.2,
    "rewards/exact/mean": 0.5,
    "entropy": 1.0,
    "completions/mean_length": 10.0,
    "rewards/preference/mean": 0.5,
}


def warnings(caplog: pytest.LogCaptureFixture, *phases: Mapping[str, float]) -> list[str]:
    """Log each phase for ten steps, after ten steps in which all is well."""
    watch = Watch(window=5)
    for number, phase in enumerate([{}, *phases]):
        for step in range(10):
            watch(10 * number + step, FINE | phase)
    return caplog.messages


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"frac_reward_zero_std": 1.0}, "all the same in"),
        ({"entropy": 0.01}, "entropy fell from 1 to"),
        ({"completions/mean_length": 20.0}, "longer than at first, and no more of them are right"),
        ({"completions/mean_length": 4.0, "rewards/exact/mean": 0.3}, "shorter than at first"),
        ({"rewards/preference/mean": 0.8, "rewards/exact/mean": 0.4}, "they please and are wrong"),
    ],
)
def test_trouble_is_told_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture, trouble: Mapping[str, float], words: str
) -> None:
    told, over, again, end = warnings(caplog, trouble, {}, trouble, {})

    assert words in told
    assert words in again
    assert over.startswith("Step 2")
    assert over.endswith("is over.")
    assert end.startswith("Step 4")


@pytest.mark.parametrize(
    "fine",
    [
        {"frac_reward_zero_std": 0.8},
        {"entropy": 0.2},
        {"completions/mean_length": 12.0},
        {"completions/mean_length": 20.0, "rewards/exact/mean": 0.9},
        {"rewards/preference/mean": 0.8},
        {"rewards/exact/mean": 0.4},
    ],
)
def test_what_is_no_trouble_is_not_told(caplog: pytest.LogCaptureFixture, fine: Mapping[str, float]) -> None:
    assert warnings(caplog, fine) == []


def test_a_single_odd_step_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(window=10)
    for step in range(40):
        watch(step, FINE | ({"frac_reward_zero_std": 1.0, "entropy": 0.0} if step == 25 else {}))

    assert caplog.messages == []


def test_figures_that_are_not_logged_are_not_watched(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(window=2)
    for step in range(10):
        watch(step, {"completions/mean_length": 2.0**step, "loss": 1.0})

    assert caplog.messages == []
    with pytest.raises(ValueError, match="window is 0"):
        Watch(window=0)
