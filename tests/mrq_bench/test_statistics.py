"""Intervals hold what they promise, and a half-life that was put in comes out."""

import numpy as np
import pytest

from rxlm.mrq_bench.half_life import Outcome, curve_at, fit_half_life
from rxlm.mrq_bench.statistics import Bootstrap, Estimate, median


def simulated(generator: np.random.Generator, dialogues: int, mean: float) -> list[tuple[int, float]]:
    """Answers of dialogues that are good or bad as a whole, and have one to twelve questions."""
    answers = []
    for dialogue in range(dialogues):
        share = generator.beta(4 * mean, 4 * (1 - mean))
        answers += [(dialogue, float(generator.random() < share)) for _ in range(generator.integers(1, 13))]
    return answers


@pytest.mark.parametrize("mean", [0.5, 0.85])
def test_intervals_cover_the_truth_about_95_times_in_100(mean: float) -> None:
    """A bootstrap over answers in place of dialogues would cover 75 times: answers of a dialogue hang together."""
    generator = np.random.default_rng(0)
    bootstrap = Bootstrap([range(60)], seed=1, resamples=400)
    estimates = [bootstrap.mean(simulated(generator, 60, mean)) for _ in range(300)]
    covered = np.mean([estimate is not None and estimate.low <= mean <= estimate.high for estimate in estimates])

    assert 0.90 <= covered <= 0.98


def test_paired_differences_are_tighter_than_their_parts_and_cover() -> None:
    generator = np.random.default_rng(0)
    bootstrap = Bootstrap([range(60)], seed=1, resamples=400)
    covered = []
    for _ in range(200):
        worse = simulated(generator, 60, 0.5)
        better = [(dialogue, max(value, float(generator.random() < 0.2))) for dialogue, value in worse]
        difference = bootstrap.difference(better, worse)
        parts = [bootstrap.mean(values) for values in (better, worse)]
        assert difference is not None
        assert all(part is not None and width(difference) < width(part) for part in parts)
        covered.append(difference.low <= 0.1 <= difference.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_all_right_or_all_wrong_leave_room_for_what_was_not_seen() -> None:
    bootstrap = Bootstrap([range(30)])
    right = bootstrap.mean([(dialogue, 1.0) for dialogue in range(30)])
    wrong = bootstrap.mean([(dialogue, 0.0) for dialogue in range(30)])

    assert right == Estimate(1.0, pytest.approx(0.025 ** (1 / 30)), 1.0, 30)
    assert wrong == Estimate(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 30)), 30)


def test_nothing_measured_is_no_estimate() -> None:
    bootstrap = Bootstrap([range(3)])

    assert bootstrap.mean([]) is None
    assert bootstrap.ratio([(0, 1.0, 0.0)]) is None
    assert bootstrap.difference([(0, 1.0)], []) is None


def test_a_value_of_few_dialogues_survives_resamples_without_them() -> None:
    estimate = Bootstrap([range(100)]).mean([(0, 0.0), (1, 1.0)])

    assert estimate == Estimate(0.5, 0.0, 1.0, 2)


def test_each_set_keeps_its_number_of_dialogues_in_every_resample() -> None:
    bootstrap = Bootstrap([[("a", n) for n in range(5)], [("b", n) for n in range(7)]], resamples=50)

    assert (bootstrap.weights[:, :5].sum(1) == 5).all()
    assert (bootstrap.weights[:, 5:].sum(1) == 7).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    values = simulated(np.random.default_rng(3), 20, 0.6)

    assert Bootstrap([range(20)], seed=4).mean(values) == Bootstrap([range(20)], seed=4).mean(values)
    assert Bootstrap([range(20)], seed=5).mean(values) != Bootstrap([range(20)], seed=4).mean(values)


@pytest.mark.parametrize("half_life", [6.0, 40.0])
def test_a_half_life_that_was_put_in_comes_out(half_life: float) -> None:
    generator = np.random.default_rng(0)
    outcomes = []
    for dialogue in range(300):
        for distance in generator.integers(1, 64, 6):
            share = 0.05 + 0.9 * 2 ** (-distance / half_life)
            outcomes.append(Outcome(dialogue, int(distance), bool(generator.random() < share)))
    found = fit_half_life(outcomes, 0.05, Bootstrap([range(300)], resamples=200))

    assert found is not None
    assert found.half_life.low <= half_life <= found.half_life.high
    assert found.half_life.value == pytest.approx(half_life, rel=0.15)
    assert found.start == pytest.approx(0.95, abs=0.06)
    curve = curve_at(found.to_dict(), [0.0, found.half_life.value], 0.05)
    assert curve[1] - 0.05 == pytest.approx((curve[0] - 0.05) / 2)


def test_what_is_never_forgotten_has_no_half_life_within_reach() -> None:
    outcomes = [Outcome(dialogue, distance, True) for dialogue in range(50) for distance in (1, 5, 20)]
    found = fit_half_life(outcomes, 0.05, Bootstrap([range(50)], resamples=100))

    assert found is not None
    assert found.half_life.value == pytest.approx(found.beyond)
    assert fit_half_life([Outcome(0, 1, False), Outcome(0, 2, False)], 0.05, Bootstrap([range(1)])) is None


def test_a_median_has_its_interval() -> None:
    estimate = median([3.0, 1.0, 2.0, 100.0, 2.5])

    assert estimate.value == 2.5
    assert 1.0 <= estimate.low < 2.5 < estimate.high <= 100.0


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low
