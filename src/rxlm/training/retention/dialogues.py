"""What retention is learnt from: whole dialogues as tokens, with marks at those that are predicted.

Shapes: B dialogues, T tokens of a dialogue.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from rxlm.data.batches import DialogueBatch, StreamBatch, TurnBatch
from rxlm.data.padding import padded
from rxlm.data.records import Interaction
from rxlm.training.retention.config import RetentionConfig

MARKS = ("values", "words", "kept")
MOST = 0.7
"""Share of the tokens of the longest dialogue that one needs to be read beside it."""
MULTIPLE = 64
"""Batches are padded to multiples of so many tokens, so that memory that one step frees fits what the next asks for."""


@dataclass(frozen=True)
class Dialogues:
    """Whole dialogues as the chat template writes them, padded at the end.

    Fields:
        ids: (B, T).
        turns: number of the turn that reads each token, (B, T); negative: padding. The end of an answer is read with
            the turn after it.
        values, words: True at the tokens to predict: what questions ask for, and the first token of their answers,
            which decides whether it was told at all; and other words of reference answers, (B, T).
        kept: True at the tokens whose distributions keep to the language model's, (B, T).
        num_tokens: S of this step.
        first_turn: the first turn that is learnt from; those before it are kept as a memory.
        goes_on: whether the next batch has further turns.
    """

    ids: Tensor
    turns: Tensor
    values: Tensor
    words: Tensor
    kept: Tensor
    num_tokens: int
    first_turn: int = 0
    goes_on: bool = False

    @property
    def window(self) -> Self:
        """The same without what is read before the first turn that is learnt from, whose number is 0 then."""
        if not self.first_turn:
            return self
        numbers = self.in_window(self.turns + 1)  # 0: padding
        turns = torch.where(numbers > 0, numbers - 1 - self.first_turn, -1)
        own = {name: self.in_window(getattr(self, name)) for name in ("ids", *MARKS)}
        return replace(self, turns=turns, **own)

    def in_window(self, values: Tensor) -> Tensor:
        """Return what values (B, T, ...) are at the tokens of the window, and 0 in the padding at its end."""
        if not self.first_turn:
            return values
        begin = ((self.turns >= 0) & (self.turns < self.first_turn)).sum(1, keepdim=True)
        real = (self.turns >= 0).sum(1, keepdim=True)
        length = _padded_length(int((real - begin).max()), most=values.shape[1])
        places = begin + torch.arange(length, device=begin.device)
        axes = (*places.shape, *[1] * (values.dim() - 2))
        found = values.take_along_dim(places.clamp(max=values.shape[1] - 1).view(axes), 1)
        return found.masked_fill((places >= real).view(axes), 0)

    def select(self, rows: Sequence[int]) -> Self:
        """Return some of the dialogues, in the order given, without padding that none of them needs."""
        index = torch.tensor(rows, device=self.turns.device)
        longest = int((self.turns[index] >= 0).sum(1).max())
        length = _padded_length(longest, most=self.turns.shape[1])
        return replace(self, **{name: getattr(self, name)[index, :length] for name in ("ids", "turns", *MARKS)})

    def of_like_length(self) -> list[list[int]]:
        """Return the rows in groups with little padding: each has most of the tokens of the longest in its group."""
        lengths = (self.turns >= self.first_turn).sum(1).tolist()
        groups: list[list[int]] = []
        for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
            if groups and (lengths[row] >= MOST * lengths[groups[-1][0]] or not lengths[row]):
                groups[-1].append(row)
            else:
                groups.append([row])
        return groups

    def to(self, device: torch.device | str) -> Self:
        """Return the dialogues on a device."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: each.to(device) for name, each in own.items() if isinstance(each, Tensor)})


