"""The loss of stage 5 and its gradient are those of the formulas, written token by token."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mrl_runs import rollout, settings, talker
from rxlm.memory import MemoryState, SlotState
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.module import MemoryReinforcement
from rxlm.training.mrl.objective import clipped_objective, memory_movement, reference_divergence, value_objective
from rxlm.training.mrl.rollout import Rollout

TERMS: dict[str, dict[str, Any]] = {
    "policy alone": {"entropy_weight": 0.0, "kl_weight": 0.0, "consistency_weight": 0.0, "memory_change_weight": 0.0},
    "entropy": {"entropy_weight": 0.5, "kl_weight": 0.0, "consistency_weight": 0.0, "memory_change_weight": 0.0},
    "divergences": {"entropy_weight": 0.0, "kl_weight": 0.5, "consistency_weight": 0.5, "memory_change_weight": 0.0},
    "memory change": {"entropy_weight": 0.0, "kl_weight": 0.0, "consistency_weight": 0.0, "memory_change_weight": 0.5},
    "told answers": {
        "entropy_weight": 0.0,
        "kl_weight": 0.0,
        "consistency_weight": 0.0,
        "memory_change_weight": 0.0,
        "told_weight": 0.5,
        "plays": "questions",
        "temperature": 0.7,
    },
}


def moved(module: MemoryReinforcement) -> None:
    """Take the policy away from the one that answered, so that ratios are not 1."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in module.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def naive_loss(module: MemoryReinforcement, played: Rollout) -> Tensor:
    """The loss of a rollout by loops over episodes, turns and tokens; nothing is batched and nothing cached."""
    chosen, network, reference = module.settings, module.model, module.reference and module.reference.model
    assert played.advantages is not None
    policy, entropy, kl, consistency, change, told = (torch.zeros((), dtype=torch.float64) for _ in range(6))
    tokens = compared = updates = shown = 0
    for row in range(played.batch_size):
        memory = network.init_memory(1)
        other = reference.init_memory(1) if reference else None
        before: MemoryState | None = None
        for turn in range(played.num_turns):
            length = int(played.mask[turn, row].sum())
            if not length:
                continue
            ids = played.ids[turn, row, :length][None]
            logits = network.decode(ids, memory)[0]
            scores = (logits / chosen.temperature).log_softmax(-1)
            if not played.answered[turn, row].any():
                first = ids[0].tolist().index(network.tokenizer_config.answer_token_id) + 1
                for place in range(first, length):
                    told = told - logits[place - 1].log_softmax(-1)[ids[0, place]]
                    shown += 1
            for place in played.answered[turn, row].nonzero()[:, 0].tolist():
                token, at = ids[0, place], place - 1
                ratio = (scores[at, token] - played.log_probs[turn, row, place]).exp()
                advantage = played.advantages[turn, row]
                kept = ratio.clamp(1 - chosen.clip_low, 1 + chosen.clip_high)
                policy = policy - torch.min(ratio * advantage, kept * advantage)
                entropy = entropy - (scores[at].exp() * scores[at]).sum()
                tokens += 1
                if other is not None:
                    with torch.no_grad():
                        known = reference.decode(ids, other)[0].log_softmax(-1)[at, token]
                    difference = known - scores[at, token]
                    kl = kl + difference.exp() - difference - 1
                if before is not None:
                    with torch.no_grad():
                        earlier = network.decode(ids, before)[0].log_softmax(-1)
                    consistency = consistency + (scores[at].exp() * (scores[at] - earlier[at])).sum()
                    compared += 1
            before, memory = memory, network.update_memory(memory, ids)
            change = change + (turn + 1) ** 0.5 * (memory.slots - before.slots).square().mean()
            updates += 1
            if other is not None:
                other = reference.update_memory(other, ids)
    return (
        policy / tokens
        - chosen.entropy_weight * entropy / tokens
        + chosen.kl_weight * kl / tokens
        + chosen.consistency_weight * consistency / max(1, compared)
        + chosen.memory_change_weight * change / updates
        + chosen.told_weight * told / shown
    )


