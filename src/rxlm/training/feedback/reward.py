"""Training of reward models: preferred answers are to score higher, given the memory of the turns before them.

Shapes: R pairs, A continuations, M turns of one.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rxlm.config import Config, config, require, require_int
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.feedback.batches import FeedbackBatch
from rxlm.training.feedback.continuations import memories_of
from rxlm.training.feedback.losses import logistic
from rxlm.training.feedback.module import SEEDS
from rxlm.training.module import Counts, Losses, StageModule

REWARD_FOLDER = "reward"
"""The reward model in the folder of its stage."""


@config
class RewardConfig(Config):
    """Settings of a reward model's training.

    Fields:
        label_smoothing: the share of preferences that are taken to be the wrong way round.
        centre_weight: of the square of both scores' sum, which keeps scores around 0.
        unroll: memory updates, the last ones before an answer, that a gradient flows through.
    """

    label_smoothing: float = 0.0
    centre_weight: float = 0.01
    unroll: int = 8

    def __post_init__(self) -> None:
        require_int(self, "unroll")
        require(
            0 <= self.label_smoothing < 0.5,
            f"RewardConfig.label_smoothing must be from 0 to below 0.5, got {self.label_smoothing}.",
        )
        require(self.centre_weight >= 0, f"RewardConfig.centre_weight must not be negative, got {self.centre_weight}.")


class RewardTraining(StageModule):
    """Bradley-Terry: -log sigmoid(score of the better answer - score of the other - margin).

    Args:
        model: the reward model.
        settings: see `RewardConfig`.
    """

    def __init__(self, model: RewardModel, settings: RewardConfig) -> None:
        super().__init__()
        self.model, self.settings = model.requires_grad_(True), settings

    def prepare(self, batch: FeedbackBatch, generator: torch.Generator) -> FeedbackBatch:
        """Move a batch to the device, and draw the seed of first memories."""
        seed = int(torch.randint(SEEDS, (), generator=generator))
        return replace(batch.to(self.device), seed=seed)

    def counts(self, batch: FeedbackBatch) -> Counts:
        """Count the pairs."""
        return {"pairs": float((batch.signs > 0).sum())}

    def forward(self, batch: FeedbackBatch, totals: Mapping[str, float]) -> Losses:
        """Return the mean loss of pairs."""
        scores, settings = scores_of(self.model, batch, unroll=self.settings.unroll), self.settings
        better, worse = scores[batch.signs > 0], scores[batch.signs < 0]
        differences = better - worse
        losses = logistic(differences - batch.margins, settings.label_smoothing)
        losses = losses + settings.centre_weight * (better + worse).square()
        figures = {
            "rewards/accuracies": (differences > 0).sum(),
            "rewards/margins": differences.detach().sum(),
            "rewards/chosen": better.detach().sum(),
            "rewards/rejected": worse.detach().sum(),
        }
        shares = {name: value / totals["pairs"] for name, value in figures.items()}
        return Losses(losses.sum() / totals["pairs"], shares)

    def save(self, folder: Path) -> None:
        """Write the reward model."""
        self.model.save_pretrained(folder / REWARD_FOLDER)


def scores_of(model: RewardModel, batch: FeedbackBatch, *, unroll: int, forgets: bool = False) -> Tensor:
    """Return the score of each continuation, summed over its turns, (A,); `forgets`: without the turns before."""
    said, memories = batch.said, memories_of(model.model, batch, unroll=unroll, forgets=forgets)
    ids, mask, answers = (part.flatten(0, 1) for part in (said.ids, said.mask, said.answer_mask))
    return model(ids, mask, answers, memories).unflatten(0, (said.num_turns, said.batch_size)).sum(0)


def turn_tokenizer_of(reward: RewardModel) -> TurnTokenizer:
    """Return what makes the turns that a reward model scores; ValueError where it has no tokenizer."""
    model = reward.model
    return TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=model.max_seq_len)
