"""Settings of stage 5, and the three algorithms as presets."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from rxlm.config import Config, config, require, require_choice, require_int
from rxlm.metrics.composite import SCALE

Algorithm = Literal["impo", "ppo", "grpo"]
Normalisation = Literal["batch", "step", "none"]
MemoryChange = Literal["mse", "cosine"]
MemorySource = Literal["generated", "reference"]
Plays = Literal["all", "questions"]

AT_LEAST_ZERO = (
    "value_weight",
    "entropy_weight",
    "kl_weight",
    "consistency_weight",
    "memory_change_weight",
    "told_weight",
    "replay_share",
    "carry_probability",
)
SHARES = ("discount", "gae_lambda", "replay_share", "carry_probability")


@config
class MRLConfig(Config):
    """Settings of memory reinforcement learning.

    Fields:
        algorithm: "impo" (implicit memory policy optimisation), "ppo" and "grpo" share one update: impo and ppo have a
            critic, grpo compares the answers of a group. `MRLConfig.of` has the usual settings of each.
        group_size: how often each dialogue is played; above 1 for grpo.
        updates_per_rollout: optimizer steps on each rollout.
        temperature: of the answers; the update sees the same distribution.
        max_answer_tokens: an answer ends after so many tokens.
        memory_from: whether the memory takes in what was "generated", or the "reference" answer.
        warmup_turns: first turns of an episode that are told to the model with their reference answers, and earn
            nothing.
        plays: "all" turns after these, or "questions" only: the others are told, too. For dialogues in which little is
            asked and the model makes small talk well enough, that is quicker and has less noise.
        carry_probability: of an episode to go on from the memory that the one before left in its row.
        unroll: memory updates that a gradient flows through.
        discount, gae_lambda: of ppo's generalised advantage estimation over the turns of an episode (Schulman et al.,
            2016); with impo the advantage of a turn is its reward less its value.
        normalise: advantages have mean 0 and standard deviation 1 over the "batch", over each "step" of the episodes
            (the turns of one number), or are left as they are ("none").
        clip_low, clip_high: the ratio to the policy that answered counts within 1 - clip_low and 1 + clip_high.
        value_clip: how far a value may move from the one at the rollout; None for any.
        value_weight: of the critic's loss. The critic has weights of its own and learns much the same whatever it is;
            but all gradients are clipped together, and a heavy critic leaves little to the policy.
        critic_warmup: first steps, in which the critic alone learns: a critic that knows nothing prefers easy turns to
            good answers.
        entropy_weight: of the bonus for entropy.
        kl_weight: of the divergence from the frozen policy that the stage began with.
        consistency_weight: of the divergence of an answer's policy from what the memory of the turn before makes of it.
        memory_change, memory_change_weight: what a large update costs: the "mse" of the slots times the square root of
            the number of the turn, or their "cosine" similarity.
        told_weight: of the cross-entropy of the answers that were told, as in stage 4: it keeps what is not played. Of
            what is played the policy never sees the answer.
        replay_share: share of the rows of a rollout that good episodes of earlier ones are added as; replay_size: how
            many of these are kept.
    """

    algorithm: Algorithm = "impo"
    group_size: int = 1
    updates_per_rollout: int = 2
    temperature: float = 1.0
    max_answer_tokens: int = 64
    memory_from: MemorySource = "generated"
    warmup_turns: int = 1
    plays: Plays = "all"
    carry_probability: float = 0.0
    unroll: int = 8
    discount: float = 1.0
    gae_lambda: float = 0.95
    normalise: Normalisation = "batch"
    clip_low: float = 0.2
    clip_high: float = 0.2
    value_clip: float | None = 0.2
    value_weight: float = 0.01
    critic_warmup: int = 0
    entropy_weight: float = 0.01
    kl_weight: float = 0.05
    consistency_weight: float = 0.01
    memory_change: MemoryChange = "mse"
    memory_change_weight: float = 1e-4
    told_weight: float = 0.0
    replay_share: float = 0.0
    replay_size: int = 256

    def __post_init__(self) -> None:
        require_choice(self, "algorithm", get_args(Algorithm))
        require_choice(self, "memory_from", get_args(MemorySource))
        require_choice(self, "plays", get_args(Plays))
        require_choice(self, "normalise", get_args(Normalisation))
        require_choice(self, "memory_change", get_args(MemoryChange))
        require_int(self, "group_size", "updates_per_rollout", "max_answer_tokens", "unroll", "replay_size")
        require_int(self, "warmup_turns", "critic_warmup", minimum=0)
        for name in ("temperature", "clip_low", "clip_high"):
            require(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}.")
        for name in AT_LEAST_ZERO:
            require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}.")
        for name in SHARES:
            require(getattr(self, name) <= 1, f"{name} must be at most 1, got {getattr(self, name)}.")
        require(
            self.value_clip is None or self.value_clip > 0,
            f"value_clip must be above 0 or None, got {self.value_clip}.",
        )
        grouped = self.algorithm == "grpo"
        require(
            (self.group_size > 1) == grouped,
            f"group_size must be above 1 for grpo and 1 for {'impo and ppo' if not grouped else 'the others'}, "
            f"got {self.group_size} for {self.algorithm}.",
        )

    @property
    def has_critic(self) -> bool:
        """Whether a critic says what was to be expected."""
        return self.algorithm != "grpo"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As `Config.from_dict`; settings of version 0.0 that are gone may hold what holds for all today."""
        fixed = {"unfreeze_memory_at": 0, "unfreeze_encoder_at": 0, "reward_scale": SCALE}
        fixed["use_gae"] = values.get("algorithm") == "ppo"
        return super().from_dict(
            {name: value for name, value in values.items() if name not in fixed or value != fixed[name]}
        )

    @classmethod
    def of(cls, algorithm: Algorithm, **changes: Any) -> Self:
        """Return the usual settings of an algorithm, with some changed.

        impo: the memory policy's own terms. ppo: none of these terms. grpo: groups of 8, no critic.
        Advantages of grpo are divided by the standard deviation over the batch, not over each group, which would make
        much of tiny differences.
        """
        plain = {"consistency_weight": 0.0, "memory_change_weight": 0.0}
        settings: dict[str, dict[str, Any]] = {
            "impo": {},
            "ppo": plain,
            "grpo": {**plain, "group_size": 8},
        }
        require(algorithm in settings, f"algorithm must be one of impo, ppo, grpo, got {algorithm!r}.")
        values: dict[str, Any] = {"algorithm": algorithm, **settings[algorithm], **changes}
        return cls(**values)
