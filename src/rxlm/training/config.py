"""Configuration of a training run: the loop, the optimizer and its schedule."""

import math
from typing import Literal, get_args

from rxlm.config import Config, config, require, require_bool, require_choice, require_int, require_share

Algorithm = Literal["adamw", "muon"]
Schedule = Literal["cosine", "wsd", "constant"]
Precision = Literal["float32", "bfloat16", "auto"]


@config
class OptimizerConfig(Config):
    """The optimizer, the learning rates of groups of parameters, and their schedule.

    Fields:
        algorithm: "adamw" (Loshchilov and Hutter, 2019), or "muon": Muon for the matrices of body and memory, AdamW for
            everything else. Muon learns the same in fewer steps where a model is trained from its start.
        learning_rate: of the body, at its highest. embedding_scale, memory_scale, gate_scale: what it is multiplied
            with for the token embedding (and head), for memory attention (and its initial memory), and for its gates.
            critic_scale: for the critic of stage 5.
        betas, epsilon, weight_decay: of AdamW; the decay, Muon's too, applies to matrices of body and memory only.
        momentum: of Muon.
        max_grad_norm: gradients are scaled down to this norm; None for no clipping.
        schedule: after `warmup_steps` of linear warm-up, "cosine" falls to `final_share` of the rate by the last step;
            "wsd" (warm-up, stable, decay) stays, and falls linearly in the last `decay_share` of the steps;
            "constant" stays.
    """

    algorithm: Algorithm = "adamw"
    learning_rate: float = 1e-3
    embedding_scale: float = 1.0
    memory_scale: float = 1.0
    gate_scale: float = 1.0
    critic_scale: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    momentum: float = 0.95
    max_grad_norm: float | None = 1.0
    schedule: Schedule = "cosine"
    warmup_steps: int = 50
    final_share: float = 0.1
    decay_share: float = 0.2

    def __post_init__(self) -> None:
        require_int(self, "warmup_steps", minimum=0)
        require_choice(self, "algorithm", get_args(Algorithm))
        require_choice(self, "schedule", get_args(Schedule))
        scales = ("embedding_scale", "memory_scale", "gate_scale", "critic_scale")
        for name in ("learning_rate", *scales, "epsilon"):
            value = getattr(self, name)
            require(value > 0, f"OptimizerConfig.{name} must be positive, got {value}.")
        require(self.weight_decay >= 0, f"OptimizerConfig.weight_decay must not be negative, got {self.weight_decay}.")
        require_share(self, "momentum", "final_share", "decay_share")
        require(self.momentum < 1, f"OptimizerConfig.momentum must be less than 1, got {self.momentum}.")
        limit = self.max_grad_norm
        require(limit is None or limit > 0, f"OptimizerConfig.max_grad_norm must be positive or None, got {limit}.")

    def rate(self, step: int, steps: int) -> float:
        """Return the share of the learning rate that step number `step` (from 0) of `steps` has."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return self._fall((step - self.warmup_steps) / max(1, steps - self.warmup_steps), cosine=True)
        start = steps * (1 - self.decay_share)
        return self._fall(max(0.0, step - start) / max(1.0, steps - start), cosine=False)

    def _fall(self, progress: float, cosine: bool) -> float:
        height = (1 + math.cos(math.pi * min(1.0, progress))) / 2 if cosine else 1 - min(1.0, progress)
        return self.final_share + (1 - self.final_share) * height


@config
class TrainingConfig(Config):
    """The loop of one stage.

    Fields:
        steps: optimizer steps. batch_size: rows of a microbatch, a process. accumulation: microbatches a step.
        optimizer: see `OptimizerConfig`.
        seed: of batches, masks, noise and everything else that is random.
        precision: of matrix products: "float32", "bfloat16" (autocast; weights stay float32), or "auto" (bfloat16
            where it is faster, else float32, as for narrow models on a CPU; there it is measured at the start, so name
            one where a run must be the same on another machine).
        activation_checkpointing: keep only the inputs of layers for the backward pass and compute the rest again there:
            a third more work, and less memory.
        log_every, evaluate_every, checkpoint_every: in steps; None for never (evaluation), or only at the end.
        keep_last: checkpoints to keep besides the best.
        patience: stop after so many evaluations without a better one; None for never.
    """

    steps: int = 1000
    batch_size: int = 32
    accumulation: int = 1
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    precision: Precision = "auto"
    activation_checkpointing: bool = False
    log_every: int = 10
    evaluate_every: int | None = None
    checkpoint_every: int | None = 500
    keep_last: int = 2
    patience: int | None = None

    def __post_init__(self) -> None:
        require_int(self, "steps", "batch_size", "accumulation", "log_every", "keep_last")
        require_int(self, "seed", minimum=0)
        require_bool(self, "activation_checkpointing")
        for name in ("evaluate_every", "checkpoint_every", "patience"):
            value = getattr(self, name)
            valid = value is None or (isinstance(value, int) and value >= 1)
            require(valid, f"TrainingConfig.{name} must be a whole number of at least 1, or None, got {value!r}.")
        require_choice(self, "precision", get_args(Precision))
        watched = self.patience is None or self.evaluate_every is not None
        require(watched, "TrainingConfig.patience needs evaluate_every: without evaluation nothing can be better.")
