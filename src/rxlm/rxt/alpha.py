"""`RxTAlpha`: a Reactive Transformer with text in and out, a current memory, saving and loading."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, SupportsIndex

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from rxlm.data.padding import padded
from rxlm.data.tokenizer import load_tokenizer_from_hf_hub
from rxlm.file_errors import placed
from rxlm.folders import reading
from rxlm.memory import MemoryConfig, MemoryState
from rxlm.memory.slots.config import MemoryAttentionVariant
from rxlm.rxt import published, published_weights
from rxlm.rxt.checkpoint_files import CheckpointError, CheckpointFiles
from rxlm.rxt.config import DecoderConfig, EncoderConfig, RxTAlphaTokenizerConfig
from rxlm.rxt.core import RxTModel
from rxlm.rxt.current_memory import CurrentMemory
from rxlm.rxt.hub import check_layers, reading_config
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.text import TextCodec
from rxlm.rxt.turn_engine import Opening
from rxlm.seeds import Seed

ThinkingMode = Literal["auto", "extended", "fast"]


class RxTAlpha(RxTModel):
    """Reactive Transformer with everything a program needs: text in and out, a current memory, saving and loading.

    `interact` and its relatives keep one current memory, for programs of one conversation or of one batch of them;
    the pure functions beneath (`RxTModel`) take the memory as an argument.

    Args:
        decoder_config, encoder_config: a `DecoderConfig` and an `EncoderConfig`, or dicts of their fields, of flat ones
            (`RxTComponentConfig`), or of published ones. The encoder's is None for a memory that keeps what the decoder
            computed: such a model has no encoder.
        memory_attention_config: a `MemoryAttentionConfig`, or such a dict.
        tokenizer_config: a `RxTAlphaTokenizerConfig`, or a dict of its fields: the special tokens' ids.
        tokenizer: a tokenizer, needed by the methods that take or return text.
        memory_attention_variant: overrides the variant that `memory_attention_config` names.
        system_prompt_title: heading under which a model expects a system prompt (published Beta models have one).
        sampling: how conversations sample answers where nobody says otherwise; a `SamplingConfig`, or a dict of its
            fields.
    """

    thinks: ClassVar[bool] = False
    """Whether answers may begin with a thought."""

    def __init__(
        self,
        decoder_config: DecoderConfig | Mapping[str, Any],
        encoder_config: EncoderConfig | Mapping[str, Any] | None,
        memory_attention_config: MemoryConfig | Mapping[str, Any],
        tokenizer_config: RxTAlphaTokenizerConfig | Mapping[str, Any],
        tokenizer: PreTrainedTokenizerFast | None = None,
        memory_attention_variant: MemoryAttentionVariant | None = None,
        system_prompt_title: str | None = None,
        sampling: SamplingConfig | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            decoder_config,
            encoder_config,
            memory_attention_config,
            tokenizer_config,
            memory_attention_variant,
            system_prompt_title,
        )
        self.sampling = None if sampling is None else self._load_config(sampling, SamplingConfig)
        self.current = CurrentMemory(self)
        self.codec: TextCodec | None = None
        if tokenizer is not None:
            self.set_tokenizer(tokenizer)

    # --- text ----------------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """The tokenizer, where one is attached."""
        return None if self.codec is None else self.codec.tokenizer

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Attach a tokenizer, after a check that its vocabulary and special tokens are the model's."""
        self.codec = TextCodec(tokenizer, self.tokenizer_config, self.decoder.config.vocab_size)

    def needed_tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the tokenizer, or raise ValueError where none is attached."""
        return self._codec().tokenizer

    def _codec(self) -> TextCodec:
        if self.codec is None:
            raise ValueError(
                "The model has no tokenizer: pass one to from_pretrained(..., tokenizer=...) or to set_tokenizer()."
            )
        return self.codec

    def tokenize_query(self, query: str, max_seq_len: int | None = None) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (1, T), of `[BOS][Q]query`; `interact` adds [A] itself.

        A query that leaves no room for [A] and an answer within `max_seq_len` is refused.
        """
        return self.tokenize_batch([query], max_seq_len)

    def tokenize_batch(self, queries: Sequence[str], max_seq_len: int | None = None) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (B, T), of many queries, padded at the end."""
        if isinstance(queries, str) or not queries:
            raise ValueError(f"queries must be a list of at least one text, got {queries!r}.")
        codec, limit = self._codec(), self.length_limit(max_seq_len)
        return self._inputs([codec.query(query, limit) for query in queries])

    def tokenize_full_interaction(
        self, query: str, answer: str, max_seq_len: int | None = None, *, thought: str | None = None
    ) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, (1, T), of a finished interaction, as `init_stm_state` reads it."""
        return self._inputs([self._codec().interaction(query, answer, thought, self.length_limit(max_seq_len))])

    def _inputs(self, rows: list[list[int]]) -> dict[str, Tensor]:
        ids, mask = padded(rows, self.tokenizer_config.pad_token_id, device=self.device)
        return {"input_ids": ids, "attention_mask": mask.long()}

    def start_text(self) -> None:
        """Let `stringify_token` begin a new text: what the last one held back is dropped."""
        if self.codec is not None:
            self.codec.start_text()

    def stringify_token(self, token_id: SupportsIndex, *, skip_special_tokens: bool = False) -> str:
        """Return the text that this token adds to a stream of tokens.

        Characters of several tokens are held back until they are whole, so that the pieces put together are the
        text. A turn of `interact` starts a new stream.
        """
        return self._codec().next_text(token_id, skip_special_tokens=skip_special_tokens)

    def stringify_batch(
        self, token_ids: Tensor | Iterable[Iterable[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """Return the text of each row of token ids, as `batch_interactions` returns them; padding is left out."""
        rows = token_ids.tolist() if isinstance(token_ids, Tensor) else token_ids
        return [self._codec().text(row, skip_special_tokens=skip_special_tokens) for row in rows]

    # --- the current memory --------------------------------------------------------------------------------------

    def init_stm_state(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> None:
        """Start anew, from a memory that has read the given interaction, as a system prompt is read.

        Arguments as `tokenize_full_interaction` returns them, (1, T); in batch mode also one row a conversation.
        """
        self.current.start_from(input_ids, attention_mask)

    def reset_stm_state(self, seed: Seed = None) -> None:
        """Forget everything: start again from the initial memory."""
        self.current.reset(seed)

    def export_stm_state(self) -> Tensor:
        """Return a copy of the current memory, for slots (L, B, S, D); ValueError for one of several tensors."""
        tensors = self.current.get().clone().tensors()
        if len(tensors) != 1:
            raise ValueError(
                f"This memory is {len(tensors)} tensors, not one: use update_memory, which returns it whole."
            )
        return next(iter(tensors.values()))

    def load_stm_state(self, state: MemoryState | Tensor) -> None:
        """Go on from a memory that `export_stm_state` returned, or from any other state of this model's form."""
        self.current.load(state)

    def set_batch_mode(self, use_batch_mode: bool, batch_size: int | None = None) -> None:
        """Hold `batch_size` conversations at once, or one (False). All start from the initial memory."""
        if use_batch_mode and (batch_size is None or batch_size < 1):
            raise ValueError(f"Batch mode needs a batch_size of at least 1, got {batch_size}.")
        if not use_batch_mode and batch_size not in (None, 1):
            raise ValueError(f"Without batch mode there is one conversation, got batch_size={batch_size}.")
        self.current.set_batch_size(batch_size if use_batch_mode else None)

    # --- turns ---------------------------------------------------------------------------------------------------

    def interact(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_seq_len: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        *,
        seed: Seed = None,
        thinking_mode: ThinkingMode | None = None,
        ignore_eos: bool = False,
    ) -> Iterator[int]:
        """Answer one query, token by token, then update the memory.

        Args:
            input_ids, attention_mask: the query as `tokenize_query` returns it, (1, T); [A] follows by itself.
            max_seq_len: tokens of query and answer together, the model's own limit when None.
            temperature, top_k, top_p, min_p, repetition_penalty: see `SamplingConfig`.
            seed: makes the answer repeatable; None draws from PyTorch's global generator.
            thinking_mode: `fast`, `extended` or `auto`, for Beta models.
            ignore_eos: go on to `max_seq_len` through [EOS].

        Yields the answer's token ids, without [EOS]; then -1 when the memory update starts; then -2 when it is done.
        Closed or failing before that, the turn leaves the memory as it was; where the memory was replaced meanwhile,
        for example by a reset, the update raises and the new memory stays. Bad arguments raise at the call.
        """
        if self.current.batch_size is not None:
            raise ValueError("The model is in batch mode: call batch_interactions, or set_batch_mode(False) first.")
        sampling = SamplingConfig(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
        )
        opening = self.opening(thinking_mode)
        turn = self.current.prepare(input_ids, attention_mask, max_seq_len, opening, sampling, seed, ignore_eos)
        return self._with_new_text(self.current.stream(turn))

    def _with_new_text(self, tokens: Iterator[int]) -> Iterator[int]:
        self.start_text()
        yield from tokens

    def batch_interactions(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        max_seq_len: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        *,
        seed: Seed = None,
        thinking_mode: ThinkingMode | None = None,
        ignore_eos: bool = False,
    ) -> list[list[int]]:
        """Answer a batch of queries (B, T), one a conversation, and update all memories; arguments as `interact`.

        `seed` may be one number a row. Returns the answers' token ids, without [EOS]. A row gives the same answer
        and memory as it would alone.
        """
        batch_size = self.current.batch_size
        if batch_size is None:
            raise ValueError("Call set_batch_mode(True, batch_size) before a batch of interactions.")
        if input_ids.shape[0] != batch_size:
            raise ValueError(f"The batch has {input_ids.shape[0]} queries; the memory holds {batch_size}.")
        sampling = SamplingConfig(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
        )
        opening = self.opening(thinking_mode)
        turn = self.current.prepare(input_ids, attention_mask, max_seq_len, opening, sampling, seed, ignore_eos)
        return self.current.answer(turn)

    def batch_interact(
        self, queries: Sequence[str], max_seq_len: int | None = None, **options: object
    ) -> list[list[int]]:
        """Answer a list of queries given as text; options and result as in `batch_interactions`."""
        encoded = self.tokenize_batch(queries, max_seq_len=max_seq_len)
        return self.batch_interactions(**encoded, max_seq_len=max_seq_len, **options)  # type: ignore[arg-type]

    def opening(self, thinking_mode: ThinkingMode | None) -> Opening:
        """Return how an answer begins: with [A], which is not part of it."""
        if thinking_mode is not None:
            raise ValueError(f"thinking_mode={thinking_mode!r} is for RxTBeta; {type(self).__name__} does not think.")
        return Opening(appended=self.tokenizer_config.before_answer)

    # --- saving and loading --------------------------------------------------------------------------------------

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments, without the tokenizer, as plain values."""
        sampling = {} if self.sampling is None else {"sampling": self.sampling.to_dict()}
        return {**super().config_dict(), **sampling}

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
        place = os.path.expanduser(pretrained_model_name_or_path)
        with placed(pretrained_model_name_or_path), reading(place):  # both of one save
            model = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
            if tokenizer is None:
                tokenizer = tokenizer_beside(pretrained_model_name_or_path, kwargs)
            if tokenizer is not None:
                model.set_tokenizer(tokenizer)
        return model

    @classmethod
    def _from_files(cls, files: CheckpointFiles) -> Self:
        config = files.config()
        if "engine" in config:
            raise CheckpointError(
                f"{files.name} was exported for the engine {config['engine']}: open it with rxlm.export.open_exported, "
                "or take the model that it was made of."
            )
        if published.is_published(config):
            return cls._from_published(config, files)
        kinds = {kind.__name__: kind for kind in (cls, *cls.__subclasses__())}
        kind = kinds.get(str(config.get("architecture")), cls)
        return super(RxTAlpha, kind)._from_files(files)  # type: ignore[return-value]

    @classmethod
    def _from_published(cls, config: Mapping[str, Any], files: CheckpointFiles) -> Self:
        with reading_config(files.name):
            thinks = published.is_beta(config)
        if cls.thinks and not thinks:
            raise CheckpointError(f"{files.name} holds a RxTAlpha, not a {cls.__name__}: it has no thinking token.")
        kind = next(kind for kind in (cls, *RxTAlpha.__subclasses__()) if kind.thinks == thinks)
        tensors = files.weights()
        with reading_config(files.name):
            values = published.model_config(config, tensors)
            check_layers(values, tensors, files.name)
            with torch.device("meta"):
                shape = kind.from_config_dict(values)
            expected = [name for name in shape.state_dict() if name not in shape.stored_ties()]
            weights = published_weights.translate_weights(expected, tensors, values)
        return kind._from_state(values, weights, files.name)  # type: ignore[return-value]


def tokenizer_beside(checkpoint: str | Path, options: Mapping[str, Any]) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer that stands beside a checkpoint; None where there is none."""
    download = {
        name: options[name] for name in ("revision", "token", "cache_dir", "local_files_only") if name in options
    }
    try:
        return load_tokenizer_from_hf_hub(str(checkpoint), **download)  # takes a folder, too
    except FileNotFoundError:
        return None
