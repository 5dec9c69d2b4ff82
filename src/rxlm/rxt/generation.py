"""One decode loop for streaming, for batches and for rollouts: it yields a column of tokens a step.

Shapes: B rows, T prompt tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.config import Config, config, require, require_int, require_number
from rxlm.memory.slots.state import MemoryState
from rxlm.rxt.decoder import MemoryReading, RxTDecoder
from rxlm.seeds import Seed, row_generators

# How often the loop asks a GPU whether every row is finished: asking waits for all work under way.
STEPS_BETWEEN_CHECKS = 8


@config
class SamplingConfig(Config):
    """How the next token is chosen from the logits.

    Fields:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens. top_p: keep the fewest of the likeliest tokens that together reach this
            probability (Holtzman et al., 2019). min_p: keep tokens of at least this share of the likeliest one's
            probability (Nguyen et al., 2024). None keeps all; together they apply in this order.
        repetition_penalty: divides positive, multiplies negative logits of tokens that stand in the prompt or the
            answer so far (Keskar et al., 2019); 1 is none.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        require_int(self, "top_k")
        require_number(self, "temperature", "top_p", "min_p", "repetition_penalty")
        require(self.temperature >= 0, f"temperature must not be negative, got {self.temperature}.")
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty must be positive, got {self.repetition_penalty}.",
        )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            require(value is None or 0 < value <= 1, f"{name} must be above 0 and at most 1, got {value}.")


class Column(NamedTuple):
    """One decoding step.

    Fields:
        tokens: (B,).
        active: False at rows that had finished before, whose token is padding, (B,).
        log_probs: log-probability of each token under the whole distribution at the sampling temperature, (B,), where
            it was asked for; it means nothing at rows that had finished.
    """

    tokens: Tensor
    active: Tensor
    log_probs: Tensor | None = None


class Prompt(NamedTuple):
    """A batch of prompts padded at the end: `ids` (B, T) and the number of real tokens of each row."""

    ids: Tensor
    lengths: list[int]

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor | None, pad_token_id: int) -> "Prompt":
        """Move the real tokens of `ids` (B, T), where `mask` (B, T) is True, to the start of each row."""
        if mask is None:
            return cls(ids, [ids.shape[1]] * ids.shape[0])
        if mask.shape != ids.shape:
            raise ValueError(f"The attention mask has shape {tuple(mask.shape)}, the token ids {tuple(ids.shape)}.")
        mask = mask.bool()
        lengths = mask.sum(1).tolist()
        order = (~mask).long().argsort(dim=1, stable=True)
        packed = ids.masked_fill(~mask, pad_token_id).gather(1, order)
        return cls(packed[:, : max(lengths)], lengths)

    def append(self, tokens: Sequence[int], pad_token_id: int) -> "Prompt":
        """Return the prompts with some more tokens at the end of each row."""
        if not tokens:
            return self
        ids = torch.nn.functional.pad(self.ids, (0, len(tokens)), value=pad_token_id)
        places = torch.tensor(self.lengths, device=ids.device)[:, None] + torch.arange(len(tokens), device=ids.device)
        added = torch.tensor(list(tokens), dtype=ids.dtype, device=ids.device).expand(len(self.lengths), -1)
        return Prompt(ids.scatter(1, places, added), [length + len(tokens) for length in self.lengths])

    def complete(self, columns: Sequence[Column], pad_token_id: int) -> tuple[Tensor, Tensor]:
        """Return ids and mask (B, T + steps) of the prompts followed by what was generated."""
        ids = torch.nn.functional.pad(self.ids, (0, len(columns)), value=pad_token_id)
        lengths = torch.tensor(self.lengths, device=ids.device)
        if columns:
            tokens = torch.stack([column.tokens for column in columns], dim=1)
            active = torch.stack([column.active for column in columns], dim=1)
            ends = lengths[:, None] + torch.arange(len(columns), device=ids.device)
            ids = ids.scatter(1, ends, tokens.masked_fill(~active, pad_token_id).to(ids.dtype))
            lengths = lengths + active.sum(1)
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        width = int(lengths.max())
        return ids[:, :width], mask[:, :width]


