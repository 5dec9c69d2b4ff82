"""Reading: how well a model predicts the reference answers of dialogues, with its memory or without.

Every turn's reference answer is predicted from the query and the memory of the turns before, which hold the references,
too. That is quicker than letting the model answer, and gives perplexities; an answer of which every token is the
likeliest is one that greedy generation would give.

Shapes: B dialogues, T tokens of a turn.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rxlm.data.batches import TurnBatch
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory import MemoryState
from rxlm.mrq_bench.walking import batches_of
from rxlm.rxt.models import RxTAlpha

ReadingMemory = Literal["true", "empty", "shuffled"]


@dataclass(frozen=True)
class ReadTurn:
    """One reference answer: its cross-entropy in nats, its tokens, and whether each was the likeliest."""

    dialogue: Dialogue
    number: int
    loss: float
    tokens: int
    is_exact: bool

    @property
    def turn(self) -> Interaction:
        """The turn itself."""
        return self.dialogue.turns[self.number]


@torch.no_grad()
def read_dialogues(
    model: RxTAlpha, dialogues: Sequence[Dialogue], *, memory: ReadingMemory = "true", batch_size: int = 32
) -> Iterator[ReadTurn]:
    """Yield how a model predicts each answer of dialogues, those of like length together.

    Args:
        model: the model, with its tokenizer.
        dialogues: dialogues of any lengths.
        memory: "true"; "empty", the memory of a new conversation at every turn; or "shuffled", that of another
            dialogue of the batch after as many turns.
        batch_size: dialogues read at once.
    """
    if memory not in get_args(ReadingMemory):
        raise ValueError(f"memory must be one of {', '.join(get_args(ReadingMemory))}, got {memory!r}.")
    turn_tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=model.max_seq_len)
    if memory == "shuffled" and len(dialogues) < 2:
        raise ValueError("memory='shuffled' needs two dialogues at least: one has no other's memory to read with.")
    ordered = sorted(dialogues, key=len)
    for batch in batches_of(len(ordered), batch_size):
        yield from _read_batch(model, [ordered[number] for number in batch], turn_tokenizer, memory)


@torch.no_grad()
def read_with_history(
    model: PreTrainedModel, turn_tokenizer: TurnTokenizer, dialogues: Sequence[Dialogue], *, batch_size: int = 32
) -> Iterator[ReadTurn]:
    """Yield how a causal language model predicts each answer of dialogues from all that was said before.

    A dialogue is one text, turn after turn in the form of an interaction. Turns that do not fit the model's positions
    are left out, the last ones first.

    Args:
        model: a causal language model of `transformers` over the turn tokenizer's tokens.
        turn_tokenizer: of the turns.
        dialogues: dialogues of any lengths.
        batch_size: dialogues read at once.
    """
    limit = model.config.max_position_embeddings
    ordered = sorted(dialogues, key=len)
    for batch in batches_of(len(ordered), batch_size):
        rows = [_one_text(ordered[number], turn_tokenizer, limit) for number in batch]
        ids, wanted = (pad_sequence(list(part), batch_first=True).to(model.device) for part in zip(*rows, strict=True))
        logits = model(input_ids=ids).logits[:, :-1].float()
        truth, turns = ids[:, 1:], wanted[:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none").view_as(truth)
        right = logits.argmax(-1) == truth
        for row, number in enumerate(batch):
            for turn in turns[row].unique().tolist():
                if turn:
                    here = turns[row] == turn
                    loss, exact = float(losses[row, here].sum()), bool(right[row, here].all())
                    yield ReadTurn(ordered[number], turn - 1, loss, int(here.sum()), exact)


def _one_text(dialogue: Dialogue, turn_tokenizer: TurnTokenizer, limit: int) -> tuple[Tensor, Tensor]:
    """Return a dialogue's ids, and at tokens to be predicted the number of their turn, from 1, else 0; (T,) each."""
    ids: list[int] = []
    turns: list[int] = []
    for number, turn in enumerate(dialogue.turns, 1):
        encoded = turn_tokenizer.encode(turn)
        if len(ids) + len(encoded.ids) > limit:
            break
        ids += encoded.ids
        turns += [
            number if encoded.first_target <= place < encoded.end_of_targets else 0 for place in range(len(encoded.ids))
        ]
    return torch.tensor(ids), torch.tensor(turns)


def perplexity(read: Iterable[ReadTurn], counts: Callable[[ReadTurn], bool] = lambda turn: True) -> float:
    """Return the perplexity of the answers' tokens, of those turns that count; NaN where there are none."""
    loss = tokens = 0.0
    for turn in read:
        if counts(turn):
            loss, tokens = loss + turn.loss, tokens + turn.tokens
    return math.exp(loss / tokens) if tokens else math.nan


def _read_batch(
    model: RxTAlpha, dialogues: Sequence[Dialogue], turn_tokenizer: TurnTokenizer, memory: ReadingMemory
) -> Iterator[ReadTurn]:
    first = present = model.init_memory(len(dialogues), seed=0)
    for number, turn in enumerate(turn_tokenizer.dialogue_batch(dialogues).to(model.device).turns):
        seen = {
            "true": present,
            "empty": first,
            "shuffled": present.select([row - 1 for row in range(present.batch_size)]),
        }[memory]
        for row, (loss, tokens, is_exact) in enumerate(_predict(model, turn, seen)):
            if tokens:
                yield ReadTurn(dialogues[row], number, loss, int(tokens), bool(is_exact))
        if memory != "empty":
            present = model.update_memory(present, turn.ids, turn.mask)


def _predict(model: RxTAlpha, turn: TurnBatch, memory: MemoryState) -> list[list[float]]:
    """Return loss, number of tokens and exactness of each row's answer."""
    logits = model.decode(turn.ids, memory).float()[:, :-1]
    wanted, truth = turn.answer_mask[:, 1:], turn.ids[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none").view_as(truth)
    exact = ((logits.argmax(-1) == truth) | ~wanted).all(1)
    return torch.stack([(losses * wanted).sum(1), wanted.sum(1), exact], dim=1).tolist()
