"""Stage 6: make preferred answers likelier than others, given the memory of the turns before them.

Shapes: R pairs, A answers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rxlm.rxt.core import RxTModel
from rxlm.training.feedback.batches import FeedbackBatch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.continuations import Likelihood, likelihood
from rxlm.training.feedback.losses import dpo, ipo, kto, simpo
from rxlm.training.last_layers import weights_of_last_layers
from rxlm.training.module import Counts, Losses, TrainModule
from rxlm.training.reference import ReferencePolicy

SEEDS = 2**62


class PreferenceOptimisation(TrainModule):
    """DPO, IPO, KTO and SimPO over memories, and the likelihood of the better answers alone (see `PreferenceConfig`).

    Args:
        model: the policy, as the stage begins with it: the reference policy is a copy of it.
        settings: see `PreferenceConfig`.
    """

    def __init__(self, model: RxTModel, settings: PreferenceConfig) -> None:
        super().__init__(model)
        self.settings = settings
        share = settings.learned_share
        learnt = set(model.parameters() if share == 1.0 else weights_of_last_layers(model.decoder, share))
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in learnt)
        self.reference = ReferencePolicy(model, learnt) if settings.has_reference else None

    def prepare(self, batch: FeedbackBatch, generator: torch.Generator) -> FeedbackBatch:
        """Move a batch to the device, and draw the seed of first memories: policy and reference policy share them."""
        seed = int(torch.randint(SEEDS, (), generator=generator))
        return replace(batch.to(self.device), seed=seed)

    def counts(self, batch: FeedbackBatch) -> Counts:
        """Count answers, the good and the bad ones, and the tokens of the good ones."""
        good, bad = batch.signs > 0, batch.signs < 0
        return {
            "answers": float((good | bad).sum()),
            "chosen": float(good.sum()),
            "rejected": float(bad.sum()),
            "chosen_tokens": float(batch.said.answer_mask[:, good].sum()),
        }

    def forward(self, batch: FeedbackBatch, totals: Mapping[str, float]) -> Losses:
        """Return the loss of a batch, and what TRL logs of it, by TRL's names."""
        settings = self.settings
        policy = likelihood(self.model, batch, unroll=settings.unroll)
        reference = self._reference(batch)
        ratios = policy.log_probs if reference is None else policy.log_probs - reference.log_probs
        good, bad = batch.signs > 0, batch.signs < 0

        figures: dict[str, Tensor] = {}
        chosen_loss = -policy.log_probs[good].sum() / totals["chosen_tokens"]
        if settings.loss == "sft":
            total = chosen_loss
        elif settings.loss == "kto":
            divergence, judged = ratios[batch.signs == 0].detach().mean().clamp(min=0), good | bad
            figures["kl"] = divergence * judged.sum() / totals["answers"]
            losses = kto(ratios[judged], good[judged], divergence, beta=settings.used_beta)
            total = losses.sum() / totals["answers"]
        else:
            total = self._paired(policy, ratios, good, bad).sum() / totals["chosen"]
        total = total + settings.chosen_weight * chosen_loss
        figures |= {"chosen_loss": chosen_loss.detach()}
        if settings.loss != "sft":
            figures |= self._rewards(policy, ratios, good, bad, totals)
        return Losses(total, figures)

    def _paired(self, policy: Likelihood, ratios: Tensor, good: Tensor, bad: Tensor) -> Tensor:
        """Return the loss of each pair, (R,)."""
        settings, means = self.settings, ratios / policy.tokens
        if settings.loss == "ipo":
            return ipo(means[good], means[bad], beta=settings.used_beta)
        if settings.loss == "dpo":
            return dpo(ratios[good], ratios[bad], beta=settings.used_beta, smoothing=settings.label_smoothing)
        return simpo(
            means[good],
            means[bad],
            beta=settings.used_beta,
            target_margin=settings.used_target_margin,
            smoothing=settings.label_smoothing,
        )

    def _rewards(
        self, policy: Likelihood, ratios: Tensor, good: Tensor, bad: Tensor, totals: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Return the implicit rewards, beta times what the loss compares, and log-probabilities, for the log."""
        sizes = policy.tokens if self.settings.loss in ("ipo", "simpo") else 1
        rewards, log_probs = self.settings.used_beta * (ratios / sizes).detach(), policy.log_probs.detach()
        figures = {
            "rewards/chosen": rewards[good].sum() / totals["chosen"],
            "rewards/rejected": rewards[bad].sum() / totals["rejected"],
            "logps/chosen": log_probs[good].sum() / totals["chosen"],
            "logps/rejected": log_probs[bad].sum() / totals["rejected"],
        }
        if self.settings.is_paired:
            margins = rewards[good] - rewards[bad]
            figures["rewards/margins"] = margins.sum() / totals["chosen"]
            figures["rewards/accuracies"] = (margins > 0).sum() / totals["chosen"]
        return figures

    @torch.no_grad()
    def _reference(self, batch: FeedbackBatch) -> Likelihood | None:
        """Return what the reference policy makes of a batch; None where there is none."""
        if self.reference is None:
            return None
        return likelihood(self.reference.on(self.device), batch, unroll=self.settings.unroll)

    def shared_state(self) -> dict[str, Any]:
        """Return the reference policy."""
        return {} if self.reference is None else {"reference": self.reference.state_dict()}

    def load_shared_state(self, state: Mapping[str, Any]) -> None:
        """Take that reference policy."""
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])
