"""The encoder: what each of its layers makes of a finished interaction is what that memory layer may remember.

Shapes: B conversations, T tokens, L layers, D model dimension.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.nn.attention import padding_mask, segment_mask
from rxlm.nn.layer import TransformerLayer
from rxlm.nn.moe import Routing
from rxlm.nn.rope import Rotation, segment_positions, token_positions
from rxlm.rxt.config import EncoderConfig
from rxlm.rxt.hub import HubModule
from rxlm.rxt.layers import build_layers, build_rope, check_shape, embed, initialise, new_embedding


class RxTEncoder(HubModule):
    """Bidirectional transformer that returns the residual stream after each layer, without a final norm."""

    parameter_groups: ClassVar[Mapping[str, str]] = {"embedding": "embeddings"}

    def __init__(self, config: EncoderConfig | Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config = EncoderConfig.of(config)
        self.embedding = new_embedding(config)
        self.layers = build_layers(config)
        self.rope = build_rope(config)
        initialise(self.embedding, self.layers)

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        memory: MemoryState | None = None,
        routing: Routing | None = None,
        *,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Return the encoded data, (L, B, T, D).

        Args:
            ids: token ids (B, T).
            mask: True at tokens that are not padding, (B, T); None where all are real. Positions count the real
                tokens of a row; what comes out at padding means nothing.
            memory: the memory, for an encoder that reads it.
            routing: collects the load-balancing losses of expert layers.
            segments: which of its row's documents a token belongs to, from 1, and 0 for padding, (B, T), instead of a
                mask: tokens see their own document only, and positions start again in each.
        """
        check_shape(ids, mask, self.config, segments)
        if self.config.reads_memory and memory is None:
            raise ValueError("This encoder reads the memory: give it one.")
        rotation, key_mask = self._layout(ids, None if mask is None else mask.bool(), segments)
        return self.through_layers(embed(self.embedding, ids), rotation, key_mask, memory, routing)

    def through_layers(
        self,
        x: Tensor,
        rotation: Rotation,
        mask: Tensor | None,
        memory: MemoryState | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """Return the residual stream after each layer, (L, B, T, D), of the embedding of tokens, (B, T, D)."""
        states = []
        sources = memory.read().layers if self.config.reads_memory and memory is not None else None
        for index, layer in enumerate(cast(list[TransformerLayer], list(self.layers))):
            reading = None if sources is None else sources[index]
            x = layer(x, rotation=rotation, memory=reading, mask=mask, routing=routing)
            states.append(x)
        return torch.stack(states)

    def _layout(self, ids: Tensor, mask: Tensor | None, segments: Tensor | None) -> tuple[Rotation, Tensor | None]:
        """Return the rotation of the tokens' positions, and the mask of attention where one is due."""
        window = self.config.sliding_window
        if segments is not None:
            positions = segment_positions(segments)
        else:
            positions = token_positions(ids.shape[1], mask, ids.device)
            if mask is None or window is None:
                return self.rope(positions), None if mask is None else padding_mask(mask)
            segments = mask
        return self.rope(positions), segment_mask(segments, positions, causal=False, sliding_window=window)

    def config_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {"config": self.config.to_dict()}

    @classmethod
    def from_config_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build an encoder from what `config_dict` returned."""
        return cls(**values)
