"""Slots that copy: each keeps what it holds, or takes the state of a token in its place.

An attention that writes mixes what it has read of all tokens, and a gate lets some of the mixture in. Where exact
values are to be told again, that blurs them. Here a slot's own state stands among the tokens that it may attend to, and
no projection follows: one softmax decides between keeping and copying, and a slot that has copied holds the
normalised state of a token, which a decoder that encodes for itself can read as it reads the tokens before.

Shapes: B conversations, S slots, T tokens, D model dimension.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rxlm.shapes import Bool, Float

SHARPNESS = 8.0
KEEPING = 7.0
TURN = 16


class Shares(NamedTuple):
    """What slots are made of: a share of what each held, (B, S, 1), and of each token, (B, S, T); together 1."""

    kept: Tensor
    copied: Tensor


class CopyAttention(nn.Module):
    """New slots, m' = a_0 m + sum_t a_t x_t, with weights a = softmax([keep(m), s_1, ..., s_T]).

    keep(m) = w n(m) + b + log(max(1, T / 16)), a b for each slot, and T the tokens that may be copied; s_t =
    (Wi i + Wm n(m)) . (Wk x_t) / sqrt(D), with a learned identity i of each slot and an RMSNorm n. At first Wm and w
    are zero: which tokens a slot is for depends on its identity alone. `SHARPNESS` scales Wi, so that on a language
    model's states scores differ by about 3 at first and slots copy a token or two, each slot others; b begins at
    `KEEPING`, where about one slot in three copies anything of a turn of `TURN` tokens. Beyond that length the
    logarithm keeps the balance: without it every further token would be one more chance to be overwritten, and a long
    answer would empty the memory.

    A slot of zeros that copies a little of a token counts as much as one that copies all of it, for a decoder
    normalises what it reads: what is kept of zeros is nothing, and damps nothing.

    The idea is that of pointer networks (Vinyals et al., 2015), with the memory's cell as one of the places.

    Args:
        dim: model dimension D.
        num_slots: slots S.
    """

    parameter_groups: ClassVar[Mapping[str, str]] = {"keep_gate": "gates", "keep_gate_bias": "gates"}
    without_decay: ClassVar[tuple[str, ...]] = ("identity",)

    def __init__(self, dim: int, num_slots: int) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.empty(num_slots, dim))
        self.slot_norm = nn.RMSNorm(dim)
        self.identity_proj = nn.Linear(dim, dim, bias=False)
        self.slot_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.keep_gate = nn.Linear(dim, 1, bias=False)
        self.keep_gate_bias = nn.Parameter(torch.full((num_slots, 1), KEEPING))
        if not self.identity.is_meta:  # else a shape to load weights into
            nn.init.normal_(self.identity)
            nn.init.normal_(self.identity_proj.weight, std=SHARPNESS * dim**-0.5)
            nn.init.zeros_(self.slot_proj.weight)
            nn.init.zeros_(self.keep_gate.weight)

    def forward(
        self, slots: Float[Tensor, "B S D"], tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """Return the next slots (B, S, D).

        Args:
            slots: what they hold, (B, S, D).
            tokens: normalised states of the interaction's tokens, (B, T, D).
            mask: True at tokens that may be copied, (B, T); None: all.
        """
        kept, copied = self.shares(slots, tokens, mask)
        return kept * slots + (copied @ tokens).type_as(slots)  # under autocast the memory keeps its own precision

    def shares(
        self, slots: Float[Tensor, "B S D"], tokens: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Shares:
        """Return what the next slots are made of; arguments as those of `forward`."""
        held = self.slot_norm(slots)
        asking = self.identity_proj(self.identity) + self.slot_proj(held)
        scores = asking @ self.k_proj(tokens).transpose(1, 2) * slots.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        length = slots.new_tensor(tokens.shape[1]) if mask is None else mask.sum(-1)[:, None, None].to(slots.dtype)
        keep = self.keep_gate(held) + self.keep_gate_bias + (length / TURN).clamp(min=1).log()
        weights = torch.cat((keep, scores), dim=-1).softmax(dim=-1)
        return Shares(weights[..., :1], weights[..., 1:])
