"""Earlier tokens of a conversation, as self-attention sees them before the tokens of a turn.

Shapes: L layers, B rows, H key/value heads, P places for earlier tokens, T tokens of a turn, d head dimension, E tokens
that are still to be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.nn.key_values import KeyValues
from rxlm.nn.rope import RotaryEmbedding, rotate

NO_TOKEN = -1


@dataclass(frozen=True)
class Past:
    """Keys and values of earlier tokens, in every layer and for every key/value head.

    Fields:
        keys, values: (L, B, H, P, d); keys are rotated where `is_rotated`.
        positions: tokens of the conversation before each of them, (L, B, H, P); negative where a place holds none.
        ids: the tokens' ids, (L, B, H, P); negative likewise.
        length: tokens of the conversation so far, (B,).
        unread: ids of tokens that belong to the conversation and whose keys were never computed, (B, E): they are read
            before the turn's own. Negative: none; those stand first.
        next_position: where the rotary embedding has the first of the tokens to come, (B,); None: at `length`.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    ids: Tensor
    length: Tensor
    unread: Tensor
    next_position: Tensor | None = None
    is_rotated: bool = False

    @property
    def batch_size(self) -> int:
        """Rows B."""
        return self.keys.shape[1]

    @property
    def num_places(self) -> int:
        """Places P."""
        return self.keys.shape[3]

    @property
    def filled(self) -> Tensor:
        """Places of each row up to the last one that holds a token in some layer and head, (B,)."""
        places = torch.arange(1, self.num_places + 1, device=self.positions.device)
        return _most((self.positions >= 0) * places)

    def gaps(self) -> Tensor | None:
        """Return True at places that hold nothing, (L, B, H, P); None where only those after `filled` do."""
        held = self.positions >= 0
        if bool((held.sum(-1) == self.filled[:, None]).all()):
            return None
        return ~held

    def rotated(self, rope: RotaryEmbedding, max_age: int | None = None) -> "Past":
        """Return the same with keys rotated, for a turn that follows.

        A token stands as many positions before the next one as it is old, at most `max_age`: however long a
        conversation gets, positions stay within those that a model was trained on.
        """
        if self.is_rotated:
            return self
        next_position = self.length if max_age is None else self.length.clamp(max=max_age)
        positions = (self.positions - (self.length - next_position)[:, None, None]).clamp(min=0)
        keys = _rotate(self.keys, positions, rope)
        return replace(self, keys=keys, next_position=next_position, is_rotated=True)

    def select(self, rows: Tensor | Sequence[int]) -> "Past":
        """Return some rows, in the order given."""
        rows = rows if isinstance(rows, Tensor) else list(rows)
        return replace(
            self,
            keys=self.keys[:, rows],
            values=self.values[:, rows],
            positions=self.positions[:, rows],
            ids=self.ids[:, rows],
            length=self.length[rows],
            unread=self.unread[rows],
            next_position=None if self.next_position is None else self.next_position[rows],
        )

    @classmethod
    def join(cls, parts: Sequence["Past"]) -> "Past":
        """Put the rows of several, all rotated or none, one after another."""
        places = max(part.num_places for part in parts)

        def padded(values: Tensor, room: int, value: int = 0) -> Tensor:
            return F.pad(values, (0, 0) * (values.dim() - 4) + (0, room), value=value)

        more = [places - part.num_places for part in parts]
        given = [part.next_position for part in parts if part.next_position is not None]
        return cls(
            torch.cat([padded(part.keys, room) for part, room in zip(parts, more, strict=True)], 1),
            torch.cat([padded(part.values, room) for part, room in zip(parts, more, strict=True)], 1),
            torch.cat([padded(part.positions, room, NO_TOKEN) for part, room in zip(parts, more, strict=True)], 1),
            torch.cat([padded(part.ids, room, NO_TOKEN) for part, room in zip(parts, more, strict=True)], 1),
            torch.cat([part.length for part in parts]),
            torch.cat([part.unread for part in parts]),
            torch.cat(given) if given else None,
            parts[0].is_rotated,
        )


class ComputedTurn(NamedTuple):
    """What self-attention computed of the tokens of finished turns, while they were read and answered.

    Fields:
        keys, values: (L, B, H, T, d), keys before rotation.
        scores: what the layers' retention gates gave the tokens, (L, B, H, T); None: the layers have none.
        ids, mask: the tokens, and which of them are none but padding at the end, (B, T).
    """

    keys: Tensor
    values: Tensor
    scores: Tensor | None
    ids: Tensor
    mask: Tensor

    @classmethod
    def join(cls, parts: Sequence["ComputedTurn"]) -> "ComputedTurn":
        """Put the rows of several one after another."""
        tokens = max(part.ids.shape[1] for part in parts)

        def joined(name: str, axes: int, dim: int) -> Tensor:
            rows = [getattr(part, name) for part in parts]
            return torch.cat(
                [
                    F.pad(row, (0, 0) * axes + (0, tokens - part.ids.shape[1]))
                    for row, part in zip(rows, parts, strict=True)
                ],
                dim,
            )

        scores = None if parts[0].scores is None else joined("scores", 0, 1)
        return cls(joined("keys", 1, 1), joined("values", 1, 1), scores, joined("ids", 0, 0), joined("mask", 0, 0))


def computed_turn(
    seen: Mapping[int, KeyValues],
    scores: Mapping[int, Tensor],
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    rope: RotaryEmbedding,
) -> ComputedTurn:
    """Put together what was computed of tokens `ids` (B, T) that were read at once, rotated to `positions` (B, T).

    Args:
        seen: by layer, keys and values (B, H, T, d). scores: by layer, of those that have gates, (B, H, T).
        mask: the tokens that are none but padding, (B, T).
    """
    keys, values = (torch.stack([getattr(seen[layer], name) for layer in sorted(seen)]) for name in ("keys", "values"))
    gated = torch.stack([scores[layer] for layer in sorted(scores)]) if scores else None
    return ComputedTurn(
        turned_back(keys, positions, rope),
        values,
        None if gated is None else of_all_layers(gated, len(keys)),
        ids,
        mask,
    )


def of_all_layers(scores: Tensor, num_layers: int) -> Tensor:
    """Return the scores (L, B, H, T) of all layers, of those that the gates of the first ones gave, (G, B, H, T)."""
    return torch.cat((scores, scores[-1:].expand(num_layers - len(scores), -1, -1, -1)))


def turned_back(keys: Tensor, positions: Tensor, rope: RotaryEmbedding) -> Tensor:
    """Return keys (L, B, H, T, d) as they were before they were rotated to `positions` (B, T)."""
    return _rotate(keys, -positions[None, :, None].expand(keys.shape[:-1]), rope)


def _rotate(keys: Tensor, positions: Tensor, rope: RotaryEmbedding) -> Tensor:
    """Rotate keys (L, B, H, P, d) to positions (L, B, H, P)."""
    rotation = rope(positions.flatten(0, 2))
    return rotate(keys.flatten(0, 2)[:, None], rotation)[:, 0].unflatten(0, keys.shape[:3])


def _most(counts: Tensor) -> Tensor:
    """Return the largest count of each row, (B,), of counts (L, B, H, P)."""
    return counts.amax(dim=(0, 2, 3)) if counts.numel() else counts.new_zeros(counts.shape[1])
