"""Runs a recipe: tokenizer, model, and one stage after the other, each from the last one's result.

A run's folder holds `recipe.json`, `tokenizer/`, a folder a stage with its figures, its checkpoints and, once it is
done, its `model/`; and at the top the finished model itself, which `rxlm chat` loads. Started again, a run goes on from
where it was.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.batches import InteractionEncoder
from rxlm.data.fact_kinds import fact_kinds
from rxlm.data.facts import FactGenerator, FactsConfig, texts_of
from rxlm.data.records import Interaction, Question
from rxlm.data.samplers import ShuffledBatches
from rxlm.data.scoring import Grade, grade
from rxlm.data.streams import ConversationStreams
from rxlm.data.tokenizer import load_tokenizer_from_file, train_tokenizer
from rxlm.mrq_bench.retention import Control, accuracy_by_distance, answer_dialogues
from rxlm.nn.config import ConfigError
from rxlm.recipes.facts import FactsRecipe
from rxlm.rxt.hub import write_atomically
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.text import token_ids_of
from rxlm.training import distributed
from rxlm.training.config import TrainingConfig
from rxlm.training.joint import JointConfig, JointLanguageModelling
from rxlm.training.memory_attention import MemoryAttentionPretraining
from rxlm.training.memory_aware import MemoryAware
from rxlm.training.module import TrainModule
from rxlm.training.phases import Phase, PhasedBatches
from rxlm.training.trainer import Batches, Trainer

RECIPE_FILE = "recipe.json"
TOKENIZER_DIALOGUES = 2000
MANY = 10_000_000


class Stage(NamedTuple):
    """One stage of a run: its number and name, the loop's configuration, and how to make its module and batches."""

    name: str
    training: TrainingConfig
    module: Callable[[RxTAlpha], TrainModule]
    batches: Callable[["FactsRun", TrainingConfig], Batches]


class FactsRun:
    """A run of a `FactsRecipe` in a folder.

    Raises `ConfigError` where the folder holds a run of another recipe.
    """

    def __init__(self, recipe: FactsRecipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self._keep_recipe()
        self.tokenizer = self._tokenizer()
        self.tokens = token_ids_of(self.tokenizer)
        self.encoder = InteractionEncoder(self.tokenizer, self.tokens, max_tokens=recipe.decoder.max_seq_len)

    def stages(self) -> list[Stage]:
        """Return the stages that the recipe has, in order."""
        recipe = self.recipe

        def joint(settings: JointConfig) -> Callable[[RxTAlpha], TrainModule]:
            return lambda model: JointLanguageModelling(model, settings)

        stages = []
        if recipe.language is not None:
            stages.append(Stage("1-language", recipe.language, joint(recipe.language_settings), _turns))
        if recipe.interactions is not None:
            stages.append(Stage("2-interactions", recipe.interactions, joint(recipe.interactions_settings), _turns))
        if recipe.slots is not None:
            settings = recipe.slots_settings
            stages.append(
                Stage("3-slots", recipe.slots, lambda model: MemoryAttentionPretraining(model, settings), _dialogues)
            )
        stages.append(
            Stage(
                "4-dialogues",
                recipe.dialogues,
                lambda model: MemoryAware(model, recipe.dialogues_settings),
                _curriculum,
            )
        )
        return stages

    def train(self) -> RxTAlpha:
        """Train what is not trained yet, and return the finished model."""
        model = self._new_model()
        for stage in self.stages():
            model = self.train_stage(stage, model)
        if distributed.rank() == 0:
            model.save_pretrained(self.folder)
        return model

    def train_stage(self, stage: Stage, model: RxTAlpha) -> RxTAlpha:
        """Train one stage from `model`, or load its result where it is done."""
        result = self.folder / stage.name / "model"
        if not (result / "config.json").is_file():
            batches = stage.batches(self, stage.training)
            Trainer(stage.name, stage.module(model), batches, stage.training, self.folder / stage.name).run()
            model.requires_grad_(True)
            if distributed.rank() == 0:
                model.save_pretrained(result)
            return model
        return RxTAlpha.from_pretrained(result).train()

    def facts(self, **changes: Any) -> FactGenerator:
        """Return the generator of the recipe's dialogues, with some settings changed."""
        return FactGenerator(FactsConfig(variety=self.recipe.variety, seed=self.recipe.seed).replace(**changes))

    def retention(
        self, model: RxTAlpha, num_turns: int, count: int, control: Control = "none"
    ) -> Mapping[str, tuple[float, int]]:
        """Return exact accuracy by distance on test dialogues, whose combinations training has not seen."""
        values = {kind.name: kind.values for kind in fact_kinds(self.recipe.variety)}

        def is_right(answer: str, question: Question) -> bool:
            return grade(answer, question, values[question.kind]) == Grade.RIGHT

        dialogues = self.facts(num_turns=num_turns, split="test").dialogues(count)
        return accuracy_by_distance(answer_dialogues(model.eval(), dialogues, is_right, control=control))

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
        if not (folder / "tokenizer.json").is_file():
            texts = texts_of(self.facts().dialogues(TOKENIZER_DIALOGUES))
            train_tokenizer(texts, self.recipe.vocab_size).save_pretrained(folder)
        return load_tokenizer_from_file(folder)

    def _keep_recipe(self) -> None:
        path = self.folder / RECIPE_FILE
        present = self.recipe.to_dict()
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(present)):
            raise ConfigError(f"{self.folder} holds a run of another recipe (see {path}); name another folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(present, indent=2) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _processes() -> dict[str, int]:
    return {"rank": distributed.rank(), "world_size": distributed.world_size()}


class _TurnsOf(Sequence[Interaction]):
    """The turns of generated dialogues, one after another, as a sequence."""

    def __init__(self, generator: FactGenerator) -> None:
        self.generator, self.length = generator, generator.config.num_turns

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        return self.generator.dialogue(index // self.length).turns[index % self.length]


def _turns(run: FactsRun, training: TrainingConfig) -> Batches:
    return ShuffledBatches(
        _TurnsOf(run.facts()), run.encoder.interaction_batch, batch_size=training.batch_size, shuffle=False,
        **_processes(),
    )  # fmt: skip


def _dialogues(run: FactsRun, training: TrainingConfig, num_turns: int = 8, seed: int = 1) -> Batches:
    dialogues = run.facts(num_turns=num_turns, seed=run.recipe.seed + seed).dialogues(MANY)
    return ShuffledBatches(
        dialogues, run.encoder.dialogue_batch, batch_size=training.batch_size, shuffle=False, **_processes()
    )


def _curriculum(run: FactsRun, training: TrainingConfig) -> Batches:
    """The phases of stage 4: longer and longer dialogues, then streams of them."""
    phases = []
    for number, phase in enumerate(run.recipe.phases):
        if phase.streams:
            longest = run.recipe.stream_turns
            generator = run.facts(num_turns=longest + 1, distance_law="log-uniform", seed=run.recipe.seed + 100)
            batches: Batches = ConversationStreams(
                generator.stream, run.encoder, batch_size=training.batch_size, turns_per_batch=phase.num_turns,
                reset_probability=phase.reset_probability, seed=run.recipe.seed, **_processes(),
            )  # fmt: skip
        else:
            batches = _dialogues(run, training, phase.num_turns, seed=number + 2)
        phases.append(Phase(batches, phase.steps * training.accumulation))
    return PhasedBatches(phases)
