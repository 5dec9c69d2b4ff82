"""Stateless language models of `transformers` in the benchmark: each turn they read the history again.

Shapes: B dialogues, T tokens, D embedding dimension.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from rxlm.mrq_bench.prompts import History, TemplateName, choose_template
from rxlm.mrq_bench.protocol import (
    Control,
    Queries,
    SumsLosses,
    TurnCost,
    by_dialogue,
    check_batch,
    check_control,
    token_nats,
)
from rxlm.rxt.fingerprint import weights_digest

FULL, NONE = History("full"), History("none")
LOGITS_AT_ONCE = 2**27
"""Losses are computed for so many dialogues at once that there are no more logits than this."""


class CausalLMRespondent(SumsLosses):
    """A causal language model of `transformers` that answers greedily from the conversation so far.

    Args:
        model, tokenizer: the model and its tokenizer.
        history: how much of the conversation it is given. What does not fit its positions is left out, oldest first.
        template: how the conversation is written: the tokenizer's chat template, or a plain one whose answers end
            with their line; "auto" takes the former where there is one.
        max_answer_tokens: an answer ends after so many tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        history: History = FULL,
        template: TemplateName = "auto",
        max_answer_tokens: int = 64,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.history, self.template = history, choose_template(template, tokenizer)
        self.max_answer_tokens = max_answer_tokens
        positions = getattr(model.config, "max_position_embeddings", None)
        if positions is not None and positions <= max_answer_tokens:
            raise ValueError(
                f"max_answer_tokens must leave room in the model's {positions} positions, got {max_answer_tokens}."
            )
        self._limit = None if positions is None else positions - max_answer_tokens
        self._ends = self._end_tokens()
        self._pad = next(
            (number for number in (tokenizer.pad_token_id, *self._ends) if number is not None), 0
        )  # hidden by the mask, whichever it is

    @property
    def controls(self) -> tuple[Control, ...]:
        """All but "never-updated", which is for memories."""
        controls: tuple[Control, ...] = ("none", "empty", "shuffled")
        return controls if self.history == FULL else (*controls, "full-history")

    def describe(self) -> Mapping[str, Any]:
        """Return digests of the weights and of the vocabulary, and how the model is asked."""
        return self._identity

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        vocabulary = json.dumps([sorted(self.tokenizer.get_vocab().items()), self.tokenizer.chat_template])
        return {
            "kind": "transformers",
            "architecture": type(self.model).__name__,
            "weights": weights_digest(self.model),
            "tokenizer": hashlib.sha256(vocabulary.encode()).hexdigest(),
            "history": str(self.history),
            "template": type(self.template).__name__,
            "max_answer_tokens": self.max_answer_tokens,
        }

    def cuts(self, query: str) -> bool:
        """Tell whether a query does not fit the model's positions, even without history."""
        return self._limit is not None and len(self.template.prompt((), query)) > self._limit

    def reset(self, batch_size: int, control: Control = "none") -> None:
        """Begin `batch_size` new dialogues."""
        check_control(control, self)
        check_batch(batch_size, control)
        self._control: Control = control
        self._turns: list[list[tuple[str, str]]] = [[] for _ in range(batch_size)]

    def respond(self, queries: Queries) -> list[str]:
        """Answer the next turn of every dialogue from the history that the control gives."""
        answers = self._answer(queries, self._control)
        own = self._answer(queries, "none") if self._control == "shuffled" else answers
        self.follow(queries, own)
        return answers

    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Put a turn into the history."""
        for turns, query, answer in zip(self._turns, queries, answers, strict=True):
            if query is not None:
                turns.append((query, answer or ""))

    @torch.no_grad()
    def token_losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Tensor]:
        """Return the nats of the answers' tokens, without what ends an answer.

        A history makes room for an answer that is longer than `max_answer_tokens`.
        """
        turns = [
            self._with_answer(row, query, answer or "")
            for row, (query, answer) in enumerate(zip(queries, answers, strict=True))
            if query is not None
        ]
        width = max(len(prompt) + len(end) for prompt, end in turns)
        step = max(1, LOGITS_AT_ONCE // (width * self.model.config.vocab_size))
        nats = torch.cat([self._nats(turns[start : start + step]) for start in range(0, len(turns), step)])
        return by_dialogue(nats, [len(end) for _, end in turns], queries)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the token embeddings of each text, (len(texts), D)."""
        weight = cast(nn.Embedding, self.model.get_input_embeddings()).weight
        rows = []
        for text in texts:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            rows.append(weight[ids].mean(0) if ids else 0 * weight[0])
        return torch.stack(rows).float().cpu()

    def measure(self, query: str, num_tokens: int) -> TurnCost:
        """Read the history and answer against the clock."""
        ids = torch.tensor(self._prompts([query], self._control), device=self.model.device)
        clock = _Clock(self.model.device)
        output = self._generate(ids, torch.ones_like(ids), num_tokens, streamer=clock, min_new_tokens=num_tokens)
        first, last = clock.times[1], clock.times[-1]
        speed = (num_tokens - 1) / (last - first) if num_tokens > 1 else float("nan")
        return TurnCost(first - clock.times[0], speed, None, _cache_bytes(output.past_key_values))

    def _with_answer(self, row: int, query: str, answer: str) -> tuple[list[int], list[int]]:
        """Return the ids of the prompt and of the answer, which fit the model's positions together."""
        end = self.template.answer(answer)
        if self._limit is None:
            return self._prompt(row, query, self._control, None), end
        positions = self._limit + self.max_answer_tokens
        end = end[: positions - 1]
        return self._prompt(row, query, self._control, min(self._limit, positions - len(end))), end

    def _nats(self, turns: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """Return the nats of the tokens of all answers, one after the other."""
        width = max(len(prompt) + len(end) for prompt, end in turns)
        shape = (len(turns), width)
        # Padded at the end: there it is invisible to a causal model.
        ids, mask = torch.full(shape, self._pad), torch.zeros(shape, dtype=torch.long)
        answered = torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, end) in enumerate(turns):
            length = len(prompt) + len(end)
            ids[row, :length], mask[row, :length] = torch.tensor(prompt + end), 1
            answered[row, len(prompt) : length] = True
        ids, mask, answered = (tensor.to(self.model.device) for tensor in (ids, mask, answered))
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        return token_nats(logits[:, :-1][answered[:, 1:]], ids[answered])

    # --- generation ----------------------------------------------------------------------------------------------

    def _answer(self, queries: Queries, control: Control) -> list[str]:
        prompts = self._prompts(queries, control)
        width = max(map(len, prompts))
        # Padded at the start, so that all rows go on at the same place.
        ids = torch.tensor([[self._pad] * (width - len(row)) + row for row in prompts], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=self.model.device)
        output = self._generate(ids, mask, self.max_answer_tokens)
        texts = iter([self._text(row) for row in output.sequences[:, width:].tolist()])
        return ["" if query is None else next(texts) for query in queries]

    @torch.no_grad()
    def _generate(self, ids: Tensor, mask: Tensor, num_tokens: int, **options: Any) -> Any:
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=num_tokens,
            min_new_tokens=options.pop("min_new_tokens", None),
            eos_token_id=self._ends or None,
            pad_token_id=self._pad,
            return_dict_in_generate=True,
        )
        return cast(Any, self.model).generate(input_ids=ids, attention_mask=mask, generation_config=settings, **options)

    def _text(self, ids: list[int]) -> str:
        end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
        text = str(self.tokenizer.decode(ids[: end + 1], skip_special_tokens=True))
        return text.split("\n")[0].strip() if self.template.ends_with_line else text.strip()

    def _prompts(self, queries: Queries, control: Control) -> list[list[int]]:
        return [
            self._prompt(row, query, control, self._limit) for row, query in enumerate(queries) if query is not None
        ]

    def _prompt(self, row: int, query: str, control: Control, limit: int | None) -> list[int]:
        """Return the query after the history that the control gives, in at most `limit` tokens."""
        history = {"empty": NONE, "full-history": FULL}.get(control, self.history)
        turns = self._turns[(row + 1) % len(self._turns) if control == "shuffled" else row]
        return history.prompt(self.template, turns, query, limit)

    def _end_tokens(self) -> list[int]:
        """Return the tokens that end an answer: the model's own, and those with a line's end in them."""
        settings = self.model.generation_config
        own = settings.eos_token_id if settings is not None else None
        own = self.tokenizer.eos_token_id if own is None else own
        ends = set([] if own is None else [own] if isinstance(own, int) else own)
        if self.template.ends_with_line:
            ends.update(n for n in range(len(self.tokenizer)) if "\n" in str(self.tokenizer.decode([n])))
        return sorted(ends)


class _Clock(BaseStreamer):
    """Notes when `generate` hands out the prompt, and then each token."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


def _cache_bytes(cache: Any) -> int:
    """Return the bytes of the keys and values in a cache of `transformers`."""
    layers = getattr(cache, "layers", None) or []
    tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)