class Sampler:
    """Chooses the next token of every row; a row's choice depends on its logits, its tokens and its seed only."""

    def __init__(self, sampling: SamplingConfig, prompt: Prompt, vocab_size: int, steps: int, seed: Seed) -> None:
        self.sampling = sampling
        device = prompt.ids.device
        if sampling.temperature > 0:
            rows = [torch.rand(steps, generator=each) for each in row_generators(len(prompt.lengths), seed)]
            self.noise = torch.stack(rows, dim=1).to(device)
        self.seen = None
        if sampling.repetition_penalty != 1.0:
            real = torch.arange(prompt.ids.shape[1], device=device)
            real = real < torch.tensor(prompt.lengths, device=device)[:, None]
            counts = torch.zeros(len(prompt.lengths), vocab_size, device=device)
            self.seen = counts.scatter_add(1, prompt.ids.long(), real.float()) > 0

    def __call__(self, logits: Tensor, step: int) -> Tensor:
        """Return tokens (B,) for logits (B, V) of the given step."""
        if self.seen is not None:
            penalty = self.sampling.repetition_penalty
            penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(self.seen, penalised, logits)
        tokens = logits.argmax(-1) if self.sampling.temperature == 0 else self._draw(logits, self.noise[step])
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _draw(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Invert the cumulative distribution of the kept tokens at `noise` (B,), uniform in [0, 1)."""
        sampling = self.sampling
        choices = None
        if sampling.top_k is not None:
            logits, choices = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
        elif sampling.top_p is not None:
            logits, choices = logits.sort(dim=-1, descending=True, stable=True)
        probabilities = (logits.float() / sampling.temperature).softmax(-1)
        if sampling.top_p is not None:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
        if sampling.min_p is not None:
            floor = sampling.min_p * probabilities.amax(-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < floor, 0.0)
        cumulative = probabilities.cumsum(-1)
        # The last tokens can have probability 0: stay below the total, or the search would run past the kept ones.
        target = noise[:, None] * cumulative[:, -1:] * (1 - 2**-20)
        drawn = torch.searchsorted(cumulative, target, right=True)
        return (drawn if choices is None else choices.gather(1, drawn))[:, 0]


@torch.no_grad()
def generate(
    decoder: RxTDecoder,
    prompt: Prompt,
    memory: MemoryState | MemoryReading,
    *,
    sampling: SamplingConfig,
    max_length: int,
    pad_token_id: int,
    stop_tokens: Sequence[int] = (),
    first_tokens: Sequence[int] | None = None,
    with_log_probs: bool = False,
    seed: Seed = None,
) -> Iterator[Column]:
    """Continue each prompt token by token, all rows at once, from the memory.

    Args:
        prompt: the prompts; a row needs at least one token.
        memory: the memory of these B conversations, or a reading of it.
        max_length: tokens of prompt and answer together after which a row ends.
        stop_tokens: a row ends with the first of these that it produces (they are yielded).
        first_tokens: the only tokens that an answer may begin with; None for all.
        with_log_probs: whether to yield log-probabilities, too.
        seed: see `seeds.row_generators`.

    Yields a `Column` a step, until every row has ended; a row that ended is padded. Rows do not see each other:
    each gives what it would give alone.
    """
    shortest, longest = min(prompt.lengths), max(prompt.lengths)
    if not 0 < shortest <= longest < max_length:
        raise ValueError(
            f"Prompts have {shortest} to {longest} tokens; with room for an answer, "
            f"they must have between 1 and {max_length - 1} (max_seq_len {max_length})."
        )
    device = prompt.ids.device
    steps = max_length - shortest
    reading = memory if isinstance(memory, MemoryReading) else decoder.read_memory(memory)
    cache = decoder.new_cache(len(prompt.lengths), max_length)
    sampler = Sampler(sampling, prompt, decoder.config.vocab_size, steps, seed)
    lengths = torch.tensor(prompt.lengths, device=device)
    room = max_length - lengths
    # Inference mode spares the bookkeeping that gradients need; it ends before a yield, and tokens are made outside
    # of it, for a caller may train on them.
    with torch.inference_mode():
        hidden = decoder.hidden_states(prompt.ids, reading, cache=cache)
        cache.advance_prompt(prompt.lengths)
        last = hidden[torch.arange(len(prompt.lengths), device=device), lengths - 1]
    stops = torch.tensor(stop_tokens, dtype=torch.long, device=device)
    active = torch.ones_like(lengths, dtype=torch.bool)
    for step in range(steps):
        with torch.inference_mode():
            logits = decoder.head(last)
        if step == 0 and first_tokens is not None:
            logits = _only(logits, first_tokens)
        tokens = torch.where(active, sampler(logits, step), pad_token_id)
        yield Column(tokens, active, _log_probs(logits, tokens, sampling) if with_log_probs else None)
        active = active & (room > step + 1) & ~torch.isin(tokens, stops)
        if (device.type == "cpu" or (step + 1) % STEPS_BETWEEN_CHECKS == 0) and not active.any():
            return
        if step + 1 < steps:
            with torch.inference_mode():
                last = decoder.hidden_states(tokens[:, None], reading, cache=cache)[:, 0]
                cache.advance_active(active)


def _log_probs(logits: Tensor, tokens: Tensor, sampling: SamplingConfig) -> Tensor:
    """Return the log-probabilities (B,) of tokens (B,) given logits (B, V), unfiltered."""
    scores = (logits.float() / (sampling.temperature or 1.0)).log_softmax(-1)
    return scores.gather(1, tokens[:, None])[:, 0]


def _only(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    allowed = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    allowed[list(tokens)] = True
    return logits.masked_fill(~allowed, float("-inf"))
