"""Stages 1 and 2: one sequence, two views (RxT paper, joint language modelling).

The encoder sees the sequence with some tokens masked and predicts them; the decoder sees it whole, and its memory is
what the encoder's layers made of it, detached and with noise. So the decoder learns to use memory cross-attention while
memory is as good as can be. It can copy from there: next-token accuracy near 95 % is expected and says nothing about
language; `answer_loss_empty`, with an empty memory, is the real one. A model without an encoder learns as a causal
language model does: its memory keeps what the decoder itself computes.

Shapes: B rows, T tokens, L memory layers, D model dimension, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import Config, config, require, require_choice, require_int
from rxlm.data.batches import TurnBatch
from rxlm.data.packing import PackedBatch
from rxlm.memory import MemoryReading
from rxlm.nn.cross_entropy import TokenLoss
from rxlm.nn.head import TokenHead
from rxlm.nn.key_values import KeyValueSource
from rxlm.nn.moe import Routing
from rxlm.nn.norm import RMSNorm
from rxlm.rxt.core import RxTModel
from rxlm.training.module import (
    Counts,
    Losses,
    TrainModule,
    answer_loss,
    empty_memory_loss,
    part_of,
)


@config
class JointConfig(Config):
    """Settings of stages 1 and 2.

    Fields:
        alpha, beta: weights of the decoder's loss and of the masked-token loss.
        mask_rate: share of tokens that the encoder must predict: of these 80 % become [MASK], 10 % a random token, 10 %
            stay (Devlin et al., 2018).
        noise: scale of the Gaussian noise on the decoder's memory.
        mask_token_id: id of [MASK].
        targets: which tokens the decoder's loss counts: those of "answer", or "all" (always for text, stage 1).
        load_balancing: weight of the experts' load-balancing loss.
    """

    alpha: float = 1.0
    beta: float = 1.0
    mask_rate: float = 0.15
    noise: float = 0.05
    mask_token_id: int = 4
    targets: Literal["answer", "all"] = "answer"
    load_balancing: float = 0.01

    def __post_init__(self) -> None:
        require_int(self, "mask_token_id", minimum=0)
        require_choice(self, "targets", ("answer", "all"))
        require(0 < self.mask_rate < 1, f"mask_rate must be between 0 and 1, got {self.mask_rate}.")
        for name in ("alpha", "beta", "noise", "load_balancing"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}.")


@dataclass(frozen=True)
class MaskedBatch:
    """A batch in its two views.

    Fields, (B, T) each:
        ids: the tokens, as the decoder sees them. masked_ids: as the encoder does.
        chosen: True at tokens that the encoder must predict. targets: at those that count in the decoder's loss.
        mask: True at tokens that are not padding.
        segments: which of its row's documents a token belongs to, in packed text; None for one interaction a row.
    """

    ids: Tensor
    masked_ids: Tensor
    chosen: Tensor
    targets: Tensor
    mask: Tensor
    segments: Tensor | None = None

    @property
    def slot_mask(self) -> Tensor:
        """True where a token may read what the encoder made of others: (B, T), or each for itself (B, T, T)."""
        if self.segments is None:
            return self.mask
        return self.segments[:, :, None] == self.segments[:, None, :]


class MaskedTokenHead(TokenHead):
    """Predicts masked tokens from the encoder's last layer: a norm, then a head that shares the embedding's weight."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__(embedding.embedding_dim, embedding.num_embeddings, device="meta")
        self.norm = RMSNorm(embedding.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))
        self.weight = embedding.weight

    def forward(self, input: Tensor, targets: Tensor) -> TokenLoss:  # pyrefly: ignore[bad-override]
        """Return the summed loss of `targets` (N,) given the encoder's states at their positions, (N, D)."""
        return super().forward(self.norm(input), targets)


