"""A pretrained chat model becomes a Reactive Transformer that keeps the tokens it will need.

Its layers are the decoder, its memory what their self-attention computed of earlier turns. Nothing of the model
changes: until a conversation is longer than its memory, it answers as the language model does that is given the whole
history (law 10). Afterwards the first tokens and the newest are kept, until training has taught the gates what else
to keep.
"""

from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig

from rxlm.config import require
from rxlm.file_errors import placed
from rxlm.memory.retained.config import RetainedMemory, RetainedMemoryConfig
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.feed_forward import FeedForwardConfig
from rxlm.nn.llama_shape import LlamaShape
from rxlm.nn.pretrained import Pretrained, layer_weights
from rxlm.rxt.chat_template import answer_end, conversation_form
from rxlm.rxt.config import DecoderConfig, RxTAlphaTokenizerConfig
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import DEFAULT_SAMPLING, SamplingConfig

REPETITION_PENALTY = 1.1
"""Of conversations, where a language model's own configuration has no higher one."""
LONGEST_TURN = 2048
"""Tokens of the longest turn, unless a model's positions or the caller say less."""


def upcycle(
    model: str | Path,
    *,
    memory_tokens: int = 128,
    max_seq_len: int | None = None,
    system: str | None = None,
    gates: RetentionGateConfig | None = None,
) -> RxTAlpha:
    """Return a Reactive Transformer made of a Llama- or Qwen-style chat model, with its tokenizer.

    Args:
        model: folder, hub id or GGUF file of the language model.
        memory_tokens: tokens S that each key/value head keeps of a conversation.
        max_seq_len: longest turn in tokens; None: a quarter of the model's positions, at most 2,048.
        system: a system prompt that every conversation begins with; None: what the chat template writes of its own.
        gates: the layers' retention gates, which are to be trained; None: none, the newest tokens are kept.

    Raises `UnsupportedModelError` for a model of another kind, and `ChatTemplateError` where its tokenizer gives turns
    no form.
    """
    with placed(model):
        return _upcycled(Pretrained(model), memory_tokens, max_seq_len, system, gates)


