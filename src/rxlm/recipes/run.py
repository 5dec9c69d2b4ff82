"""Runs a recipe: tokenizer, model, and one stage after the other, each from the last one's result.

A run's folder holds `recipe.json`, `tokenizer/`, a folder a stage with its figures, its checkpoints and, once it is
done, its `model/`; and at the top the finished model itself, which `rxlm chat` loads, and what it was measured to do,
`results.json`. Started again, a run goes on from where it was.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.batches import InteractionEncoder
from rxlm.data.tokenizer import load_tokenizer_from_file, train_tokenizer
from rxlm.nn.config import ConfigError
from rxlm.recipes.corpus import BatchMaker, Corpus, Results, ResultTable
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recipe import Recipe
from rxlm.rxt.hub import write_atomically
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.text import token_ids_of
from rxlm.training import distributed
from rxlm.training.config import TrainingConfig
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining
from rxlm.training.memory_aware import MemoryAware
from rxlm.training.module import TrainModule
from rxlm.training.mrl.batches import RolloutBatches
from rxlm.training.mrl.composite import composite_reward
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.player import EpisodePlayer
from rxlm.training.mrl.rewards import Rewards
from rxlm.training.mrl.trajectories import TrajectoryLog
from rxlm.training.phases import Phase, PhasedBatches
from rxlm.training.trainer import Batches, Trainer

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"
STAGES = {
    "language": "1-language",
    "interactions": "2-interactions",
    "slots": "3-slots",
    "dialogues": "4-dialogues",
    "streams": "4b-streams",
    "mrl": "5-mrl",
}
"""Names of stages as they are typed, and as their folders are called."""
ON_REQUEST = ("mrl",)
"""Stages that are trained only where they are named."""
SLOTS_TURNS = 8
LOGGED_EVERY = 20
"""Steps of stage 5 from one log of trajectories to the next."""

ModuleMaker = Callable[[RxTAlpha], TrainModule]
BatchesMaker = Callable[[BatchMaker, TrainModule], Batches]


class Stage(NamedTuple):
    """One stage of a run: its name, the loop's configuration, and how to make its module, and batches for it."""

    name: str
    training: TrainingConfig
    module: ModuleMaker
    batches: BatchesMaker

    @property
    def folder(self) -> str:
        """Name of its folder in the run's."""
        return STAGES[self.name]


