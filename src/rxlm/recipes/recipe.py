"""What a recipe is: one complete configuration of a run, from the tokenizer to the last stage.

A recipe is a function that returns a `Recipe`, whole. Its subclasses say what data it learns from; `rxlm.recipes.run`
does what it says.
"""

import json
from collections.abc import Sequence
from typing import Any, Self, TypeVar, cast

from rxlm.config import Config, ConfigError, config, require, require_int
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.metrics.composite import WEIGHTS
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.phase import DialoguePhase
from rxlm.rxt.config import DecoderConfig, EncoderConfig
from rxlm.rxt.presets import preset_config
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.joint import JointConfig
from rxlm.training.memory_attention import MemoryAttentionTrainingConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from rxlm.training.mrl.config import MRLConfig


@config
class Recipe(Config):
    """A whole run: tokenizer, model, stages 1 to 4, and stage 5 for those who ask for it.

    Fields:
        name: of the recipe.
        vocab_size: of the tokenizer; a small corpus may fill fewer.
        whole_words: whether the tokenizer reads a word as the same token wherever it stands; see `train_tokenizer`.
        decoder, encoder, memory_attention: the model; the vocabulary takes the tokenizer's size.
        language, interactions: stages 1 and 2 (None leaves a stage out), with their settings.
        slots: stage 3, with its settings.
        dialogues: stage 4, with its settings; its number of steps is that of its phases.
        phases: the curriculum of stage 4.
        streams: the second part of stage 4 (None leaves it out), with a schedule of learning rates of its own: once
            recall is firm, streams teach to hold on to it; stream_phases: its curriculum.
        mrl: stage 5, memory reinforcement learning (None leaves it out), with its settings; it is trained only where it
            is asked for by name. mrl_phases: its curriculum; rewards: what answers earn, as pairs of a name and a
            weight, of those in `rxlm.metrics.composite.WEIGHTS`.
        seed: of everything.
    """

    name: str
    vocab_size: int = 1024
    whole_words: bool = False
    decoder: DecoderConfig
    encoder: EncoderConfig
    memory_attention: MemoryAttentionConfig
    language: TrainingConfig | None = None
    language_settings: JointConfig = JointConfig(targets="all")
    interactions: TrainingConfig | None = None
    interactions_settings: JointConfig = JointConfig()
    slots: TrainingConfig | None = None
    slots_settings: MemoryAttentionTrainingConfig = MemoryAttentionTrainingConfig()
    dialogues: TrainingConfig
    dialogues_settings: MemoryAwareConfig = MemoryAwareConfig()
    phases: tuple[DialoguePhase, ...]
    streams: TrainingConfig | None = None
    stream_phases: tuple[DialoguePhase, ...] = ()
    mrl: TrainingConfig | None = None
    mrl_settings: MRLConfig = MRLConfig()
    mrl_phases: tuple[DialoguePhase, ...] = ()
    rewards: tuple[tuple[str, float], ...] = tuple(WEIGHTS.items())
    seed: int = 0

    def __post_init__(self) -> None:
        require_int(self, "vocab_size")
        require_int(self, "seed", minimum=0)
        unknown = sorted({name for name, _ in self.rewards} - set(WEIGHTS))
        require(
            bool(self.rewards) and not unknown,
            f"{type(self).__name__}.rewards must be pairs of a name and a weight, of {', '.join(WEIGHTS)}, "
            f"got {self.rewards}.",
        )
        for stage, phases in (("dialogues", "phases"), ("streams", "stream_phases"), ("mrl", "mrl_phases")):
            training: TrainingConfig | None = getattr(self, stage)
            given = 0 if training is None else training.steps
            steps = sum(phase.steps for phase in getattr(self, phases))
            require(
                training is None or steps == given,
                f"{type(self).__name__}.{phases} have {steps} steps in all and {stage}.steps is {given}: change both.",
            )

    def corpus(self) -> Corpus:
        """Open the data that the recipe learns from; errors of the data come now, before any work."""
        raise NotImplementedError

    def override(self, changes: Sequence[str]) -> Self:
        """Return a copy with fields changed; see `override`."""
        return override(self, changes)


C = TypeVar("C", bound=Config)


def override(recipe: C, changes: Sequence[str]) -> C:
    """Return a copy of a recipe with fields changed as `name.field=value` says; values are JSON, or plain text."""
    values = recipe.to_dict()
    for change in changes:
        path, separator, text = change.partition("=")
        require(bool(separator), f"A change of the recipe has the form field=value, got {change!r}.")
        place, owner = cast(Any, values), cast(Any, recipe)
        *parents, name = path.split(".")
        for parent in parents:
            place = place.get(parent, {}) if isinstance(place, dict) else {}
            owner = getattr(owner, parent, None)
        if not isinstance(place, dict) or name not in {*place, *getattr(owner, "flat_names", ())}:
            raise ConfigError(f"The recipe has no field {path!r}; `--dry-run` prints all.")
        try:
            place[name] = json.loads(text)
        except ValueError:
            place[name] = text
    return recipe.from_dict(values)


def reinforcement(steps: int, num_turns: int, batch_size: int = 128, told_weight: float = 0.0) -> dict[str, Any]:
    """Return stage 5 as fields of a recipe: the policy answers questions, and earns by what it remembers.

    `told_weight`: see `MRLConfig`; without, turns that are told and not played are not held to what they were.
    Log-probabilities of answers and of the update must come from the same arithmetic: float32.
    """
    return {
        "mrl": TrainingConfig(
            steps=steps,
            batch_size=batch_size,
            precision="float32",
            optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=10, critic_scale=5.0),
            evaluate_every=50,
            checkpoint_every=50,
        ),
        "mrl_settings": MRLConfig(
            plays="questions", told_weight=told_weight, max_answer_tokens=24, updates_per_rollout=1, critic_warmup=10
        ),
        "mrl_phases": (DialoguePhase(steps=steps, num_turns=num_turns),),
        "rewards": tuple((name, WEIGHTS[name]) for name in ("exact", "bleu_reference")),
    }


def model_of_size(preset: str, **shape: Any) -> dict[str, Any]:
    """Return a preset's components as the fields of a recipe, with some of their common fields changed.

    `ff_dim` is not the memory attention's, and `num_slots` not the encoder's; all other names must be of all three.
    """
    values = preset_config(preset)
    return {
        "decoder": values["decoder_config"].replace(**shape),
        "encoder": values["encoder_config"].replace(**_without(shape, "num_slots")),
        "memory_attention": values["memory_attention_config"].replace(**_without(shape, "ff_dim")),
    }


def _without(shape: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in shape.items() if each != name}
