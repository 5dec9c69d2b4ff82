"""What runs have in common: a folder that holds a recipe, a tokenizer, a folder a stage and the finished model.

The folder holds `recipe.json`, `tokenizer/`, and for each stage its figures, its checkpoints and, once it is done, its
`model/`; at the top are the finished model itself, which `rxlm chat` loads, and what it was measured to do,
`results.json`. Started again, a run goes on from where it was.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import load_tokenizer_from_file, save_tokenizer
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.file_errors import read_json_object
from rxlm.folders import is_saved
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.feedback import PreferenceStage
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.run_folder import (
    RECIPE_FILE,
    RESULTS_FILE,
    TOKENIZER,
    alone_in,
    check_recipe,
    remove_of_another_recipe,
    stage_path,
    write_json,
)
from rxlm.recipes.run_results import ResultTable, RunResults
from rxlm.recipes.stages import StageConfig
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.text import token_ids_of
from rxlm.training import distributed
from rxlm.training.config import TrainingConfig
from rxlm.training.distributed import Parallel
from rxlm.training.module import StageModule
from rxlm.training.sharding import is_sharded, whole_weights
from rxlm.training.trainer import Batches, Trainer

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R", bound=Recipe)


class TrainingRun(ABC, Generic[R, M]):
    """A run in a folder: tokenizer, model, and one stage after the other, each from the last one's result.

    Args:
        recipe: what the run does; it is kept in the folder.
        folder: of the run.
        device: where to compute. parallel: how the processes of torchrun share the work: each has all weights ("ddp"),
            or a part of them ("fsdp"). shares_rows: whether a batch of the recipe's size is that of all processes, and
            not of each. None of it is part of the recipe: a run may go on elsewhere, and by other numbers.

    Raises `ConfigError` where the folder holds a run of another recipe, or another process trains in it, and the
    corpus's errors where its data is not there or does not fit.
    """

    def __init__(
        self,
        recipe: R,
        folder: Path,
        device: torch.device | str = "cpu",
        parallel: Parallel = "ddp",
        *,
        shares_rows: bool = False,
    ) -> None:
        self.recipe, self.folder, self.device, self.parallel = recipe, folder, torch.device(device), parallel
        self.sharing = distributed.world_size() if shares_rows else 1
        distributed.require_group(parallel)
        recipe.require_shares(self.sharing)
        check_recipe(recipe, folder)
        self.corpus: Any = recipe.open_corpus()
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            if distributed.rank() == 0:
                check_recipe(recipe, folder)
                remove_of_another_recipe(recipe, folder)
            self.tokenizer = self._tokenizer()
            self.tokens = self.token_ids()
            without_thoughts = self.tokens.replace(think_token_id=None)  # the models of recipes do not think
            self.turn_tokenizer = TurnTokenizer(self.tokenizer, without_thoughts, max_tokens=recipe.max_tokens)
            self.keep_recipe()

    @abstractmethod
    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer of a new run."""

    @abstractmethod
    def new_model(self) -> M:
        """Return a model with its first weights."""

    @abstractmethod
    def load_model(self, folder: Path) -> M:
        """Load a model that `save_model` wrote."""

    @abstractmethod
    def save_model(self, model: M, folder: Path) -> None:
        """Save a model with its tokenizer."""

    @abstractmethod
    def evaluate(self, model: M) -> Mapping[str, float]:
        """Return figures of a model in training; the first one decides which checkpoint is best (higher is)."""

    @abstractmethod
    def measure(self, model: M) -> RunResults:
        """Measure a finished model."""

    def token_ids(self) -> RxTAlphaTokenizerConfig:
        """Return the ids of the special tokens that give an interaction its form."""
        return token_ids_of(self.tokenizer)

    def what_next(self) -> str:
        """Return a command that goes on with the finished model."""
        return f"rxlm chat {self.folder}"

    def notes(self, last_stage: str | None = None) -> list[str]:
        """Return what a person must know before training up to a stage: what of the data is skipped or cut."""
        found = [*self.corpus.notes(self.turn_tokenizer)]
        for stage in self.recipe.stages_up_to(last_stage):
            folder = stage_path(self.folder, stage.folder)
            if not is_saved(folder / "model", "config.json"):
                found += stage.notes(self.turn_tokenizer, folder)
        return [*found, *self._unused(last_stage)]

    def _unused(self, last_stage: str | None) -> Iterator[str]:
        """Yield what is said of preferences that were given to stages that are not trained."""
        for stage in self.recipe.stages:
            if (
                not isinstance(stage, PreferenceStage)
                or not stage.preferences
                or stage in self.recipe.stages_up_to(last_stage)
            ):
                continue
            if not is_saved(stage_path(self.folder, stage.folder) / "model", "config.json"):
                yield (
                    f"{', '.join(stage.preferences)}: nothing learns from it now. It is for the stage {stage.id}, "
                    f"which is trained where it is named: rxlm train {self.recipe.name} {stage.id}"
                )

    def train(self, last_stage: str | None = None) -> M:
        """Train what is not trained yet, up to `last_stage` if given, and return the model.

        Without, stages that are on request are left out. ValueError where the recipe has no stage of that name.
        """
        with alone_in(self.folder):
            check_recipe(self.recipe, self.folder)  # another process may have been here
            return self._train(last_stage)

    def _train(self, last_stage: str | None) -> M:
        model, stages = self._placed(self.new_model()), self.recipe.stages_up_to(last_stage)
        for stage in stages:
            model = self.train_stage(stage, model)
        is_new = stages[-1].changes_model or not is_saved(self.folder, "config.json")
        if distributed.rank() == 0 and self.is_finished(last_stage) and is_new:
            self.save_model(model, self.folder)
        return model.to(self.device) if distributed.rank() == 0 else model

    def model_before(self, stage: StageConfig) -> M:
        """Return the model that a trained stage began with."""
        *earlier, _ = self.recipe.stages_up_to(stage.id)
        if not earlier:
            return self.new_model().to(self.device)
        return self.load_model(stage_path(self.folder, earlier[-1].folder) / "model").to(self.device)

    def train_stage(self, stage: StageConfig, model: M) -> M:
        """Train one stage from `model`, or load its result where it is done."""
        folder = stage_path(self.folder, stage.folder)
        if is_saved(folder / "model", "config.json"):
            return self._placed(self.load_model(folder / "model"))
        module = stage.module(model)
        if not module.by_layer:
            module.to(self.device)
        batches = self.batches(stage, module)
        trainer = Trainer(
            stage.folder,
            module,
            batches,
            stage,
            folder,
            evaluation=lambda: self.evaluate(model),
            num_cut=lambda: self.turn_tokenizer.num_cut,
            parallel=self.parallel,
            device=self.device,
        )
        trainer.run()
        if not is_sharded(module):
            self._finish(module, model, folder)
            return model
        weights = whole_weights(module)
        if distributed.rank() == 0:
            model = self.new_model()
            module = stage.module(model)
            module.load_state_dict(weights)
            self._finish(module, model, folder)
        distributed.wait()
        return self.load_model(folder / "model")

    def _finish(self, module: StageModule, model: M, folder: Path) -> None:
        """Make the model of a stage that is trained an ordinary one, and save it."""
        if distributed.rank() == 0:
            module.save(folder)
        module.finish()
        model.requires_grad_(True)
        if distributed.rank() == 0:
            self.save_model(model, folder / "model")

    def _placed(self, model: M) -> M:
        """Move a model to the device, unless its weights are to be divided: they may not all have room there."""
        return model.to(self.device) if self.parallel == "ddp" else model

    def batches(self, stage: StageConfig, module: nn.Module) -> Batches:
        """Return the batches of a stage for its module."""
        return stage.batches(self.corpus, self.maker(stage), module, stage_path(self.folder, stage.folder))

    def is_finished(self, last_stage: str | None) -> bool:
        """Tell whether the model is finished that `train` returned for `last_stage`."""
        if last_stage is None:
            return True
        usual = [stage for stage in self.recipe.stages if not stage.on_request]
        stage = self.recipe.stage(last_stage)
        return stage.on_request or stage is usual[-1]

    def results(self, model: M) -> RunResults:
        """Return what the finished model was measured to do; measured once for each set of stages, and kept.

        Processes that share a training measure together: all of them call this, or none is left.
        """
        path = self.folder / RESULTS_FILE
        folders = [stage_path(self.folder, stage.folder) for stage in self.recipe.stages]
        stages = [folder.name for folder in folders if (folder / "model").is_dir()]
        values = read_json_object(path) if path.is_file() else {}
        stages, values = distributed.gathered([(stages, values)])[0]  # what the first process sees, which writes them
        if values.get("stages") != stages:
            values = {**asdict(self.measure(model)), "stages": stages}
            if distributed.rank() == 0:
                write_json(path, values)
            distributed.wait()
            values = read_json_object(path)
        return RunResults(
            tuple(
                ResultTable(table["title"], tuple(table["header"]), tuple(map(tuple, table["rows"])), table["note"])
                for table in values["tables"]
            ),
            tuple((query, answer) for query, answer in values["conversation"]),
        )

    def keep_recipe(self) -> None:
        """Write down which recipe the folder is made by, once it is known to make something: before the first file."""
        if distributed.rank() == 0:
            write_json(self.folder / RECIPE_FILE, self.recipe.to_dict())

    def maker(self, training: TrainingConfig) -> BatchMaker:
        """Return what makes batches for a stage."""
        seed = self.recipe.seed + training.seed
        rows = training.batch_size // self.sharing
        return BatchMaker(self.turn_tokenizer, self.tokens, rows, training.accumulation, seed, self.sharing)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        folder = self.folder / TOKENIZER
        if distributed.rank() == 0 and not is_saved(folder, "tokenizer.json"):
            tokenizer = self.first_tokenizer()
            self.keep_recipe()
            save_tokenizer(tokenizer, folder)
        distributed.wait()
        return load_tokenizer_from_file(folder)
