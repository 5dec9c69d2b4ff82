"""Stage 4: answer every turn from the memory of the turns before it.

Shapes: N turns, B dialogues, T tokens of a turn, L memory layers, S slots, D model dimension.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rxlm.config import Config, config, require, require_int
from rxlm.data.batches import DialogueBatch, StreamBatch
from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.moe import Routing
from rxlm.rxt.core import RxTModel
from rxlm.training.encoded_turns import read_encoded_turns
from rxlm.training.memory_chain import decoding_groups, encode_turns, memory_chain
from rxlm.training.module import Counts, Losses, TrainModule, answer_loss, empty_memory_loss, part_of
from rxlm.training.turns import Turns


@config
class MemoryAwareConfig(Config):
    """Settings of stage 4.

    Fields:
        unroll: memory updates that a gradient flows through; the memory is detached every so many turns.
        unfreeze_memory_at, unfreeze_encoder_at: steps at which memory attention, and the encoder, begin to learn.
        read_encoded_until: step up to which turns are answered from the encoded turns before them instead of from the
            memory (see `rxlm.training.encoded_turns`).
        load_balancing: weight of the experts' load-balancing loss.
    """

    unroll: int = 8
    unfreeze_memory_at: int = 0
    unfreeze_encoder_at: int = 0
    read_encoded_until: int = 0
    load_balancing: float = 0.01

    def __post_init__(self) -> None:
        require_int(self, "unroll")
        require(self.load_balancing >= 0, f"load_balancing must not be negative, got {self.load_balancing}.")
        require_int(self, "unfreeze_memory_at", "unfreeze_encoder_at", "read_encoded_until", minimum=0)


class MemoryAware(TrainModule):
    """Decode each turn's answer from the memory, then fold the turn into the memory (RxT paper, algorithm of stage 4).

    What an update reads of a turn does not depend on the memory, nor does one turn's decoding on another's: all turns
    are encoded in one batch and decoded in one batch, and only the chain of updates runs turn after turn.

    In streams a row goes on from the memory that the batch before left, without its gradient, and where one of its
    conversations ends the next begins from the initial memory.
    """

    def __init__(self, model: RxTModel, settings: MemoryAwareConfig) -> None:
        super().__init__(model)
        model.needed_encoder()  # raises where there is none
        self.settings = settings
        self.carried: MemoryState | None = None
        self.reads_encoded = False

    def start_step(self, step: int) -> None:
        """Unfreeze memory attention and encoder when it is their time, and go over from reading to slots."""
        self.reads_encoded = step < self.settings.read_encoded_until
        self.model.memory_writer.requires_grad_(step >= self.settings.unfreeze_memory_at)
        self.model.needed_encoder().layers.requires_grad_(step >= self.settings.unfreeze_encoder_at)

    def prepare(self, batch: DialogueBatch | StreamBatch, generator: torch.Generator) -> Turns:
        """Lay the turns of a batch out in one tensor; answers that are no references are not predicted."""
        turns: Turns = super().prepare(Turns.of(batch), generator)
        if turns.is_reference is None:
            return turns
        return replace(turns, answer_mask=turns.answer_mask & turns.is_reference[:, :, None])

    def counts(self, batch: Turns) -> Counts:
        """Count the answer tokens."""
        return {"answer": float(batch.answer_mask.sum())}

    def forward(self, batch: Turns, totals: Mapping[str, float]) -> Losses:
        """Return the mean cross-entropy of the tokens that are predicted."""
        reading = self._reading(batch)
        ids, mask, targets = (rows.flatten(0, 1) for rows in (batch.ids, batch.mask, batch.answer_mask))
        routing = Routing(mask=mask)
        loss, correct = self._token_losses(ids, mask, targets, reading, routing)
        total = loss / totals["answer"]
        figures = {"answer_loss": total.detach(), "token_accuracy": correct / totals["answer"]}
        balance = routing.loss()
        if balance is not None:
            share = self.counts(batch)["answer"] / totals["answer"]
            figures["load_balancing_loss"] = balance.detach() * share
            total = total + self.settings.load_balancing * balance * share
        return Losses(total, figures)

    def _token_losses(
        self,
        ids: Tensor,
        mask: Tensor,
        targets: Tensor,
        reading: MemoryReading,
        routing: Routing,
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss of the tokens at `targets` of all turns, (N * B, T), and how many are right."""
        loss, correct = torch.zeros((), device=ids.device), torch.zeros((), device=ids.device)
        if not self.model.decoder.config.experts:  # whose load is balanced over all tokens
            wanted = targets.any(dim=1).nonzero()[:, 0]
            ids, mask, targets, reading = ids[wanted], mask[wanted], targets[wanted], reading.select(wanted)
        for rows, width in decoding_groups(self.model, mask):
            turns, aims = ids[rows, :width], targets[rows, :width]
            sums = answer_loss(self.model, turns, aims, reading.select(rows), routing=routing)
            loss, correct = loss + sums[0], correct + sums[1]
        return loss, correct

    def memories(self, batch: Turns, carried: MemoryState | None = None) -> MemoryState:
        """Return the memory that each turn is answered from, N * B rows; in training, keep the one after them.

        `carried` is what rows of streams go on from.
        """
        goes_on = batch.fresh is not None
        encoded = encode_turns(self.model, batch, with_last=goes_on)
        before, after = memory_chain(self.model, batch, encoded, unroll=self.settings.unroll, carried=carried)
        if self.training and goes_on:
            self.carried = after.detach()
        return before

    def _reading(self, batch: Turns) -> MemoryReading:
        """Return what each turn attends to in training, N * B rows."""
        if not self.reads_encoded:
            return self.memories(batch, self.carried).read()
        initial = self.model.init_memory(batch.batch_size)
        return read_encoded_turns(batch, initial, encode_turns(self.model, batch, with_last=False))

    def diagnose(self, batch: Turns) -> dict[str, Any]:
        """Measure the loss with an empty memory, and how the memory moves."""
        count = part_of(batch.batch_size)
        part = batch.first(count)
        with self.model.memory_writer.watch() as watch:
            self.memories(part, None if self.carried is None else self.carried.select(range(count)))
        ids, targets = part.ids.flatten(0, 1), part.answer_mask.flatten(0, 1)
        return empty_memory_loss(self.model, ids, targets) | watch.figures()

    def carried_state(self) -> dict[str, Any]:
        """Return the memory that streams go on from."""
        return {} if self.carried is None else {"memory": self.carried.state_dict()}

    def load_carried_state(self, state: Mapping[str, Any]) -> None:
        """Go on from that memory."""
        memory = state.get("memory")
        self.carried = None if memory is None else MemoryState.from_state_dict(memory).to(self.device)
