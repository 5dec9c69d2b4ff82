"""Dialogues, a few turns at a time: for training that carries a memory from one part of a dialogue to the next."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from rxlm.data.batches import DialogueBatch
from rxlm.data.samplers import check_same


class WindowedDialogues:
    """Takes each batch of dialogues in windows of some turns; the next window goes on where one ends.

    Args:
        batches: endless batches of dialogues, with a state.
        window_turns: turns of a window.
    """

    def __init__(self, batches: Any, window_turns: int) -> None:
        self.batches, self.window_turns = batches, window_turns
        self._batch: DialogueBatch | None = None
        self._before: dict[str, Any] = {}
        self._first_turn = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DialogueBatch:
        if self._batch is None:
            self._open(0)
        batch, first = self._batch, self._first_turn
        assert batch is not None
        end = min(first + self.window_turns, batch.num_turns)
        goes_on = end < batch.num_turns
        self._batch, self._first_turn = (batch, end) if goes_on else (None, 0)
        return replace(batch, turns=batch.turns[:end], first_turn=first, goes_on=goes_on)

    def _open(self, first_turn: int) -> None:
        self._before = self.batches.state_dict()
        self._batch, self._first_turn = next(self.batches), first_turn

    def state_dict(self) -> dict[str, Any]:
        """Return where the batches stand, and the window in the present one."""
        batches = self.batches.state_dict() if self._batch is None else self._before
        return {"window_turns": self.window_turns, "first_turn": self._first_turn, "batches": batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; ValueError where windows were of another size."""
        check_same({"window_turns": self.window_turns}, state)
        self.batches.load_state_dict(state["batches"])
        self._batch = None
        if state["first_turn"]:
            self._open(state["first_turn"])

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on after the states of another number of processes: with the first window of dialogues."""
        self.batches.load_resharded([state["batches"] for state in states])
        self._batch, self._first_turn = None, 0
