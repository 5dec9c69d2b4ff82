"""A stateless `transformers` Llama of the same active size, in a bare decode loop: no overhead of `generate`."""

import time

import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from rxlm.rxt.accounting import decoding_parameters
from rxlm.rxt.models import RxTAlpha

Cost = tuple[float | None, float | None, int | None, str]
"""Time to the first token in ms, tokens a second, bytes kept, and why a turn was left out."""


class LlamaPeer:
    """A Llama with the RxT's vocabulary, width, number of layers and, by its feed-forward, active size.

    Args:
        model: the RxT to match.
        turn_tokens, query_tokens: tokens of a turn, and of the query in it.
        max_turns: turns that its positions must suffice for.
    """

    def __init__(self, model: RxTAlpha, turn_tokens: int, query_tokens: int, max_turns: int) -> None:
        config = model.decoder.config
        dim, layers, heads = config.dim, len(model.decoder.layers), config.num_heads // 2
        kv_heads = heads // 2
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
        return *self._answer(prompt, DynamicCache(config=self.llama.config)), 8 * history, ""

    @torch.no_grad()
    def keep_cache(self, turn: int, limit_gigabytes: float) -> Cost:
        """Answer turn number `turn` with the keys and values of the turns before at hand; random ones take as long."""
        history = (turn - 1) * self.turn_tokens
        if reason := self._too_large(history, limit_gigabytes):
            return None, None, None, reason
        cache = DynamicCache(config=self.llama.config)
        config = self.llama.config
        if history:
            shape = (1, config.num_key_value_heads, history, config.hidden_size // config.num_attention_heads)
            for layer in range(config.num_hidden_layers):
                cache.update(torch.randn(shape), torch.randn(shape), layer)
        return *self._answer(self._random_ids(self.query_tokens), cache), self._cache_bytes(history), ""

    def _answer(self, prompt: Tensor, cache: DynamicCache) -> tuple[float, float]:
        started = time.perf_counter()
        token = self._next(prompt, cache)
        first = time.perf_counter()
        count = self.turn_tokens - self.query_tokens - 1
        for _ in range(count):
            token = self._next(token, cache)
        return 1e3 * (first - started), count / (time.perf_counter() - first)

    def _next(self, ids: Tensor, cache: DynamicCache) -> Tensor:
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
