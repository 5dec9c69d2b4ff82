"""A curriculum over data: one source of batches after another."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from rxlm.training.trainer import Batches


class Phase(NamedTuple):
    """A source, and how many microbatches are taken from it."""

    batches: Batches
    count: int


class PhasedBatches:
    """Takes a number of microbatches from each source in turn; from the last one for ever.

    The order and sizes of phases are part of a run's recipe; the state is each source's own.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        if not phases:
            raise ValueError("A curriculum needs at least one phase.")
        self.phases = list(phases)
        self.taken = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        batch = next(self.phases[self._present()].batches)
        self.taken += 1
        return batch

    def _present(self) -> int:
        end = 0
        for number, phase in enumerate(self.phases):
            end += phase.count
            if self.taken < end:
                return number
        return len(self.phases) - 1

    def state_dict(self) -> dict[str, Any]:
        """Return where the curriculum and each of its sources stand."""
        return {"taken": self.taken, "phases": [phase.batches.state_dict() for phase in self.phases]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.taken = state["taken"]
        for number, (phase, saved) in enumerate(zip(self.phases, state["phases"], strict=True)):
            if number >= self._present():  # phases that are over give no more batches
                phase.batches.load_state_dict(saved)

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on after the states of another number of processes, as far in the curriculum, each source as it can."""
        self.taken = states[0]["taken"]
        for number, phase in enumerate(self.phases):
            if number >= self._present():
                phase.batches.load_resharded([state["phases"][number] for state in states])
