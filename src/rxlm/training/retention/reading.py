"""Whole dialogues read in one pass: padded, or as one row of tokens.

Shapes: B dialogues, T tokens of a dialogue, D model dimension.
"""

from torch import Tensor

from rxlm.memory.retained.packed import PackedTurns
from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.layers import check_shape


def states_of_dialogues(
    decoder: RxTDecoder, ids: Tensor, real: Tensor | None, turns: ParallelTurns | None = None
) -> Tensor:
    """Return what the head reads of whole dialogues (B, T), (B, T, D).

    Args:
        real: True at the tokens of each dialogue, its first ones, (B, T): these are read as one row, and what is
            returned of the rest is 0. None: all tokens are read, with padding.
        turns: says what turns see of those before them; None: every token sees all before it.
    """
    if real is None:
        return decoder.hidden_states(ids, None, cache=turns)
    check_shape(ids, real, decoder.config)
    packed = PackedTurns(real, turns)
    return packed.padded(decoder.states_of_row(packed.packed(ids), packed))
