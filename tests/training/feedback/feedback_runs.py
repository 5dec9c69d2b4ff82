"""Preferences about generated dialogues for small models, and the naive likelihood of a continuation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retention_models import gated, language_model
from rxlm.data.fact_preferences import FactPreferences
from rxlm.data.preferences import Feedback, Preference, Rated
from rxlm.data.records import Interaction
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory import MemoryState
from rxlm.rxt.models import RxTAlpha
from training_runs import facts, model

KINDS = ("slots", "retained")


def network(kind: str, folder: Path) -> RxTAlpha:
    """A model with a memory of either kind and random weights, in float64."""
    if kind == "retained":
        return gated(language_model(folder / "language_model")).double()
    return model(initial_memory="normal").double()


def turn_tokenizer(network: RxTAlpha) -> TurnTokenizer:
    return TurnTokenizer(network.needed_tokenizer(), network.tokenizer_config, max_tokens=network.max_seq_len)


def pairs(count: int = 5) -> list[Preference]:
    """Pairs after different numbers of turns, the first one after none; the last one of two turns a side."""
    found = FactPreferences(facts(6), count)[:]
    first = Preference((), (Interaction("Hello!", "Hello you!"),), (Interaction("Hello!", "No."),))
    last, more = found[-1], Interaction("I see.", "Good.")
    longer = Preference(last.before, (*last.chosen, more), (*last.rejected, more, more), margin=2.0)
    return [first, *found[: count - 2], longer]


def rated(preferences: Sequence[Preference]) -> list[Feedback]:
    """One answer of each pair, by turns the good and the bad one, and the last pair whole."""
    alone: list[Feedback] = [
        Rated(each.before, each.rejected if place % 2 else each.chosen, not place % 2)
        for place, each in enumerate(preferences[:-1])
    ]
    return [*alone, preferences[-1]]


def naive_log_probs(
    network: RxTAlpha, before: Sequence[Interaction], said: Sequence[Interaction], seed: int, unroll: int = 99
) -> tuple[Tensor, int]:
    """The summed log-probability of the answers of a continuation, token by token, and their number."""
    tokenizer = turn_tokenizer(network)
    memory: MemoryState = network.init_memory(1, seed)
    for place, turn in enumerate(before):
        if len(before) - place == unroll:
            memory = memory.detach()
        memory = network.update_memory(memory, torch.tensor([tokenizer.encode(turn).ids]))
    total, count = torch.zeros((), dtype=torch.float64), 0
    for turn in said:
        encoded = tokenizer.encode(turn)
        ids = torch.tensor([encoded.ids])
        scores = network.decode(ids, memory)[0].log_softmax(-1)
        for place in range(encoded.first_target, encoded.end_of_targets):
            total, count = total + scores[place - 1, encoded.ids[place]], count + 1
        memory = network.update_memory(memory, ids)
    return total, count


def moved(network: RxTAlpha, by: float = 0.05) -> None:
    """Take a policy away from its reference."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(by * torch.randn_like(weight))


def gradients(module: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradients of a loss by parameter; what is not reached is left out."""
    module.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
