"""What a recipe asks its model is nothing that the recipe's training can have told: the headline is no leak."""

from itertools import islice
from pathlib import Path

import pytest

from rxlm.data.records import Dialogue
from rxlm.recipes import retention, tiny
from rxlm.recipes.facts import FactsCorpus
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.training.config import TrainingConfig
from small_recipes import note_what_is_asked, quick
from told_facts import pairs_held, readings


def told_in_training(run: ReactiveRun) -> list[Dialogue]:
    """Return many dialogues and conversations that the stages of a run learn from."""
    make = run.maker(TrainingConfig(batch_size=64))
    phase, streams = DialoguePhase(steps=1, num_turns=8), DialoguePhase(steps=1, num_turns=60, streams=True)
    batches = (run.corpus.dialogues(make, phase), run.corpus.episodes(make, phase))
    drawn = [dialogue for source in batches for batch in islice(source, 12) for dialogue in batch.dialogues]
    return drawn + [Dialogue(row) for row in next(run.corpus.dialogues(make, streams)).interactions]


@pytest.mark.parametrize("recipe", [tiny, retention])
def test_facts_are_asked_in_combinations_that_training_never_holds(
    recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReactiveRun(quick(recipe(), evaluation_turns=8, evaluation_dialogues=40, test_dialogues=(40,)), tmp_path)
    asked, model = note_what_is_asked(monkeypatch), run.new_model().eval()
    assert isinstance(run.corpus, FactsCorpus)
    run.evaluate(model)
    evaluated = len(asked)
    run.measure(model)
    tested = len(asked)
    run.corpus.retention(model, 8, 40)
    parts = {
        "evaluation": asked[:evaluated],
        "results": asked[evaluated:tested],
        "retention": asked[tested:],
        "held_out": list(run.corpus.held_out()),
    }
    assert all(len(part) >= 40 for part in parts.values())
    assert not {dialogue.turns for dialogue in parts["evaluation"]} & {each.turns for each in parts["results"]}

    said = readings(run.recipe.variety)
    trained = set().union(*(pairs_held(dialogue, said) for dialogue in told_in_training(run)))
    for name, part in parts.items():
        pairs = [held for held in (pairs_held(dialogue, said) for dialogue in part) if held]
        assert len(pairs) > 0.9 * len(part), name
        assert all(held - trained for held in pairs), name
