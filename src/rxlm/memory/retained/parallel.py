"""All turns of a dialogue read in one pass, each with what a retained memory keeps of the turns before it.

Keeping is associative, so what a turn sees does not depend on how the memory was written: token j of an earlier turn is
visible to turn n where its score is among the highest by then. In training it is visible to a degree, so that gates
learn: with the additive bias log sigmoid((s_j - tau_n) / T), tau_n midway between the last score that is kept and the
first that is not.

Shapes: B dialogues, N turns, T tokens of a dialogue, H key/value heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.memory.retained.keeping import kept_tokens
from rxlm.nn.cache import Layout
from rxlm.nn.key_values import KeyValues

HIDDEN = -1e4
"""What is added to the attention scores of tokens that are not seen."""
_FAINTEST = -12.0
"""The bias of a token whose score is far below the threshold."""


class ParallelTurns:
    """Takes the place of a key/value cache while whole dialogues are read; gradients flow to the gates.

    Args:
        turns: number of the turn that each token belongs to, (B, T), growing along a row; negative: padding at the end.
        num_tokens: S, tokens that are kept. first: so many at the beginning are never dropped.
        newest: so many of the newest are kept.
        temperature: T above; None: tokens are visible or not, as they are to a conversation.
    """

    def __init__(
        self, turns: Tensor, *, num_tokens: int, first: int, newest: int, temperature: float | None = None
    ) -> None:
        self.turns, self.num_tokens, self.first = turns, num_tokens, first
        self.newest, self.temperature = min(newest, num_tokens - first), temperature
        self.num_turns = int(turns.max()) + 1
        self.positions = torch.arange(turns.shape[1], device=turns.device)
        numbers = torch.arange(self.num_turns, device=turns.device)
        self.earlier = (turns[:, None] < numbers[:, None]) & (turns[:, None] >= 0)
        """Which tokens stand before each turn, (B, N, T)."""
        self.lengths = self.earlier.sum(-1)
        """How many do, (B, N)."""
        self._turn_of = F.one_hot(turns.clamp(min=0), self.num_turns).float()
        causal = self.positions[:, None] >= self.positions
        self._own = (turns[:, :, None] == turns[:, None]) & causal
        self._bias: Tensor | None = None

    def layout(self, num_tokens: int, sliding_window: int | None = None) -> Layout:
        """Return the positions; what is seen depends on the layer."""
        return Layout(self.positions, None, causal=False)

    def note(self, layer: int, scores: Tensor) -> None:
        """Take the scores that the layer's gate gave the tokens, (B, H, T); layers without a gate keep by them, too."""
        self._bias = self._bias_of(scores)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> KeyValues:
        """Return keys and values (B, H, T, d) with what the layer's tokens see of them."""
        if self._bias is None:  # no gate: all scores are equal
            self._bias = self._bias_of(keys.new_zeros(keys.shape[:-1]))
        return KeyValues(keys, values, self._bias.to(keys.dtype))

    def _bias_of(self, scores: Tensor) -> Tensor:
        """Return what is added to attention scores, (B, H, T, T)."""
        of_turns = self.visibility(scores)
        # Every token sees of earlier turns what its own turn sees.
        bias = torch.einsum("btn,bhnk->bhtk", self._turn_of.to(of_turns.dtype), of_turns)
        return bias.masked_fill(self._own[:, None], 0.0)

    def visibility(self, scores: Tensor) -> Tensor:
        """Return what is added where a turn attends to the tokens before it, (B, H, N, T)."""
        if self.temperature is None:
            return self._kept(scores)
        before = self.earlier[:, None]
        positions, lengths = self.positions, self.lengths[:, None, :, None]
        is_safe = (positions < self.first) | (positions >= lengths - self.newest)
        rest = scores[:, :, None].masked_fill(~before | is_safe, -torch.inf)  # (B, H, N, T)
        room = self.num_tokens - self.newest - self.first
        bias = torch.zeros_like(rest)
        if room < rest.shape[-1]:
            highest = rest.detach().topk(room + 1, dim=-1).values
            dropped = highest[..., -1:]
            kept = highest[..., -2:-1] if room else dropped + 2 * self.temperature
            threshold = torch.where(dropped.isfinite(), (kept + dropped) / 2, -torch.inf)
            distance = ((scores[:, :, None] - threshold) / self.temperature).clamp(max=60.0)
            bias = F.logsigmoid(distance).clamp(min=_FAINTEST)
        return torch.where(before, torch.where(is_safe, 0.0, bias), HIDDEN)

    def _kept(self, scores: Tensor) -> Tensor:
        """Return 0 at what is kept and `HIDDEN` elsewhere, by the rule that conversations keep to."""
        batch, heads, count = scores.shape
        result = scores.new_full((batch, heads, self.num_turns, count + 1), HIDDEN)
        limit = torch.full((batch,), self.num_tokens, device=scores.device)
        first, newest = torch.full_like(limit, self.first), torch.full_like(limit, self.newest)
        for turn in range(self.num_turns):
            held = self.earlier[:, turn, None].expand(-1, heads, -1)
            positions = self.positions.expand_as(scores).masked_fill(~held, -1)
            places = kept_tokens(positions[None], scores[None], self.lengths[:, turn], limit, first, newest)[0]
            result[:, :, turn].scatter_(-1, places, 0.0)
        return result[..., :count]
