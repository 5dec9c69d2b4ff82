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


@pytest.mark.parametrize("share", [0.15, 0.45])
def test_training_asks_as_often_as_the_recipe_says(share: float) -> None:
    corpus = tiny().replace(question_share=share, repeat_share=0.0, unknown_share=0.05).open_corpus()
    dialogues = corpus.dialogues(MAKER, DialoguePhase(steps=1, num_turns=8))
    streamed = corpus.dialogues(MAKER, DialoguePhase(steps=1, num_turns=8, streams=True))
    for turns in ([turn for number in range(250) for turn in dialogues[number].turns], [*islice(streamed, 2000)]):
        asked = sum(turn.question is not None for turn in turns) / len(turns)
        assert asked == pytest.approx(share + 0.05, abs=0.06)  # a question needs a fact to ask for


@pytest.mark.parametrize(
    ("make", "field"), [(tiny, "question_share"), (lambda: upcycled().replace(model="m"), "mix.question_share")]
)
def test_shares_that_leave_too_few_tellings_are_refused(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match="must leave as many turns for telling facts as ask for them the first time"):
        make().override([f"{field}=0.9"])
    with pytest.raises(ConfigError, match="question_share must be"):
        make().override([f"{field}=1.5"])