@dataclass(frozen=True)
class DialogueForm:
    """How turns are put together to dialogues, and what is drawn of them.

    Fields:
        prefix: ids that conversations begin with. answer_end: ids that close an answer.
        pad_token_id: of padding.
        longest: tokens that the language model can read at once; the last turns of a longer dialogue are left out.
        settings: see `RetentionConfig`.
    """

    prefix: Sequence[int]
    answer_end: Sequence[int]
    pad_token_id: int
    longest: int
    settings: RetentionConfig

    def dialogues(self, batch: DialogueBatch | StreamBatch, rng: random.Random) -> Dialogues:
        """Put the turns of each dialogue together, and draw what of them is predicted, and S."""
        first_turn, goes_on = (batch.first_turn, batch.goes_on) if isinstance(batch, DialogueBatch) else (0, False)
        rows = [self._row(turns, row, first_turn, rng) for row, turns in _conversations(batch)]
        longest = max(len(row["ids"]) for row in rows)
        width = _padded_length(longest, most=max(longest, self.longest))
        ids, _ = padded([row["ids"] for row in rows], self.pad_token_id, width=width)
        turns, _ = padded([row["turns"] for row in rows], -1, width=width)
        marks = {name: padded([row[name] for row in rows], 0, width=width)[0].bool() for name in MARKS}
        marks["kept"] = _some(marks["kept"], self.settings.keep_tokens, rng)
        return Dialogues(
            ids,
            turns,
            num_tokens=rng.choice(self.settings.sizes),
            first_turn=first_turn,
            goes_on=goes_on,
            **marks,
        )

    def _row(
        self, conversation: Sequence[tuple[TurnBatch, Interaction]], row: int, first_turn: int, rng: random.Random
    ) -> dict[str, list[int]]:
        """Return a dialogue's ids, the turns that read them, and marks, as lists of one length."""
        suffix = self.answer_end[1:]
        found: dict[str, list[int]] = {"ids": list(self.prefix), "turns": [0] * len(self.prefix)}
        found |= {name: [0] * len(self.prefix) for name in MARKS}
        learnt = 0
        for number, (turn, said) in enumerate(conversation):
            is_new = number >= first_turn
            real = turn.mask[row]
            ids, answer = turn.ids[row][real].tolist(), turn.answer_mask[row][real].tolist()
            values = [False] * len(ids) if turn.value_mask is None else turn.value_mask[row][real].tolist()
            count = len(ids) + len(suffix)
            learnt += is_new * count
            too_long = learnt > self.settings.longest_dialogue or len(found["ids"]) + count > self.longest
            if too_long and number > first_turn:
                break
            asks = said.question is not None
            begin = answer.index(True) if any(answer) else -1
            for place, token in enumerate(ids):
                is_reference = is_new and said.is_reference and answer[place]
                decides = place == begin or values[place]  # whether something was told, and what
                is_value = is_reference and asks and decides
                predicted = is_reference and not is_value
                found["ids"].append(token)
                found["turns"].append(number + (place == len(ids) - 1))  # an answer's end is read with the next turn
                found["values"].append(is_value)
                found["words"].append(predicted and (asks or rng.random() < self.settings.wording_share))
                found["kept"].append(is_new and not said.is_reference and place + number > 0)
            found["ids"] += suffix
            found["turns"] += [number + 1] * len(suffix)
            for name in MARKS:
                found[name] += [False] * len(suffix)
        # What came before is read for the language model's sake, which reads no more than it can.
        return {name: each[-self.longest :] for name, each in found.items()} if first_turn else found


def _padded_length(length: int, most: int) -> int:
    """Return the least multiple of `MULTIPLE` that holds so many tokens; no more than `most`."""
    return min(most, -(-length // MULTIPLE) * MULTIPLE)


def _conversations(
    batch: DialogueBatch | StreamBatch,
) -> Iterator[tuple[int, list[tuple[TurnBatch, Interaction]]]]:
    """Yield conversations, each with its row; of streams those that begin in the batch, or else what there is."""
    if isinstance(batch, DialogueBatch):
        for row, dialogue in enumerate(batch.dialogues):
            yield row, list(zip(batch.turns, dialogue.turns, strict=False))
        return
    any_begins = bool(batch.fresh.any())
    for row, said in enumerate(batch.interactions):
        starts = [number for number in range(len(said)) if batch.fresh[number, row]] if any_begins else [0]
        for first, end in zip(starts, [*starts[1:], len(said)], strict=True):
            yield row, list(zip(batch.turns[first:end], said[first:end], strict=True))


def _some(marked: Tensor, count: int, rng: random.Random) -> Tensor:
    """Return at most `count` of the places that are marked, drawn at random."""
    places = marked.flatten().nonzero()[:, 0].tolist()
    chosen = torch.zeros(marked.numel(), dtype=torch.bool)
    chosen[rng.sample(places, min(count, len(places)))] = True
    return chosen.view_as(marked)
