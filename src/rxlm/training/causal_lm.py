"""Training of a stateless language model: text, and conversations that are read whole, history and all.

Shapes: B rows, T tokens of the longest row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.data.batches import DialogueBatch, StreamBatch, TurnBatch
from rxlm.data.packing import PackedBatch
from rxlm.llm.modeling import DecoderLMForCausalLM
from rxlm.nn.attention import segment_mask
from rxlm.nn.moe import Routing
from rxlm.training.module import Counts, Losses, StageModule
from rxlm.training.turns import Turns

TextBatch = PackedBatch | TurnBatch | DialogueBatch | StreamBatch


@dataclass(frozen=True)
class TextRows:
    """Rows of tokens, padded at the end.

    Fields, (B, T) each:
        ids, mask: the tokens, and True at those that are not padding.
        targets: True at tokens that are to be predicted; never the first of a row.
        segments, positions: which document of its row a token belongs to, and its place in it; None: one a row.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    segments: Tensor | None = None
    positions: Tensor | None = None

    @classmethod
    def of(cls, batch: TextBatch) -> Self:
        """Lay a batch out.

        Of packed text every token counts, and of single turns; of conversations the answers do. A conversation is one
        row, turn after turn; in streams it begins with the batch.
        """
        if isinstance(batch, PackedBatch):
            return cls(batch.ids, batch.mask, batch.target_mask, batch.segments, batch.positions)
        if isinstance(batch, TurnBatch):
            return cls(batch.ids, batch.mask, batch.mask & F.pad(batch.mask[:, :-1], (1, 0)))
        turns = Turns.of(batch)
        ids, mask, answers = (part.transpose(0, 1).flatten(1) for part in (turns.ids, turns.mask, turns.answer_mask))
        order = (~mask).long().argsort(dim=1, stable=True)[:, : int(mask.sum(1).max())]
        return cls(ids.gather(1, order), mask.gather(1, order), answers.gather(1, order))

    def to(self, device: torch.device | str) -> Self:
        """Return the rows on a device."""
        segments, positions = (None if part is None else part.to(device) for part in (self.segments, self.positions))
        return type(self)(self.ids.to(device), self.mask.to(device), self.targets.to(device), segments, positions)


class CausalLanguageModelling(StageModule):
    """Predict each token that counts from those before it; with experts, their load-balancing loss besides."""

    by_layer = True

    def __init__(self, model: DecoderLMForCausalLM) -> None:
        super().__init__()
        self.model = model

    def prepare(self, batch: TextBatch, generator: torch.Generator) -> TextRows:
        """Lay a batch out in rows."""
        return TextRows.of(batch).to(self.device)

    def counts(self, batch: TextRows) -> Counts:
        """Count the tokens that are predicted."""
        return {"answer": float(batch.targets.sum())}

    def forward(self, batch: TextRows, totals: Mapping[str, float]) -> Losses:
        """Return the mean cross-entropy."""
        config = self.model.config
        routing = Routing(mask=batch.mask) if config.num_experts else None
        mask = None  # a causal model sees nothing of padding at the end
        if batch.segments is not None and batch.positions is not None:
            window = config.sliding_window
            mask = segment_mask(batch.segments, batch.positions, causal=True, sliding_window=window)
        states = self.model.model(
            batch.ids, attention_mask=mask, position_ids=batch.positions, use_cache=False, routing=routing
        )
        wanted = batch.targets[:, 1:]
        hidden = states.last_hidden_state[:, :-1][wanted]
        loss, correct = self.model.lm_head(hidden, batch.ids[:, 1:][wanted])
        total = loss / totals["answer"]
        figures = {"answer_loss": total.detach(), "token_accuracy": correct / totals["answer"]}
        balance = None if routing is None else routing.loss()
        if balance is not None:
            share = self.counts(batch)["answer"] / totals["answer"]
            figures["load_balancing_loss"] = balance.detach() * share
            total = total + config.router_aux_loss_coef * balance * share
        return Losses(total, figures)
