"""The decoder: writes an answer from the query and the memory.

Shapes: B conversations, T tokens, L memory layers, S slots, D model dimension, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.attention import segment_mask
from rxlm.nn.cache import DecoderCache, KeyValueCache, Layout
from rxlm.nn.head import TokenHead
from rxlm.nn.key_values import KeyValueSource
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Routing
from rxlm.nn.norm import make_norm
from rxlm.nn.past import ComputedTurn, Past
from rxlm.nn.rope import segment_positions, token_positions
from rxlm.nn.turn_after_past import TurnAfterPast
from rxlm.rxt.config import DecoderConfig
from rxlm.rxt.hub import HubModule
from rxlm.rxt.layers import build_layers, build_rope, check_shape, embed, initialise, new_embedding


class RxTDecoder(HubModule):
    """Causal transformer whose layers read the memory.

    Layers stand in one list; stateless ones before or after those with memory (see `DecoderConfig`).
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"embedding": "embeddings", "head": "embeddings"}

    def __init__(self, config: DecoderConfig | Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config = DecoderConfig.of(config)
        self.embedding = new_embedding(config)
        self.layers = build_layers(config)
        self.final_norm = (
            make_norm(config.final_norm, config.dim, config.norm_eps) if config.final_norm else nn.Identity()
        )
        self.head = TokenHead(config.dim, config.vocab_size, bias=config.head_bias)
        self.rope = build_rope(config)
        initialise(self.embedding, self.layers)
        self.tie_weights()

    @property
    def memory_layers(self) -> list[TransformerLayer]:
        """The layers that read the memory, in order."""
        return [layer for layer in cast(list[TransformerLayer], list(self.layers)) if layer.memory_reader is not None]

    def forward(
        self,
        ids: Tensor,
        memory: MemoryState | MemoryReading | None,
        mask: Tensor | None = None,
        *,
        routing: Routing | None = None,
    ) -> Tensor:
        """Return the logits of the next token at every position, (B, T, V).

        Args:
            ids: token ids (B, T).
            memory: the memory of these B conversations, or a reading of it; None: none is read.
            mask: True at tokens that are not padding, (B, T). Padding at the end needs none: no real token sees it.
            routing: collects the load-balancing losses of expert layers.
        """
        return self.head(self.hidden_states(ids, memory, mask, routing=routing))

    def hidden_states(
        self,
        ids: Tensor,
        memory: MemoryState | MemoryReading | None,
        mask: Tensor | None = None,
        *,
        segments: Tensor | None = None,
        cache: DecoderCache | None = None,
        routing: Routing | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return what the head reads, (B, T, D); of the tokens where `wanted` (B, T) is True alone, (N, D), if given.

        Without a memory (None) no layer reads one: what is left is a causal language model. With `segments`, as in
        `RxTEncoder.forward`, tokens see only earlier ones of their own document; which slots of the memory they see,
        the reading says. With a cache the tokens follow those it holds, and no mask is due; what a memory keeps of
        earlier tokens is in the cache then.
        """
        check_shape(ids, mask, self.config, segments)
        reading = self._checked(memory.read()) if isinstance(memory, MemoryState) else memory
        if reading is not None and not reading.is_empty and reading.batch_size != ids.shape[0]:
            raise ValueError(
                f"The memory holds {reading.batch_size} conversations and the token ids {ids.shape[0]} rows."
            )
        past = None if reading is None or cache is not None else reading.past
        if past is not None:
            states = self._states_after(past, ids, mask, routing)
            return states if wanted is None else states[wanted]
        layout = self._layout(ids, mask, segments, cache)
        return self.through_layers(embed(self.embedding, ids), layout, reading, cache, routing, wanted)

    def states_of_row(self, ids: Tensor, cache: DecoderCache) -> Tensor:
        """Return what the head reads of texts in one row (1, P), each at the positions that a cache gives it.

        The row may be longer than a text can be.
        """
        layout = cache.layout(ids.shape[1], self.config.sliding_window)
        return self.through_layers(embed(self.embedding, ids), layout, None, cache)

    def through_layers(
        self,
        x: Tensor,
        layout: Layout,
        reading: MemoryReading | None,
        cache: DecoderCache | None,
        routing: Routing | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Return what the head reads, (B, T, D), of the embedding of tokens, (B, T, D); the rest as `hidden_states`."""
        readings = iter(() if reading is None else reading.layers)
        rotation = self.rope(layout.positions)
        for index, layer in enumerate(cast(list[TransformerLayer], list(self.layers))):
            own = None if layer.memory_reader is None else next(readings, None)
            x = layer(
                x,
                rotation=rotation,
                memory=own,
                mask=layout.mask,
                causal=layout.causal,
                cache=cache,
                layer=index,
                routing=routing,
                wanted=wanted if index == len(self.layers) - 1 else None,
            )
        return self.final_norm(x)

    def _states_after(self, past: Past, ids: Tensor, mask: Tensor | None, routing: Routing | None) -> Tensor:
        """Return what the head reads of a turn that follows what a memory keeps; what is unread is read before it."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        ids, mask = torch.cat((past.unread.clamp(min=0), ids), 1), torch.cat((past.unread >= 0, mask), 1)
        cache = TurnAfterPast(past.rotated(self.rope, self.config.max_age), mask)
        states = self.hidden_states(ids, None, cache=cache, routing=routing)
        return states[:, past.unread.shape[1] :]

    def compute_turn(self, past: Past, ids: Tensor, mask: Tensor) -> tuple[Tensor, ComputedTurn]:
        """Return what the head reads of tokens (B, T), padded at the end, after what a memory keeps, (B, T, D).

        With it comes what self-attention has made of them.
        """
        cache = TurnAfterPast(past.rotated(self.rope, self.config.max_age), mask)
        states = self.hidden_states(ids, None, cache=cache)
        return states, cache.computed(ids, self.rope)

    def _layout(self, ids: Tensor, mask: Tensor | None, segments: Tensor | None, cache: DecoderCache | None) -> Layout:
        """Return the tokens' positions, and which of them see which."""
        num_tokens = ids.shape[1]
        if cache is not None:
            return cache.layout(num_tokens, self.config.sliding_window)
        if segments is None and mask is None:
            return Layout(token_positions(num_tokens, device=ids.device), None, causal=num_tokens > 1)
        positions, attention_mask = self._documents(mask, segments)
        return Layout(positions, attention_mask, causal=False)

    def read_memory(self, memory: MemoryState | MemoryReading) -> MemoryReading:
        """Return the keys and values that the layers attend to, made once for all tokens of a turn."""
        reading = memory.read() if isinstance(memory, MemoryState) else memory
        return self._checked(reading).project(self.memory_layers, self.rope, self.config.max_age)

    def _checked(self, reading: MemoryReading) -> MemoryReading:
        """Return what a memory gives the layers to read; ValueError where it is the memory of another model."""
        count, past = len(self.memory_layers), reading.past
        if past is not None:
            heads, width = self.config.attention_heads[1], self.config.width_of_head
            layers, _, kept_heads, _, kept_width = past.keys.shape
            if (layers, kept_heads, kept_width) != (len(self.layers), heads, width):
                raise ValueError(
                    f"The memory keeps tokens in {layers} layers of {kept_heads} key/value heads of {kept_width}; this "
                    f"decoder has {len(self.layers)} of {heads} of {width}."
                )
            return reading
        if not count:
            return MemoryReading(())
        widths = {layer.source.shape[-1] for layer in reading.layers if isinstance(layer, KeyValueSource)}
        if len(reading.layers) != count or widths - {self.config.dim}:
            raise ValueError(
                f"The memory has {len(reading.layers)} layers of dim {', '.join(map(str, widths))}; "
                f"this decoder reads {count} of dim {self.config.dim}."
            )
        return reading

    def _documents(self, mask: Tensor | None, segments: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens' positions (B, T) and the mask of causal attention within documents (B, 1, T, T)."""
        if segments is not None:
            positions = segment_positions(segments)
        else:
            assert mask is not None
            segments = mask.bool()
            positions = token_positions(segments.shape[1], segments)
        window = self.config.sliding_window
        return positions, segment_mask(segments, positions, causal=True, sliding_window=window)

    def new_cache(self, batch_size: int, capacity: int | None = None, past: Past | None = None) -> KeyValueCache:
        """Return a key/value cache for `batch_size` rows of up to `capacity` tokens (max_seq_len when None).

        With `past` the rows begin with what their memories keep, besides these tokens.
        """
        weight, gate = self.embedding.weight, self.config.retention_gate
        cache = KeyValueCache(
            len(self.layers),
            batch_size,
            self.config.attention_heads[1],
            self.config.width_of_head,
            (capacity or self.config.max_seq_len) + (0 if past is None else past.num_places),
            dtype=weight.dtype,
            device=weight.device,
            num_gates=0 if gate is None else gate.num_gates(len(self.layers)),
        )
        if past is not None:
            cache.begin(past.rotated(self.rope, self.config.max_age))
        return cache

    def stored_ties(self) -> Mapping[str, str]:
        """Second names of shared weights."""
        return {"head.weight": "embedding.weight"} if self.config.tie_head else {}

    def tie_weights(self) -> None:
        """Let the head share the embedding's weight, where the configuration says so."""
        if self.config.tie_head:
            self.head.weight = self.embedding.weight

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {"config": self.config.to_dict()}

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a decoder from what `config_dict` returned."""
        return cls(**values)
