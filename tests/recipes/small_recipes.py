"""Recipes made small enough for tests: few steps, narrow models, short phases."""

from typing import Any, TypeVar

from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import Recipe

R = TypeVar("R", bound=Recipe)

SIZE = {"dim": 16, "num_heads": 4, "num_query_heads": 2, "num_kv_heads": 1, "num_slots": 4}
FEW = {"steps": 3, "batch_size": 4, "log_every": 1}
PHASES = (DialoguePhase(steps=2, num_turns=2), DialoguePhase(steps=1, num_turns=2, streams=True))


def quick(recipe: R, **changes: Any) -> R:
    """Return a recipe with three steps a stage, the last of stage 4 on streams."""
    if hasattr(recipe, "test_turns"):
        changes = {"test_turns": (8,), "test_dialogues": (20,)} | changes
    return recipe.replace(
        decoder=recipe.decoder.replace(**SIZE),
        encoder=recipe.encoder.replace(**SIZE),
        memory_attention=recipe.memory_attention.replace(**SIZE),
        language=recipe.language and recipe.language.replace(**FEW),
        interactions=recipe.interactions and recipe.interactions.replace(**FEW),
        slots=recipe.slots and recipe.slots.replace(**FEW),
        dialogues=recipe.dialogues.replace(**FEW, evaluate_every=2),
        phases=PHASES,
        streams=recipe.streams and recipe.streams.replace(**FEW),
        stream_phases=recipe.stream_phases and (DialoguePhase(steps=3, num_turns=2, streams=True),),
        **changes,
    )
