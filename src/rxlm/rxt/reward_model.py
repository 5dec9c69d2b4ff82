"""A reward model: how much people would like an answer, given what the conversation's memory holds.

Shapes: B conversations, T tokens of the longest turn, D model dimension.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.memory import MemoryReading, MemoryState
from rxlm.rxt.alpha import RxTAlpha, tokenizer_beside
from rxlm.rxt.hub import HubModule
from rxlm.rxt.models import KINDS


class RewardModel(HubModule):
    """A Reactive Transformer that scores turns in place of answering them.

    The decoder reads a whole turn, query and answer, with the memory of the turns before it; a linear head makes one
    number of its state at the turn's last token, and of how likely it finds the answer: log-probability a token. At
    first that is the score. The memory is the model's own, and learns with it.

    Args:
        model: what it is made of; it becomes part of the reward model.
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"score": "critic"}

    def __init__(self, model: RxTAlpha) -> None:
        super().__init__()
        self.model = model
        self.score = nn.Linear(model.decoder.config.dim + 1, 1, device=model.device, dtype=model.dtype)
        nn.init.zeros_(self.score.weight[:, :-1])
        nn.init.ones_(self.score.weight[:, -1:])
        nn.init.zeros_(self.score.bias)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def forward(self, ids: Tensor, mask: Tensor, answers: Tensor, memory: MemoryState | MemoryReading) -> Tensor:
        """Return the score of each turn, (B,), in float32 at least; 0 for a conversation without one.

        Args:
            ids: turns with their special tokens, (B, T). mask: True at tokens that are not padding, (B, T).
            answers: True at the tokens of answers, (B, T); never the first of a row.
            memory: of the turns before, of B conversations.
        """
        hidden = self.model.decoder.hidden_states(ids, memory)
        last = (mask.sum(1) - 1).clamp(min=0)
        states = hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
        likely = self._log_probs(hidden, ids, answers).to(states.dtype)
        scores = self.score(torch.cat((states, likely[:, None]), 1))[:, 0]
        return scores.to(torch.promote_types(scores.dtype, torch.float32)) * mask.any(1)

    def _log_probs(self, hidden: Tensor, ids: Tensor, answers: Tensor) -> Tensor:
        """Return the log-probability of each answer, a token, (B,); 0 where there is none."""
        wanted = answers[:, 1:]
        logits = self.model.decoder.head(hidden[:, :-1][wanted])
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        nats = F.cross_entropy(exact, ids[:, 1:][wanted], reduction="none")
        rows = wanted.nonzero()[:, 0]
        return nats.new_zeros(len(ids)).index_add(0, rows, -nats) / wanted.sum(1).clamp(min=1)

    # --- saving and loading --------------------------------------------------------------------------------------

    def config_dict(self) -> dict[str, Any]:
        """Return the model's configuration as plain values."""
        return {"kind": type(self.model).__name__, "model": self.model.config_dict()}

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a reward model from what `config_dict` returned."""
        return cls(KINDS[values["kind"]].from_config_dict(values["model"]))

    def stored_ties(self) -> Mapping[str, str]:
        """Second names of shared weights."""
        return {f"model.{name}": f"model.{stored}" for name, stored in self.model.stored_ties().items()}

    def tie_weights(self) -> None:
        """Make shared weights one parameter again, after loading."""
        self.model.tie_weights()

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.model.tokenizer is not None:
            self.model.tokenizer.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> Self:
        """Load a reward model with its tokenizer from a folder or the hub, in evaluation mode; see `HubModule`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        tokenizer = tokenizer_beside(pretrained_model_name_or_path, kwargs)
        if tokenizer is not None:
            loaded.model.set_tokenizer(tokenizer)
        return loaded
