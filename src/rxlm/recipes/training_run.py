"""What runs have in common: a folder that holds a recipe, a tokenizer, a folder a stage and the finished model.

Started again, a run goes on from where it was.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from rxlm.config import Config, ConfigError
from rxlm.data.tokenizer import load_tokenizer_from_file
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.files import write_atomically
from rxlm.recipes.corpus import BatchMaker, Corpus, Results, ResultTable
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.text import token_ids_of
from rxlm.training import distributed
from rxlm.training.config import TrainingConfig
from rxlm.training.module import StageModule
from rxlm.training.trainer import Batches, Trainer

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"
STAGES = {
    "language": "1-language",
    "interactions": "2-interactions",
    "slots": "3-slots",
    "dialogues": "4-dialogues",
    "streams": "4b-streams",
    "layers": "4b-layers",
    "mrl": "5-mrl",
}
"""Names of stages as they are typed, and as their folders are called."""
ON_REQUEST = ("mrl",)
"""Stages that are trained only where they are named."""

M = TypeVar("M", bound=nn.Module)


class Stage(NamedTuple):
    """One stage of a run: its name, the loop's configuration, and how to make its module, and batches for it."""

    name: str
    training: TrainingConfig
    module: Callable[[Any], StageModule]
    batches: Callable[[BatchMaker, Any], Batches]

    @property
    def folder(self) -> str:
        """Name of its folder in the run's."""
        return STAGES[self.name]


