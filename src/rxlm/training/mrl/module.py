"""Stage 5: make answers that earned more than expected likelier, through the memories that they were given from.

Shapes: N turns, B episodes, T tokens of a turn, K tokens that answers were made of, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.metrics.composite import SCALE
from rxlm.rxt.core import RxTModel
from rxlm.rxt.models import RxTAlpha
from rxlm.training.memory_chain import encode_turns, memory_chain
from rxlm.training.module import Counts, Losses, TrainModule, evaluating
from rxlm.training.mrl.advantages import generalised, group_relative, one_step, standardise
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.critic import Critic
from rxlm.training.mrl.objective import (
    AnswerStates,
    answer_states,
    clipped_objective,
    memory_movement,
    reference_divergence,
    turn_divergence,
    value_objective,
)
from rxlm.training.mrl.rollout import Rollout
from rxlm.training.mrl.watch import Watch
from rxlm.training.reference import ReferencePolicy
from rxlm.training.turns import Turns


class MemoryReinforcement(TrainModule):
    """IMPO, PPO and GRPO: one update, with more or fewer terms (see `MRLConfig`).

    Memories are computed again from the turns of a rollout, with gradients: what was written into the memory is judged
    by the answers that were read from it.

    Args:
        model: the policy, as the stage begins with it: the reference policy is a copy of it.
        settings: see `MRLConfig`.
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"critic": "critic"}

    def __init__(self, model: RxTAlpha, settings: MRLConfig) -> None:
        super().__init__(model)
        encoder = model.needed_encoder()
        for part in (model.memory_writer, encoder.layers):
            part.requires_grad_(True)  # stage 4 may have ended before it unfroze them
        self.settings = settings
        self.critic = Critic(encoder) if settings.has_critic else None
        self.reference = ReferencePolicy(model) if settings.kl_weight else None
        self.watch = Watch()
        self.step = 0

    @property
    def policy(self) -> RxTAlpha:
        """The model, with its tokenizer."""
        assert isinstance(self.model, RxTAlpha)
        return self.model

    def start_step(self, step: int) -> None:
        """Note the step: in the first ones the critic learns alone."""
        self.step = step

    # --- what is known once a rollout is played ------------------------------------------------------------------

    @torch.no_grad()
    def annotate(self, rollout: Rollout) -> Rollout:
        """Return the rollout with values, advantages and the reference policy's log-probabilities."""
        rollout = rollout.to(self.model.device)
        settings = self.settings
        rewards = rollout.rewards / SCALE
        with evaluating(self):
            values = self._values_of(rollout)
            reference = self._reference_log_probs(rollout)
        if settings.algorithm == "grpo":
            advantages, returns = group_relative(rewards, rollout.earns, rollout.groups), rewards
        elif settings.algorithm == "ppo":
            present = rollout.answered.any(dim=2)
            advantages, returns = generalised(
                rewards, values, present, discount=settings.discount, gae_lambda=settings.gae_lambda
            )
        else:
            advantages, returns = one_step(rewards, values)
        return replace(
            rollout,
            values=values,
            returns=returns,
            advantages=standardise(advantages, rollout.earns, settings.normalise),
            reference_log_probs=reference,
        )

    def _values_of(self, rollout: Rollout) -> Tensor:
        """Return the critic's values of the turns that earned something, (N, B); zeros without a critic."""
        if self.critic is None:
            return torch.zeros_like(rollout.rewards)
        states, _, _ = self._states(self.model, rollout)
        return self._values(rollout, states).where(rollout.earns, 0)

    def _reference_log_probs(self, rollout: Rollout) -> Tensor | None:
        """Return what the reference policy gives the answers' tokens, (N, B, T); None where there is none."""
        if self.reference is None:
            return None
        reference = self.reference.on(self.model.device)
        states, _, _ = self._states(reference, rollout)
        log_probs = torch.zeros_like(rollout.log_probs)
        scores = self._scores(reference, states)
        log_probs[rollout.answered] = _chosen(scores, rollout.ids[rollout.answered]).to(log_probs.dtype)
        return log_probs

    # --- the update ----------------------------------------------------------------------------------------------

    def counts(self, batch: Rollout) -> Counts:
        """Count tokens, turns, memory updates, rewards by name, and the microbatch itself."""
        return {
            "answer": float(batch.learnt.sum()),
            "consistency": float(batch.answered[1:].sum()),
            "told": float(batch.told.sum()),
            "turns": float(batch.earns.sum()),
            "updates": float(batch.mask.any(dim=2).sum()),
            "parts": 1.0,
        } | {f"rewards/{name}": float((~values.isnan()).sum()) for name, values in batch.by_name.items()}

    def forward(self, batch: Rollout, totals: Mapping[str, float]) -> Losses:
        """Return the loss of a rollout: policy, critic, entropy, divergences, memory change and what was told."""
        if batch.advantages is None or batch.values is None or batch.returns is None:
            raise ValueError("The rollout has no advantages: MemoryReinforcement.annotate gives it some.")
        states, before, after = self._states(self.model, batch)
        scores = self._scores(self.model, states)
        learnt = scores[batch.learnt[batch.answered]]
        log_probs = _chosen(learnt, batch.ids[batch.learnt])
        advantages = batch.advantages[..., None].expand_as(batch.log_probs)[batch.learnt]
        settings, tokens = self.settings, totals["answer"]
        bounds = {"clip_low": settings.clip_low, "clip_high": settings.clip_high}
        clipped = clipped_objective(log_probs, batch.log_probs[batch.learnt], advantages, **bounds)

        # L = sum of weight * term, by the names that the terms are logged by
        terms: dict[str, tuple[float, Tensor]] = {
            "policy_loss": (1.0, clipped.loss / tokens),
            "entropy": (-settings.entropy_weight, -(learnt.exp() * learnt).sum(-1).sum() / tokens),
        }
        if self.critic is not None:
            old, returns = batch.values[batch.earns], batch.returns[batch.earns]
            value = value_objective(self._values(batch, states)[batch.earns], old, returns, settings.value_clip)
            terms["value_loss"] = (settings.value_weight, value / totals["turns"])
        if batch.reference_log_probs is not None:
            divergence = reference_divergence(log_probs, batch.reference_log_probs[batch.learnt])
            terms["kl"] = (settings.kl_weight, divergence / tokens)
        if settings.consistency_weight:
            divergence = self._divergence_from_a_turn_before(batch, states, scores, before)
            terms["policy_consistency"] = (settings.consistency_weight, divergence / totals["consistency"])
        if settings.memory_change_weight:
            present = batch.memory_turns.mask.any(dim=2)
            movement = memory_movement(before, after, present, settings.memory_change)
            terms["memory_change"] = (settings.memory_change_weight, movement / totals["updates"])
        if settings.told_weight:
            terms["told_loss"] = (settings.told_weight, self._told_loss(batch, before) / totals["told"])

        critic_alone = self.critic is not None and self.step < settings.critic_warmup
        learning = [terms["value_loss"]] if critic_alone else list(terms.values())
        total = sum((weight * value for weight, value in learning), start=scores.new_zeros(()))
        figures = {name: value.detach() for name, (_, value) in terms.items()}
        figures |= {
            "clip_ratio/low_mean": clipped.low / tokens,
            "clip_ratio/high_mean": clipped.high / tokens,
            "clip_ratio/region_mean": (clipped.low + clipped.high) / tokens,
        }
        figures |= rollout_figures(batch, totals)
        return Losses(total, figures)

    def _states(self, model: RxTModel, rollout: Rollout) -> tuple[AnswerStates, MemoryState, MemoryState]:
        """Return a model's states before the tokens of answers, the memories before each turn, and the last one."""
        turns = rollout.memory_turns
        encoded = encode_turns(model, turns)
        before, after = memory_chain(model, turns, encoded, unroll=self.settings.unroll, carried=rollout.start)
        return answer_states(model, rollout.turns, before), before, after

    def _divergence_from_a_turn_before(
        self, rollout: Rollout, states: AnswerStates, scores: Tensor, before: MemoryState
    ) -> Tensor:
        """Return the summed KL of all turns but the first to the policy with the memory of the turn before."""
        turns, size = rollout.turns, rollout.batch_size
        later = Turns(turns.ids[1:], turns.mask[1:], turns.answer_mask[1:])
        with torch.no_grad():
            earlier = answer_states(self.model, later, before.select(range(before.batch_size - size)))
            expected = self._scores(self.model, earlier)
        return turn_divergence(scores[states.rows >= size], expected)

    def _told_loss(self, rollout: Rollout, before: MemoryState) -> Tensor:
        """Return the summed cross-entropy of the answers that were told, each from the memory before its turn."""
        if not rollout.told.any():
            return rollout.rewards.new_zeros(())
        told = replace(rollout.turns, answer_mask=rollout.told)
        return self.model.decoder.head(answer_states(self.model, told, before).hidden, rollout.ids[rollout.told]).loss

    def _scores(self, model: RxTModel, states: AnswerStates) -> Tensor:
        """Return the log-probabilities (K, V) of all tokens, at the temperature of the rollout."""
        logits = model.decoder.head(states.hidden)
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (exact / self.settings.temperature).log_softmax(-1)

    def _values(self, rollout: Rollout, states: AnswerStates) -> Tensor:
        """Return the critic's values (N, B); 0 at turns that earned nothing."""
        assert self.critic is not None
        rows = rollout.earns.flatten().nonzero()[:, 0]
        queries = states.first_of(rollout.earns.numel())[rows]
        blank = torch.zeros_like(rollout.mask[:1])
        ids = torch.cat((rollout.ids[:1], rollout.ids[:-1])).flatten(0, 1)[rows]
        mask = torch.cat((blank, rollout.mask[:-1])).flatten(0, 1)[rows]
        values = rollout.rewards.new_zeros(rollout.earns.numel())
        return values.index_put((rows,), self.critic(ids, mask, queries).to(values.dtype)).view_as(rollout.rewards)

    # --- logging and checkpoints ---------------------------------------------------------------------------------

    def see_figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Warn where the figures show what commonly goes wrong."""
        self.watch(step, figures)

    def shared_state(self) -> dict[str, Any]:
        """Return the reference policy."""
        return {} if self.reference is None else {"reference": self.reference.state_dict()}

    def load_shared_state(self, state: Mapping[str, Any]) -> None:
        """Take that reference policy."""
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])


def rollout_figures(batch: Rollout, totals: Mapping[str, float]) -> dict[str, Tensor]:
    """Return what a rollout earned and said, as its share of the step; names as in TRL where it has them."""
    part = 1 / totals["parts"]
    earned = batch.rewards[batch.earns]
    lengths = batch.answered.sum(2)[batch.answered.any(dim=2)].float()
    figures = {
        "reward": earned.sum() / totals["turns"],
        "reward_std": part * _std(earned),
        "frac_reward_zero_std": part * _still_share(batch),
        "completions/mean_length": part * lengths.mean(),
        "completions/min_length": part * lengths.min(),
        "completions/max_length": part * lengths.max(),
        "truncated/tokens": batch.cut[batch.earns].sum() / totals["turns"],
        "memory_drift": part * batch.drift[batch.mask.any(dim=2)].mean(),
    }
    for name, values in batch.by_name.items():
        known = values[~values.isnan()]
        figures[f"rewards/{name}/mean"] = known.sum() / totals[f"rewards/{name}"]
        figures[f"rewards/{name}/std"] = part * _std(known)
    if batch.values is not None and batch.returns is not None:
        returns, values = batch.returns[batch.earns], batch.values[batch.earns]
        unexplained = (returns - values).var(correction=0) / returns.var(correction=0).clamp(min=1e-8)
        figures["explained_variance"] = part * (1 - unexplained)
    for name, seconds in batch.seconds.items():
        figures[f"time/{name}"] = part * torch.tensor(seconds)
    return figures


def _still_share(batch: Rollout) -> Tensor:
    """Return the share of groups whose rewards do not vary: groups of one dialogue, or else the turns of one number."""
    size = batch.groups if batch.groups > 1 else batch.batch_size
    rewards, earns = (part.unflatten(1, (-1, size)) for part in (batch.rewards, batch.earns))
    high = rewards.masked_fill(~earns, -torch.inf).amax(-1)
    low = rewards.masked_fill(~earns, torch.inf).amin(-1)
    counted = earns.any(dim=-1)
    return ((high - low) < 1e-6)[counted].float().mean()


def _std(values: Tensor) -> Tensor:
    return values.std(correction=0) if values.numel() else values.new_zeros(())


def _chosen(scores: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probabilities of tokens (K,) among those of all, (K, V)."""
    return scores.gather(1, tokens[:, None])[:, 0]
