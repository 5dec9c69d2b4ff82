"""The first losses of every stage are those that were written down; `golden.py` says how to write them anew."""

import json

import pytest

from golden import FILE, STAGES, losses


@pytest.mark.parametrize("name", STAGES)
def test_the_first_losses_are_the_golden_ones(name: str) -> None:
    # Other instruction sets changed them by 2e-7.
    assert losses(name) == pytest.approx(json.loads(FILE.read_text(encoding="utf-8"))[name], rel=1e-5)
