"""All turns of a dialogue read in one pass, each with what a retained memory keeps of the turns before it.

Keeping is associative, so what a turn sees does not depend on how the memory was written: token j of an earlier turn is
visible to turn n where its score is among the highest by then. In training it is visible to a degree, so that gates
learn: with the additive bias log sigmoid((s_j - tau_n) / T), tau_n midway between the last score that is kept and the
first that is not.

Shapes: B dialogues, N turns, T tokens of a dialogue, H key/value heads, P places of a memory before them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory.retained.keeping import kept_tokens
from rxlm.nn.cache import Layout
from rxlm.nn.key_values import KeyValues
from rxlm.nn.past import ComputedTurn, Past, computed_turn
from rxlm.nn.rope import RotaryEmbedding

HIDDEN = -1e4
"""What is added to the attention scores of tokens that are not seen."""


class ParallelTurns:
    """Takes the place of a key/value cache while whole dialogues are read; gradients flow to the gates.

    Args:
        turns: number of the turn that each token belongs to, (B, T), growing along a row; negative: padding at the end.
        num_tokens: S, tokens that are kept. first: so many at the beginning are never dropped.
        newest: so many of the newest are kept.
        temperature: T above; None: tokens are visible or not, as they are to a conversation.
        past: what stands before the first turn, rotated, in P places; None: nothing. past_scores: of its tokens,
            (L, B, H, P). No gradient flows to either.
        keeps: whether what is computed of the tokens can be had afterwards (`computed`).
    """

    def __init__(
        self,
        turns: Tensor,
        *,
        num_tokens: int,
        first: int,
        newest: int,
        temperature: float | None = None,
        past: Past | None = None,
        past_scores: Tensor | None = None,
        keeps: bool = False,
    ) -> None:
        self.turns, self.num_tokens, self.first = turns, num_tokens, first
        self.newest, self.temperature = min(newest, num_tokens - first), temperature
        self.past, self.past_scores, self.keeps = past, past_scores, keeps
        self.num_turns = int(turns.max()) + 1
        place = torch.arange(turns.shape[1], device=turns.device)
        begin, shift = turns.new_zeros(len(turns)), turns.new_zeros(len(turns))
        if past is not None:
            assert past.next_position is not None
            begin, shift = past.length, past.next_position
        self.places = begin[:, None] + place
        """Tokens of the conversation before each of these, (B, T)."""
        self.positions = shift[:, None] + place
        """Where the rotary embedding has them, (B, T)."""
        numbers = torch.arange(self.num_turns, device=turns.device)
        self.earlier = (turns[:, None] < numbers[:, None]) & (turns[:, None] >= 0)
        """Which of them stand before each turn, (B, N, T)."""
        self.lengths = begin[:, None] + self.earlier.sum(-1)
        """Tokens of the conversation before each turn, (B, N)."""
        self._turn_of = F.one_hot(turns.clamp(min=0), self.num_turns).float()
        own = (turns[:, :, None] == turns[:, None]) & (place[:, None] >= place)
        self.own = F.pad(own, (0 if past is None else past.num_places, 0))
        """Which tokens of its own turn each sees, (B, T, P + T)."""
        self._visible: Tensor | None = None
        """What `visibility` says of the last layer that has a gate."""
        self._bias: Tensor | None = None
        self._seen: dict[int, KeyValues] = {}
        self._scores: dict[int, Tensor] = {}

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return the positions; what is seen of earlier tokens depends on the layer."""
        return Layout(self.positions, None, causal=True)

    def note(self, layer: int, scores: Tensor) -> None:
        """Take the scores that the layer's gate gave the tokens, (B, H, T); layers without a gate keep by them, too."""
        self._visible, self._bias = self.visibility(scores, layer), None
        if self.keeps:
            self._scores[layer] = scores.detach()

    def visible(self, layer: int, num_heads: int) -> Tensor:
        """Return what is added where a turn attends to the tokens before it, in this layer, (B, H, N, P + T)."""
        if self._visible is None:  # no gate: all scores are equal
            scores = torch.zeros(len(self.turns), num_heads, self.turns.shape[1], device=self.turns.device)
            self._visible = self.visibility(scores, layer)
        return self._visible

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Return keys and values (B, H, P + T, d), the past's first, with what the layer's tokens see of them."""
        visible = self.visible(layer, keys.shape[1])
        if self._bias is None or self._bias.dtype != keys.dtype:
            self._bias = self._bias_of(visible.to(keys.dtype))
        if self.keeps:
            self._seen[layer] = KeyValues(keys.detach(), values.detach())
        if self.past is not None:
            keys = torch.cat((self.past.keys[layer].to(keys.dtype), keys), 2)
            values = torch.cat((self.past.values[layer].to(values.dtype), values), 2)
        return KeyValues(keys, values, self._bias)

    def computed(self, ids: Tensor, mask: Tensor, rope: RotaryEmbedding) -> ComputedTurn:
        """Return what was computed of the tokens `ids` (B, T), of those where `mask` is True: the first of a row."""
        assert self.keeps
        return computed_turn(self._seen, self._scores, ids, mask, self.positions, rope)

    def _bias_of(self, of_turns: Tensor) -> Tensor:
        """Return what is added to attention scores, (B, H, T, P + T), of what turns see, (B, H, N, P + T)."""
        # Every token sees of earlier turns what its own turn sees.
        bias = torch.einsum("btn,bhnk->bhtk", self._turn_of.to(of_turns.dtype), of_turns)
        return bias.masked_fill_(self.own[:, None], 0.0)

    def visibility(self, scores: Tensor, layer: int = 0) -> Tensor:
        """Return what is added where a turn attends to the tokens before it, (B, H, N, P + T)."""
        places, before = (
            self.places[:, None].expand_as(scores),
            self.earlier[:, None].expand(-1, scores.shape[1], -1, -1),
        )
        if self.past is not None and self.past_scores is not None:
            stand = self.past.positions[layer]  # negative: an empty place
            held = (stand >= 0)[:, :, None].expand(-1, -1, self.num_turns, -1)
            places, before = torch.cat((stand, places), -1), torch.cat((held, before), -1)
            scores = torch.cat((self.past_scores[layer], scores), -1)
        if self.temperature is None:
            return self._kept(scores, places, before)
        positions, lengths = places[:, :, None], self.lengths[:, None, :, None]
        is_safe = (positions < self.first) | (positions >= lengths - self.newest)
        rest = scores[:, :, None].masked_fill(~before | is_safe, -torch.inf)  # (B, H, N, T)
        room = self.num_tokens - self.newest - self.first
        bias = scores[:, :, None] * 0.0  # all is kept; gates that learn alone have a gradient all the same
        if room < rest.shape[-1]:
            highest = rest.detach().topk(room + 1, dim=-1).values
            dropped = highest[..., -1:]
            kept = highest[..., -2:-1] if room else dropped + 2 * self.temperature
            threshold = torch.where(dropped.isfinite(), (kept + dropped) / 2, -torch.inf)
            distance = ((scores[:, :, None] - threshold) / self.temperature).clamp(max=60.0)
            bias = F.logsigmoid(distance)  # without a floor: weights learn to read through any
        return torch.where(before, torch.where(is_safe, 0.0, bias), HIDDEN)

    def _kept(self, scores: Tensor, places: Tensor, before: Tensor) -> Tensor:
        """Return 0 at what is kept and `HIDDEN` elsewhere, by the rule that conversations keep to."""
        batch, heads, count = scores.shape
        result = scores.new_full((batch, heads, self.num_turns, count + 1), HIDDEN)
        limit = torch.full((batch,), self.num_tokens, device=scores.device)
        first, newest = torch.full_like(limit, self.first), torch.full_like(limit, self.newest)
        for turn in range(self.num_turns):
            positions = places.masked_fill(~before[:, :, turn], -1)
            kept = kept_tokens(positions[None], scores[None], self.lengths[:, turn], limit, first, newest)[0]
            result[:, :, turn].scatter_(-1, kept, 0.0)
        return result[..., :count]
