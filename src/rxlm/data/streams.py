"""Endless conversations, read a few turns at a time: for training that carries the memory from batch to batch."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Self

import torch

from rxlm.data.batches import StreamBatch
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.samplers import Resumable, check_same, check_sizes, place_in
from rxlm.data.turn_tokenizer import TurnTokenizer


class ConversationStreams:
    """An endless iterator over `StreamBatch`: each row continues its conversation or begins a new one.

    At the start of a batch, a row begins a new conversation with probability `reset_probability`. Where a conversation
    ends within a batch, the next one follows at once, so that no turn is padding. The number of a row among the rows of
    all processes decides which conversations it takes, so that several processes, and a resumed run, see the same data
    as one process without interruption. To resume, each row's current conversation is generated again up to where it
    was.

    Args:
        open_conversation: returns the turns of conversation number i, for example `FactGenerator.stream`.
        turn_tokenizer: makes the tensors.
        batch_size: rows of a process.
        turns_per_batch: turns of a batch.
        reset_probability: probability that a row begins a new conversation, at the start of a batch.
        seed: decides when rows begin new conversations.
        rank, world_size: number of this process, and number of processes.
    """

    def __init__(
        self,
        open_conversation: Callable[[int], Iterator[Interaction]],
        turn_tokenizer: TurnTokenizer,
        *,
        batch_size: int,
        turns_per_batch: int,
        reset_probability: float = 0.1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_sizes(batch_size, rank, world_size)
        if turns_per_batch < 1:
            raise ValueError(f"turns_per_batch={turns_per_batch} must be at least 1")
        if not 0 <= reset_probability <= 1:
            raise ValueError(f"reset_probability={reset_probability} must be between 0 and 1")
        self.open_conversation, self.turn_tokenizer = open_conversation, turn_tokenizer
        self.batch_size, self.turns_per_batch, self.reset_probability = batch_size, turns_per_batch, reset_probability
        self.seed, self._num_rows = seed, batch_size * world_size
        self.batches_seen = 0
        self._rows = [_Row(rank * batch_size + number) for number in range(batch_size)]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamBatch:
        taken = [self._advance(row) for row in self._rows]
        self.batches_seen += 1
        rows = tuple(tuple(turn for turn, _ in row) for row in taken)
        fresh = torch.tensor([[is_fresh for _, is_fresh in row] for row in taken]).T
        return StreamBatch(self.turn_tokenizer.turn_batches(rows), fresh, rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of each row of this process, and the settings that must be the same when it is loaded."""
        rows = [[row.number, row.life, row.turns_taken] for row in self._rows]
        return {"batches_seen": self.batches_seen, "rows": rows, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; ValueError if the settings would give other conversations.

        The state of another rank works, too, but takes longer: all batches so far are generated again.
        """
        check_same(self._identity(), state)
        self.batches_seen = 0
        self._rows = [_Row(row.number) for row in self._rows]
        saved = {number: (life, turns_taken) for number, life, turns_taken in state["rows"]}
        if all(row.number in saved for row in self._rows):
            self.batches_seen = state["batches_seen"]
            for row in self._rows:
                row.life, turns_taken = saved[row.number]
                if row.life >= 0:
                    row.open(self._open(row))
                    row.take(turns_taken)
        while self.batches_seen < state["batches_seen"]:
            for row in self._rows:
                self._advance(row)
            self.batches_seen += 1

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes: rows begin conversations that none has read."""
        self._check_resharded(states)
        begun = max(life * state["num_rows"] + number + 1 for state in states for number, life, _ in state["rows"])
        self.batches_seen = states[0]["batches_seen"]
        self._rows = [_Row(row.number) for row in self._rows]
        for row in self._rows:  # the next conversation that it opens is the first one of its own from `begun` on
            row.life = -(-(max(begun, 0) - row.number) // self._num_rows) - 1

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "num_rows": self._num_rows,
            "turns_per_batch": self.turns_per_batch,
            "reset_probability": self.reset_probability,
        }

    def _check_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        kept = {name: value for name, value in self._identity().items() if name != "num_rows"}
        for state in states:
            check_same(kept, state)

    def _advance(self, row: "_Row") -> list[tuple[Interaction, bool]]:
        """Return the next turns of a row, each with True if it begins a conversation."""
        chance = random.Random(f"{self.seed}/{row.number}/{self.batches_seen}").random()
        begins = row.life < 0 or chance < self.reset_probability
        taken: list[tuple[Interaction, bool]] = []
        while len(taken) < self.turns_per_batch:
            if begins:
                row.life += 1
                row.open(self._open(row))
            turns = row.take(self.turns_per_batch - len(taken))
            if begins and not turns:
                raise ValueError(f"conversation {row.life * self._num_rows + row.number} has no turns")
            taken += [(turn, begins and number == 0) for number, turn in enumerate(turns)]
            begins = True
        return taken

    def _open(self, row: "_Row") -> Iterator[Interaction]:
        return self.open_conversation(row.life * self._num_rows + row.number)


class StreamedConversations(ConversationStreams):
    """An endless iterator over `StreamBatch` whose conversations are read in order: a row takes the next dialogue.

    The state has the turns that rows have not read yet of their dialogues. With another number of processes all rows
    begin new dialogues, and those that they were in stay unfinished.

    Args:
        dialogues: this process's own, for example `rxlm.data.shuffled_records.ShuffledRecords`.
        max_turns: cuts longer dialogues.
        turn_tokenizer, settings: as in `ConversationStreams`.
    """

    def __init__(
        self,
        dialogues: Resumable[Dialogue],
        turn_tokenizer: TurnTokenizer,
        *,
        max_turns: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(lambda number: iter(next(dialogues).turns[:max_turns]), turn_tokenizer, **settings)
        self.dialogues = dialogues

    def state_dict(self) -> dict[str, Any]:
        """Return what each row has still to read, and the position of the dialogues."""
        rows = [[row.number, row.life, [asdict(turn) for turn in row.rest()]] for row in self._rows]
        dialogues = self.dialogues.state_dict()
        return {"batches_seen": self.batches_seen, "rows": rows, "dialogues": dialogues, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; ValueError if the settings would give other conversations."""
        check_same(self._identity(), state)
        self.dialogues.load_state_dict(place_in(state, "dialogues"))
        self.batches_seen = state["batches_seen"]
        for row, (number, life, turns) in zip(self._rows, state["rows"], strict=True):
            row.number, row.life = number, life
            row.open(iter([_turn_of(values) for values in turns]))

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue after the states of another number of processes: rows begin dialogues that none has read."""
        self._check_resharded(states)
        self.dialogues.load_resharded([place_in(state, "dialogues") for state in states])
        self.batches_seen = states[0]["batches_seen"]
        self._rows = [_Row(row.number) for row in self._rows]


def _turn_of(values: dict[str, Any]) -> Interaction:
    """Return the turn that `asdict` wrote, also where tuples have become lists."""
    fields: dict[str, Any] = dict(values)
    if asked := fields["question"]:
        lists: dict[str, Any] = {name: tuple(asked[name]) for name in ("expected", "stale")}
        fields["question"] = Question(**dict(asked, **lists))
    return Interaction(**fields)


class _Row:
    """One row of the batches: its current conversation (the row's `life`-th) and the number of turns read from it."""

    def __init__(self, number: int) -> None:
        self.number, self.life, self.turns_taken = number, -1, 0
        self._turns: Iterator[Interaction] = iter(())

    def open(self, turns: Iterator[Interaction]) -> None:
        """Begin a conversation."""
        self._turns, self.turns_taken = turns, 0

    def take(self, count: int) -> list[Interaction]:
        """Return the next turns, fewer than `count` where the conversation ends."""
        turns = list(islice(self._turns, count))
        self.turns_taken += len(turns)
        return turns

    def rest(self) -> list[Interaction]:
        """Return the turns that are still to be read."""
        turns = list(self._turns)
        self._turns = iter(turns)
        return turns
