"""The Reactive Transformer as pure functions: memory goes in as an argument and comes out as a result.

Shapes: B conversations, T tokens, L memory layers, S slots, D model dimension, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from rxlm.config import Config, ConfigError, require
from rxlm.memory import FinishedTurn, MemoryAttentionConfig, MemoryConfig, MemoryReading, MemoryState
from rxlm.memory.slots.config import MemoryAttentionVariant
from rxlm.nn.past import ComputedTurn
from rxlm.rxt import published
from rxlm.rxt.config import DecoderConfig, EncoderConfig, RxTAlphaTokenizerConfig
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.decoding import Column, generate
from rxlm.rxt.encoder import RxTEncoder
from rxlm.rxt.hub import HubModule
from rxlm.rxt.memory_attention import build_memory_writer
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig
from rxlm.seeds import Seed


class RxTModel(HubModule):
    """Reactive Transformer: a decoder that answers from memory, and an encoder and a memory attention that update it.

    The memory is a value: `init_memory`, `decode`, `encode`, `update_memory` and `generate` take it as an argument,
    and what changes it returns the next one.

    Args:
        decoder_config, encoder_config: a `DecoderConfig` and an `EncoderConfig`, or dicts of their fields, of flat ones
            (`RxTComponentConfig`), or of published ones. The encoder's is None for a memory that keeps what the decoder
            computed: such a model has no encoder.
        memory_attention_config: a `MemoryAttentionConfig`, or such a dict.
        tokenizer_config: a `RxTAlphaTokenizerConfig`, or a dict of its fields: the special tokens' ids.
        memory_attention_variant: overrides the variant that `memory_attention_config` names.
        system_prompt_title: heading under which published Beta models expect a system prompt.
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"memory_writer": "memory"}

    engine: str = "torch"
    """What computes the model; see `rxlm.export.engines`, which sets this and the next two."""
    source_digest: str | None = None
    """Digest of the weights that the engine's were rounded from; None: they are those of the model."""
    rounded_digest: str | None = None
    """Digest of the engine's weights, where they depend on the machine that rounded them."""

    def __init__(
        self,
        decoder_config: DecoderConfig | Mapping[str, Any],
        encoder_config: EncoderConfig | Mapping[str, Any] | None,
        memory_attention_config: MemoryConfig | Mapping[str, Any],
        tokenizer_config: RxTAlphaTokenizerConfig | Mapping[str, Any],
        memory_attention_variant: MemoryAttentionVariant | None = None,
        system_prompt_title: str | None = None,
    ) -> None:
        super().__init__()
        decoder_config = DecoderConfig.of(decoder_config)
        encoder_config = None if encoder_config is None else EncoderConfig.of(encoder_config)
        memory_config = _memory(memory_attention_config, memory_attention_variant)
        self.tokenizer_config = self._load_config(tokenizer_config, RxTAlphaTokenizerConfig)
        self.system_prompt_title = system_prompt_title
        _check_fit(decoder_config, encoder_config, memory_config, self.tokenizer_config)
        self.decoder = RxTDecoder(decoder_config)
        self.encoder = None if encoder_config is None else RxTEncoder(encoder_config)
        self.memory_writer = build_memory_writer(memory_config)
        require(
            self.encoder is not None or not self.memory_writer.reads_encoded,
            f"A memory of the kind {memory_config.kind!r} is written from what an encoder makes of a turn: "
            "encoder_config must not be None.",
        )
        window = decoder_config.attention.sliding_window
        require(
            window is None or not self.memory_writer.reads_computed,
            f"A memory of the kind {memory_config.kind!r} keeps tokens of any age, and layers attend to them all: "
            f"decoder_config.attention.sliding_window must be None, got {window}.",
        )
        configs = [decoder_config, memory_config, *([] if encoder_config is None else [encoder_config])]
        self.max_seq_len = min(each.max_seq_len for each in configs)
        self.share_components()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self.decoder.embedding.weight.dtype

    def share_components(self) -> None:
        """Make encoder and decoder use one token embedding.

        The constructor and `from_pretrained` have done it; programs written for the published models call it, and a
        program that exchanges a component must.
        """
        if self.encoder is not None:
            self.encoder.embedding = self.decoder.embedding
        self.decoder.tie_weights()

    # --- memory as a value ---------------------------------------------------------------------------------------

    def init_memory(
        self,
        batch_size: int = 1,
        seed: Seed = None,
        *,
        head: Sequence[int] | None = None,
        memory_tokens: int | None = None,
    ) -> MemoryState:
        """Return the memory that `batch_size` new conversations start from.

        Args:
            batch_size: B.
            seed: as in `seeds.row_generators`.
            head: ids of what stands before the first turn, a system prompt with its form, for memories of a pretrained
                model's tokens, which keep it for good; None: what the model's conversations begin with.
            memory_tokens: tokens S that such a memory keeps; None: as many as the model says.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        memory = self.memory_writer.first_memory(batch_size, seed).to(self.device, self.dtype)
        if memory_tokens is not None:
            memory = self.memory_writer.resized(memory, memory_tokens)
        is_own = head is not None
        head = self.tokenizer_config.conversation_prefix if head is None else tuple(head)
        if not head or not self.memory_writer.reads_computed:
            return memory
        first = memory.select(0)
        ids = torch.tensor([head], device=self.device)
        with torch.no_grad():
            computed = self._computed(first, ids, torch.ones_like(ids, dtype=torch.bool))[1]
            turn = FinishedTurn(ids, None, computed=computed)
            return self.memory_writer.write_head(first, turn, is_own=is_own).select([0] * batch_size)

    def set_memory_tokens(self, count: int) -> None:
        """Let conversations that begin from now on keep `count` tokens; ValueError for a memory that keeps none."""
        self.memory_writer.set_num_tokens(count)

    def decode(self, ids: Tensor, memory: MemoryState | MemoryReading | None, mask: Tensor | None = None) -> Tensor:
        """Return next-token logits (B, T, V) of `ids` (B, T) read with this memory; see `RxTDecoder.forward`."""
        return self.decoder(ids, memory, mask)

    forward = decode

    def encode(self, ids: Tensor, mask: Tensor | None = None, memory: MemoryState | None = None) -> Tensor:
        """Return the encoded data (L, B, T, D) of finished interactions; see `RxTEncoder.forward`.

        ValueError for a model without an encoder.
        """
        return self.needed_encoder()(ids, mask, memory)

    def needed_encoder(self) -> RxTEncoder:
        """Return the encoder, or raise ValueError where the model has none."""
        if self.encoder is None:
            raise ValueError(
                f"This model has no encoder: its memory, of the kind {self.memory_writer.config.kind!r}, keeps what "
                "the decoder computed of a turn."
            )
        return self.encoder

    def read_memory(self, memory: MemoryState) -> MemoryReading:
        """Return the keys and values that the decoder attends to, made once for all tokens of a turn."""
        return self.decoder.read_memory(memory)

    def update_memory(self, memory: MemoryState, ids: Tensor, mask: Tensor | None = None) -> MemoryState:
        """Write finished interactions to the memory.

        Args:
            memory: the memory before, of B conversations.
            ids: the interactions, query and answer with their special tokens, (B, T).
            mask: True at tokens that are not padding, (B, T); None where all are real. A conversation without a
                single token keeps its memory.

        Returns: the memory after; the one before is unchanged. A gradient flows back through both arguments.
        """
        if memory.batch_size != ids.shape[0]:
            raise ValueError(
                f"The memory holds {memory.batch_size} conversations and the token ids {ids.shape[0]} rows."
            )
        mask = None if mask is None else mask.bool()
        writer = self.memory_writer
        if writer.reads_computed:
            return self.write(memory, ids, mask, computed=self.read_turns(memory, ids, mask)[1])
        return self.write(memory, ids, mask, self.encode(ids, mask, memory) if writer.reads_encoded else None)

    def read_turns(self, memory: MemoryState, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ComputedTurn]:
        """Read finished interactions with a memory that keeps what was computed, and write nothing.

        Returns: what the head reads, (B, T', D), of the tokens `ids` (B, T') of what was computed: those that the
        memory left unread, and the interactions' but for their last, padded at the end. `write` takes the second.
        """
        return self._computed(memory, *self.memory_writer.to_compute(memory, ids, mask))

    def _computed(self, memory: MemoryState, ids: Tensor, mask: Tensor) -> tuple[Tensor, ComputedTurn]:
        past = memory.read().past
        assert past is not None
        return self.decoder.compute_turn(past, ids, mask)

    def write(
        self,
        memory: MemoryState,
        ids: Tensor,
        mask: Tensor | None = None,
        encoded: Tensor | None = None,
        computed: ComputedTurn | None = None,
    ) -> MemoryState:
        """Return the memory after finished interactions that are encoded already, (L, B, T, D), or computed.

        The rest is as in `update_memory`, which is this after `encode`, or after the decoder has read them.
        """
        mask = None if mask is None else mask.bool()
        return self.memory_writer.write(memory, FinishedTurn(ids, mask, encoded, computed))

    def generate(
        self,
        prompt: Prompt,
        memory: MemoryState | MemoryReading,
        *,
        sampling: SamplingConfig | None = None,
        max_seq_len: int | None = None,
        ignore_eos: bool = False,
        first_tokens: Sequence[int] | None = None,
        with_log_probs: bool = False,
        seed: Seed = None,
    ) -> Iterator[Column]:
        """Yield the answers to a batch of prompts, a column of tokens a step; memory does not change.

        `max_seq_len` bounds query and answer together (the model's own limit when None); `ignore_eos` goes
        on to that limit through [EOS]. See `rxt.decoding.generate`.
        """
        return generate(
            self.decoder,
            prompt,
            memory,
            sampling=sampling or SamplingConfig(),
            max_length=self.length_limit(max_seq_len),
            pad_token_id=self.tokenizer_config.pad_token_id,
            stop_tokens=() if ignore_eos else (self.tokenizer_config.eos_token_id,),
            first_tokens=first_tokens,
            with_log_probs=with_log_probs,
            seed=seed,
        )

    def length_limit(self, max_seq_len: int | None) -> int:
        """Return the limit on query and answer together, checked against the model's."""
        limit = self.max_seq_len if max_seq_len is None else max_seq_len
        if not 1 <= limit <= self.max_seq_len:
            raise ValueError(f"max_seq_len must be between 1 and the model's {self.max_seq_len}, got {limit}.")
        return limit

    # --- saving and loading --------------------------------------------------------------------------------------

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.engine != "torch":
            raise ConfigError(
                f"The model computes with the engine {self.engine}, which has no weights to save: save it before "
                "`use_engine`, or write it for the engine with `rxlm export`."
            )
        super()._save_pretrained(save_directory)

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the tokenizer, as plain values."""
        return {
            "decoder_config": self.decoder.config.to_dict(),
            "encoder_config": None if self.encoder is None else self.encoder.config.to_dict(),
            "memory_attention_config": _plain(self.memory_writer.config),
            "tokenizer_config": self.tokenizer_config.to_dict(),
            "system_prompt_title": self.system_prompt_title,
        }

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a model from what `config_dict` returned."""
        variant = values["memory_attention_config"].get("variant")
        return cls(**values, memory_attention_variant=variant)

    def stored_ties(self) -> Mapping[str, str]:
        """Second names of shared weights."""
        ties = {f"decoder.{name}": f"decoder.{stored}" for name, stored in self.decoder.stored_ties().items()}
        if self.encoder is not None:
            ties["encoder.embedding.weight"] = "decoder.embedding.weight"
        return ties

    def tie_weights(self) -> None:
        """Make shared weights one parameter again, after loading."""
        self.share_components()


def _plain(memory: MemoryConfig) -> dict[str, Any]:
    """Return a memory's configuration as plain values, which name the kind where it is not the papers'."""
    named = {} if isinstance(memory, MemoryAttentionConfig) else {"kind": memory.kind}
    return {**named, **memory.to_dict()}


def _memory(values: MemoryConfig | Mapping[str, Any], variant: MemoryAttentionVariant | None) -> MemoryConfig:
    if isinstance(values, MemoryConfig):
        return values.replace(variant=variant) if variant else values
    if published.is_component(values):
        values = published.memory_attention_config(values, variant or "interlayer")
    values = {**values, **({"variant": variant} if variant else {})}
    kind = values.pop("kind", MemoryAttentionConfig.kind)
    require(kind in MemoryConfig.kinds, f"kind of memory must be one of {', '.join(MemoryConfig.kinds)}, got {kind!r}.")
    return MemoryConfig.kinds[kind].from_dict(values)


def _check_fit(
    decoder: DecoderConfig,
    encoder: EncoderConfig | None,
    memory: MemoryConfig,
    tokens: RxTAlphaTokenizerConfig,
) -> None:
    """Raise `ConfigError` unless the components share the memory's shape and the vocabulary."""
    components: dict[str, Config] = {"decoder": decoder, "memory attention": memory}
    if encoder is not None:
        components["encoder"] = encoder
    shared = {
        "num_layers": ("decoder", "encoder", "memory attention"),
        "dim": ("decoder", "encoder", "memory attention"),
        "num_slots": ("decoder", "memory attention"),
        "vocab_size": ("decoder", "encoder"),
    }
    for name, owners in shared.items():
        values = {owner: getattr(components[owner], name) for owner in owners if hasattr(components.get(owner), name)}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{value} in the {owner}" for owner, value in values.items())
            raise ConfigError(f"{name} must be the same everywhere, got {found}.")
    for name, value in tokens.to_dict().items():
        for token in value if isinstance(value, list) else [value]:
            if token is not None and token >= decoder.vocab_size:
                raise ConfigError(
                    f"tokenizer_config.{name} is {token}, outside of the vocabulary of {decoder.vocab_size}."
                )
