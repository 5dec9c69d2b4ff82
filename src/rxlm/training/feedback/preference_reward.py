"""A reward model as one reward of memory reinforcement learning, beside exact recall and the others.

Shapes: B dialogues.
"""

import torch
from torch import Tensor

from rxlm.data.preferences import Rated
from rxlm.data.records import Interaction
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.reward import scores_of, turn_tokenizer_of
from rxlm.training.mrl.rewards import TurnAnswers

NAME = "preference"
"""What the reward is called in recipes and in the log."""


class PreferenceReward:
    """The sigmoid of a reward model's score, from 0 to 1, of each answer after the turns before it.

    Args:
        model: the reward model; it does not learn here. It reads texts by its own tokenizer: it may be another model's.
    """

    def __init__(self, model: RewardModel) -> None:
        self.model, self.turn_tokenizer = model.eval().requires_grad_(False), turn_tokenizer_of(model)

    @torch.no_grad()
    def __call__(self, turn: TurnAnswers) -> Tensor:
        """Return the reward of each answer, (B,)."""
        said = [
            Rated(tuple(Interaction(*pair) for pair in before), (Interaction(query, answer),), True)
            for query, answer, before in zip(turn.queries, turn.answers, turn.history, strict=True)
        ]
        batch = feedback_batch(said, self.turn_tokenizer).to(self.model.device)
        return scores_of(self.model, batch, unroll=1).sigmoid().cpu()
