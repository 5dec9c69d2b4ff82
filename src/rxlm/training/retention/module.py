"""Retention: a pretrained chat model learns which tokens it will need, and to read what it has kept.

A dialogue is read in one pass, all turns at once (see `rxlm.memory.retained.parallel`); the losses of later turns teach
the gates what to keep of earlier ones. Answers that are references are predicted; in natural dialogue, whose answers
are not the model's own, its distributions keep to those of the language model that it was, with its full history. In
first turns, before which there is nothing to remember, that is a measure of how far its language has changed.

Shapes: B dialogues, T tokens of a dialogue, N turns, D model dimension, V vocabulary.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import require
from rxlm.data.batches import DialogueBatch, StreamBatch
from rxlm.memory.retained.config import RetainedMemory
from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.memory.retained.state import RetainedState
from rxlm.nn.layer import TransformerLayer
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder
from rxlm.training.last_layers import last_layers, weights_of_last_layers
from rxlm.training.module import Counts, Losses, TrainModule
from rxlm.training.retention.adapters import add_adapters, merge_adapters, save_adapters
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.retention.dialogues import DialogueForm, Dialogues
from rxlm.training.retention.language_model import LanguageModel
from rxlm.training.retention.reading import states_of_dialogues
from rxlm.training.sharding import is_sharded

ALL = slice(None)


class Retention(TrainModule):
    """Learns what to keep, and to read it.

    Args:
        model: a Reactive Transformer whose memory keeps tokens and whose layers have retention gates.
        settings: see `RetentionConfig`.
    """

    by_layer = True

    def __init__(self, model: RxTModel, settings: RetentionConfig) -> None:
        super().__init__(model)
        writer, gated = model.memory_writer, model.decoder.config.retention_gate is not None
        if not isinstance(writer, RetainedMemory) or not gated:
            raise ValueError("Retention is learnt by a model whose memory keeps tokens and whose layers have gates.")
        self.settings, self.writer = settings, writer
        tokens = model.tokenizer_config
        self.form = DialogueForm(
            tokens.conversation_prefix or (),
            writer.config.answer_end,
            tokens.pad_token_id,
            model.decoder.config.longest_text,
            settings,
        )
        self.first = writer.config.num_kept_for_good(len(self.form.prefix))
        self.temperature: float | None = settings.first_temperature
        self.carried: RetainedState | None = None
        """What the dialogues of the last batch keep for the window that follows."""
        least = 2 * self.first
        require(
            min(settings.sizes) >= least,
            f"RetentionConfig.sizes must be at least {least}, twice what is kept for good, got {settings.sizes}.",
        )
        gates = [parameter for layer in _layers(model.decoder) for parameter in _gate_of(layer)]
        learnt = weights_of_last_layers(model.decoder, settings.learned_share)
        if settings.from_scratch:
            of_gates = {*gates}
            learnt = [each for each in model.decoder.parameters() if each not in of_gates]
        self.language_model = LanguageModel(model.decoder, None if settings.lora_rank else {*gates, *learnt})
        if settings.lora_rank:
            layers = last_layers(model.decoder, settings.learned_share)
            learnt = add_adapters(layers, settings.lora_rank, settings.lora_alpha)
        learns = {*gates, *learnt}
        self._learnt = {name for name, parameter in model.decoder.named_parameters() if parameter in learns}

    def frozen_decoders(self) -> Sequence[RxTDecoder]:
        """Return the language model, where it is a copy."""
        return (self.language_model.decoder,) if self.language_model.is_copy else ()

    def start_step(self, step: int) -> None:
        """Set the temperature, and what learns: the gates, and some of the layers or their adapters."""
        self.temperature = self.settings.temperature(step)
        for name, parameter in self.model.decoder.named_parameters():
            parameter.requires_grad_(name in self._learnt)

    def save(self, folder: Path) -> None:
        """Write adapters, if there are any, to a folder of their own: `adapters`."""
        if self.settings.lora_rank:
            save_adapters(self.model, folder / "adapters", self.settings.lora_rank, self.settings.lora_alpha)

    def finish(self) -> None:
        """Merge adapters into the weights: what is left is an ordinary model, and no more can be learnt here."""
        if self.settings.lora_rank:
            merge_adapters(self.model)

    def prepare(self, batch: DialogueBatch | StreamBatch, generator: torch.Generator) -> Dialogues:
        """Put the turns of each dialogue together, and draw what of them is predicted, and S."""
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        return self.form.dialogues(batch, rng).to(self.device)

    def counts(self, batch: Dialogues) -> Counts:
        """Count the tokens that are predicted, by their weights, and those that keep to the language model."""
        weight = self.settings.wording_weight
        return {
            "answer": float(batch.values.sum()) + weight * float(batch.words.sum()),
            "values": float(batch.values.sum()),
            "kept": float(batch.kept.sum()),
            "first_turns": float((batch.kept & (batch.turns == 0)).sum()),
        }

    # --- losses --------------------------------------------------------------------------------------------------

    def forward(self, batch: Dialogues, totals: Mapping[str, float]) -> Losses:
        """Return cross-entropy of reference answers, and the divergence from the language model elsewhere.

        `language_change` is the divergence of first turns alone, in nats a token.
        """
        sums: defaultdict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=batch.ids.device))
        at_once = is_sharded(self) or self._real(batch) is not None
        groups = [list(range(len(batch.ids)))] if at_once else batch.of_like_length()
        after: list[RetainedState | None] = []
        for rows in groups:
            before = None if self.carried is None or not batch.first_turn else self.carried.select(rows)
            found, kept = self._sums(batch.select(rows), before)
            after.append(kept)
            for name, each in found.items():
                sums[name] = sums[name] + each
        if self.training:
            self.carried = _in_order(after, groups) if batch.goes_on else None
        figures: dict[str, Tensor] = {}
        total = sums["nothing"]
        if totals["answer"]:
            answer = (sums["values"] + self.settings.wording_weight * sums["words"]) / totals["answer"]
            figures["answer_loss"] = answer.detach()
            figures["value_accuracy"] = sums["correct"].detach() / max(1.0, totals["values"])
            total = total + answer
        if totals["kept"] and self.settings.keep:
            kept_loss = sums["kept"] / totals["kept"]
            figures["keeping_loss"] = kept_loss.detach()
            figures["language_change"] = sums["changed"].detach() / max(1.0, totals["first_turns"])
            total = total + self.settings.keep * kept_loss
        return Losses(total, figures)

    def _sums(self, batch: Dialogues, before: RetainedState | None) -> tuple[dict[str, Tensor], RetainedState | None]:
        """Return sums over the tokens of dialogues, and what the next window needs of them.

        "values", "words": cross-entropy. "correct": values that the model would have said. "kept": divergence from the
        language model, weighed; "changed": that of first turns. "nothing": 0, of which all weights have a gradient.
        """
        with_history = self._with_history(batch)
        weights = self._history_weights(batch, with_history)
        with_history, is_first = batch.in_window(with_history), batch.in_window(batch.turns == 0)
        weights = None if weights is None else batch.in_window(weights)
        window = batch.window
        hidden, after = self._read(window, before)
        sums = {"nothing": hidden.sum() * 0.0}
        sums["values"], sums["correct"] = self._predicted(hidden, window.ids, window.values)
        sums["words"], _ = self._predicted(hidden, window.ids, window.words, weights)
        if self.settings.keep:
            wanted = window.kept[:, 1:]
            divergences = self._divergences(hidden, with_history, wanted)
            each = divergences if weights is None else weights[:, 1:][wanted] * divergences
            sums["kept"], sums["changed"] = each.sum(), divergences.detach()[is_first[:, 1:][wanted]].sum()
        return sums, after

    def states(
        self,
        ids: Tensor,
        turns: Tensor,
        num_tokens: int,
        temperature: float | None,
        real: Tensor | None = None,
    ) -> Tensor:
        """Return what the head reads of whole dialogues, (B, T, D), each turn with what S tokens keep before it.

        Arguments as fields of `Dialogues`; `temperature` as in `ParallelTurns`, `real` as in `states_of_dialogues`.
        """
        seen = ParallelTurns(
            turns, num_tokens=num_tokens, first=self.first, newest=self._newest(num_tokens), temperature=temperature
        )
        return states_of_dialogues(self.model.decoder, ids, real, seen)

    def _real(self, batch: Dialogues, rows: Tensor | slice = ALL) -> Tensor | None:
        """Return True at the tokens of dialogues that are read as one row, as it pays on a CPU; None: they are padded.

        Windows are padded: they follow what was kept by row.
        """
        at_once = batch.ids.device.type == "cpu" and not batch.first_turn and not batch.goes_on
        return batch.turns[rows] >= 0 if at_once else None

    def _newest(self, num_tokens: int) -> int:
        return self.writer.config.newest(num_tokens, self.first)

    def _read(self, window: Dialogues, before: RetainedState | None) -> tuple[Tensor, RetainedState | None]:
        """Return what the head reads of a window after what was kept before it, and what further turns need."""
        assert before is not None or not window.first_turn, "the windows before this one were read"
        if before is None and not window.goes_on:
            given = (window.ids, window.turns, window.num_tokens, self.temperature)
            return self.states(*given, real=self._real(window)), None
        decoder, width = self.model.decoder, window.ids.shape[1]
        positions = decoder.config.max_positions
        most = None if positions is None else max(0, positions - width)
        cache = ParallelTurns(
            window.turns,
            num_tokens=window.num_tokens,
            first=self.first,
            newest=self._newest(window.num_tokens),
            temperature=self.temperature,
            past=None if before is None else before.past.rotated(decoder.rope, most),
            past_scores=None if before is None else before.scores,
            keeps=window.goes_on,
        )
        hidden = decoder.hidden_states(window.ids, None, cache=cache)
        after = self._kept_after(before, window, cache) if window.goes_on and self.training else None
        return hidden, after

    @torch.no_grad()
    def _kept_after(self, before: RetainedState | None, window: Dialogues, cache: ParallelTurns) -> RetainedState:
        """Return what the largest of the sizes keeps after a window; what ends an answer is read with the next."""
        if before is None:
            empty, most = self.writer.first_memory(len(window.ids)).to(window.ids.device), max(self.settings.sizes)
            limits = {"limit": most, "newest": self._newest(most), "first": self.first}
            before = replace(empty, **{name: torch.full_like(empty.limit, each) for name, each in limits.items()})
        written = (window.turns >= 0) & (window.turns < window.turns.max())  # without what ends the last answers
        return before.with_tokens(cache.computed(window.ids, written, self.model.decoder.rope), before.unread)

    def carried_state(self) -> dict[str, Any]:
        """Return what the next window needs of those before it."""
        return {} if self.carried is None else {"memory": self.carried.state_dict()}

    def load_carried_state(self, state: Mapping[str, Any]) -> None:
        """Go on from that."""
        memory = state.get("memory")
        self.carried = None if memory is None else RetainedState.from_tensors(memory["tensors"]).to(self.device)

    def _with_history(self, batch: Dialogues) -> Tensor:
        """Return what the language model's head reads of the dialogues in which it is asked, (B, T, D); 0 in others."""
        rows = self._asked(batch)
        found = batch.ids.new_zeros(*batch.ids.shape, self.model.decoder.config.dim, dtype=self.model.dtype)
        if rows.any():
            read = self.language_model.states(batch.ids[rows], self._real(batch, rows))
            found[rows] = read.to(found.dtype)
        return found

    def _weighed(self, batch: Dialogues) -> Tensor:
        """Return True at tokens at which the language model is asked, (B, T)."""
        return batch.kept if self.settings.history_weight is None else batch.kept | batch.words

    def _asked(self, batch: Dialogues) -> Tensor:
        """Return True at the dialogues that the language model reads, (B,)."""
        rows = self._weighed(batch).any(dim=1)
        if is_sharded(self):  # all processes compute the same layers
            rows[0] = True
        return rows

    def _history_weights(self, batch: Dialogues, with_history: Tensor) -> Tensor | None:
        """Return the weights of tokens by what the history is worth to them, (B, T); None: all weigh 1."""
        most, marked = self.settings.history_weight, self._weighed(batch)
        if most is None:
            return None
        weights, rows = torch.ones_like(batch.ids, dtype=torch.float), self._asked(batch)
        if rows.any():
            given = (batch.ids[rows], batch.turns[rows], marked[rows], with_history[rows], self._real(batch, rows))
            weights[rows] = self.language_model.history_weights(*given, first=self.first, most=most)
        return weights

    def _predicted(
        self, hidden: Tensor, ids: Tensor, marked: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss of the tokens that are marked, and how many the model would have chosen."""
        head, wanted = self.model.decoder.head, marked[:, 1:]
        read, targets = hidden[:, :-1][wanted], ids[:, 1:][wanted]
        if weights is None:
            return head(read, targets)
        loss, correct, weighs = read.new_zeros(()), read.new_zeros(()), weights[:, 1:][wanted]
        for part in self.language_model.parts(len(targets)):
            logits = head(read[part]).float()
            loss = loss + weighs[part] @ F.cross_entropy(logits, targets[part], reduction="none")
            correct = correct + (logits.argmax(-1) == targets[part]).sum()
        return loss, correct

    def _divergences(self, hidden: Tensor, with_history: Tensor, wanted: Tensor) -> Tensor:
        """Return the divergence from the language model with its full history at each token that is wanted, in nats."""
        read, own = hidden[:, :-1][wanted], with_history[:, :-1][wanted]
        return self.language_model.divergences(self.model.decoder, read, own)

    def diagnose(self, batch: Dialogues) -> dict[str, Any]:
        """Measure how S and T were, and how visible earlier tokens are."""
        return {"retention/tokens": float(batch.num_tokens), "retention/temperature": self.temperature or 0.0}


def _in_order(states: Sequence[RetainedState | None], groups: Sequence[Sequence[int]]) -> RetainedState:
    """Return what groups of rows keep as one batch, in the order of the rows."""
    rows = [row for group in groups for row in group]
    whole = RetainedState.concatenate([state for state in states if state is not None])
    return whole.select([rows.index(row) for row in range(len(rows))])


def _layers(decoder: RxTDecoder) -> list[TransformerLayer]:
    return cast(list[TransformerLayer], list(decoder.layers))


def _gate_of(layer: TransformerLayer) -> list[nn.Parameter]:
    return [] if layer.retention_gate is None else list(layer.retention_gate.parameters())
