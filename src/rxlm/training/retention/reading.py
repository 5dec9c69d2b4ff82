"""Whole dialogues read in one pass: padded, or as one row of tokens.

Shapes: B dialogues, T tokens of a dialogue, D model dimension.
"""

from torch import Tensor

from rxlm.memory.retained.packed import PackedTurns
from rxlm.memory.retained.parallel import ParallelTurns
from rxlm.rxt.decoder import RxTDecoder
from rxlm.rxt.layers import check_shape, embed


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
    row = packed.packed(ids)
    layout = packed.layout(row.shape[1], decoder.config.sliding_window)
    return packed.padded(decoder.through_layers(embed(decoder.embedding, row), layout, None, packed))
