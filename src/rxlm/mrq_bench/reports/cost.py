"""Report 6: what a turn costs, against its number in the conversation."""

from collections.abc import Iterator, Sequence
from itertools import chain, cycle
from typing import Any

import torch

from rxlm.data.records import Interaction
from rxlm.mrq_bench.benchmark_data import BenchmarkData
from rxlm.mrq_bench.protocol import LanguageRespondent, TurnCost
from rxlm.mrq_bench.reports.recall import plain
from rxlm.mrq_bench.statistics import median

CONVERSATIONS = 5
BEST_OF = 3
NUM_TOKENS = 16


def cost(
    respondent: LanguageRespondent,
    data: BenchmarkData,
    seed: int,
    turns: Sequence[int],
    conversations: int = CONVERSATIONS,
) -> dict[str, Any]:
    """Measure some turns of conversations made of the data's dialogues, one after the other.

    At each of these turns the same query is put, and every answer has 16 tokens, whatever the model would say: so the
    number of the turn is all that differs. Of three tries the best counts. A figure is the median over the
    conversations, with its interval. `session_bytes` is what the model attends to: its memory, or the keys and values
    of its history.
    """
    costs: dict[int, list[TurnCost]] = {turn: [] for turn in sorted(turns)}
    last = max(turns)
    for number in range(conversations):
        respondent.reset(1)
        query = next(_conversation(data, number, last)).query
        for turn, interaction in zip(range(1, last + 1), _conversation(data, number, last), strict=False):
            if turn in costs:
                costs[turn].append(_best([respondent.measure(query, NUM_TOKENS) for _ in range(BEST_OF)]))
            respondent.follow([interaction.query], [interaction.answer])
    return {
        "turns": list(costs),
        "first_token_ms": [plain(median([1e3 * c.first_token for c in of], seed)) for of in costs.values()],
        "tokens_per_second": [plain(median([c.tokens_per_second for c in of], seed)) for of in costs.values()],
        "update_ms": [_updates(of, seed) for of in costs.values()],
        "session_bytes": [round(sum(c.session_bytes for c in of) / len(of)) for of in costs.values()],
        "threads": torch.get_num_threads(),
        "num_tokens": NUM_TOKENS,
    }


def _best(tries: list[TurnCost]) -> TurnCost:
    """Return the best of each figure: what else the machine does can only make it worse."""
    updates = [found.update for found in tries if found.update is not None]
    return TurnCost(
        min(found.first_token for found in tries),
        max(found.tokens_per_second for found in tries),
        min(updates) if updates else None,
        tries[-1].session_bytes,
    )


def _updates(costs: list[TurnCost], seed: int) -> dict[str, Any] | None:
    times = [1e3 * cost.update for cost in costs if cost.update is not None]
    return plain(median(times, seed)) if times else None


def _conversation(data: BenchmarkData, number: int, num_turns: int) -> Iterator[Interaction]:
    """Yield the turns of the data's longest dialogues, from dialogue `number` on, without end."""
    group = max(data.sets, key=lambda group: max(map(len, group.dialogues)))
    start = number % len(group.dialogues)
    dialogues = [*group.dialogues[start:], *group.dialogues[:start]]
    return cycle(chain.from_iterable(dialogue.turns for dialogue in dialogues[:num_turns]))
