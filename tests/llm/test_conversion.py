"""Llama- and Qwen-style checkpoints become models with fewer query heads; with none left out, nothing changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from language_models import spread, tokens
from pretrained_models import STRETCHED
from rxlm.llm.conversion import from_gqa
from rxlm.nn.pretrained import UnsupportedModelError

BASE = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
MODELS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**BASE)),
    "llama 3 with biases": lambda: LlamaForCausalLM(
        LlamaConfig(**BASE, attention_bias=True, rope_parameters=STRETCHED, max_position_embeddings=512)
    ),
    "qwen2, tied": lambda: Qwen2ForCausalLM(Qwen2Config(**BASE, tie_word_embeddings=True)),
    "qwen3, wide heads": lambda: Qwen3ForCausalLM(Qwen3Config(**BASE, head_dim=32)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**BASE, sliding_window=6)),
}


def saved(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    spread(model)
    model.save_pretrained(folder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_without_reduction_the_model_computes_the_same(name: str, tmp_path: Path) -> None:
    source = saved(name, tmp_path)
    converted = from_gqa(tmp_path)
    ids = tokens(3, 40)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0

    torch.testing.assert_close(converted(ids).logits, source(ids).logits, atol=1e-4, rtol=1e-4)
    wanted, found = (model(ids, attention_mask=mask).logits for model in (source, converted))
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], atol=1e-4, rtol=1e-4)
    prompt = {"attention_mask": mask[:, :9], "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(converted.generate(ids[:, :9], **prompt), source.generate(ids[:, :9], **prompt))


@torch.no_grad()
@pytest.mark.parametrize("method", ["keep", "pool"])
def test_query_heads_that_are_alike_can_be_left_out(method: Any, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    for layer in source.model.layers:
        heads = layer.self_attn.q_proj.weight.unflatten(0, (4, 2, 8))
        heads[:, 1] = heads[:, 0]
        if method == "keep":  # what is dropped must write nothing
            layer.self_attn.o_proj.weight.unflatten(1, (4, 2, 8))[:, :, 1] = 0
    source.save_pretrained(tmp_path)
    converted = from_gqa(tmp_path, query_heads=4, method=method)
    ids = tokens(2, 20)

    assert converted.config.num_query_heads == converted.config.num_key_value_heads == 4
    torch.testing.assert_close(converted(ids).logits, source(ids).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_heads_that_write_most_are_kept(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    for layer in source.model.layers:
        layer.self_attn.o_proj.weight.unflatten(1, (4, 2, 8))[:, :, 0] *= 0.01
    source.save_pretrained(tmp_path)
    layers = from_gqa(tmp_path, query_heads=4, method="keep").model.layers

    for layer, before in zip(layers, source.model.layers, strict=True):
        written = before.self_attn.o_proj.weight.unflatten(1, (4, 2, 8))[:, :, 1].flatten(1)
        assert torch.equal(layer.attention.out_proj.weight, written)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [({"attention": "sqa"}, (4, 2)), ({"attention": "xsqa"}, (2, 2)), ({"query_heads": 4, "kv_heads": 1}, (4, 1))],
)
def test_a_converted_model_has_the_heads_asked_for(counts: Any, wanted: Any, tmp_path: Path) -> None:
    saved("qwen3, wide heads", tmp_path)
    model = from_gqa(tmp_path, **counts)

    assert (model.config.num_query_heads, model.config.num_key_value_heads) == wanted
    loss = model(tokens(2, 9), labels=tokens(2, 9)).loss
    loss.backward()
    assert torch.isfinite(loss)


def test_what_cannot_be_converted_is_explained(tmp_path: Path) -> None:
    saved("llama", tmp_path / "llama")
    for counts, message in (
        ({"query_heads": 3}, "query_heads must divide the model's 8, or be a multiple of it; got 3"),
        ({"query_heads": 16}, "query_heads must be at most the model's 8, got 16"),
        ({"query_heads": 2}, "query_heads must be a multiple of kv_heads, got 2 and 4"),
        ({"attention": "sqa", "kv_heads": 2}, "not both"),
        ({"method": "mix"}, "method must be one of keep, pool, got 'mix'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_gqa(tmp_path / "llama", **counts)
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(UnsupportedModelError, match="type 'gpt2' is not supported; llama, mistral, qwen2, qwen3 are"):
        from_gqa(tmp_path / "gpt2")
