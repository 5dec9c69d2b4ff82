"""A retained memory, as a value: the keys and values of the tokens that a conversation keeps.

Shapes: L layers, B conversations, H key/value heads, P places, d head dimension, E tokens that are still to be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory.protocol import Change, MemoryReading, MemoryState
from rxlm.memory.retained.keeping import kept_tokens
from rxlm.nn.past import NO_TOKEN, ComputedTurn, Past
from rxlm.nn.weights import listed

_BY_PLACE = {"keys": 0, "values": 0, "positions": NO_TOKEN, "scores": 0, "ids": NO_TOKEN}
"""The tensors that have places, (L, B, H, P, ...), and what an empty place holds."""


@dataclass(frozen=True)
class RetainedState(MemoryState):
    """What a batch of conversations keeps, for every layer and key/value head.

    Places fill from the first one on, in the order of the conversation; there are as many as the fullest conversation
    of the batch has taken.

    Fields:
        keys, values: (L, B, H, P, d), keys before rotation.
        positions: tokens of the conversation before each of them, (L, B, H, P); negative: an empty place.
        scores, ids: the tokens' retention scores, in float32, and their ids, (L, B, H, P).
        length: tokens of the conversation so far, (B,).
        limit: S, the most tokens that are kept, (B,).
        first: so many tokens at the beginning of the conversation are never dropped, (B,).
        newest: so many of the newest tokens are kept whatever their scores, (B,).
        unread: ids of tokens of the conversation that the next turn reads first, (B, E); negative: none.
    """

    kind: ClassVar[str] = "retained"
    keys: Tensor
    values: Tensor
    positions: Tensor
    scores: Tensor
    ids: Tensor
    length: Tensor
    limit: Tensor
    first: Tensor
    newest: Tensor
    unread: Tensor

    @property
    def batch_size(self) -> int:
        """Conversations B."""
        return self.keys.shape[1]

    @property
    def num_tokens(self) -> int:
        """Tokens S that a conversation of the batch may keep at most."""
        return int(self.limit.max())

    @property
    def form(self) -> tuple[Any, ...]:
        """Kind, layers, heads and their dimension: memories of any number of tokens can stand in one batch."""
        layers, _, heads, _, width = self.keys.shape
        return self.kind, layers, heads, width, self.unread.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it, by field."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the state with these tensors."""
        names = [field.name for field in fields(cls)]
        if sorted(tensors) != sorted(names):
            raise ValueError(f"A retained memory is {', '.join(names)}; got {listed(sorted(tensors)) or 'nothing'}.")
        return cls(**tensors)

    def check(self) -> None:
        """Raise ValueError, which names the tensor, for shapes, types and values that no retained memory has."""
        super().check()
        if self.keys.dim() != 5 or self.unread.dim() != 2:
            raise ValueError("'keys' of a retained memory have 5 axes, and 'unread' 2")
        by_place, rows = self.keys.shape[:-1], self.keys.shape[1:2]
        for name, own in self.tensors().items():
            wanted = self.keys.shape if name in ("keys", "values") else by_place if name in _BY_PLACE else rows
            wanted = self.unread.shape if name == "unread" else wanted
            if own.shape != wanted or own.is_floating_point() != (name in ("keys", "values", "scores")):
                raise ValueError(f"the tensor {name!r} has shape {tuple(own.shape)} and type {own.dtype}")
        earlier, later = self.positions[..., :-1], self.positions[..., 1:]
        follows = (later == NO_TOKEN) | ((earlier >= 0) & (later > earlier))
        is_past = self.positions < self.length[:, None, None]
        holds = {
            "positions": (self.positions >= NO_TOKEN).all() & follows.all() & is_past.all(),
            "ids": ((self.ids >= 0) == (self.positions >= 0)).all(),
            "length": (self.length >= 0).all(),
            "limit": (self.limit >= 1).all() & (self.filled <= self.limit).all(),
            "first": (self.first >= 0).all(),
            "newest": (self.newest >= 0).all(),
            "unread": (self.unread >= NO_TOKEN).all() & (self.unread.shape[0] == self.batch_size),
        }
        if wrong := [name for name, right in holds.items() if not bool(right)]:
            raise ValueError(f"the tensor {wrong[0]!r} holds values that no retained memory has")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the memory on another device, or with keys and values in another floating-point type."""
        moved = self._each(lambda tensor: tensor.to(device=device))
        return replace(moved, keys=moved.keys.to(dtype), values=moved.values.to(dtype))

    def select(self, rows: int | Sequence[int]) -> Self:
        """Return the memories of some conversations, in the order given; a single number keeps the batch axis."""
        index = [rows] if isinstance(rows, int) else list(rows)
        places = int(self.filled[index].max()) if index else 0
        return type(self)(
            **{
                name: own[:, index, :, :places] if name in _BY_PLACE else own[index]
                for name, own in self.tensors().items()
            }
        )

    @classmethod
    def concatenate(cls, states: Sequence[Any]) -> Self:
        """Put several batches of conversations, which are of one form, into one batch, in order."""
        places = max(state.num_places for state in states)
        parts = [state._with_places(places).tensors() for state in states]
        return cls(**{name: torch.cat([part[name] for part in parts], int(name in _BY_PLACE)) for name in parts[0]})

    def where(self, chosen: Tensor, other: Self) -> Self:
        """Return this memory for the conversations where `chosen` (B,) is True, and `other` elsewhere."""
        rows = chosen.tolist()
        both = self.concatenate([self, other])
        return both.select([row if own else len(rows) + row for row, own in enumerate(rows)])

    def read(self) -> MemoryReading:
        """Return what is kept, as what stands before a turn in self-attention."""
        return MemoryReading(past=self.past)

    @property
    def past(self) -> Past:
        """What is kept, before rotation."""
        return Past(self.keys, self.values, self.positions, self.ids, self.length, self.unread)

    # --- keeping -------------------------------------------------------------------------------------------------

    @property
    def num_places(self) -> int:
        """Places P."""
        return self.keys.shape[3]

    @property
    def filled(self) -> Tensor:
        """Places that are taken in some layer and head, (B,): they stand first."""
        return self.num_kept.amax(dim=(0, 2))

    @property
    def num_kept(self) -> Tensor:
        """Tokens that are kept in each layer and head, (L, B, H)."""
        return (self.positions >= 0).sum(-1)

    def with_tokens(self, computed: ComputedTurn, unread: Tensor, *, for_good: bool = False) -> Self:
        """Return the memory after further tokens of the conversations.

        Args:
            computed: the tokens, with keys and values (L, B, H, T, d).
            unread: ids that are read before the next ones, (B, E).
            for_good: whether these tokens, and all before them, are never dropped.
        """
        real = computed.mask[None, :, None].expand(computed.keys.shape[:-1])
        places = (self.length[:, None] + computed.mask.cumsum(1) - 1)[None, :, None].expand_as(real)
        scores = self.keys.new_zeros(real.shape, dtype=torch.float) if computed.scores is None else computed.scores
        ids, length = computed.ids[None, :, None].expand_as(real), self.length + computed.mask.sum(1)
        longer = replace(
            self,
            keys=torch.cat((self.keys, computed.keys), 3),
            values=torch.cat((self.values, computed.values), 3),
            positions=torch.cat((self.positions, places.masked_fill(~real, NO_TOKEN).int()), 3),
            scores=torch.cat((self.scores, scores), 3),
            ids=torch.cat((self.ids, ids.masked_fill(~real, NO_TOKEN).int()), 3),
            length=length,
            first=torch.maximum(self.first, length) if for_good else self.first,
            unread=unread,
        )
        return longer._packed()

    def resized(self, num_tokens: int, newest: int) -> Self:
        """Return the memory with another limit S, `newest` of it for the newest; a smaller one keeps fewer tokens."""
        least = 2 * int(self.first.max())
        if num_tokens < least or num_tokens < 1:
            raise ValueError(
                f"A memory of {num_tokens} tokens is too small: {least // 2} at the beginning of the conversation are "
                f"kept for good; give it at least {max(least, 1)}."
            )
        limits = torch.full_like(self.limit, num_tokens), torch.full_like(self.newest, newest)
        return replace(self, limit=limits[0], newest=limits[1])._packed()

    def forget(self, first: int, end: int, row: int = 0) -> Self:
        """Return the memory without the tokens of a conversation at positions `first` to `end` - 1."""
        is_row = torch.arange(self.batch_size, device=self.keys.device)[:, None, None] == row
        dropped = is_row & (self.positions >= first) & (self.positions < end)
        rest = replace(self, positions=self.positions.masked_fill(dropped, NO_TOKEN))
        return rest._packed()

    def _packed(self) -> Self:
        """Drop what is beyond the limits, and let the tokens that are kept fill places from the first one on."""
        places = kept_tokens(self.positions, self.scores, self.length, self.limit, self.first, self.newest)
        width = int((places < self.num_places).sum(-1).max()) if places.numel() else 0
        places = places[..., :width]
        padded = self._with_places(self.num_places + 1)
        tensors = {
            name: own.gather(3, places[..., None].expand(*places.shape, own.shape[4]) if own.dim() == 5 else places)
            for name, own in padded.tensors().items()
            if name in _BY_PLACE
        }
        return replace(self, **tensors)

    def _with_places(self, count: int) -> Self:
        """Return the same with empty places at the end, `count` in all."""
        more = count - self.num_places
        if more <= 0:
            return self
        padded = {
            name: F.pad(own, (0, 0) * (own.dim() - 4) + (0, more), value=_BY_PLACE[name])
            for name, own in self.tensors().items()
            if name in _BY_PLACE
        }
        return replace(self, **padded)

    # --- for people ----------------------------------------------------------------------------------------------

    def drift(self, earlier: "RetainedState") -> Tensor:
        """Return the share of tokens that are kept now and were not, by layer and conversation, (L, B)."""
        kept = (self.positions >= 0) & ~_stands_in(self.positions, earlier.positions)
        return kept.sum((-1, -2)) / self.num_kept.sum(-1).clamp(min=1)

    def change(self, earlier: "RetainedState", kind: Change) -> Tensor:
        """Return the share of tokens that are kept now and were not, (B,), whatever `kind` is."""
        return self.drift(earlier).mean(0)

    def heads_that_keep(self, row: int = 0) -> dict[int, float]:
        """Return, by position in the conversation, the share of all heads that keep the token."""
        own = self.positions[:, row]
        found, counts = own[own >= 0].unique(return_counts=True)
        heads = own.shape[0] * own.shape[1]
        return dict(zip(found.tolist(), (counts / heads).tolist(), strict=True))

    def describe(self, earlier: "RetainedState | None" = None) -> list[str]:
        """Return the size, and for the first conversation how many of its tokens are kept."""
        layers, _, heads, _, width = self.keys.shape
        kept = self.heads_that_keep()
        lines = [
            f"{layers} layers x {heads} heads x {int(self.limit[0])} tokens x {width}: {self.num_bytes:,} bytes, never "
            f"more than {int(self.limit[0])} tokens a head",
            f"{int(self.length[0])} tokens were said; {len(kept)} are kept by some head, "
            f"{sum(share == 1.0 for share in kept.values())} by all",
        ]
        if earlier is not None:
            lines.append(f"of what is kept, the last turn brought {self.change(earlier, 'mse')[0]:.0%}")
        return lines


def _stands_in(positions: Tensor, others: Tensor) -> Tensor:
    """Return True where positions (L, B, H, P) are among those of the same layer, conversation and head of others."""
    if not others.shape[-1]:
        return torch.zeros_like(positions, dtype=torch.bool)
    others = others.sort(dim=-1).values
    place = torch.searchsorted(others, positions).clamp(max=others.shape[-1] - 1)
    return others.gather(-1, place) == positions