def _upcycled(
    pretrained: Pretrained,
    memory_tokens: int,
    max_seq_len: int | None,
    system: str | None,
    gates: RetentionGateConfig | None,
) -> RxTAlpha:
    shape = pretrained.shape
    positions = min(shape.max_positions, shape.sliding_window or shape.max_positions)
    longest = min(LONGEST_TURN, max(1, positions // 4)) if max_seq_len is None else max_seq_len
    require(
        1 <= longest <= positions // 2,
        f"max_seq_len must be between 1 and half of the language model's {positions} positions, got {longest}.",
    )
    form, end = conversation_form(pretrained.tokenizer, system), answer_end(pretrained.tokenizer)
    shortest = len(form.before_query) + len(form.before_answer) + 2
    require(
        longest >= shortest,
        f"max_seq_len must be at least {shortest}, got {longest}: the chat template's form of a turn takes "
        f"{shortest - 2} tokens, and a query and an answer need one each.",
    )
    unread = 1 + len(end)  # tokens of the turn before that are read with a turn
    memory = memory_config(shape, longest, memory_tokens, end, keeps_prefix=system is not None)
    decoder = decoder_config(pretrained, longest + unread, positions, gates)
    made = RxTAlpha(decoder, None, memory, form, sampling=default_sampling(pretrained.model.generation_config))
    take_weights(made, pretrained)
    made.set_tokenizer(pretrained.tokenizer)
    return made.eval()


def with_gates(model: RxTAlpha, gates: RetentionGateConfig | None = None, seed: int = 0) -> RxTAlpha:
    """Return an upcycled model whose layers have retention gates: itself, where they have, or one with its weights.

    New gates let nothing change at first: all scores are zero. `gates` None: those that there are, or one score a head.
    Raises `ConfigError` where the model has other gates than `gates`.
    """
    own = model.decoder.config.retention_gate
    if own is not None:
        require(gates in (None, own), f"The model has retention gates already: {own}; it cannot have {gates}.")
        return model
    require(
        isinstance(model.memory_writer, RetainedMemory),
        f"Only a memory that keeps tokens has retention gates, got one of the kind {model.memory_writer.config.kind}.",
    )
    values = model.config_dict()
    values["decoder_config"] = model.decoder.config.replace(retention_gate=gates or RetentionGateConfig())
    torch.manual_seed(seed)
    gated = RxTAlpha.from_config_dict(values)
    gated.load_state_dict(model.state_dict(), strict=False)
    gated.set_tokenizer(model.needed_tokenizer())
    return gated.to(model.device, model.dtype).eval()


def default_sampling(generation: GenerationConfig) -> SamplingConfig:
    """Return how conversations sample: as the language model's own configuration says, with a repetition penalty.

    With its history in view a small chat model answers an early message again and again; a penalty on the tokens that
    the memory keeps prevents that.
    """
    own = {name: getattr(generation, name, None) for name in ("temperature", "top_k", "top_p", "min_p")}
    given = {name: value for name, value in own.items() if value} if generation.do_sample else {}
    penalty = getattr(generation, "repetition_penalty", None) or 1.0
    return DEFAULT_SAMPLING.replace(**given, repetition_penalty=max(penalty, REPETITION_PENALTY))


def without_weights(
    model: str | Path, *, memory_tokens: int, max_seq_len: int, gates: RetentionGateConfig | None = None
) -> RxTAlpha:
    """Return what `upcycle` would, of a model's configuration alone: its weights are not there (on device "meta")."""
    with placed(model), torch.device("cpu"):
        pretrained = Pretrained(model)
        shape, form = pretrained.shape, RxTAlphaTokenizerConfig()
        memory = memory_config(shape, max_seq_len, memory_tokens, (form.eos_token_id,))
        decoder = decoder_config(pretrained, max_seq_len, shape.max_positions, gates)
    with torch.device("meta"):
        return RxTAlpha(decoder, None, memory, form)


def memory_config(
    shape: LlamaShape, max_seq_len: int, num_tokens: int, answer_end: tuple[int, ...], *, keeps_prefix: bool = False
) -> RetainedMemoryConfig:
    """Return the configuration of a memory of what a language model's layers compute.

    What a chat template writes of its own before the first turn is dropped like other tokens: it would take a third of
    a small memory.
    """
    return RetainedMemoryConfig(
        num_layers=shape.num_layers,
        dim=shape.dim,
        max_seq_len=max_seq_len,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        num_tokens=num_tokens,
        keeps_prefix=keeps_prefix,
        newest_share=0.4,  # natural dialogue leans on its newest turns (dev/LOG.md)
        answer_end=answer_end,
    )


def decoder_config(
    pretrained: Pretrained, max_seq_len: int, max_positions: int, gates: RetentionGateConfig | None
) -> DecoderConfig:
    """Return the configuration of a decoder whose layers are the language model's."""
    shape = pretrained.shape
    return DecoderConfig(
        num_layers=shape.num_layers,
        vocab_size=shape.vocab_size,
        dim=shape.dim,
        max_seq_len=max_seq_len,
        max_positions=max_positions,
        attention=AttentionConfig(
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            qk_norm=shape.qk_norm,
            qkv_bias=shape.qkv_bias,
            out_bias=shape.out_bias,
        ),
        memory_reader=None,
        retention_gate=gates,
        feed_forward=FeedForwardConfig(ff_dim=shape.ff_dim, activation=shape.activation),
        norm_eps=shape.norm_eps,
        tie_head=shape.tied_head,
        rope_base=float(shape.rope.get("rope_theta", 10000.0)),
        rope_frequencies=pretrained.rope_frequencies(),
    )


@torch.no_grad()
def take_weights(model: RxTAlpha, pretrained: Pretrained) -> None:
    """Put the language model's weights into the decoder, in their own floating-point type."""
    decoder, shape, weights = model.decoder, pretrained.shape, pretrained.model.state_dict()
    found: dict[str, Tensor] = {
        "embedding.weight": weights["model.embed_tokens.weight"],
        "final_norm.weight": weights["model.norm.weight"],
        "head.weight": weights["lm_head.weight"],
    }
    for number in range(shape.num_layers):
        layer = layer_weights(weights, number, shape, pretrained.rope_scale())
        found |= {f"layers.{number}.{name}": value for name, value in layer.items()}
    missing, unknown = decoder.load_state_dict(found, strict=False)
    left = [name for name in missing if ".retention_gate." not in name]
    assert not left, left
    assert not unknown, unknown
