"""Stage 4: answer every turn from the memory of the turns before it.

Shapes: N turns, B dialogues, T tokens of a turn, L memory layers, S slots, D model dimension.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from rxlm.config import Config, config, require, require_int
from rxlm.data.batches import DialogueBatch, StreamBatch
from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.moe import Routing
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.encoded_turns import read_encoded_turns
from rxlm.training.keeping import (
    keeping_loss,
    last_layers,
    memory_readers,
    with_kept_turns,
    with_some_answers,
    with_some_words,
)
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
        pretrained: for a pretrained language model with a memory: its own weights stay as they are, and only the
            reading and writing of the memory learn. learned_share: share of its layers that learn, too, the last ones.
        answer_share: share of the turns that ask nothing whose answers are predicted; questions always are. Less than 1
            spares time where many turns tell something.
        wording_share: share of these answers' tokens that are predicted, where they are not `TurnBatch.value_mask`'s,
            which always are. How an answer is put is soon learnt, and often a matter of chance: less than 1 leaves more
            of the loss, and less noise, for what is to be remembered. "You have not told me that" names nothing, and
            is thinned like the words around a value: predicted whole it would become the more likely answer. What
            follows a value is not thinned, for it stands against a longer value.
        keep: weight of keeping to the language model in turns whose answers are no references (see
            `rxlm.training.keeping`); 0 leaves it out. keep_share: share of these turns that are looked at.
        load_balancing: weight of the experts' load-balancing loss.
    """

    unroll: int = 8
    unfreeze_memory_at: int = 0
    unfreeze_encoder_at: int = 0
    read_encoded_until: int = 0
    pretrained: bool = False
    learned_share: float = 0.0
    answer_share: float = 1.0
    wording_share: float = 1.0
    keep: float = 0.0
    keep_share: float = 1.0
    load_balancing: float = 0.01

    def __post_init__(self) -> None:
        require_int(self, "unroll")
        for name in ("keep", "load_balancing"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("answer_share", "wording_share", "keep_share"):
            value = getattr(self, name)
            require(0 < value <= 1, f"{name} must be above 0 and at most 1, got {value}.")
        for name in ("keep", "learned_share"):
            value = getattr(self, name)
            require(self.pretrained or not value, f"{name}={value} is for pretrained language models (pretrained).")
        require_int(self, "unfreeze_memory_at", "unfreeze_encoder_at", "read_encoded_until", minimum=0)
        share = self.learned_share
        require(0 <= share <= 1, f"learned_share must be between 0 and 1, got {share}.")

    def going_on(self) -> "MemoryAwareConfig":
        """Return the settings of a later part of stage 4: what these begin with is over."""
        return self.replace(read_encoded_until=0, unfreeze_memory_at=0, unfreeze_encoder_at=0)


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
        self.reads_encoded = False
        changes = settings.keep and settings.learned_share
        self._language_model = [deepcopy(model.decoder).requires_grad_(False)] if changes else []  # not registered

    @property
    def language_model(self) -> RxTDecoder:
        """What kept turns keep to: the decoder, or what it was when this stage began, where its own weights change."""
        return self._language_model[0] if self._language_model else self.model.decoder

    def start_step(self, step: int) -> None:
        """Unfreeze memory attention and encoder when it is their time, and go over from reading to slots."""
        self.reads_encoded = step < self.settings.read_encoded_until
        if self.settings.pretrained:
            decoder = self.model.decoder.requires_grad_(False)
            for part in (*memory_readers(decoder), *last_layers(decoder, self.settings.learned_share)):
                part.requires_grad_(True)
        self.model.memory_writer.requires_grad_(step >= self.settings.unfreeze_memory_at)
        self.model.encoder.layers.requires_grad_(step >= self.settings.unfreeze_encoder_at)

    def prepare(self, batch: DialogueBatch | StreamBatch, generator: torch.Generator) -> Turns:
        """Lay the turns of a batch out in one tensor, and draw what of them is predicted."""
        turns = super().prepare(Turns.of(batch), generator)
        turns = with_some_answers(turns, self.settings.answer_share, generator)
        turns = with_some_words(turns, self.settings.wording_share, generator)
        if self.settings.keep:
            share, changes = self.settings.keep_share, bool(self._language_model)
            turns = with_kept_turns(turns, share, generator, first_turns=changes)
        return turns

    def counts(self, batch: Turns) -> Counts:
        """Count the answer tokens, and those of turns that keep to the language model."""
        counts = {"answer": float(batch.answer_mask.sum())}
        if batch.kept is not None:
            counts["kept"] = float(batch.kept.mask[:, 1:].sum())
        return counts

    def forward(self, batch: Turns, totals: Mapping[str, float]) -> Losses:
        """Return the mean cross-entropy of the tokens that are predicted."""
        reading = self._reading(batch)
        ids, mask, targets = (rows.flatten(0, 1) for rows in (batch.ids, batch.mask, batch.answer_mask))
        routing = Routing(mask=mask)
        loss, correct = self._token_losses(ids, mask, targets, reading, routing)
        total = loss / totals["answer"]
        figures = {"answer_loss": total.detach(), "token_accuracy": correct / totals["answer"]}
        if batch.kept is not None:
            kept = keeping_loss(self.model, self.language_model, batch.kept, reading) / totals["kept"]
            figures["keeping_loss"] = kept.detach()
            total = total + self.settings.keep * kept
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
            part = ids[rows, :width]
            hidden = self.model.decoder.hidden_states(part, reading.select(rows), routing=routing)
            sums = answer_loss(self.model, hidden, part, targets[rows, :width])
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
        earlier, mask = batch.ids[:-1], batch.mask[:-1]
        written = self.model.written(earlier.flatten(0, 1), mask.flatten(0, 1)).view_as(mask)
        return read_encoded_turns(batch, initial, encode_turns(self.model, batch, with_last=False), written)

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
