"""The memories that the turns of a batch are answered from, as stages 4 to 6 compute them.

What an update reads of a turn does not depend on the memory, nor does one turn's decoding on another's: all turns are
encoded in one batch and decoded in one batch, and only the chain of updates runs turn after turn.

Shapes: N turns, B dialogues, T tokens of a turn, L memory layers, S slots, D model dimension.
"""

from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.rxt.core import RxTModel
from rxlm.training.by_length import RowGroup, all_rows, by_length, encode_by_length
from rxlm.training.turns import Turns


def encode_turns(model: RxTModel, turns: Turns, *, with_last: bool = True) -> Tensor:
    """Return the encoded data of all turns, (L, N, B, T, D), or of all but the last, which no other reads."""
    dim, end = model.decoder.config.dim, turns.num_turns if with_last else turns.num_turns - 1
    encoded = encode_by_length(model.encode, turns.ids[:end].flatten(0, 1), turns.mask[:end].flatten(0, 1), dim)
    return encoded.unflatten(1, (-1, turns.batch_size))


def memory_chain(
    model: RxTModel, turns: Turns, encoded: Tensor, *, unroll: int, carried: MemoryState | None = None
) -> tuple[MemoryState, MemoryState]:
    """Write turn after turn to the memory.

    Args:
        model: the model.
        turns: the batch; where `turns.fresh` is True a conversation begins, from the initial memory.
        encoded: what `encode_turns` returned; without the last turn that one is not written.
        unroll: updates that a gradient flows through; the memory is detached every so many turns.
        carried: the memory that rows go on from where their first turn is not fresh.

    Returns: the memory before each turn, of N * B rows, and the one after the last, of B.
    """
    memory = initial = model.init_memory(turns.batch_size)
    if turns.fresh is not None and carried is not None and carried.batch_size == turns.batch_size:
        memory = carried
    before = []
    each = encoded.unbind(1)
    for turn in range(turns.num_turns):
        if turns.fresh is not None:
            memory = initial.where(turns.fresh[turn], memory)
        before.append(memory)
        if turn == len(each):
            break
        if turn and turn % unroll == 0:
            memory = memory.detach()
        memory = model.write(memory, turns.ids[turn], turns.mask[turn], each[turn])
    return MemoryState.join(before), memory


def memory_after(model: RxTModel, turns: Turns, memory: MemoryState, *, unroll: int) -> MemoryState:
    """Return a memory after turns were written to it; it may be of any kind.

    Args:
        turns: a conversation that has fewer has its padding first, so that all end together.
        memory: of B conversations.
        unroll: the last updates, so many of which a gradient flows through.
    """
    reads_encoded = model.memory_writer.reads_encoded
    encoded = encode_turns(model, turns).unbind(1) if reads_encoded else [None] * turns.num_turns
    for turn, read in enumerate(encoded):
        if turns.num_turns - turn == unroll:
            memory = memory.detach()
        ids, mask = turns.ids[turn], turns.mask[turn]
        memory = model.update_memory(memory, ids, mask) if read is None else model.write(memory, ids, mask, read)
    return memory


def decoding_groups(model: RxTModel, mask: Tensor) -> list[RowGroup]:
    """Divide rows to be decoded; all at once where there are experts, whose load is balanced over all tokens."""
    decoder = model.decoder.config
    return [all_rows(mask)] if decoder.experts else by_length(mask, decoder.dim)
