"""Retention: a pretrained chat model learns which tokens it will need, and to read what it has kept.

A dialogue is read in one pass, all turns at once (see `rxlm.memory.retained.parallel`); the losses of later turns teach
the gates what to keep of earlier ones. Answers that are references are predicted; in natural dialogue, whose answers
are not the model's own, its distributions keep to those of the language model that it was, with its full history.

Shapes: B dialogues, T tokens of a dialogue, N turns, D model dimension, V vocabulary.
"""

import math
import random
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import Config, config, require, require_int, require_number, require_share
from rxlm.data.batches import DialogueBatch
from rxlm.data.padding import padded
from rxlm.memory.retained.config import RetainedMemory
from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.module import Counts, Losses, TrainModule

LOGITS_AT_ONCE = 2**25


@config
class RetentionConfig(Config):
    """Settings of retention training.

    Fields:
        sizes: numbers of tokens S; each step draws one, so that the model serves with any.
        first_temperature, last_temperature, cooling_steps: how sharply tokens are kept: T falls from the first to the
            last, by equal factors, in so many steps. At first everything is half visible: weights learn to read while
            gates begin to choose.
        learned_share: share of the layers whose weights learn, the last ones; 0: the gates alone.
        wording_weight: weight of tokens of an answer to a question that are not what it asks for.
        wording_share: share of such tokens, and of other reference answers, that are predicted.
        keep: weight of keeping to the language model's own distributions. keep_tokens: tokens of a microbatch at which
            they are compared.
    """

    sizes: tuple[int, ...] = (64, 128)
    first_temperature: float = 1.0
    last_temperature: float = 0.15
    cooling_steps: int = 120
    learned_share: float = 1.0
    wording_weight: float = 0.3
    wording_share: float = 0.1
    keep: float = 1.0
    keep_tokens: int = 512

    def __post_init__(self) -> None:
        require_int(self, "cooling_steps", "keep_tokens")
        require_number(self, "first_temperature", "last_temperature", "wording_weight", "keep")
        require_share(self, "learned_share", "wording_share")
        for name in ("first_temperature", "last_temperature"):
            require(getattr(self, name) > 0, f"RetentionConfig.{name} must be positive, got {getattr(self, name)}.")
        for name in ("wording_weight", "keep"):
            require(
                getattr(self, name) >= 0, f"RetentionConfig.{name} must not be negative, got {getattr(self, name)}."
            )
        valid = (
            isinstance(self.sizes, tuple)
            and bool(self.sizes)
            and all(isinstance(each, int) and each >= 8 for each in self.sizes)
        )
        require(valid, f"RetentionConfig.sizes must be numbers of tokens of at least 8, got {self.sizes!r}.")

    def temperature(self, step: int) -> float:
        """Return T at a step."""
        progress = min(1.0, step / self.cooling_steps)
        return self.first_temperature * (self.last_temperature / self.first_temperature) ** progress


