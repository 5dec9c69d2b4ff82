"""The Reactive Transformer models: `RxTAlpha`, `RxTBeta`, and their components by the names the papers use."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedTokenizerFast

from rxlm.config import ConfigError
from rxlm.memory import MemoryConfig
from rxlm.memory.slots.config import MemoryAttentionVariant
from rxlm.rxt.alpha import RxTAlpha, ThinkingMode
from rxlm.rxt.config import (
    DecoderConfig,
    EncoderConfig,
    RxTAlphaTokenizerConfig,
    RxTComponentConfig,
    RxTInterlayerMemoryAttentionConfig,
)
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.encoder import RxTEncoder
from rxlm.rxt.memory_attention import RxTMemoryAttention
from rxlm.rxt.turn_engine import Opening

__all__ = [
    "RxTAlpha",
    "RxTAlphaTokenizerConfig",
    "RxTBeta",
    "RxTComponentConfig",
    "RxTDecoder",
    "RxTEncoder",
    "RxTInterlayerMemoryAttentionConfig",
    "RxTMemoryAttention",
]


class RxTBeta(RxTAlpha):
    """Reactive Transformer with gated self/interlayer memory attention, which can think before it answers.

    Arguments as `RxTAlpha`'s; the variant is `self-interlayer` unless an argument says otherwise, or the memory
    attention is configured as `grouped-self-interlayer`.

    A turn is `[Q]query[A]answer` or `[Q]query[T]thought[A]answer`. `thinking_mode` of `interact` chooses: `fast`
    answers at once, `extended` thinks first, `auto` leaves it to the model.
    """

    thinks: ClassVar[bool] = True

    def __init__(
        self,
        decoder_config: DecoderConfig | Mapping[str, Any],
        encoder_config: EncoderConfig | Mapping[str, Any] | None,
        memory_attention_config: MemoryConfig | Mapping[str, Any],
        tokenizer_config: RxTAlphaTokenizerConfig | Mapping[str, Any],
        tokenizer: PreTrainedTokenizerFast | None = None,
        memory_attention_variant: MemoryAttentionVariant | None = None,
        system_prompt_title: str | None = None,
    ) -> None:
        if memory_attention_variant is None:
            memory_attention_variant = _beta_variant(memory_attention_config)
        super().__init__(
            decoder_config,
            encoder_config,
            memory_attention_config,
            tokenizer_config,
            tokenizer,
            memory_attention_variant,
            system_prompt_title,
        )
        if self.tokenizer_config.think_token_id is None:
            raise ConfigError("RxTBeta needs tokenizer_config.think_token_id, the id of [T]; it is None.")

    def opening(self, thinking_mode: ThinkingMode | None) -> Opening:
        """Return how an answer begins: with [A], with [T], or with the one that the model prefers (None: auto)."""
        think, answer = self.tokenizer_config.think_token_id, self.tokenizer_config.answer_token_id
        assert think is not None
        assert answer is not None
        openings = {
            "fast": Opening(appended=(answer,), shown=True),
            "extended": Opening(appended=(think,), shown=True),
            "auto": Opening(choices=(think, answer)),
        }
        mode = thinking_mode or "auto"
        if mode not in openings:
            raise ValueError(f"thinking_mode must be one of {', '.join(openings)}, got {thinking_mode!r}.")
        return openings[mode]


KINDS: Mapping[str, type[RxTAlpha]] = {kind.__name__: kind for kind in (RxTAlpha, RxTBeta)}
"""The models, by the name that a checkpoint has them under."""


def _beta_variant(config: MemoryConfig | Mapping[str, Any]) -> MemoryAttentionVariant:
    given = config.get("variant") if isinstance(config, Mapping) else getattr(config, "variant", None)
    return "grouped-self-interlayer" if given == "grouped-self-interlayer" else "self-interlayer"
