"""One current memory, of one conversation or of a batch of them: the convenience on top of memory as a value.

Shapes: B conversations, T tokens.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.memory import MemoryReading, MemoryState
from rxlm.rxt.background import Cell
from rxlm.rxt.core import RxTModel
from rxlm.rxt.layers import check_tokens
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.turn_engine import Opening, Query, RunningTurn, TurnEngine
from rxlm.seeds import Seed, check_seed, row_seeds

MEMORY_UPDATE_STARTS = -1
MEMORY_UPDATE_DONE = -2


class CurrentMemory:
    """Threads one memory through a model's pure functions: the published models' way of conversing.

    The memory is replaced at once, and a turn only replaces the one that it was answered from.

    Args:
        model: the model; its weights may change, move or be replaced between turns.
    """

    def __init__(self, model: RxTModel) -> None:
        self.model = model
        self._present: Cell[_Present] = Cell(_Present(None, None))

    @property
    def batch_size(self) -> int | None:
        """Conversations in batch mode; None for one conversation."""
        return self._present.value.batch_size

    # --- the memory ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def start_from(self, ids: Tensor, mask: Tensor | None) -> None:
        """Start again, from a memory that has read the given interaction, (1, T) or a row a conversation."""
        fresh = self.model.init_memory(self.batch_size or 1)
        if ids.shape[0] == 1:
            ids = ids.expand(fresh.batch_size, -1)
            mask = None if mask is None else mask.expand(fresh.batch_size, -1)
        mask = None if mask is None else mask.to(self.model.device)
        self.set(self.model.update_memory(fresh, ids.to(self.model.device), mask))

    @torch.no_grad()
    def reset(self, seed: Seed = None) -> None:
        """Forget everything: start again from the initial memory."""
        self.set(self.model.init_memory(self.batch_size or 1, seed))

    @torch.no_grad()
    def set_batch_size(self, batch_size: int | None) -> None:
        """Start again with so many conversations; None: with one, out of batch mode."""
        self._present.value = _Present(batch_size, KeptReading.of(self.model, self.model.init_memory(batch_size or 1)))

    @torch.no_grad()
    def load(self, state: MemoryState | Tensor) -> None:
        """Go on from a memory, or from the one tensor that a memory of this model is.

        ValueError for another form, and for values that no memory has.
        """
        present = self.get()
        memory = state if isinstance(state, MemoryState) else type(present).from_tensors({"memory": state})
        if (memory.form, memory.batch_size) != (present.form, present.batch_size):
            raise ValueError(
                f"The memory has form {memory.form} and holds {memory.batch_size} conversations; this model, in its "
                f"present mode, has {present.form} and holds {present.batch_size} (see set_batch_mode)."
            )
        memory.check()
        self.set(memory.detach().clone().to(self.model.device, self.model.dtype))

    @torch.no_grad()
    def get(self) -> MemoryState:
        """Return the memory, where the weights are, and read with the weights of now."""
        model = self.model
        while True:
            present = self._present.value
            memory = model.init_memory(self.batch_size or 1) if present.kept is None else present.kept.memory
            here = memory.to(model.device, model.dtype) if _is_elsewhere(memory, model) else memory
            if present.kept is not None and here is memory and not present.kept.is_outdated(model):
                return memory
            if self._present.replace(present, present._replace(kept=KeptReading.of(model, here))):
                return here

    def set(self, memory: MemoryState) -> None:
        """Go on from `memory`; it is projected for the decoder now, so that the next turn starts at once.

        ValueError for a memory of another number of conversations than there are.
        """
        kept = KeptReading.of(self.model, memory)
        while True:
            present = self._present.value
            if memory.batch_size != (present.batch_size or 1):
                raise ValueError(f"The memory holds {memory.batch_size} conversations, and {present.batch_size} go on.")
            if self._present.replace(present, present._replace(kept=kept)):
                return

    def _still(self, memory: MemoryState) -> "_Present":
        """Return what is present; ValueError where the current memory is not `memory` any more."""
        self.get()
        present = self._present.value
        if present.kept is None or present.kept.memory is not memory:
            raise ValueError("The memory was replaced while this turn was answered: the turn is not remembered.")
        return present

    def _reading_of(self, memory: MemoryState) -> MemoryReading:
        """Return the reading of the current memory; ValueError where it is not `memory` any more."""
        present = self._still(memory)
        assert present.kept is not None
        return present.kept.reading

    # --- turns ---------------------------------------------------------------------------------------------------

    def prepare(
        self,
        ids: Tensor,
        mask: Tensor | None,
        max_seq_len: int | None,
        opening: Opening,
        sampling: SamplingConfig,
        seed: Seed,
        ignore_eos: bool,
    ) -> "PreparedTurn":
        """Return the turn that `stream` or `answer` takes, of queries (B, T); errors are raised before any work."""
        model, memory = self.model, self.get()
        if ids.dim() != 2 or ids.shape[0] != memory.batch_size:
            raise ValueError(f"Queries have shape ({memory.batch_size}, T) here, got {tuple(ids.shape)}.")
        check_tokens(ids, None, model.decoder.config)
        check_seed(memory.batch_size, seed)
        rows = Prompt.of(ids, mask, model.tokenizer_config.pad_token_id).rows()
        engine = TurnEngine(model, len(rows), max_seq_len=max_seq_len)
        seeds = [None] * len(rows) if seed is None else row_seeds(len(rows), seed)
        asked = [
            Query(row, opening, sampling, own, ignore_eos=ignore_eos) for row, own in zip(rows, seeds, strict=True)
        ]
        return PreparedTurn(engine, [engine.prepare(query) for query in asked], memory)

    def answer(self, prepared: "PreparedTurn") -> list[list[int]]:
        """Answer all queries, and update all memories; return the answers' tokens, without [EOS]."""
        engine, turns, memory = prepared
        engine.begin(turns, self._reading_of(memory))
        for _ in engine.run():
            pass
        self._finish(engine, turns, memory)
        return [engine.said(turn) for turn in turns]

    def stream(self, prepared: "PreparedTurn") -> Iterator[int]:
        """Answer one query, token by token, and update the memory."""
        engine, turns, memory = prepared
        (turn,) = turns
        if turn.query.opening.shown:
            yield from turn.query.opening.appended
        engine.begin(turns, self._reading_of(memory))
        ends = () if turn.query.ignore_eos else (self.model.tokenizer_config.eos_token_id,)
        for column in engine.run():
            token = int(column.tokens[0])
            if token not in ends and bool(column.active[0]):
                yield token
        yield MEMORY_UPDATE_STARTS
        self._finish(engine, turns, memory)
        yield MEMORY_UPDATE_DONE

    @torch.no_grad()
    def _finish(self, engine: TurnEngine, turns: list[RunningTurn], memory: MemoryState) -> None:
        self._still(memory)
        after = KeptReading.of(self.model, engine.finish(turns, memory))
        while True:
            present = self._still(memory)
            if self._present.replace(present, present._replace(kept=after)):
                return


