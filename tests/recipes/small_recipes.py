"""Recipes made small enough for tests: few steps, narrow models, short phases."""

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rxlm.data.records import Dialogue
from rxlm.mrq_bench.protocol import Control
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recall import RecallTest
from rxlm.recipes.recipe import ReactiveRecipe
from rxlm.recipes.run_folder import alone_in
from rxlm.rxt.models import RxTAlpha

R = TypeVar("R", bound=ReactiveRecipe)

SIZE = {"num_layers": 2, "dim": 16, "num_heads": 4, "num_query_heads": 2, "num_kv_heads": 1}
ASKED = {"test_turns": (8,), "test_dialogues": (8,), "evaluation_turns": 8, "evaluation_dialogues": 4}
FEW = {"steps": 3, "batch_size": 4, "log_every": 1}
DIALOGUES = (DialoguePhase(steps=2, num_turns=2), DialoguePhase(steps=1, num_turns=2, streams=True))
CHANGES = {
    "dialogues": {"phases": DIALOGUES, "evaluate_every": 2},
    "streams": {"phases": (DialoguePhase(steps=3, num_turns=2, streams=True),)},
}


def quick(recipe: R, **changes: Any) -> R:
    """Return a recipe with three steps a stage, the last of stage 4 on streams, and few questions."""
    if hasattr(recipe, "test_turns"):
        changes = ASKED | changes
    return recipe.replace(
        decoder=recipe.decoder.replace(**SIZE, num_slots=4),
        encoder=recipe.encoder.replace(**SIZE),
        memory=recipe.memory.replace(**SIZE, num_slots=4),
        stages=[
            stage if stage.id in ("mrl", "rlhf") else stage.replace(**FEW, **CHANGES.get(stage.id, {}))
            for stage in recipe.stages
        ],
        **changes,
    )


def train_forever(folder: Path, note: Path) -> None:
    """Keep other trainings out of a folder, after which there is a note, until this process is killed."""
    with alone_in(folder):
        note.touch()
        signal.pause()


def note_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> list[Dialogue]:
    """Return a list that takes up the dialogues that tests of recall ask; nothing is answered."""
    asked: list[Dialogue] = []

    def by_distance(
        test: RecallTest, model: RxTAlpha, dialogues: Sequence[Dialogue], control: Control = "none"
    ) -> Mapping[str, tuple[float, int]]:
        asked.extend(dialogues)
        return {"1-4": (0.0, 1)}

    def figures(test: RecallTest, model: RxTAlpha, dialogues: Sequence[Dialogue]) -> Mapping[str, float]:
        asked.extend(dialogues)
        return {"recall": 0.0}

    monkeypatch.setattr(RecallTest, "by_distance", by_distance)
    monkeypatch.setattr(RecallTest, "figures", figures)
    return asked
