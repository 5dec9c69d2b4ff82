"""Batches made ahead: while a GPU computes a step, a thread puts the next batch together."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from rxlm.training.trainer import Batches


class _Made(NamedTuple):
    """A batch, and where its source stood after it."""

    batch: Any
    state: dict[str, Any]


class BatchesAhead:
    """The same batches in the same order, one of them made before it is asked for.

    Args:
        batches: the source; what it gives must not depend on the model. Nothing else may take batches from it.
    """

    def __init__(self, batches: "Batches") -> None:
        self.batches = batches
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[_Made] | None = None
        self._state: dict[str, Any] | None = None
        """Where the source stood after the batch that was given last; None: where it stands."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the next batch; what making it raised is raised here."""
        made = (self._next or self._maker.submit(self._make)).result()
        self._next, self._state = self._maker.submit(self._make), made.state
        return made.batch

    def _make(self) -> _Made:
        return _Made(next(self.batches), self.batches.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return where the source stood after the batch that was given last."""
        return self.batches.state_dict() if self._state is None else self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the source where it stood; a batch that was made ahead is dropped."""
        self.close()
        self.batches.load_state_dict(state)

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on after the states of another number of processes, as far as the source can."""
        self.close()
        self.batches.load_resharded(states)

    def close(self) -> None:
        """Wait for the batch that is being made, and drop it."""
        if self._next is not None:
            self._next.exception()
        self._next = self._state = None