class PreparedTurn(NamedTuple):
    """A checked turn of all conversations: what will answer it, and the memory that it is answered from."""

    engine: TurnEngine
    turns: list[RunningTurn]
    memory: MemoryState


class KeptReading(NamedTuple):
    """A memory, the reading that was made of it, and what tells the weights that made it from others."""

    memory: MemoryState
    reading: MemoryReading
    weights: list[tuple[int, int, int]]

    @classmethod
    def of(cls, model: RxTModel, memory: MemoryState) -> "KeptReading":
        """Read a memory now."""
        weights = _reading_weights(model)  # first: if they change meanwhile, the reading counts as outdated
        return cls(memory, model.read_memory(memory), weights)

    def is_outdated(self, model: RxTModel) -> bool:
        """Tell whether the weights that read a memory have changed or moved since: training changes them."""
        return self.weights != _reading_weights(model)


class _Present(NamedTuple):
    """How many conversations there are, None out of batch mode, and their memory, None before it is needed."""

    batch_size: int | None
    kept: KeptReading | None


def _is_elsewhere(memory: MemoryState, model: RxTModel) -> bool:
    return memory.device != model.device or memory.dtype != model.dtype


def _reading_weights(model: RxTModel) -> list[tuple[int, int, int]]:
    weights = [weight for layer in model.decoder.memory_layers for weight in layer.parameters()]
    return [(id(each), each.data_ptr(), 0 if each.is_inference() else each._version) for each in weights]
