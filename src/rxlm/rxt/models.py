"""The Reactive Transformer models: `RxTAlpha`, `RxTBeta`, and their components by the names the papers use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.config import ConfigError
from rxlm.data.tokenizer import load_tokenizer_from_hf_hub
from rxlm.memory.slots.config import MemoryAttentionVariant
from rxlm.rxt import published
from rxlm.rxt.config import RxTAlphaTokenizerConfig, RxTComponentConfig, RxTInterlayerMemoryAttentionConfig
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.encoder import RxTEncoder
from rxlm.rxt.hub import CheckpointError, CheckpointFiles
from rxlm.rxt.interaction import Opening, StatefulInteraction, ThinkingMode
from rxlm.rxt.memory_attention import RxTMemoryAttention

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


class RxTAlpha(StatefulInteraction):
    """Reactive Transformer with everything a program needs: text in and out, a current memory, saving and loading.

    `interact` and its relatives keep one current memory, for programs of one conversation or of one batch of them;
    the pure functions beneath (`RxTModel`) take the memory as an argument.

    Args:
        decoder_config, encoder_config: a `RxTComponentConfig`, or a dict of its fields, or of published ones. Without
            an encoder's (None) the decoder encodes what it has said itself.
        memory_attention_config: a `RxTInterlayerMemoryAttentionConfig`, or such a dict.
        tokenizer_config: a `RxTAlphaTokenizerConfig`, or a dict of its fields: the special tokens' ids.
        tokenizer: a tokenizer, needed by the methods that take or return text.
        memory_attention_variant: overrides the variant that `memory_attention_config` names.
        system_prompt_title: heading under which a model expects a system prompt (published Beta models have one).
    """

    def __init__(
        self,
        decoder_config: RxTComponentConfig | Mapping[str, Any],
        encoder_config: RxTComponentConfig | Mapping[str, Any] | None,
        memory_attention_config: RxTInterlayerMemoryAttentionConfig | Mapping[str, Any],
        tokenizer_config: RxTAlphaTokenizerConfig | Mapping[str, Any],
        tokenizer: PreTrainedTokenizerFast | None = None,
        memory_attention_variant: MemoryAttentionVariant | None = None,
        system_prompt_title: str | None = None,
    ) -> None:
        super().__init__(
            decoder_config,
            encoder_config,
            memory_attention_config,
            tokenizer_config,
            memory_attention_variant,
            system_prompt_title,
        )
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        tokenizer: PreTrainedTokenizerFast | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model from a folder or the hub, in our format or the published one, in evaluation mode.

        `tokenizer` is attached to the model; without one, the checkpoint's own is, where it has one. Further
        arguments as in `HubModule.from_pretrained`. A Beta checkpoint gives a `RxTBeta`, which is a `RxTAlpha` too.
        """
        model = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if tokenizer is None:
            tokenizer = _tokenizer_beside(pretrained_model_name_or_path, kwargs)
        if tokenizer is not None:
            model.set_tokenizer(tokenizer)
        return model

    @classmethod
    def _from_files(cls, files: CheckpointFiles) -> Self:
        config = files.config()
        if published.is_published(config):
            return cls._from_published(config, files)
        kinds = {kind.__name__: kind for kind in (cls, *cls.__subclasses__())}
        kind = kinds.get(str(config.get("architecture")), cls)
        return super(RxTAlpha, kind)._from_files(files)  # type: ignore[return-value]

    @classmethod
    def _from_published(cls, config: Mapping[str, Any], files: CheckpointFiles) -> Self:
        beta = published.is_beta(config)
        if issubclass(cls, RxTBeta) and not beta:
            raise CheckpointError(f"{files.name} holds a RxTAlpha, not a RxTBeta: it has no thinking token.")
        kind = RxTBeta if beta and not issubclass(cls, RxTBeta) else cls
        tensors = files.weights()
        values = published.model_config(config, tensors)
        with torch.device("meta"):
            shape = kind.from_config_dict(values)
        expected = [name for name in shape.state_dict() if name not in shape.stored_ties()]
        weights = published.translate_weights(expected, tensors, values)
        return kind._from_state(values, weights, files.name)  # type: ignore[return-value]


class RxTBeta(RxTAlpha):
    """Reactive Transformer with gated self/interlayer memory attention, which can think before it answers.

    Arguments as `RxTAlpha`'s; the variant is `self-interlayer` unless an argument says otherwise, or the memory
    attention is configured as `grouped-self-interlayer`.

    A turn is `[Q]query[A]answer` or `[Q]query[T]thought[A]answer`. `thinking_mode` of `interact` chooses: `fast`
    answers at once, `extended` thinks first, `auto` leaves it to the model.
    """

    def __init__(
        self,
        decoder_config: RxTComponentConfig | Mapping[str, Any],
        encoder_config: RxTComponentConfig | Mapping[str, Any] | None,
        memory_attention_config: RxTInterlayerMemoryAttentionConfig | Mapping[str, Any],
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


def _beta_variant(config: RxTInterlayerMemoryAttentionConfig | Mapping[str, Any]) -> MemoryAttentionVariant:
    given = config.get("variant") if isinstance(config, Mapping) else config.variant
    return "grouped-self-interlayer" if given == "grouped-self-interlayer" else "self-interlayer"


def _tokenizer_beside(checkpoint: str | Path, options: Mapping[str, Any]) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer that stands beside a checkpoint; None where there is none."""
    download = {
        name: options[name] for name in ("revision", "token", "cache_dir", "local_files_only") if name in options
    }
    try:
        return load_tokenizer_from_hf_hub(str(checkpoint), **download)  # takes a folder, too
    except FileNotFoundError:
        return None
