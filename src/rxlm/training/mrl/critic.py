"""The critic: what a turn is expected to earn, before it is answered.

Shapes: R turns, T tokens, D model dimension.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from rxlm.nn.norm import RMSNorm
from rxlm.rxt.encoder import RxTEncoder


class Critic(nn.Module):
    """Reads the turn before with an own copy of the encoder, and the query as the policy sees it from the memory.

    The copy's last layer is averaged over the tokens; beside it stands the decoder's state at the end of the query,
    where the answer begins, which has read the memory. A linear head, 0 at first, makes a value of both.

    Args:
        encoder: to be copied.
    """

    def __init__(self, encoder: RxTEncoder) -> None:
        super().__init__()
        self.body = deepcopy(encoder)
        dim = encoder.config.dim
        like = next(encoder.parameters())
        self.norm = RMSNorm(2 * dim, device=like.device, dtype=like.dtype)
        self.head = nn.Linear(2 * dim, 1, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, mask: Tensor, queries: Tensor) -> Tensor:
        """Return values (R,).

        Args:
            ids, mask: the turn before, (R, T); a row without a token has none.
            queries: the decoder's states at the end of the queries, (R, D); no gradient flows into them.
        """
        weights = mask[..., None].to(queries.dtype)
        read = self.body(ids, mask)[-1] * weights
        before = read.sum(1) / weights.sum(1).clamp(min=1)
        return self.head(self.norm(torch.cat((before, queries.detach()), dim=-1)))[:, 0]
