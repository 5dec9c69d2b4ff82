"""Recipes on the generated fact dialogues: `tiny`, the quickstart, and `retention`, which holds facts for longer.

A recipe is a function that returns one `FactsRecipe`, whole. `rxlm.recipes.run` does what it says.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from rxlm.memory.config import MemoryAttentionConfig
from rxlm.nn.config import Config, ConfigError, config, require, require_choice, require_int
from rxlm.rxt.config import RxTComponentConfig
from rxlm.rxt.presets import preset_config
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.joint import JointConfig
from rxlm.training.memory_attention import MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAwareConfig


@config
class DialoguePhase(Config):
    """A part of stage 4: `steps` steps over dialogues of `num_turns` turns, or streams read so many turns at a time."""

    steps: int
    num_turns: int
    streams: bool = False
    reset_probability: float = 0.1

    def __post_init__(self) -> None:
        require_int(self, "steps")
        require_int(self, "num_turns", minimum=2)


@config
class FactsRecipe(Config):
    """A whole run on generated fact dialogues: tokenizer, model, and stages 1 to 4.

    Fields:
        name: of the recipe.
        variety: of the dialogues, "small" or "full".
        vocab_size: of the tokenizer.
        decoder, encoder, memory_attention: the model; the vocabulary takes the tokenizer's size.
        language, interactions: stages 1 and 2 (None leaves a stage out), with their settings.
        slots: stage 3, with its settings.
        dialogues: stage 4, with its settings; its number of steps is that of the phases.
        phases: the curriculum of stage 4.
        stream_turns: longest distance between a fact and its question in streams.
        seed: of everything.
    """

    name: str
    variety: Literal["small", "full"] = "small"
    vocab_size: int = 1024
    decoder: RxTComponentConfig
    encoder: RxTComponentConfig
    memory_attention: MemoryAttentionConfig
    language: TrainingConfig | None
    language_settings: JointConfig = JointConfig(targets="all")
    interactions: TrainingConfig | None
    interactions_settings: JointConfig = JointConfig()
    slots: TrainingConfig | None
    slots_settings: MemoryAttentionTrainingConfig = MemoryAttentionTrainingConfig()
    dialogues: TrainingConfig
    dialogues_settings: MemoryAwareConfig = MemoryAwareConfig()
    phases: tuple[DialoguePhase, ...]
    stream_turns: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice(self, "variety", ("small", "full"))
        require_int(self, "vocab_size", "stream_turns")
        steps = sum(phase.steps for phase in self.phases)
        require(steps == self.dialogues.steps, f"phases have {steps} steps, dialogues.steps is {self.dialogues.steps}.")

    def override(self, changes: Sequence[str]) -> Self:
        """Return a copy with fields changed as `name.field=value` says; values are JSON, or plain text."""
        values = self.to_dict()
        for change in changes:
            path, separator, text = change.partition("=")
            require(bool(separator), f"A change of the recipe has the form field=value, got {change!r}.")
            place: Any = values
            *parents, name = path.split(".")
            for parent in parents:
                place = place.get(parent, {}) if isinstance(place, dict) else {}
            if not isinstance(place, dict) or name not in place:
                raise ConfigError(f"The recipe has no field {path!r}; `--dry-run` prints all.")
            try:
                place[name] = json.loads(text)
            except ValueError:
                place[name] = text
        return self.from_dict(values)


def tiny() -> FactsRecipe:
    """The quickstart: 0.8 M parameters, all stages, within ten minutes on two cores."""
    model = preset_config("tiny")
    phases = (
        DialoguePhase(steps=100, num_turns=2),
        DialoguePhase(steps=100, num_turns=3),
        DialoguePhase(steps=150, num_turns=4),
        DialoguePhase(steps=200, num_turns=6),
        DialoguePhase(steps=400, num_turns=8),
        DialoguePhase(steps=150, num_turns=16),
        DialoguePhase(steps=300, num_turns=8, streams=True),
    )
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup_steps=20)
    return FactsRecipe(
        name="tiny",
        decoder=model["decoder_config"],
        encoder=model["encoder_config"],
        memory_attention=model["memory_attention_config"],
        language=TrainingConfig(steps=40, batch_size=128, optimizer=optimizer, checkpoint_every=None),
        interactions=TrainingConfig(steps=120, batch_size=256, optimizer=optimizer, checkpoint_every=None),
        slots=TrainingConfig(steps=20, batch_size=32, optimizer=optimizer, checkpoint_every=None),
        dialogues=TrainingConfig(steps=sum(p.steps for p in phases), batch_size=64, optimizer=optimizer),
        phases=phases,
    )


def retention() -> FactsRecipe:
    """An hour on two cores: the tiny model with twice the slots, and long streams, to hold facts for longer."""
    base = tiny()
    phases = (
        *base.phases[:4],
        DialoguePhase(steps=1000, num_turns=8),
        DialoguePhase(steps=1500, num_turns=8, streams=True, reset_probability=0.1),
        DialoguePhase(steps=3000, num_turns=16, streams=True, reset_probability=0.05),
    )
    return base.replace(
        name="retention",
        decoder=base.decoder.replace(num_slots=32),
        encoder=base.encoder.replace(num_slots=32),
        memory_attention=base.memory_attention.replace(num_slots=32),
        dialogues=base.dialogues.replace(steps=sum(phase.steps for phase in phases)),
        dialogues_settings=MemoryAwareConfig(unroll=16),
        phases=phases,
        stream_turns=256,
    )
