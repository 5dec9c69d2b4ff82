"""Stage 4: answer every turn from the memory of the turns before it.

Shapes: N turns, B dialogues, T tokens of a turn, L memory layers, S slots, D model dimension.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rxlm.data.batches import DialogueBatch
from rxlm.data.streams import StreamBatch
from rxlm.memory.state import MemoryState
from rxlm.nn.config import Config, config, require_int
from rxlm.nn.moe import Routing
from rxlm.rxt.core import RxTModel
from rxlm.training.module import Counts, Losses, TrainModule, answer_loss
from rxlm.training.turns import Turns


@config
class MemoryAwareConfig(Config):
    """Settings of stage 4.

    Fields:
        unroll: memory updates that a gradient flows through; the memory is detached every so many turns.
        unfreeze_memory_at, unfreeze_encoder_at: steps at which memory attention, and the encoder, begin to learn.
        load_balancing: weight of the experts' load-balancing loss.
    """

    unroll: int = 8
    unfreeze_memory_at: int = 0
    unfreeze_encoder_at: int = 0
    load_balancing: float = 0.01

    def __post_init__(self) -> None:
        require_int(self, "unroll")
        require_int(self, "unfreeze_memory_at", "unfreeze_encoder_at", minimum=0)


class MemoryAware(TrainModule):
    """Decode each turn's answer from the memory, then fold the turn into the memory (RxT paper, algorithm of stage 4).

    What an update reads of a turn does not depend on the memory, nor does one turn's decoding on another's: all turns
    are encoded in one batch and decoded in one batch, and only the chain of updates runs turn after turn.

    In streams a row goes on from the memory that the batch before left, without its gradient, and where one of its
    conversations ends the next begins from the initial memory.
    """

    def __init__(self, model: RxTModel, settings: MemoryAwareConfig) -> None:
        super().__init__(model)
        self.settings = settings
        self.carried: MemoryState | None = None
        self.drift: Tensor | None = None

    def start_step(self, step: int) -> None:
        """Unfreeze memory attention and encoder when it is their time."""
        self.model.memory_attention.requires_grad_(step >= self.settings.unfreeze_memory_at)
        self.model.encoder.layers.requires_grad_(step >= self.settings.unfreeze_encoder_at)

    def prepare(self, batch: DialogueBatch | StreamBatch, generator: torch.Generator) -> Turns:
        """Lay the turns of a batch out in one tensor."""
        return super().prepare(Turns.of(batch), generator)

    def counts(self, batch: Turns) -> Counts:
        """Count the answer tokens."""
        return {"answer": float(batch.answer_mask.sum())}

    def forward(self, batch: Turns, totals: Mapping[str, float]) -> Losses:
        """Return the mean cross-entropy of the answers' tokens."""
        memories = self.memories(batch)
        routing = Routing(mask=batch.mask.flatten(0, 1))
        ids, targets = batch.ids.flatten(0, 1), batch.answer_mask.flatten(0, 1)
        hidden = self.model.decoder.hidden_states(ids, memories, routing=routing)
        loss, correct = answer_loss(self.model, hidden, ids, targets)
        answer = loss / totals["answer"]
        figures = {"answer_loss": answer.detach(), "token_accuracy": correct / totals["answer"]}
        balance = routing.loss()
        if balance is None:
            return Losses(answer, figures)
        share = self.counts(batch)["answer"] / totals["answer"]
        figures["load_balancing_loss"] = balance.detach() * share
        return Losses(answer + self.settings.load_balancing * balance * share, figures)

    def memories(self, batch: Turns) -> MemoryState:
        """Return the memory that each turn is answered from, (L, N * B, S, D); carry on the one after the last turn."""
        initial = self.model.init_memory(batch.batch_size).slots
        slots = self._carried_slots(batch, initial)
        encoded = self.model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1))
        encoded = encoded.unflatten(1, (batch.num_turns, batch.batch_size))
        before = []
        for turn in range(batch.num_turns):
            if batch.fresh is not None:
                slots = torch.where(batch.fresh[turn, :, None, None], initial, slots)
            before.append(slots)
            if turn and turn % self.settings.unroll == 0:
                slots = slots.detach()
            slots = self.model.memory_attention(slots, encoded[:, turn], batch.mask[turn])
        if self.training:
            self.carried = MemoryState(slots.detach())
            self.drift = self.carried.drift(MemoryState(before[-1].detach())).mean(dim=1)
        return MemoryState(torch.stack(before, dim=1).flatten(1, 2))

    def _carried_slots(self, batch: Turns, initial: Tensor) -> Tensor:
        """Return the slots that streams go on from, or the initial ones."""
        carried = None if batch.fresh is None else self.carried
        return initial if carried is None or carried.batch_size != batch.batch_size else carried.slots

    def figures(self) -> dict[str, float]:
        """Return how far the last turn moved each memory layer, root mean square."""
        drift = [] if self.drift is None else self.drift.tolist()
        return {f"memory_drift/layer_{layer}": value for layer, value in enumerate(drift)}

    def carried_state(self) -> dict[str, Any]:
        """Return the memory that streams go on from."""
        return {} if self.carried is None else {"memory": self.carried.slots}

    def load_carried_state(self, state: Mapping[str, Any]) -> None:
        """Go on from that memory."""
        slots: Tensor | None = state.get("memory")
        self.carried = None if slots is None else MemoryState(slots)
