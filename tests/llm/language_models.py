"""Small language models with random weights, for tests."""

from typing import Any

import torch

from rxlm.llm import DecoderLMConfig, DecoderLMForCausalLM

SHAPE = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def language_model(seed: int = 0, **changes: Any) -> DecoderLMForCausalLM:
    """A model whose attention depends on what it sees: weights are larger than first ones are."""
    torch.manual_seed(seed)
    model = DecoderLMForCausalLM(DecoderLMConfig(**{**SHAPE, **changes}))
    spread(model)
    return model.eval()


@torch.no_grad()
def spread(model: torch.nn.Module) -> None:
    """Draw weights that make attention sharp, and norms and biases that are not ones and zeros."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.normal_(mean=0.0 if "bias" in name else 1.0, std=0.3)
        elif "embed" not in name:
            parameter.normal_(std=0.1)


def tokens(rows: int, count: int, seed: int = 0) -> torch.Tensor:
    """Random ids that are no special tokens, (rows, count)."""
    return torch.randint(10, SHAPE["vocab_size"], (rows, count), generator=torch.Generator().manual_seed(seed))
