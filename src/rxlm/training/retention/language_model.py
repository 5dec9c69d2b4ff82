"""The language model that a model in retention training was: what it would say, and what the history is worth to it.

Shapes: B dialogues, T tokens of a dialogue, D model dimension, V vocabulary, N chosen tokens.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.reference import frozen_copy
from rxlm.training.retention.adapters import without_adapters
from rxlm.training.retention.reading import states_of_dialogues

LOGITS_AT_ONCE = 2**25


class LanguageModel:
    """Reads dialogues with their full history, or none; no module, since it neither learns nor is saved.

    Args:
        decoder: of the model.
        learnt: the weights of it that are going to change, of which there is a copy; all others are the same in both.
            None: adapters will learn beside them, and are left out where the language model is asked.
    """

    def __init__(self, decoder: RxTDecoder, learnt: set[nn.Parameter] | None) -> None:
        self.is_copy = learnt is not None
        self.decoder = decoder if learnt is None else frozen_copy(decoder, learnt)

    @torch.no_grad()
    def states(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Return what the head reads of whole dialogues (B, T), (B, T, D); `real` as in `states_of_dialogues`."""
        return self._states(ids, real)

    def _states(self, ids: Tensor, real: Tensor | None, turns: ParallelTurns | None = None) -> Tensor:
        if self.is_copy:
            return states_of_dialogues(self.decoder.to(ids.device), ids, real, turns)
        with without_adapters(self.decoder):
            return states_of_dialogues(self.decoder, ids, real, turns)

    @torch.no_grad()
    def history_weights(
        self,
        ids: Tensor,
        turns: Tensor,
        marked: Tensor,
        with_history: Tensor,
        real: Tensor | None = None,
        *,
        first: int,
        most: float,
    ) -> Tensor:
        """Return min(most, exp(loss without history - loss with it)) of marked tokens, 1 elsewhere, (B, T).

        LongCE (arXiv 2410.23771): what follows from the history weighs most. Without history a turn is read with
        nothing before it but what every memory keeps, the `first` tokens.

        Args:
            ids, turns: as in `Dialogues`, (B, T). marked: True at tokens, (B, T); never the first of a row.
            with_history: what `states` returned, (B, T, D). real: as there.
        """
        nothing = ParallelTurns(turns, num_tokens=first, first=first, newest=0)
        wanted, targets = marked[:, 1:], ids[:, 1:][marked[:, 1:]]
        without = self._states(ids, real, nothing)[:, :-1][wanted]
        weights = torch.ones_like(ids, dtype=torch.float)
        gains = self._losses(without, targets) - self._losses(with_history[:, :-1][wanted], targets)
        weights[:, 1:][wanted] = gains.exp().clamp(max=most)
        return weights

    def _losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each of some tokens, (N,)."""
        parts = [
            F.cross_entropy(self.decoder.head(hidden[part]).float(), targets[part], reduction="none")
            for part in self.parts(len(targets))
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float)

    def divergences(self, decoder: RxTDecoder, hidden: Tensor, own: Tensor) -> Tensor:
        """Return the divergence of a decoder's distribution from the language model's at each of some tokens, in nats.

        Args:
            hidden, own: what the heads of both read at the same tokens, (N, D).

        Returns: (N,).
        """
        found = []
        for part in self.parts(len(own)):
            with torch.no_grad():
                aim = self.decoder.head(own[part]).float().log_softmax(-1)
            log_probs = decoder.head(hidden[part]).float().log_softmax(-1)
            found.append(F.kl_div(log_probs, aim, reduction="none", log_target=True).sum(-1))
        return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float)

    def parts(self, count: int) -> Iterator[slice]:
        """Return the parts of so many tokens whose logits are made at once."""
        step = max(1, LOGITS_AT_ONCE // self.decoder.config.vocab_size)
        return (slice(first, first + step) for first in range(0, count, step))
