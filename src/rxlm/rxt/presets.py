"""Model sizes by name: `tiny` for a CPU and minutes of training, then the sizes of the RxT papers.

All use sparse query attention, a dense encoder and, but for `tiny`, a decoder with a mixture of experts.
"""

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerFast

from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import FeedForwardConfig
from rxlm.nn.heads import head_counts
from rxlm.nn.moe import ExpertsConfig
from rxlm.rxt.config import DecoderConfig, EncoderConfig, FeedForwardKind, RxTAlphaTokenizerConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.text import token_ids_of


def tiny() -> dict[str, Any]:
    """About 1 M parameters: 2 layers of 128 and 16 slots, `simple` memory attention, the gate that keeps longest."""
    return _preset(
        num_layers=2,
        dim=128,
        vocab_size=1024,
        num_heads=8,
        num_slots=16,
        max_seq_len=64,
        encoder_ff_dim=256,
        feed_forward=FeedForwardConfig(ff_dim=256),
        tie_head=True,
        memory={"variant": "simple", "gate": "content", "initial_memory": "learned"},
    )


def nano() -> dict[str, Any]:
    """About 12 M parameters: 6 layers of 128, interlayer memory attention."""
    return _preset(
        num_layers=6,
        dim=128,
        vocab_size=10000,
        num_heads=8,
        num_slots=256,
        max_seq_len=256,
        encoder_ff_dim=256,
        feed_forward=ExpertsConfig(num_experts=16, experts_per_token=2, ff_dim=192, num_shared_experts=1),
        memory={"variant": "interlayer", "gate": "slot-linear", "initial_memory": "normal"},
    )


def micro() -> dict[str, Any]:
    """About 26 M parameters: 6 layers of 256, interlayer memory attention."""
    return _preset(
        num_layers=6,
        dim=256,
        vocab_size=10000,
        num_heads=8,
        num_slots=256,
        max_seq_len=256,
        encoder_ff_dim=512,
        feed_forward=ExpertsConfig(num_experts=8, experts_per_token=2, ff_dim=352, num_shared_experts=1),
        memory={"variant": "interlayer", "gate": "slot-linear", "initial_memory": "normal"},
    )


def mini() -> dict[str, Any]:
    """About 100 M parameters: 8 layers of 256, interlayer memory attention."""
    return _preset(
        num_layers=8,
        dim=256,
        vocab_size=20000,
        num_heads=16,
        num_slots=256,
        max_seq_len=256,
        encoder_ff_dim=1024,
        feed_forward=ExpertsConfig(num_experts=38, experts_per_token=4, ff_dim=320, num_shared_experts=1),
        memory={"variant": "interlayer", "gate": "slot-linear", "initial_memory": "normal"},
    )


def alpha() -> dict[str, Any]:
    """About 160 M parameters: 12 layers of 256, self-interlayer memory attention of about 5.5 M."""
    return _preset(
        num_layers=12,
        dim=256,
        vocab_size=20000,
        num_heads=16,
        num_slots=256,
        max_seq_len=256,
        encoder_ff_dim=1024,
        feed_forward=ExpertsConfig(num_experts=36, experts_per_token=4, ff_dim=384, num_shared_experts=1),
        memory={"variant": "self-interlayer", "gate": "slot-linear", "initial_memory": "normal"},
    )


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {
    preset.__name__: preset for preset in (tiny, nano, micro, mini, alpha)
}


def preset_config(name: str, tokenizer: PreTrainedTokenizerFast | None = None) -> dict[str, Any]:
    """Return a preset's configuration as `RxTAlpha(**values)` takes it.

    With a tokenizer, the vocabulary has its size and the special tokens have its ids.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; there are {', '.join(PRESETS)}.")
    values = PRESETS[name]()
    if tokenizer is not None:
        for component in ("decoder_config", "encoder_config"):
            values[component] = values[component].replace(vocab_size=len(tokenizer))
        values["tokenizer_config"] = token_ids_of(tokenizer)
    return values


def build_preset(name: str, tokenizer: PreTrainedTokenizerFast | None = None) -> RxTAlpha:
    """Return a model of a preset's size with fresh weights, made for the tokenizer if there is one."""
    return RxTAlpha(**preset_config(name, tokenizer), tokenizer=tokenizer)


def _preset(
    *,
    num_layers: int,
    dim: int,
    vocab_size: int,
    num_heads: int,
    num_slots: int,
    max_seq_len: int,
    encoder_ff_dim: int,
    feed_forward: FeedForwardKind,
    memory: dict[str, Any],
    tie_head: bool = False,
) -> dict[str, Any]:
    """Complete a preset: standard SQA in the decoder, symmetric SQA where whole sequences are computed at once."""
    shared: dict[str, Any] = {"num_layers": num_layers, "dim": dim, "max_seq_len": max_seq_len}
    sparse, symmetric = (
        AttentionConfig(num_heads=num_heads, **head_counts(variant, num_heads)._asdict()) for variant in ("sqa", "ssqa")
    )
    return {
        "decoder_config": DecoderConfig(
            **shared,
            vocab_size=vocab_size,
            num_slots=num_slots,
            attention=sparse,
            memory_reader=sparse,
            feed_forward=feed_forward,
            tie_head=tie_head,
        ),
        "encoder_config": EncoderConfig(
            **shared, vocab_size=vocab_size, attention=symmetric, feed_forward=FeedForwardConfig(ff_dim=encoder_ff_dim)
        ),
        "memory_attention_config": MemoryAttentionConfig(
            **shared, num_slots=num_slots, attention=symmetric.replace(out_bias=True), **memory
        ),
        "tokenizer_config": RxTAlphaTokenizerConfig(),
    }