class TrainingRun(ABC, Generic[M]):
    """A run in a folder: tokenizer, model, and one stage after the other, each from the last one's result.

    Args:
        recipe: what the run does; it is kept in the folder.
        name: of the recipe.
        folder: of the run.
        open_corpus: opens the data.
        device: where to compute. It is no part of the recipe: a run may go on elsewhere.
        seed: of everything that is random.
        max_tokens: of an interaction.

    `stage_fields` are the recipe's fields that one stage alone reads (or that one first), by its name: they may change
    as long as neither that stage nor a later one has begun.

    Raises `ConfigError` where the folder holds a run of another recipe, and the corpus's errors where its data is not
    there or does not fit.
    """

    stage_fields: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(
        self,
        recipe: Config,
        name: str,
        folder: Path,
        open_corpus: Callable[[], Corpus],
        device: torch.device | str = "cpu",
        *,
        seed: int,
        max_tokens: int,
    ) -> None:
        self.name, self.folder, self.seed = name, folder, seed
        self.device = torch.device(device)
        self._check(recipe)
        self.corpus = open_corpus()
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_json(self.folder / RECIPE_FILE, recipe.to_dict())
        self.tokenizer = self._tokenizer()
        self.tokens = self.token_ids()
        self.turn_tokenizer = TurnTokenizer(self.tokenizer, self.tokens, max_tokens=max_tokens)

    @abstractmethod
    def first_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer of a new run."""

    @abstractmethod
    def stages(self) -> list[Stage]:
        """Return the stages that the recipe has, in order."""

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
    def measure(self, model: M) -> Results:
        """Measure a finished model."""

    def token_ids(self) -> RxTAlphaTokenizerConfig:
        """Return the ids of the special tokens that give an interaction its form."""
        return token_ids_of(self.tokenizer)

    def what_next(self) -> str:
        """Return a command that goes on with the finished model."""
        return f"rxlm chat {self.folder}"

    def train(self, last_stage: str | None = None) -> M:
        """Train what is not trained yet, up to `last_stage` if given, and return the model.

        Without, stages that are on request are left out. ValueError where the recipe has no stage of that name (see
        `STAGES`).
        """
        stages = [stage for stage in self.stages() if stage.name == last_stage or stage.name not in ON_REQUEST]
        names = [stage.name for stage in stages]
        if last_stage is not None and last_stage not in names:
            has = ", ".join(stage.name for stage in self.stages())
            raise ValueError(f"Recipe {self.name!r} has no stage {last_stage!r}; it has {has}.")
        model = self.new_model().to(self.device)
        for stage in stages:
            model = self.train_stage(stage, model)
            if stage.name == last_stage and stage != stages[-1]:
                return model
        if distributed.rank() == 0:
            self.save_model(model, self.folder)
        return model

    def train_stage(self, stage: Stage, model: M) -> M:
        """Train one stage from `model`, or load its result where it is done."""
        result = self.folder / stage.folder / "model"
        if (result / "config.json").is_file():
            return self.load_model(result).to(self.device)
        module = stage.module(model)
        trainer = Trainer(
            stage.folder,
            module,
            stage.batches(self.maker(stage.training), module),
            stage.training,
            self.folder / stage.folder,
            evaluation=lambda: self.evaluate(model),
        )
        trainer.run()
        model.requires_grad_(True)
        if distributed.rank() == 0:
            self.save_model(model, result)
        return model

    def is_finished(self, last_stage: str | None) -> bool:
        """Tell whether the model is finished that `train` returned for `last_stage`."""
        usual = [stage.name for stage in self.stages() if stage.name not in ON_REQUEST]
        return last_stage is None or last_stage in ON_REQUEST or last_stage == usual[-1]

    def results(self, model: M) -> Results:
        """Return what the finished model was measured to do; measured once for each set of stages, and kept."""
        path = self.folder / RESULTS_FILE
        stages = [stage.folder for stage in self.stages() if (self.folder / stage.folder / "model").is_dir()]
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if values.get("stages") != stages:
            values = {**asdict(self.measure(model)), "stages": stages}
            _write_json(path, values)
            values = json.loads(path.read_text(encoding="utf-8"))
        return Results(
            tuple(
                ResultTable(table["title"], tuple(table["header"]), tuple(map(tuple, table["rows"])), table["note"])
                for table in values["tables"]
            ),
            tuple((query, answer) for query, answer in values["conversation"]),
        )

    def maker(self, training: TrainingConfig) -> BatchMaker:
        """Return what makes batches for a stage."""
        seed = self.seed + training.seed
        return BatchMaker(self.turn_tokenizer, self.tokens, training.batch_size, training.accumulation, seed)

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        folder = self.folder / "tokenizer"
        if not (folder / "tokenizer.json").is_file() and distributed.rank() == 0:
            self.first_tokenizer().save_pretrained(folder)
        distributed.wait()
        return load_tokenizer_from_file(folder)

    def _check(self, recipe: Config) -> None:
        """Refuse another recipe than the folder's, except for what only stages to come read."""
        path = self.folder / RECIPE_FILE
        if not path.is_file():
            return
        kept = json.loads(path.read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(recipe.to_dict()))
        changed = {name for name in {*kept, *wanted} if name not in kept or kept[name] != wanted.get(name)}
        names = list(STAGES)
        begun = max((number for number, name in enumerate(names) if (self.folder / STAGES[name]).is_dir()), default=-1)
        fixed = changed.difference(*(self.stage_fields.get(name, ()) for name in names[begun + 1 :]))
        if fixed:
            raise ConfigError(
                f"{self.folder} holds a run of another recipe (see {path}): {', '.join(sorted(fixed))} differ. Name "
                f"another folder{self._way_back(fixed)}."
            )
        if changed and distributed.rank() == 0:
            (self.folder / RESULTS_FILE).unlink(missing_ok=True)  # may be those of stages that were taken away

    def _way_back(self, fixed: set[str]) -> str:
        """Return what else may be done where fields differ that stages read which have begun."""
        readers = [name for name in STAGES if not fixed.isdisjoint(self.stage_fields.get(name, ()))]
        if fixed.difference(*(self.stage_fields[name] for name in readers)):
            return ""  # some of them are of the whole run
        return f", or remove {STAGES[readers[0]]} and the stages after it from this one, to train them again"


class ReactiveRun(TrainingRun[RxTAlpha]):
    """A run of a Reactive Transformer: its corpus measures it."""

    def load_model(self, folder: Path) -> RxTAlpha:
        """Load a model."""
        return RxTAlpha.from_pretrained(folder).train()

    def save_model(self, model: RxTAlpha, folder: Path) -> None:
        """Save a model; its tokenizer comes along."""
        model.save_pretrained(folder)

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Return the corpus's figures."""
        return self.corpus.evaluate(model)

    def measure(self, model: RxTAlpha) -> Results:
        """Return the corpus's results."""
        return self.corpus.results(model)


def _write_json(path: Path, values: Any) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
