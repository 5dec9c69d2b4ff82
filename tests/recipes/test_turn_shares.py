"""What turns of generated dialogues do in training is the recipe's to say."""

from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from rxlm.config import ConfigError
from rxlm.recipes import tiny
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled import upcycled

MAKER: Any = SimpleNamespace(
    seed=0, dialogues=lambda found, shuffle: found, streams=lambda stream, phase: stream(0), turn_tokenizer=None
)
"""Gives dialogues as they are, and streams as their turns."""


def asked(share: float, *, streams: bool) -> float:
    """Return how many of 2,000 turns of the quickstart's training ask, where the recipe says how many shall."""
    corpus = tiny().replace(question_share=share, repeat_share=0.0, unknown_share=0.05).open_corpus()
    found = corpus.dialogues(MAKER, DialoguePhase(steps=1, num_turns=8, streams=streams))
    turns = islice(found, 2000) if streams else (turn for number in range(250) for turn in found[number].turns)
    return sum(turn.question is not None for turn in turns) / 2000


@pytest.mark.parametrize("streams", [False, True])
def test_training_asks_as_often_as_the_recipe_says(streams: bool) -> None:
    """But for the first turns, before which nothing was told."""
    assert asked(0.15, streams=streams) == pytest.approx(0.2, abs=0.04)
    assert asked(0.4, streams=streams) > 0.36


@pytest.mark.parametrize(
    ("make", "field"), [(tiny, "question_share"), (lambda: upcycled().replace(model="m"), "mix.question_share")]
)
def test_shares_that_leave_too_few_tellings_are_refused(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match="must leave as many turns for telling facts as ask for them the first time"):
        make().override([f"{field}=0.9"])
    with pytest.raises(ConfigError, match="question_share must be"):
        make().override([f"{field}=1.5"])
