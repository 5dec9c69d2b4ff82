"""A stateless `transformers` Llama of the same active size, in a bare decode loop: no overhead of `generate`."""

import time

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import Cache, DynamicLayer

from rxlm.rxt.accounting import decoding_parameters
from rxlm.rxt.models import RxTAlpha

Cost = tuple[float | None, float | None, int | None, str]
"""Time to the first token in ms, tokens a second, bytes kept, and why a turn was left out."""

BYTES_OF_A_TOKEN_ID = 4


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer with room for tokens to come.

    `DynamicCache` copies all it holds for each new token and `StaticCache` attends to its empty places: next to
    either, this makes the Llama faster.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:2], self.capacity, key_states.shape[3])
            self.room = key_states.new_empty(shape), value_states.new_empty(shape)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values


class LlamaPeer:
    """A Llama with the RxT's vocabulary, width, layers, key/value heads and, by its feed-forward, active size.

    Args:
        model: the RxT to match.
        turn_tokens, query_tokens: tokens of a turn, and of the query in it.
        max_turns: turns that its positions must suffice for.
    """

    def __init__(self, model: RxTAlpha, turn_tokens: int, query_tokens: int, max_turns: int) -> None:
        config = model.decoder.config
        dim, layers, heads = config.dim, len(model.decoder.layers), config.attention.num_heads
        kv_heads = config.attention_heads[1]
        self.turn_tokens, self.query_tokens, self.vocab_size = turn_tokens, query_tokens, config.vocab_size
        head = dim * config.vocab_size
        attention = 2 * dim * dim + 2 * dim * dim * kv_heads // heads
        hidden = round(((decoding_parameters(model) - head) / layers - attention) / (3 * dim) / 8) * 8
        self.llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=dim,
                intermediate_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                max_position_embeddings=(max_turns + 1) * turn_tokens,
                tie_word_embeddings=False,
                attn_implementation="sdpa",
            )
        ).eval()
        embedding = self.llama.get_input_embeddings().weight.numel()
        self.active_parameters = sum(parameter.numel() for parameter in self.llama.parameters()) - embedding

    @torch.no_grad()
    def reread(self, turn: int, limit_gigabytes: float) -> Cost:
        """Answer turn number `turn` (from 1) by reading all turns before it again."""
        history = (turn - 1) * self.turn_tokens
        if reason := self._too_large(history, limit_gigabytes):
            return None, None, None, reason
        prompt = self._random_ids(history + self.query_tokens)
        kept = BYTES_OF_A_TOKEN_ID * (history + self.turn_tokens)
        return *self._answer(prompt, self._new_cache(history)), kept, ""

    @torch.no_grad()
    def keep_cache(self, turn: int, limit_gigabytes: float) -> Cost:
        """Answer turn number `turn` with the keys and values of the turns before at hand; random ones take as long."""
        history = (turn - 1) * self.turn_tokens
        if reason := self._too_large(history, limit_gigabytes):
            return None, None, None, reason
        cache, config = self._new_cache(history), self.llama.config
        if history:
            shape = (1, config.num_key_value_heads, history, config.hidden_size // config.num_attention_heads)
            for layer in range(config.num_hidden_layers):
                cache.update(torch.randn(shape), torch.randn(shape), layer)
        kept = self._cache_bytes(history + self.turn_tokens)
        return *self._answer(self._random_ids(self.query_tokens), cache), kept, ""

    def _new_cache(self, history: int) -> Cache:
        return Cache([RoomyLayer(history + self.turn_tokens) for _ in range(self.llama.config.num_hidden_layers)])

    def _answer(self, prompt: Tensor, cache: Cache) -> tuple[float, float]:
        started = time.perf_counter()
        token = self._next(prompt, cache)
        first = time.perf_counter()
        count = self.turn_tokens - self.query_tokens - 1
        for _ in range(count):
            token = self._next(token, cache)
        return 1e3 * (first - started), count / (time.perf_counter() - first)

    def _next(self, ids: Tensor, cache: Cache) -> Tensor:
        logits = self.llama(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    def _cache_bytes(self, tokens: int) -> int:
        config = self.llama.config
        width = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
        return 2 * 4 * config.num_hidden_layers * width * tokens

    def _too_large(self, history: int, limit_gigabytes: float) -> str:
        needed = self._cache_bytes(history + self.turn_tokens) / 1e9
        return f"needs {needed:.1f} GB" if needed > limit_gigabytes else ""

    def _random_ids(self, tokens: int) -> Tensor:
        return torch.randint(self.vocab_size, (1, tokens))