@dataclass(frozen=True)
class Dialogues:
    """Whole dialogues as the chat template writes them, padded at the end.

    Fields:
        ids: (B, T).
        turns: number of the turn that reads each token, (B, T); negative: padding. The end of an answer is read with
            the turn after it.
        values, words: True at the tokens to predict: what questions ask for, and other words of reference answers,
            (B, T).
        kept: True at the tokens whose distributions keep to the language model's, (B, T).
        num_tokens: S of this step.
    """

    ids: Tensor
    turns: Tensor
    values: Tensor
    words: Tensor
    kept: Tensor
    num_tokens: int

    def to(self, device: torch.device | str) -> Self:
        """Return the dialogues on a device."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: each.to(device) for name, each in own.items() if isinstance(each, Tensor)})


class Retention(TrainModule):
    """Learns what to keep, and to read it.

    Args:
        model: a Reactive Transformer whose memory keeps tokens and whose layers have retention gates.
        settings: see `RetentionConfig`.
    """

    def __init__(self, model: RxTModel, settings: RetentionConfig) -> None:
        super().__init__(model)
        writer, gated = model.memory_writer, model.decoder.config.retention_gate is not None
        if not isinstance(writer, RetainedMemory) or not gated:
            raise ValueError("Retention is learnt by a model whose memory keeps tokens and whose layers have gates.")
        self.settings, self.writer = settings, writer
        self.language_model = [deepcopy(model.decoder).requires_grad_(False).eval()]  # not registered: it stays
        self.prefix = model.tokenizer_config.conversation_prefix or ()
        self.first = max(len(self.prefix), writer.config.num_sinks)
        self.temperature: float | None = settings.first_temperature
        least = 2 * self.first
        require(
            min(settings.sizes) >= least,
            f"RetentionConfig.sizes must be at least {least}, twice what is kept for good, got {settings.sizes}.",
        )

    def start_step(self, step: int) -> None:
        """Set the temperature, and what learns: the gates, and some of the layers."""
        self.temperature = self.settings.temperature(step)
        decoder = self.model.decoder.requires_grad_(False)
        for part in _last_layers(decoder, self.settings.learned_share):
            part.requires_grad_(True)
        for layer in cast(list[TransformerLayer], list(decoder.layers)):
            assert layer.retention_gate is not None
            layer.retention_gate.requires_grad_(True)

    # --- what is learnt from -------------------------------------------------------------------------------------

    def prepare(self, batch: DialogueBatch, generator: torch.Generator) -> Dialogues:
        """Put the turns of each dialogue together, and draw what of them is predicted, and S."""
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        rows = [self._row(batch, row, rng) for row in range(batch.batch_size)]
        pad = self.model.tokenizer_config.pad_token_id
        ids, mask = padded([row["ids"] for row in rows], pad)
        marks = {name: padded([row[name] for row in rows], 0)[0].bool() for name in ("values", "words", "kept")}
        turns = padded([row["turns"] for row in rows], 0)[0].masked_fill(~mask, -1)
        marks["kept"] = _some(marks["kept"], self.settings.keep_tokens, rng)
        return Dialogues(ids, turns, num_tokens=rng.choice(self.settings.sizes), **marks).to(self.device)

    def _row(self, batch: DialogueBatch, row: int, rng: random.Random) -> dict[str, list[int]]:
        """Return a dialogue's ids, the turns that read them, and marks, as lists of one length."""
        count, suffix = len(self.prefix), self.writer.config.answer_end[1:]
        found: dict[str, list[int]] = {
            "ids": list(self.prefix), "turns": [0] * count, "values": [0] * count, "words": [0] * count,
            "kept": [0] * count,
        }  # fmt: skip
        for number, (turn, said) in enumerate(zip(batch.turns, batch.dialogues[row].turns, strict=False)):
            real = turn.mask[row]
            ids, answer = turn.ids[row][real].tolist(), turn.answer_mask[row][real].tolist()
            values = [False] * len(ids) if turn.value_mask is None else turn.value_mask[row][real].tolist()
            asks = said.question is not None
            for place, token in enumerate(ids):
                is_value = said.is_reference and asks and answer[place] and values[place]
                predicted = said.is_reference and answer[place] and not is_value
                found["ids"].append(token)
                found["turns"].append(number + (place == len(ids) - 1))  # an answer's end is read with the next turn
                found["values"].append(is_value)
                found["words"].append(predicted and (asks or rng.random() < self.settings.wording_share))
                found["kept"].append(not said.is_reference and number > 0)
            found["ids"] += suffix
            found["turns"] += [number + 1] * len(suffix)
            for name in ("values", "words", "kept"):
                found[name] += [False] * len(suffix)
        return found

    def counts(self, batch: Dialogues) -> Counts:
        """Count the tokens that are predicted, by their weights, and those that keep to the language model."""
        weight = self.settings.wording_weight
        return {
            "answer": float(batch.values.sum() + weight * batch.words.sum()),
            "values": float(batch.values.sum()),
            "kept": float(batch.kept.sum()),
        }

    # --- losses --------------------------------------------------------------------------------------------------

    def forward(self, batch: Dialogues, totals: Mapping[str, float]) -> Losses:
        """Return cross-entropy of reference answers, and the divergence from the language model elsewhere."""
        hidden = self.states(batch.ids, batch.turns, batch.num_tokens, self.temperature)
        figures: dict[str, Tensor] = {}
        total = hidden.sum() * 0.0
        if totals["answer"]:
            sums = [self._predicted(hidden, batch.ids, marked) for marked in (batch.values, batch.words)]
            answer = (sums[0][0] + self.settings.wording_weight * sums[1][0]) / totals["answer"]
            figures["answer_loss"] = answer.detach()
            figures["value_accuracy"] = sums[0][1] / max(1.0, totals["values"])
            total = total + answer
        if totals["kept"] and self.settings.keep:
            kept = self._divergence(hidden, batch) / totals["kept"]
            figures["keeping_loss"] = kept.detach()
            total = total + self.settings.keep * kept
        return Losses(total, figures)

    def states(self, ids: Tensor, turns: Tensor, num_tokens: int, temperature: float | None) -> Tensor:
        """Return what the head reads of whole dialogues, (B, T, D), each turn with what S tokens keep before it.

        Arguments as fields of `Dialogues`; `temperature` as in `ParallelTurns`.
        """
        cache = ParallelTurns(
            turns,
            num_tokens=num_tokens,
            first=self.first,
            newest=int(num_tokens * self.writer.config.newest_share),
            temperature=temperature,
        )
        return self.model.decoder.hidden_states(ids, None, cache=cache)

    def _predicted(self, hidden: Tensor, ids: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss of the tokens that are marked, and how many the model would have chosen."""
        wanted = marked[:, 1:]
        return self.model.decoder.head(hidden[:, :-1][wanted], ids[:, 1:][wanted])

    def _divergence(self, hidden: Tensor, batch: Dialogues) -> Tensor:
        """Return the summed divergence from the language model with its full history, in nats."""
        (teacher,) = self.language_model
        teacher.to(hidden.device)
        rows = batch.kept.any(dim=1)  # the others need no pass of the language model
        wanted = batch.kept[rows, 1:]
        with torch.no_grad():
            own = teacher.hidden_states(batch.ids[rows], None)[:, :-1][wanted]
        read = hidden[rows, :-1][wanted]
        loss = hidden.new_zeros(())
        step = max(1, LOGITS_AT_ONCE // teacher.config.vocab_size)
        for first in range(0, len(own), step):
            with torch.no_grad():
                aim = teacher.head(own[first : first + step]).float().log_softmax(-1)
            found = self.model.decoder.head(read[first : first + step]).float().log_softmax(-1)
            loss = loss + F.kl_div(found, aim, reduction="sum", log_target=True)
        return loss

    def diagnose(self, batch: Dialogues) -> dict[str, Any]:
        """Measure how S and T were, and how visible earlier tokens are."""
        return {"retention/tokens": float(batch.num_tokens), "retention/temperature": self.temperature or 0.0}


def _last_layers(decoder: RxTDecoder, share: float) -> list[nn.Module]:
    """Return a share of the decoder's layers, the last ones, and its final norm, where any are to learn."""
    layers = list(decoder.layers)
    count = math.ceil(share * len(layers))
    return [*layers[len(layers) - count :], decoder.final_norm] if count else []


def _some(marked: Tensor, count: int, rng: random.Random) -> Tensor:
    """Return at most `count` of the places that are marked, drawn at random."""
    places = marked.flatten().nonzero()[:, 0].tolist()
    chosen = torch.zeros(marked.numel(), dtype=torch.bool)
    chosen[rng.sample(places, min(count, len(places)))] = True
    return chosen.view_as(marked)
