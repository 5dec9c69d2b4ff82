"""Tiny models with a tokenizer, for tests that take or return text."""

from functools import cache

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.data.tokenizer import train_tokenizer
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.rxt.config import DecoderConfig, RxTAlphaTokenizerConfig, RxTComponentConfig
from rxlm.rxt.models import RxTAlpha

SENTENCES = ["My dog is called Rex.", "What is my dog called?", "You are kind.", "Tell me a story about a knight."]


@cache
def tiny_tokenizer(vocab_size: int = 300) -> PreTrainedTokenizerFast:
    """Return a tokenizer trained on four sentences."""
    return train_tokenizer(SENTENCES * 3, vocab_size)


def tiny_text_model(
    kind: type[RxTAlpha] = RxTAlpha,
    *,
    max_seq_len: int = 48,
    num_layers: int = 2,
    seed: int = 0,
    system_prompt_title: str | None = None,
) -> RxTAlpha:
    """Return a model of random weights with the tiny tokenizer; RxTBeta for a `kind` that thinks."""
    torch.manual_seed(seed)
    shape = {"num_layers": num_layers, "dim": 16, "num_heads": 2, "num_slots": 4, "max_seq_len": max_seq_len}
    component = RxTComponentConfig(**shape, vocab_size=len(tiny_tokenizer()), ff_dim=24)
    model = kind(
        component,
        component,
        MemoryAttentionConfig(**shape, variant="self-interlayer"),
        RxTAlphaTokenizerConfig(think_token_id=7),
        tokenizer=tiny_tokenizer(),
        system_prompt_title=system_prompt_title,
    )
    return _sharpened(model)


def tiny_retained_model(*, num_tokens: int = 24, max_seq_len: int = 48) -> RxTAlpha:
    """Return a model of random weights whose memory keeps tokens, with the tiny tokenizer."""
    torch.manual_seed(0)
    shape = {"num_layers": 2, "dim": 16, "num_kv_heads": 1}
    decoder = DecoderConfig.of(
        {**shape, "num_heads": 2, "vocab_size": len(tiny_tokenizer()), "ff_dim": 24, "memory_reader": None,
         "retention_gate": RetentionGateConfig(hidden_dim=5), "max_seq_len": max_seq_len + 3}
    )  # fmt: skip
    kept = RetainedMemoryConfig(
        **shape, head_dim=8, max_seq_len=max_seq_len, num_tokens=num_tokens, num_sinks=2, answer_end=(3, 9)
    )
    tokens = RxTAlphaTokenizerConfig(conversation_prefix=(2, 10))
    return _sharpened(RxTAlpha(decoder, None, kept, tokens, tokenizer=tiny_tokenizer()))


@torch.no_grad()
def _sharpened(model: RxTAlpha) -> RxTAlpha:
    """Scale first weights up: an answer of a model as it is built would hardly depend on its memory."""
    for parameter in model.parameters():
        parameter.mul_(3.0)
    return model.eval()
