"""What a recipe is: one complete configuration of a run, from the tokenizer to the last stage.

A recipe is a function that returns a `Recipe`, whole. Its subclasses say what is trained and what data it learns from;
a `TrainingRun` does what it says.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, get_args

from torch import nn

from rxlm.config import Config, ConfigError, config, require, require_config, require_int
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.metrics.composite import WEIGHTS
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.earlier_versions import MOVED, stage_id, translate_recipe
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.retained_memory import with_retained_memory
from rxlm.recipes.stages import PhasedStage, ReinforcementStage, StageConfig, steps_of
from rxlm.rxt.config import DecoderConfig, EncoderConfig, RxTAlphaTokenizerConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.presets import preset_config
from rxlm.training.config import OptimizerConfig
from rxlm.training.mrl.config import MRLConfig

MemoryKind = Literal["slots", "retained"]
MEMORY_KINDS: tuple[MemoryKind, ...] = get_args(MemoryKind)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@config
class Recipe(Config):
    """A whole run.

    Fields:
        name: of the recipe.
        stages: in order. In JSON they are an object by their ids, and null leaves a stage out.
        seed: of everything.
    """

    name: str
    stages: tuple[StageConfig, ...]
    seed: int = 0
    draws_turns: ClassVar[bool] = False
    """Whether phases may have `fewest_turns`."""

    def __post_init__(self) -> None:
        require_int(self, "seed", minimum=0)
        ids = [stage.id for stage in self.stages]
        require(bool(ids), f"{type(self).__name__}.stages must have at least one stage.")
        require(len(set(ids)) == len(ids), f"{type(self).__name__}.stages must have ids of their own, got {ids}.")
        drawing = [
            stage.id
            for stage in self.stages
            if isinstance(stage, PhasedStage) and any(phase.fewest_turns is not None for phase in stage.phases)
        ]
        require(
            self.draws_turns or not drawing,
            f"{type(self).__name__}.stages: phases of {', '.join(drawing)} must not have fewest_turns: only the "
            "recipes of upcycled models draw the number of turns.",
        )

    def model_of_shape(self) -> nn.Module:
        """Return a model of this size, whose weights mean nothing; on the device "meta" they take no memory."""
        raise NotImplementedError

    def open_corpus(self) -> Corpus:
        """Open the data that the recipe learns from; errors of the data come now, before any work."""
        raise NotImplementedError

    @property
    def max_tokens(self) -> int:
        """Length of the longest interaction."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from plain values, those of an earlier version included."""
        values = translate_recipe(values)
        stages = values.get("stages", {})
        require(isinstance(stages, Mapping), f"stages of a recipe must be an object of stages by id, got {stages!r}.")
        return super().from_dict({**values, "stages": [stage for stage in stages.values() if stage is not None]})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold and `from_dict` reads back."""
        return {**super().to_dict(), "stages": {stage.id: stage.to_dict() for stage in self.stages}}

    def stage(self, name: str) -> Any:
        """Return the stage with an id; ValueError where the recipe has none."""
        found = next((stage for stage in self.stages if stage.id == stage_id(name)), None)
        if found is None:
            has = ", ".join(stage.id for stage in self.stages)
            raise ValueError(f"Recipe {self.name!r} has no stage {name!r}; it has {has}.")
        return found

    def stages_up_to(self, last: str | None) -> list[StageConfig]:
        """Return the stages up to one, all without a name; none of those on request that is not named."""
        stage = None if last is None else self.stage(last)
        stages = [each for each in self.stages if each is stage or not each.on_request]
        return stages if stage is None else stages[: stages.index(stage) + 1]

    def require_shares(self, processes: int) -> None:
        """Raise `ConfigError` where so many processes cannot share the rows of a batch equally."""
        for stage in self.stages:
            sizes = [stage.batch_size, *(phase.batch_size or 0 for phase in getattr(stage, "phases", ()))]
            uneven = [size for size in sizes if size % processes]
            require(
                not uneven,
                f"{stage.id}.batch_size must be a multiple of {processes}, the processes that share its rows, got "
                f"{', '.join(map(str, uneven))}.",
            )

    def with_stage(self, name: str, **changes: Any) -> Self:
        """Return a copy in which fields of a stage are changed."""
        changed = self.stage(name)
        stages = [stage.replace(**changes) if stage is changed else stage for stage in self.stages]
        return self.replace(stages=stages)

    def without_stages(self, *names: str) -> Self:
        """Return a copy without some stages."""
        left_out = [self.stage(name) for name in names]
        return self.replace(stages=[stage for stage in self.stages if stage not in left_out])

    def override(self, changes: Sequence[str]) -> Self:
        """Return a copy with fields changed as `field=value` says; values are JSON, numbers as `.5`, or plain text.

        A field of a stage is `id.field`; `id=null` leaves the stage out.
        """
        values = self.to_dict()
        for change in changes:
            path, separator, text = change.partition("=")
            require(bool(separator), f"A change of the recipe has the form field=value, got {change!r}.")
            first, *others = path.split(".")
            is_stage = stage_id(first) in values["stages"]
            *parents, name = ["stages", stage_id(first), *others] if is_stage else [first, *others]
            place: Any = values
            for parent in parents:
                place = place.get(parent, {}) if isinstance(place, dict) else {}
            # Components take the names of fields in their nested configurations, too.
            flat = getattr(getattr(self, first, None), "flat_names", ())
            if not isinstance(place, dict) or name not in {*place, *(flat if len(parents) == 1 else ())}:
                hint = f" It is now {'.'.join([MOVED[first], *others])}." if first in MOVED else ""
                raise ConfigError(f"The recipe has no field {path!r}; `--dry-run` prints all.{hint}")
            place[name] = _value(text)
        return self.from_dict(values)


def _value(text: str) -> Any:
    """Return what is written as JSON, or a number that is not (`.5`, `+3`), and anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return float(text) if NUMBER.fullmatch(text) else text