class JointLanguageModelling(TrainModule):
    """L = alpha * L_AR + beta * L_MLM, plus the load-balancing loss where there are experts; without encoder L_AR."""

    parameter_groups: ClassVar[Mapping[str, str]] = {"mlm_head": "embeddings"}

    by_layer = True

    def __init__(self, model: RxTModel, settings: JointConfig) -> None:
        super().__init__(model)
        self.settings = settings
        self.mlm_head = None if model.encoder is None else MaskedTokenHead(model.encoder.embedding)

    def prepare(self, batch: TurnBatch | PackedBatch, generator: torch.Generator) -> MaskedBatch:
        """Choose the tokens that the encoder must predict, and hide them."""
        batch = super().prepare(batch, generator)
        draw = torch.rand(2, *batch.ids.shape, generator=generator).to(batch.ids.device)
        random_ids = torch.randint(self.model.decoder.config.vocab_size, batch.ids.shape, generator=generator)
        chosen = (draw[0] < self.settings.mask_rate) & batch.mask
        masked = batch.ids.masked_fill(chosen & (draw[1] < 0.8), self.settings.mask_token_id)
        masked = torch.where(chosen & (draw[1] >= 0.9), random_ids.to(masked), masked)
        segments = batch.segments if isinstance(batch, PackedBatch) else None
        return MaskedBatch(batch.ids, masked, chosen, self._targets(batch), batch.mask, segments)

    def _targets(self, batch: TurnBatch | PackedBatch) -> Tensor:
        if isinstance(batch, PackedBatch):
            if self.settings.targets != "all":
                raise ValueError(
                    f"Text has no answers: JointConfig.targets must be 'all', got {self.settings.targets!r}."
                )
            return batch.target_mask
        return batch.mask & F.pad(batch.mask[:, :-1], (1, 0)) if self.settings.targets == "all" else batch.answer_mask

    def counts(self, batch: MaskedBatch) -> Counts:
        """Count the tokens of either loss."""
        return {"answer": float(batch.targets.sum()), "masked": max(1.0, float(batch.chosen.sum()))}

    def forward(self, batch: MaskedBatch, totals: Mapping[str, float]) -> Losses:
        """Return both losses of a batch."""
        settings, segments = self.settings, batch.segments
        routing = Routing(mask=batch.mask)
        reading, masked = self._encoded(batch, routing, totals)
        loss, correct = answer_loss(self.model, batch.ids, batch.targets, reading, segments=segments, routing=routing)
        answer = loss / totals["answer"]

        total = settings.alpha * answer
        figures = {"answer_loss": answer.detach(), "token_accuracy": correct / totals["answer"]}
        if masked is not None:
            total = total + settings.beta * masked
            figures["masked_loss"] = masked.detach()
        balance = routing.loss()
        if balance is not None:
            share = self.counts(batch)["answer"] / totals["answer"]
            total = total + settings.load_balancing * balance * share
            figures["load_balancing_loss"] = balance.detach() * share
        return Losses(total, figures)

    def _encoded(
        self, batch: MaskedBatch, routing: Routing, totals: Mapping[str, float]
    ) -> tuple[MemoryReading | None, Tensor | None]:
        """Return what the decoder reads of the encoder's view, and the masked-token loss; None without encoder."""
        if self.mlm_head is None:
            return None, None
        mask = batch.mask if batch.segments is None else None
        encoder = self.model.needed_encoder()
        encoded = encoder(batch.masked_ids, mask, routing=routing, segments=batch.segments)
        hidden, truth = encoded[-1][batch.chosen], batch.ids[batch.chosen]
        masked = self.mlm_head(hidden, truth).loss / totals["masked"]
        memory = encoded.detach()
        memory = memory + self.settings.noise * torch.randn_like(memory)
        layers = (KeyValueSource(own, mask=batch.slot_mask) for own in memory.unbind(0))
        return MemoryReading(tuple(layers)), masked

    def diagnose(self, batch: MaskedBatch) -> dict[str, Any]:
        """Measure the decoder's loss where it has nothing to copy from."""
        if self.mlm_head is None:  # it never has
            return {}
        count = part_of(len(batch.ids))
        segments = None if batch.segments is None else batch.segments[:count]
        return empty_memory_loss(self.model, batch.ids[:count], batch.targets[:count], segments)