@pytest.mark.parametrize("terms", TERMS)
def test_loss_and_gradient_are_those_of_the_formulas(terms: str) -> None:
    chosen = settings("grpo", unroll=8, **TERMS[terms])
    module = MemoryReinforcement(talker(initial_memory="learned").double(), chosen)
    played = module.annotate(rollout(module.policy, chosen, rows=4))
    moved(module)
    module.train()

    losses = module(played, module.counts(played))
    losses.total.backward()
    found = {name: weight.grad for name, weight in module.model.named_parameters() if weight.grad is not None}
    module.zero_grad()
    expected = naive_loss(module, played)
    expected.backward()

    assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert played.advantages is not None
    assert float(losses.figures["clip_ratio/region_mean"]) > 0
    assert any(name.startswith("encoder") for name in found)
    for name, weight in module.model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-5, atol=1e-8)


def test_the_clipped_objective_follows_the_ratio_only_within_its_bounds() -> None:
    new = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.05], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    clipped = clipped_objective(new, torch.zeros(5), advantages, clip_low=0.2, clip_high=0.3)
    clipped.loss.backward()

    assert (int(clipped.low), int(clipped.high)) == (1, 1)
    ratio = new.detach().exp()
    torch.testing.assert_close(new.grad, torch.stack((0 * ratio[0], ratio[1], -ratio[2], 0 * ratio[3], -ratio[4])))


def test_a_value_that_moves_far_is_judged_by_the_worse_of_two() -> None:
    values, old, returns = torch.tensor([1.0, 0.1]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    assert float(value_objective(values, old, returns, None)) == pytest.approx((0 + 0.81) / 2)
    assert float(value_objective(values, old, returns, 0.2)) == pytest.approx((0.64 + 0.81) / 2)


def test_the_divergence_from_the_reference_is_never_below_0() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(50), torch.randn(50)
    each = [float(reference_divergence(policy[[place]], reference[[place]])) for place in range(50)]
    assert min(each) >= 0
    assert float(reference_divergence(policy, policy)) == 0


def test_memory_that_does_not_move_costs_nothing() -> None:
    slots = torch.randn(2, 3, 4, 5)
    before = SlotState(torch.stack([slots] * 3, dim=1).flatten(1, 2))
    present = torch.ones(3, 3, dtype=torch.bool)
    for kind in ("mse", "cosine"):
        assert float(memory_movement(before, SlotState(slots), present, kind)) == pytest.approx(0, abs=1e-5)
        assert float(memory_movement(before, SlotState(slots + 1), present, kind)) > 0.01
        absent = present & torch.tensor([[True], [True], [False]])
        assert float(memory_movement(before, SlotState(slots + 1), absent, kind)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "reinforce"}, "algorithm must be one of"),
        ({"group_size": 4}, "group_size must be above 1 for grpo"),
        ({"algorithm": "grpo"}, "group_size must be above 1 for grpo"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"kl_weight": -1.0}, "kl_weight must not be negative, got -1.0"),
        ({"told_weight": -1.0}, "told_weight must not be negative, got -1.0"),
        ({"discount": 1.5}, "discount must be at most 1, got 1.5"),
        ({"value_clip": 0.0}, "value_clip must be above 0 or None, got 0.0"),
        ({"updates_per_rollout": 0}, "updates_per_rollout must be a whole number of at least 1, got 0"),
        ({"plays": "answers"}, "plays must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MRLConfig(**changes)


def test_settings_of_version_0_0_load_where_what_is_gone_changed_nothing() -> None:
    gone = {"unfreeze_memory_at": 0, "unfreeze_encoder_at": 0, "reward_scale": 10.0}
    for algorithm, use_gae in (("impo", False), ("ppo", True)):
        chosen = MRLConfig(algorithm=algorithm, told_weight=0.5)
        assert MRLConfig.from_dict({**chosen.to_dict(), **gone, "use_gae": use_gae}) == chosen
        with pytest.raises(ValueError, match="use_gae"):
            MRLConfig.from_dict({**chosen.to_dict(), **gone, "use_gae": not use_gae})
