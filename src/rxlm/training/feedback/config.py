"""Settings of preference optimisation."""

from typing import Literal, get_args

from rxlm.config import Config, config, require, require_choice, require_int, require_share

Loss = Literal["dpo", "ipo", "kto", "simpo", "sft"]
PAIRED: tuple[Loss, ...] = ("dpo", "ipo", "simpo")
"""Losses that compare two answers to the same query."""
REFERENCE_FREE: tuple[Loss, ...] = ("simpo", "sft")
LOGISTIC: tuple[Loss, ...] = ("dpo", "simpo")


@config
class PreferenceConfig(Config):
    """Settings of preference optimisation; docs/training/feedback.md has the formulas.

    Fields:
        loss: "dpo", "ipo", "kto" (for answers that were rated one by one), "simpo" (without a reference policy), or
            "sft": the likelihood of the better answers alone.
        beta: how far the policy is held to the reference policy: a larger one holds it closer; None: 0.1, and 2.0 for
            simpo.
        target_margin: simpo's gamma, the least margin that the better answer is to have; None: 0.5.
        label_smoothing: the share of preferences that are taken to be the wrong way round; for dpo and simpo.
        chosen_weight: of the cross-entropy of the better answers beside the loss: without it both answers may become
            less likely.
        unroll: memory updates, the last ones before an answer, that a gradient flows through.
        learned_share: share of the decoder's layers that learn, the last ones, rounded up; 1.0: the whole model.
    """

    loss: Loss = "dpo"
    beta: float | None = None
    target_margin: float | None = None
    label_smoothing: float = 0.0
    chosen_weight: float = 0.0
    unroll: int = 8
    learned_share: float = 1.0

    def __post_init__(self) -> None:
        require_choice(self, "loss", get_args(Loss))
        require_int(self, "unroll")
        require_share(self, "learned_share")
        require(self.used_beta > 0, f"PreferenceConfig.beta must be above 0, got {self.beta}.")
        require(self.learned_share > 0, "PreferenceConfig.learned_share must be above 0: nothing would learn.")
        require(0 <= self.label_smoothing < 0.5, f"PreferenceConfig.label_smoothing must be from 0 to below 0.5, got "
                f"{self.label_smoothing}.")  # fmt: skip
        for name in ("target_margin", "chosen_weight"):
            value = getattr(self, name) or 0.0
            require(value >= 0, f"PreferenceConfig.{name} must not be negative, got {value}.")
        for name, losses in {"target_margin": ("simpo",), "label_smoothing": LOGISTIC}.items():
            require(
                not getattr(self, name) or self.loss in losses,
                f"PreferenceConfig.{name} is for {' and '.join(losses)}; it must be 0 for {self.loss}.",
            )
        require(
            self.loss != "sft" or not self.chosen_weight,
            "PreferenceConfig.chosen_weight must be 0 for sft, which is that loss alone.",
        )

    @property
    def used_beta(self) -> float:
        """`beta`, or what is usual for the loss."""
        return self.beta if self.beta is not None else 2.0 if self.loss == "simpo" else 0.1

    @property
    def used_target_margin(self) -> float:
        """`target_margin`, or what is usual."""
        return 0.5 if self.target_margin is None else self.target_margin

    @property
    def is_paired(self) -> bool:
        """Whether the loss compares two answers to the same query."""
        return self.loss in PAIRED

    @property
    def has_reference(self) -> bool:
        """Whether the loss compares the policy with the reference policy."""
        return self.loss not in REFERENCE_FREE
