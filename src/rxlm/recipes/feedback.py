"""Stage 6 in recipes: what learns from people's preferences, or from those of the recipe's generator."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from rxlm.config import ConfigError, config
from rxlm.data.fields import BadRecords
from rxlm.data.preference_files import Preferences, read_preferences
from rxlm.data.preferences import Feedback
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.run_results import ResultTable
from rxlm.recipes.stages import StageConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.config import OptimizerConfig
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.continuations import likelihood
from rxlm.training.feedback.module import PreferenceOptimisation
from rxlm.training.feedback.pair_log import PAIRS_FILE, Scores, write_pairs
from rxlm.training.feedback.reward import REWARD_FOLDER, RewardConfig, RewardTraining, scores_of
from rxlm.training.trainer import Batches

PLACES = 3
LOGGED = 12
"""Pairs of a stage that are logged, the first ones."""
NOTE = (
    "Test dialogues, answered turn by turn, before the stage and after it. Never told: questions about what nobody has "
    "said, answered by saying so. Recall: questions that were answered with the right value and no other. Stale: of "
    "questions about what has changed, those that were answered with an earlier value. Perplexity of the reference "
    "answers to everything else, after the first turn."
)


@config
class PreferenceStage(StageConfig):
    """A stage on preferences.

    Fields:
        preferences: files, folders, patterns or ids of hub datasets, see `rxlm.data.preference_files`; none: the
            preferences of the recipe's generator.
        bad_records: what is done about a record that cannot be used: "stop", or "skip" it.
    """

    on_request: bool = True
    preferences: tuple[str, ...] = ()
    bad_records: BadRecords = "stop"

    @abstractmethod
    def learnt(self, read: Preferences) -> Sequence[Feedback]:
        """Return what the stage can learn from."""

    @abstractmethod
    def scores(self, model: RxTAlpha, folder: Path | None) -> Scores:
        """Return what scores answers: a model as the stage began; with the folder of the stage, what it left there."""

    def log_pairs(self, corpus: Corpus, make: BatchMaker, model: RxTAlpha, folder: Path) -> None:
        """Write some of the pairs with their margins, by the model that the stage began with and after it; once."""
        if (folder / PAIRS_FILE).is_file():
            return
        turn_tokenizer = make.turn_tokenizer
        found = self._learnt(self._read(turn_tokenizer)) if self.preferences else corpus.preferences(make)
        with torch.no_grad():
            before, after = self.scores(model.eval(), None), self.scores(model, folder)
            write_pairs(folder / PAIRS_FILE, found[:LOGGED], turn_tokenizer, before, after)

    def batches(self, corpus: Corpus, make: BatchMaker, module: Any, folder: Path) -> Batches:
        """Return preferences: those that were given, or generated ones."""
        collate = partial(feedback_batch, turn_tokenizer=make.turn_tokenizer, with_others=self.with_others)
        if not self.preferences:
            return make.shuffled(corpus.preferences(make), collate, shuffle=False)
        return make.shuffled(self._learnt(self._read(make.turn_tokenizer)), collate)

    @property
    def with_others(self) -> bool:
        """Whether batches have each query with another's answer, see `feedback_batch`."""
        return False

    def notes(self, turn_tokenizer: TurnTokenizer, folder: Path) -> Sequence[str]:
        """Return what the preferences that were given are, and which of them are skipped."""
        if not self.preferences:
            return ()
        read = self._read(turn_tokenizer)
        lines = [
            f"Your preferences: {len(read.pairs):,} pairs and {len(read.rated):,} rated answers; "
            f"{self.id} learns from {len(self._learnt(read)):,}."
        ]
        if read.skipped:
            places = "; ".join(read.skipped[:PLACES]) + ("; ..." if len(read.skipped) > PLACES else "")
            lines.append(f"{len(read.skipped):,} records cannot be used and are skipped: {places}")
        return lines

    def _read(self, turn_tokenizer: TurnTokenizer) -> Preferences:
        return read_preferences(self.preferences, turn_tokenizer, bad_records=self.bad_records)

    def _learnt(self, read: Preferences) -> Sequence[Feedback]:
        found = self.learnt(read)
        if not found:
            raise ConfigError(
                f"{', '.join(self.preferences)} has nothing that {self.id} learns from: {len(read.pairs)} pairs and "
                f"{len(read.rated)} rated answers. From answers that were rated one by one learns "
                "feedback.settings.loss=kto."
            )
        return found


@config
class FeedbackStage(PreferenceStage):
    """Preference optimisation."""

    kind: str = "feedback"
    folder: str = "6-feedback"
    settings: PreferenceConfig = PreferenceConfig()

    def module(self, model: Any) -> PreferenceOptimisation:
        """Return preference optimisation."""
        return PreferenceOptimisation(model, self.settings)

    def scores(self, model: RxTAlpha, folder: Path | None) -> Scores:
        """Return the log-probabilities of answers."""
        policy = model if folder is None else RxTAlpha.from_pretrained(folder / "model").to(model.device)
        return lambda batch: likelihood(policy, batch.to(policy.device), unroll=1).log_probs

    def learnt(self, read: Preferences) -> Sequence[Feedback]:
        """Return pairs for losses that compare, good answers for sft, and all for kto."""
        if self.settings.is_paired:
            return read.compared
        return [*read.pairs, *(each for each in read.rated if each.is_good or self.settings.loss == "kto")]

    @property
    def with_others(self) -> bool:
        """Whether batches have each query with another's answer: kto needs them."""
        return self.settings.loss == "kto"


@config
class RewardStage(PreferenceStage):
    """Training of a reward model that begins as a copy of the model; the model itself stays as it is."""

    changes_model: ClassVar[bool] = False
    kind: str = "reward"
    folder: str = "6-reward"
    settings: RewardConfig = RewardConfig()

    def module(self, model: Any) -> RewardTraining:
        """Return the training of a reward model."""
        return RewardTraining(RewardModel(deepcopy(model)), self.settings)

    def scores(self, model: RxTAlpha, folder: Path | None) -> Scores:
        """Return the scores of the reward model."""
        reward = RewardModel(model) if folder is None else RewardModel.from_pretrained(folder / REWARD_FOLDER)
        reward = reward.to(model.device)
        return lambda batch: scores_of(reward, batch.to(reward.device), unroll=1)

    def learnt(self, read: Preferences) -> Sequence[Feedback]:
        """Return the pairs."""
        return read.compared


def change_table(
    stage: str, before: Mapping[str, tuple[float, int]], after: Mapping[str, tuple[float, int]]
) -> ResultTable:
    """Return the figures of `Corpus.graded` before a stage and after it."""
    rows = tuple((name, _cell(name, *before[name]), _cell(name, *after[name])) for name in before)
    return ResultTable(f"What {stage} changed", ("answers", "before", "after"), rows, NOTE)


def _cell(name: str, value: float, count: int) -> str:
    return f"{value:.3f}" if name == "perplexity" else f"{value:.1%} ({count})"


def preference_stages(steps: int, batch_size: int, learning_rate: float, **settings: Any) -> tuple[StageConfig, ...]:
    """Return preference optimisation, with settings as in `PreferenceConfig`, and the training of a reward model.

    Log-probabilities of policy and reference policy are compared: float32.
    """
    common: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "precision": "float32",
        "optimizer": OptimizerConfig(learning_rate=learning_rate, warmup_steps=10, weight_decay=0.0, critic_scale=50.0),
        "checkpoint_every": 50,
    }
    return FeedbackStage(**common, settings=PreferenceConfig(**settings)), RewardStage(**common)
