"""The composite score is the weighted mean of the terms that apply."""

import pytest
import torch

from rxlm.metrics.composite import WEIGHTS, cosine, likeness, score

NAN = float("nan")


def test_the_score_of_each_answer_is_the_weighted_mean_of_its_terms() -> None:
    terms = {"exact": torch.tensor([1.0, NAN, 0.0, NAN]), "length": torch.tensor([NAN, 0.5, 1.0, NAN])}
    scores = score(terms)

    assert scores[:3].tolist() == pytest.approx([10.0, 5.0, 10 * 0.1 / 0.5])
    assert scores[3].isnan()
    assert score(terms, {"exact": 1.0, "length": 3.0}, 4.0)[2].item() == pytest.approx(3.0)


def test_the_weights_are_shares_and_full_marks_are_ten() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert score(dict.fromkeys(WEIGHTS, torch.ones(2))).tolist() == pytest.approx([10.0, 10.0])


def test_cosines_and_lengths_are_shares() -> None:
    ahead, back, nothing = [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]
    rows = torch.tensor([ahead, ahead, nothing])

    assert cosine(rows, torch.tensor([ahead, back, ahead])).tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert likeness([2, 4, 0, 0], [4, 2, 0, 3]).tolist() == [0.5, 0.5, 1.0, 0.0]
