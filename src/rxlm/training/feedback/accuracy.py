"""How often a reward model prefers the answer that people preferred, by what differs, with its memory and without."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from rxlm.data.preferences import Preference
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.rxt.reward_model import RewardModel
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.reward import scores_of

ALL, LONGER, SHORTER = "all", "chosen is longer", "chosen is shorter"


@dataclass(frozen=True)
class Compared:
    """A pair, and by how much the better answer scores higher, with the memory of the turns before and without."""

    pair: Preference
    margin: float
    margin_without_memory: float


@dataclass(frozen=True)
class Accuracy:
    """The share of pairs whose better answer scores higher; the same without memory; the number of pairs."""

    with_memory: float
    without_memory: float
    count: int


@torch.no_grad()
def compare(
    model: RewardModel, pairs: Sequence[Preference], turn_tokenizer: TurnTokenizer, *, batch_size: int = 64
) -> list[Compared]:
    """Let a reward model score both answers of pairs."""
    model.eval()
    found = []
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        batch = feedback_batch(part, turn_tokenizer).to(model.device)
        margins = []
        for forgets in (False, True):
            better, worse = scores_of(model, batch, unroll=1, forgets=forgets).chunk(2)
            margins.append((better - worse).tolist())
        found += [Compared(*each) for each in zip(part, *margins, strict=True)]
    return found


def accuracies(compared: Sequence[Compared], from_memory: Iterable[str] = ()) -> dict[str, Accuracy]:
    """Return accuracies by what differs, where that is known, of all pairs, and by which answer is longer.

    Two answers that score the same count half: whoever cannot tell them apart is at chance.

    Args:
        compared: the pairs.
        from_memory: differences that nothing but the turns before tells; together they are "from memory alone", each
            with the same weight.
    """
    differences = list(dict.fromkeys(each.pair.differs for each in compared if each.pair.differs))
    groups = {name: [each for each in compared if each.pair.differs == name] for name in differences}
    found = {name: _accuracy(group) for name, group in groups.items()}
    of_memory = [found[name] for name in from_memory if name in found]
    if of_memory:
        found["from memory alone"] = Accuracy(
            sum(each.with_memory for each in of_memory) / len(of_memory),
            sum(each.without_memory for each in of_memory) / len(of_memory),
            sum(each.count for each in of_memory),
        )
    lengths = {name: [each for each in compared if _length(each.pair) == name] for name in (LONGER, SHORTER)}
    return found | {name: _accuracy(group) for name, group in {ALL: compared, **lengths}.items() if group}


def _accuracy(compared: Sequence[Compared]) -> Accuracy:
    with_memory, without = (
        sum((margin > 0) + 0.5 * (margin == 0) for margin in margins) / len(compared)
        for margins in (
            [each.margin for each in compared],
            [each.margin_without_memory for each in compared],
        )
    )
    return Accuracy(with_memory, without, len(compared))


def _length(pair: Preference) -> str:
    better, worse = (sum(len(turn.answer) for turn in said) for said in pair.answers)
    return LONGER if better > worse else SHORTER if worse > better else ""
