"""A whole turn read at once after what a conversation keeps: differentiable, and without storage for more tokens.

Shapes: L layers, B rows, H key/value heads, P places for earlier tokens, T tokens of the turn, d head dimension.
"""

import torch
from torch import Tensor

from rxlm.nn.attention import segment_mask
from rxlm.nn.cache import Layout
from rxlm.nn.key_values import KeyValues
from rxlm.nn.past import ComputedTurn, Past, computed_turn
from rxlm.nn.rope import RotaryEmbedding, token_positions


class TurnAfterPast:
    """What the layers of a decoder see and leave while a turn is read at once: no token is added to it later.

    It takes the place of a key/value cache, and gradients flow through it.

    Args:
        past: what stands before the turn, rotated.
        mask: True at tokens of the turn that are not padding, (B, T).
    """

    def __init__(self, past: Past, mask: Tensor) -> None:
        self.past, self.mask = past, mask
        self.gaps = past.gaps()
        self._seen: dict[int, KeyValues] = {}
        self._scores: dict[int, Tensor] = {}

    @property
    def positions(self) -> Tensor:
        """Where the rotary embedding has the turn's tokens, (B, T)."""
        assert self.past.next_position is not None
        return token_positions(self.mask.shape[1], self.mask) + self.past.next_position[:, None]

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return the turn's positions, and the mask over the past and the turn itself."""
        assert sliding_window is None, "earlier tokens stand within a window: their ages are clipped"
        own = segment_mask(self.mask, token_positions(num_tokens, self.mask), causal=True)
        places = torch.arange(self.past.num_places, device=self.mask.device)
        before = (places < self.past.filled[:, None])[:, None, None].expand(-1, -1, num_tokens, -1)
        return Layout(self.positions, torch.cat((before, own), -1), causal=False)

    def note(self, layer: int, scores: Tensor) -> None:
        """Keep the scores that a layer's retention gate gave the turn's tokens, (B, H, T)."""
        self._scores[layer] = scores

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Return keys and values of the past and of the turn's tokens; those of the turn (B, H, T, d) are kept."""
        self._seen[layer] = KeyValues(keys, values)
        mask = None
        if self.gaps is not None:
            own = self.mask.new_ones(*keys.shape[:2], 1, keys.shape[2])
            mask = torch.cat((~self.gaps[layer][:, :, None], own), -1)
        return KeyValues(
            torch.cat((self.past.keys[layer], keys), 2), torch.cat((self.past.values[layer], values), 2), mask
        )

    def stored(self, num_tokens: int, sliding_window: int | None = None) -> tuple[KeyValues | None, Tensor]:
        """Return what stands before the turn, and what its tokens see of themselves; see `StoredCache`."""
        places, mask = self.past.num_places, self.layout(num_tokens, sliding_window).mask
        assert mask is not None
        before = mask[None, ..., :places]
        if self.gaps is not None:
            before = before & ~self.gaps[:, :, :, None]
        is_seen = bool(before.any())
        return KeyValues(self.past.keys, self.past.values, before) if is_seen else None, mask[..., places:]

    def store(self, keys: Tensor, values: Tensor, scores: Tensor | None) -> None:
        """Keep what all layers computed of the turn's tokens."""
        self._seen = {layer: KeyValues(*each) for layer, each in enumerate(zip(keys, values, strict=True))}
        self._scores = {} if scores is None else dict(enumerate(scores))

    def computed(self, ids: Tensor, rope: RotaryEmbedding) -> ComputedTurn:
        """Return what was computed of the turn's tokens `ids` (B, T)."""
        return computed_turn(self._seen, self._scores, ids, self.mask, self.positions, rope)
