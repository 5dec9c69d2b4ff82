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
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import require
from rxlm.data.batches import DialogueBatch
from rxlm.memory.retained.config import RetainedMemory
from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.module import Counts, Losses, TrainModule
from rxlm.training.retention.adapters import add_adapters, merge_adapters
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.dialogues import DialogueForm, Dialogues

LOGITS_AT_ONCE = 2**25


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
        tokens = model.tokenizer_config
        self.form = DialogueForm(
            tokens.conversation_prefix or (), writer.config.answer_end, tokens.pad_token_id, settings
        )
        self.first = max(len(self.form.prefix), writer.config.num_sinks)
        self.temperature: float | None = settings.first_temperature
        least = 2 * self.first
        require(
            min(settings.sizes) >= least,
            f"RetentionConfig.sizes must be at least {least}, twice what is kept for good, got {settings.sizes}.",
        )
        gates = [parameter for layer in _layers(model.decoder) for parameter in _gate_of(layer)]
        learnt, layers = _last_layers(model.decoder, settings.learned_share)
        if settings.lora_rank:
            learnt = []
        self.language_model = [_copy_without(model.decoder, {*gates, *learnt})]  # not registered: it stays
        if settings.lora_rank:
            learnt = add_adapters(layers, settings.lora_rank, settings.lora_alpha)
        self.learnt = [*gates, *learnt]

    def start_step(self, step: int) -> None:
        """Set the temperature, and what learns: the gates, and some of the layers or their adapters."""
        self.temperature = self.settings.temperature(step)
        self.model.decoder.requires_grad_(False)
        for parameter in self.learnt:
            parameter.requires_grad_(True)

    def finish(self) -> None:
        """Merge adapters into the weights: what is left is an ordinary model, and no more can be learnt here."""
        if self.settings.lora_rank:
            merge_adapters(self.model)

    def prepare(self, batch: DialogueBatch, generator: torch.Generator) -> Dialogues:
        """Put the turns of each dialogue together, and draw what of them is predicted, and S."""
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        return self.form.dialogues(batch, rng).to(self.device)

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


def _layers(decoder: RxTDecoder) -> list[TransformerLayer]:
    return cast(list[TransformerLayer], list(decoder.layers))


def _last_layers(decoder: RxTDecoder, share: float) -> tuple[list[nn.Parameter], list[TransformerLayer]]:
    """Return a share of the layers, the last ones, and before them their weights, with those of the final norm."""
    layers = _layers(decoder)
    last = layers[len(layers) - math.ceil(share * len(layers)) :]
    parts = [*last, decoder.final_norm] if last else []
    return [parameter for part in parts for parameter in part.parameters()], last


def _gate_of(layer: TransformerLayer) -> list[nn.Parameter]:
    return [] if layer.retention_gate is None else list(layer.retention_gate.parameters())


def _copy_without(decoder: RxTDecoder, learnt: set[nn.Parameter]) -> RxTDecoder:
    """Return a copy that stays as it is; weights that are not learnt are the same tensors in both."""
    shared = {id(parameter): parameter for parameter in decoder.parameters() if parameter not in learnt}
    return deepcopy(decoder, shared).requires_grad_(False).eval()
