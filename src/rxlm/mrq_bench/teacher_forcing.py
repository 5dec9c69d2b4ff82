"""Teacher forcing: how well a model predicts the reference answers of dialogues, with its memory or without.

Every turn's reference answer is predicted from the query and the memory of the turns before it, which hold reference
answers too. This is faster than generating answers, and it gives perplexities. If every token of an answer is the
likeliest one, greedy generation would give that answer.

Shapes: B dialogues, T tokens of a turn.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from rxlm.data.batches import TurnBatch
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory import MemoryState
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.replies import batches_of
from rxlm.rxt.models import RxTAlpha

CONTROLS: tuple[Control, ...] = ("none", "empty", "shuffled")
"""The controls under which answers can be predicted."""


@dataclass(frozen=True)
class PredictedAnswer:
    """A reference answer: its cross-entropy in nats, its number of tokens, and whether each was the likeliest."""

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
def predict_answers(
    model: RxTAlpha, dialogues: Sequence[Dialogue], *, control: Control = "none", batch_size: int = 32
) -> Iterator[PredictedAnswer]:
    """Yield how a model predicts each answer of dialogues. Dialogues of similar length share a batch.

    Args:
        model: the model, with its tokenizer.
        dialogues: dialogues of any lengths.
        control: "none": from the memory of the turns before; "empty": from the memory of a new conversation, at every
            turn; "shuffled": from the memory of another dialogue of the batch after as many turns.
        batch_size: dialogues of a batch.
    """
    if control not in CONTROLS:
        raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {control!r}.")
    if control == "shuffled" and len(dialogues) < 2:
        raise ValueError(f"control 'shuffled' needs at least two dialogues, got {len(dialogues)}.")
    tokens = model.tokenizer_config if model.thinks else model.tokenizer_config.replace(think_token_id=None)
    turn_tokenizer = TurnTokenizer(model.needed_tokenizer(), tokens, max_tokens=model.max_seq_len)
    ordered = sorted(dialogues, key=len)
    for batch in batches_of(len(ordered), batch_size):
        yield from _predict_batch(model, [ordered[number] for number in batch], turn_tokenizer, control)


@torch.no_grad()
def predict_with_history(
    model: PreTrainedModel, turn_tokenizer: TurnTokenizer, dialogues: Sequence[Dialogue], *, batch_size: int = 32
) -> Iterator[PredictedAnswer]:
    """Yield how a causal language model predicts each answer of dialogues from everything said before it.

    A dialogue is one text, turn after turn in the form of an interaction. The last turns are left out if they do not
    fit the model's positions.

    Args:
        model: a causal language model of `transformers` over the turn tokenizer's tokens.
        turn_tokenizer: makes the token ids of a turn.
        dialogues: dialogues of any lengths.
        batch_size: dialogues of a batch.
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
                    yield PredictedAnswer(ordered[number], turn - 1, loss, int(here.sum()), exact)


def _one_text(dialogue: Dialogue, turn_tokenizer: TurnTokenizer, limit: int) -> tuple[Tensor, Tensor]:
    """Return the token ids of a dialogue, and at each token to be predicted its turn's number, from 1, else 0; (T,)."""
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


def perplexity(
    predicted: Iterable[PredictedAnswer], counts: Callable[[PredictedAnswer], bool] = lambda answer: True
) -> float:
    """Return the perplexity of the tokens of those answers that count; NaN if there are none."""
    loss = tokens = 0.0
    for answer in predicted:
        if counts(answer):
            loss, tokens = loss + answer.loss, tokens + answer.tokens
    return math.exp(loss / tokens) if tokens else math.nan


def _predict_batch(
    model: RxTAlpha, dialogues: Sequence[Dialogue], turn_tokenizer: TurnTokenizer, control: Control
) -> Iterator[PredictedAnswer]:
    first = present = model.init_memory(len(dialogues), seed=0)
    for number, turn in enumerate(turn_tokenizer.dialogue_batch(dialogues).to(model.device).turns):
        seen = {
            "none": present,
            "empty": first,
            "shuffled": present.select([row - 1 for row in range(present.batch_size)]),
        }[control]
        for row, (loss, tokens, is_exact) in enumerate(_predict(model, turn, seen)):
            if tokens:
                yield PredictedAnswer(dialogues[row], number, loss, int(tokens), bool(is_exact))
        if control != "empty":
            present = model.update_memory(present, turn.ids, turn.mask)


def _predict(model: RxTAlpha, turn: TurnBatch, memory: MemoryState) -> list[list[float]]:
    """Return loss, number of tokens and exactness of each row's answer."""
    logits = model.decode(turn.ids, memory).float()[:, :-1]
    wanted, truth = turn.answer_mask[:, 1:], turn.ids[:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none").view_as(truth)
    exact = ((logits.argmax(-1) == truth) | ~wanted).all(1)
    return torch.stack([(losses * wanted).sum(1), wanted.sum(1), exact], dim=1).tolist()
