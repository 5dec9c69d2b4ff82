"""Small language models of `transformers` with random weights and a chat template, saved for tests."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.tokenizer import train_tokenizer

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<s>system\nBe kind.<e>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<s>' + message['role'] + '\n' + message['content'] + '<e>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
BASE = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 7,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 64}


def chat_tokenizer(vocab_size: int = 1500) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words with a chat template of the ChatML kind."""
    texts = texts_of(FactGenerator(FactsConfig(variety="full")).dialogues(300))
    trained = train_tokenizer([*texts, *["user assistant system"] * 9], vocab_size)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained.backend_tokenizer, eos_token="<e>", pad_token="<e>")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<s>", "<none>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


WIDE = {"hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS: dict[str, Any] = {
    "llama": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, **BASE)),
    "llama, wide": lambda size: LlamaForCausalLM(LlamaConfig(vocab_size=size, **{**BASE, **WIDE})),
    "llama 3, tied, biased": lambda size: LlamaForCausalLM(
        LlamaConfig(vocab_size=size, **BASE, attention_bias=True, rope_parameters=STRETCHED, tie_word_embeddings=True)
    ),
    "llama, yarn, biased": lambda size: LlamaForCausalLM(
        LlamaConfig(vocab_size=size, **BASE, attention_bias=True, rope_parameters=YARN)
    ),
    "qwen3, yarn": lambda size: Qwen3ForCausalLM(
        Qwen3Config(vocab_size=size, **{**BASE, "head_dim": 16}, rope_parameters=YARN)
    ),
    "qwen2": lambda size: Qwen2ForCausalLM(Qwen2Config(vocab_size=size, **BASE)),
    "qwen3": lambda size: Qwen3ForCausalLM(Qwen3Config(vocab_size=size, **{**BASE, "head_dim": 16})),
}


def save_language_model(kind: str, folder: Path) -> Any:
    """Save a model of a kind with its tokenizer, and return it."""
    tokenizer = chat_tokenizer()
    torch.manual_seed(0)
    model = KINDS[kind](len(tokenizer) + 8).eval()  # vocabularies are often larger than their tokenizer
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # norms and biases that are not ones and zeros
                parameter.normal_(mean=0.0 if "bias" in name else 1.0, std=0.3)
            else:
                parameter.mul_(3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