class Run:
    """A run of a recipe in a folder.

    Raises `ConfigError` where the folder holds a run of another recipe, and the corpus's errors where its data is not
    there or does not fit.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self._check_recipe()
        self.corpus: Corpus = recipe.corpus()
        self._keep_recipe()
        self.tokenizer = self._tokenizer()
        self.tokens = token_ids_of(self.tokenizer)
        self.encoder = InteractionEncoder(self.tokenizer, self.tokens, max_tokens=recipe.decoder.max_seq_len)

    def stages(self) -> list[Stage]:
        """Return the stages that the recipe has, in order."""
        recipe, corpus = self.recipe, self.corpus
        short = DialoguePhase(steps=1, num_turns=SLOTS_TURNS)

        def memory_aware(model: RxTAlpha) -> TrainModule:
            return MemoryAware(model, recipe.dialogues_settings)

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
            "dialogues": (recipe.dialogues, memory_aware, lambda make, _: self._curriculum(make, recipe.phases)),
            "streams": (recipe.streams, memory_aware, lambda make, _: self._curriculum(make, recipe.stream_phases)),
            "mrl": (recipe.mrl, lambda model: MemoryReinforcement(model, recipe.mrl_settings), self._rollouts),
        }
        return [
            Stage(name, training, module, batches)
            for name, (training, module, batches) in stages.items()
            if training is not None
        ]

    def train(self, last_stage: str | None = None) -> RxTAlpha:
        """Train what is not trained yet, up to `last_stage` if given, and return the model.

        Without, stages that are on request are left out. ValueError where the recipe has no stage of that name (see
        `STAGES`).
        """
        stages = [stage for stage in self.stages() if stage.name == last_stage or stage.name not in ON_REQUEST]
        names = [stage.name for stage in stages]
        if last_stage is not None and last_stage not in names:
            has = ", ".join(stage.name for stage in self.stages())
            raise ValueError(f"Recipe {self.recipe.name!r} has no stage {last_stage!r}; it has {has}.")
        model = self._new_model()
        for stage in stages:
            model = self.train_stage(stage, model)
            if stage.name == last_stage and stage != stages[-1]:
                return model
        if distributed.rank() == 0:
            model.save_pretrained(self.folder)
        return model

    def train_stage(self, stage: Stage, model: RxTAlpha) -> RxTAlpha:
        """Train one stage from `model`, or load its result where it is done."""
        result = self.folder / stage.folder / "model"
        if (result / "config.json").is_file():
            return RxTAlpha.from_pretrained(result).train()
        module = stage.module(model)
        trainer = Trainer(
            stage.folder,
            module,
            stage.batches(self._maker(stage.training), module),
            stage.training,
            self.folder / stage.folder,
            evaluation=lambda: self.corpus.evaluate(model),
        )
        trainer.run()
        model.requires_grad_(True)
        if distributed.rank() == 0:
            model.save_pretrained(result)
        return model

    def results(self, model: RxTAlpha) -> Results:
        """Return what the finished model was measured to do; measured once for each set of stages, and kept."""
        path = self.folder / RESULTS_FILE
        stages = [stage.folder for stage in self.stages() if (self.folder / stage.folder / "model").is_dir()]
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if values.get("stages") != stages:
            values = {**asdict(self.corpus.results(model)), "stages": stages}
            _write_json(path, values)
            values = json.loads(path.read_text(encoding="utf-8"))
        return Results(
            tuple(
                ResultTable(table["title"], tuple(table["header"]), tuple(map(tuple, table["rows"])), table["note"])
                for table in values["tables"]
            ),
            tuple((query, answer) for query, answer in values["conversation"]),
        )

    def _maker(self, training: TrainingConfig) -> BatchMaker:
        seed = self.recipe.seed + training.seed
        return BatchMaker(self.encoder, self.tokens, training.batch_size, training.accumulation, seed)

    def _curriculum(self, make: BatchMaker, phases: Sequence[DialoguePhase]) -> Batches:
        """Longer and longer dialogues, then streams of them."""
        sources = []
        for number, phase in enumerate(phases, 1):
            size = phase.batch_size or make.batch_size
            batches = self.corpus.dialogues(replace(make, seed=make.seed + number, batch_size=size), phase)
            sources.append(Phase(batches, phase.steps * make.accumulation))
        return PhasedBatches(sources)

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
        player = EpisodePlayer(model, self.encoder, Rewards(rewards), settings)
        log = TrajectoryLog(self.folder / STAGES["mrl"], LOGGED_EVERY)
        return RolloutBatches(PhasedBatches(sources), player, module.annotate, settings, seed=make.seed, log=log)

    def _new_model(self) -> RxTAlpha:
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

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        folder = self.folder / "tokenizer"
        if not (folder / "tokenizer.json").is_file() and distributed.rank() == 0:
            recipe = self.recipe
            trained = train_tokenizer(self.corpus.texts(), recipe.vocab_size, whole_words=recipe.whole_words)
            trained.save_pretrained(folder)
        distributed.wait()
        return load_tokenizer_from_file(folder)

    def _check_recipe(self) -> None:
        path = self.folder / RECIPE_FILE
        present = json.loads(json.dumps(self.recipe.to_dict()))
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != present:
            raise ConfigError(f"{self.folder} holds a run of another recipe (see {path}); name another folder.")

    def _keep_recipe(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_json(self.folder / RECIPE_FILE, self.recipe.to_dict())


def _write_json(path: Path, values: Any) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
