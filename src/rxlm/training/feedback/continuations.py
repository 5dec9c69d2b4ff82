"""Continuations of conversations, read from the memory of the turns before: their states, and how likely they are.

The memory is computed from the turns, with gradients, as the model would have it when it answers: so that what writes
it learns from the answers, too.

Shapes: R conversations, A continuations, M turns of one, K tokens of their answers, D model dimension.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.rxt.core import RxTModel
from rxlm.training.feedback.batches import FeedbackBatch
from rxlm.training.memory_chain import memory_after
from rxlm.training.mrl.objective import answer_states
from rxlm.training.turns import Turns


class Likelihood(NamedTuple):
    """How likely continuations are: log-probabilities summed over the tokens of their answers, and their number."""

    log_probs: Tensor
    tokens: Tensor

    @property
    def means(self) -> Tensor:
        """Log-probability a token, (A,)."""
        return self.log_probs / self.tokens


def likelihood(model: RxTModel, batch: FeedbackBatch, *, unroll: int) -> Likelihood:
    """Return how likely the continuations of a batch are, (A,) each.

    `unroll`: updates of the turns before, the last ones, that a gradient flows through; through those of continuations
    it always does.
    """
    said = batch.said
    states = answer_states(model, said, memories_of(model, batch, unroll=unroll))
    logits = model.decoder.head(states.hidden)
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = F.cross_entropy(exact, said.ids[said.answer_mask], reduction="none")
    owners = states.rows % said.batch_size
    log_probs = nats.new_zeros(said.batch_size).index_add(0, owners, -nats)
    return Likelihood(log_probs, said.answer_mask.sum((0, 2)))


def memories_of(model: RxTModel, batch: FeedbackBatch, *, unroll: int, forgets: bool = False) -> MemoryState:
    """Return the memory before each turn of the continuations, M * A rows; `forgets`: that of a new conversation."""
    memory = model.init_memory(batch.num_conversations, batch.seed)
    if batch.before is not None and not forgets:
        memory = memory_after(model, batch.before, memory, unroll=unroll)
    return _before_each(model, batch.said, memory.select(batch.rows.tolist()))


def _before_each(model: RxTModel, said: Turns, memory: MemoryState) -> MemoryState:
    """Return the memory before each turn, from the one before the first."""
    found = [memory]
    for turn in range(said.num_turns - 1):
        memory = model.update_memory(memory, said.ids[turn], said.mask[turn])
        found.append(memory)
    return MemoryState.join(found)
