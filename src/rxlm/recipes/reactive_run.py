"""Runs the recipe of a Reactive Transformer."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import train_tokenizer
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.recipes.feedback import PreferenceStage, change_table
from rxlm.recipes.recipe import ReactiveRecipe, Recipe
from rxlm.recipes.run_folder import stage_path
from rxlm.recipes.run_results import RunResults
from rxlm.recipes.training_run import TrainingRun
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed

R = TypeVar("R", bound=Recipe)


class RxTRun(TrainingRun[R, RxTAlpha]):
    """A run whose model is a Reactive Transformer: its corpus measures it."""

    def load_model(self, folder: Path) -> RxTAlpha:
        """Load a model."""
        return RxTAlpha.from_pretrained(folder, mapped=self.parallel != "ddp").train()

    def save_model(self, model: RxTAlpha, folder: Path) -> None:
        """Save a model; its tokenizer comes along."""
        model.save_pretrained(folder)

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return the corpus's figures."""
        return self.corpus.evaluate(model)

    def measure(self, model: RxTAlpha) -> RunResults:
        """Return the corpus's results, and before them what stages changed."""
        results, changed = self.corpus.results(model), []
        for stage in self.recipe.stages:
            folder = stage_path(self.folder, stage.folder)
            if not (isinstance(stage, PreferenceStage) and (folder / "model").is_dir()):
                continue
            before = self.model_before(stage)
            if distributed.rank() == 0:
                stage.log_pairs(self.corpus, self.maker(stage), before, folder)
            if stage.changes_model:
                models = (before, self.load_model(folder / "model").to(self.device))
                changed.append(change_table(stage.folder, *(self.corpus.graded(each) for each in models)))
        return replace(results, tables=(*changed, *results.tables))


class ReactiveRun(RxTRun[ReactiveRecipe]):
    """A run in which a Reactive Transformer is trained from the beginning; raises as `TrainingRun` does."""

    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Train a tokenizer on the corpus."""
        recipe = self.recipe
        return train_tokenizer(self.corpus.texts(), recipe.vocab_size, whole_words=recipe.whole_words)

    def new_model(self) -> RxTAlpha:
        """Return a model with its first weights."""
        recipe, size = self.recipe, {"vocab_size": len(self.tokenizer)}
        torch.manual_seed(recipe.seed)
        memory = recipe.memory
        if isinstance(memory, RetainedMemoryConfig):
            memory = memory.replace(answer_end=(self.tokens.eos_token_id,))
        return RxTAlpha(
            recipe.decoder.replace(**size),
            None if recipe.encoder is None else recipe.encoder.replace(**size),
            memory,
            self.tokens,
            self.tokenizer,
            memory.variant if isinstance(memory, MemoryAttentionConfig) else None,
        )
