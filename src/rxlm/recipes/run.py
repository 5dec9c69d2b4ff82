"""Runs a recipe of a Reactive Transformer.

A run's folder holds `recipe.json`, `tokenizer/`, a folder a stage with its figures, its checkpoints and, once it is
done, its `model/`; and at the top the finished model itself, which `rxlm chat` loads, and what it was measured to do,
`results.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import train_tokenizer
from rxlm.recipes.corpus import BatchMaker, Corpus
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.training_run import STAGES, ReactiveRun, Stage
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import TrainingConfig
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.module import TrainModule
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.mrl.composite import composite_reward
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rewards import Rewards
from rxlm.training.mrl.trajectories import TrajectoryLog
from rxlm.training.phases import Phase, PhasedBatches
from rxlm.training.trainer import Batches

SLOTS_TURNS = 8
LOGGED_EVERY = 20
"""Steps of stage 5 from one log of trajectories to the next."""

ModuleMaker = Callable[[RxTAlpha], TrainModule]
BatchesMaker = Callable[[BatchMaker, TrainModule], Batches]


class Run(ReactiveRun):
    """A run of a recipe in a folder; raises as `TrainingRun` does."""

    stage_fields: ClassVar = {
        "language": ("language", "language_settings"),
        "interactions": ("interactions", "interactions_settings"),
        "slots": ("slots", "slots_settings"),
        "dialogues": ("dialogues", "dialogues_settings", "phases"),
        "streams": ("streams", "stream_phases"),
        "mrl": ("mrl", "mrl_settings", "mrl_phases", "rewards"),
    }

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device | str = "cpu") -> None:
        self.recipe = recipe
        super().__init__(
            recipe,
            recipe.name,
            folder,
            recipe.corpus,
            device,
            seed=recipe.seed,
            max_tokens=recipe.decoder.max_seq_len,
        )

    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Train a tokenizer on the corpus."""
        recipe = self.recipe
        return train_tokenizer(self.corpus.texts(), recipe.vocab_size, whole_words=recipe.whole_words)

    def stages(self) -> list[Stage]:
        """Return the stages that the recipe has, in order."""
        recipe, corpus = self.recipe, self.corpus
        short = DialoguePhase(steps=1, num_turns=SLOTS_TURNS)

        def memory_aware(settings: MemoryAwareConfig) -> ModuleMaker:
            return lambda model: MemoryAware(model, settings)

        def joint(settings: JointConfig) -> ModuleMaker:
            return lambda model: JointLanguageModelling(model, settings)

        stages: dict[str, tuple[TrainingConfig | None, ModuleMaker, BatchesMaker]] = {
            "language": (
                recipe.language,
                joint(recipe.language_settings),
                lambda make, _: corpus.language(make),
            ),
            "interactions": (
                recipe.interactions,
                joint(recipe.interactions_settings),
                lambda make, _: corpus.interactions(make),
            ),
            "slots": (
                recipe.slots,
                lambda model: MemoryAttentionPretraining(model, recipe.slots_settings),
                lambda make, _: corpus.dialogues(make, short),
            ),
            "dialogues": (
                recipe.dialogues,
                memory_aware(recipe.dialogues_settings),
                lambda make, _: curriculum(corpus, make, recipe.phases),
            ),
            "streams": (
                recipe.streams,
                memory_aware(recipe.dialogues_settings.going_on()),
                lambda make, _: curriculum(corpus, make, recipe.stream_phases),
            ),
            "mrl": (recipe.mrl, lambda model: MemoryReinforcement(model, recipe.mrl_settings), self._rollouts),
        }
        return [
            Stage(name, training, module, batches)
            for name, (training, module, batches) in stages.items()
            if training is not None
        ]

    def new_model(self) -> RxTAlpha:
        """Return a model with its first weights."""
        torch.manual_seed(self.recipe.seed)
        size = {"vocab_size": len(self.tokenizer)}
        return RxTAlpha(
            self.recipe.decoder.replace(**size),
            self.recipe.encoder.replace(**size),
            self.recipe.memory_attention,
            self.tokens,
            self.tokenizer,
            self.recipe.memory_attention.variant,
        )

    def _rollouts(self, make: BatchMaker, module: TrainModule) -> Batches:
        """Episodes of the curriculum, played by the policy of stage 5."""
        assert isinstance(module, MemoryReinforcement)
        recipe, settings = self.recipe, self.recipe.mrl_settings
        sources = []
        for number, phase in enumerate(recipe.mrl_phases, 1):
            size = (phase.batch_size or make.batch_size) // settings.group_size
            batches = self.corpus.episodes(replace(make, seed=make.seed + number, batch_size=max(1, size)), phase)
            sources.append(Phase(batches, -(-phase.steps * make.accumulation // settings.updates_per_rollout)))
        model = module.policy
        default = composite_reward(model, self.corpus.competitors())
        weights = dict(recipe.rewards)
        rewards = [replace(each, weight=weights[each.name]) for each in default.rewards if each.name in weights]
        player = EpisodePlayer(model, self.turn_tokenizer, Rewards(rewards), settings)
        log = TrajectoryLog(self.folder / STAGES["mrl"], LOGGED_EVERY)
        return RolloutBatches(PhasedBatches(sources), player, module.annotate, settings, seed=make.seed, log=log)


def curriculum(corpus: Corpus, make: BatchMaker, phases: Sequence[DialoguePhase]) -> Batches:
    """Return longer and longer dialogues, then streams of them."""
    sources = []
    for number, phase in enumerate(phases, 1):
        size = phase.batch_size or make.batch_size
        batches = corpus.dialogues(replace(make, seed=make.seed + number, batch_size=size), phase)
        sources.append(Phase(batches, phase.steps * make.accumulation))
    return PhasedBatches(sources)