@config
class ReactiveRecipe(Recipe):
    """A whole run of a Reactive Transformer that is trained from the beginning.

    Fields:
        vocab_size: of the tokenizer; a small corpus may fill fewer.
        whole_words: whether the tokenizer reads a word as the same token wherever it stands; see `train_tokenizer`.
        decoder, encoder, memory: the model; the vocabulary takes the tokenizer's size. A memory of tokens has no
            encoder; `with_memory` gives a recipe the one or the other.
    """

    vocab_size: int = 1024
    whole_words: bool = False
    decoder: DecoderConfig
    encoder: EncoderConfig | None
    memory: MemoryAttentionConfig | RetainedMemoryConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int(self, "vocab_size")
        require_config(self, "memory", MemoryAttentionConfig, RetainedMemoryConfig)
        needed = isinstance(self.memory, MemoryAttentionConfig)
        require_config(self, "encoder", *((EncoderConfig,) if needed else (None,)))

    def override(self, changes: Sequence[str]) -> Self:
        """Return a copy with fields changed; `memory=retained` comes first, the rest changes what it gives."""
        kinds = {f"memory={kind}": kind for kind in MEMORY_KINDS}
        recipe = self
        for change in changes:
            recipe = recipe.with_memory(kinds[change]) if change in kinds else recipe
        return super(ReactiveRecipe, recipe).override([change for change in changes if change not in kinds])

    def with_memory(self, kind: MemoryKind) -> Self:
        """Return the recipe with a memory of slots, as it is written, or of tokens that are retained."""
        if kind == self.memory.kind:
            return self
        require(kind == "retained", f"Recipe {self.name!r} has no slots any more: memory={kind}.")
        return with_retained_memory(self)

    def model_of_shape(self) -> RxTAlpha:
        """Return a model of this size."""
        variant = self.memory.variant if isinstance(self.memory, MemoryAttentionConfig) else None
        return RxTAlpha(self.decoder, self.encoder, self.memory, RxTAlphaTokenizerConfig(), None, variant)

    @property
    def max_tokens(self) -> int:
        """Length of the longest interaction: the decoder's."""
        return self.decoder.max_seq_len


def reinforcement(steps: int, num_turns: int, batch_size: int = 128, told_weight: float = 0.0) -> ReinforcementStage:
    """Return stage 5: the policy answers questions, and earns by what it remembers.

    `told_weight`: see `MRLConfig`; without, turns that are told and not played are not held to what they were.
    Log-probabilities of answers and of the update must come from the same arithmetic: float32.
    """
    return ReinforcementStage(
        **steps_of(DialoguePhase(steps=steps, num_turns=num_turns)),
        batch_size=batch_size,
        precision="float32",
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=10, critic_scale=5.0),
        evaluate_every=50,
        checkpoint_every=50,
        settings=MRLConfig(
            plays="questions", told_weight=told_weight, max_answer_tokens=24, updates_per_rollout=1, critic_warmup=10
        ),
        rewards=tuple((name, WEIGHTS[name]) for name in ("exact", "bleu_reference")),
    )


def reinforcement_from_feedback(steps: int, num_turns: int, batch_size: int = 128) -> ReinforcementStage:
    """Return reinforcement learning with a reward model.

    It is one reward among others: exact recall weighs as much, so that pleasant forgetting does not pay, and length is
    held to that of the references.
    """
    rewards = (("exact", 0.4), ("preference", 0.4), ("bleu_reference", 0.1), ("length", 0.1))
    return reinforcement(steps, num_turns, batch_size).replace(folder="6b-rlhf", rewards=rewards)


def model_of_size(preset: str, **shape: Any) -> dict[str, Any]:
    """Return a preset's components as the fields of a recipe, with some of their common fields changed.

    `ff_dim` is not the memory attention's, and `num_slots` not the encoder's; all other names must be of all three.
    """
    values = preset_config(preset)
    return {
        "decoder": values["decoder_config"].replace(**shape),
        "encoder": values["encoder_config"].replace(**_without(shape, "num_slots")),
        "memory": values["memory_attention_config"].replace(**_without(shape, "ff_dim")),
    }


def _without(shape: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in shape.items() if each != name}
