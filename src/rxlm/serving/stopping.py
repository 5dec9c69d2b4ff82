"""How a server stops: answers under way end, and new ones are refused meanwhile, so that clients go elsewhere."""

import threading
from types import FrameType

import uvicorn

from rxlm.serving.scheduler import Scheduler


class DrainingServer(uvicorn.Server):
    """Listens until the answers under way have ended, once it is told to stop; a second signal ends it at once.

    Meanwhile new answers are refused with 503, and `/health` says that the server is stopping.

    Args:
        config: uvicorn's. scheduler: of the answers. seconds: for these to end.
    """

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler, seconds: float) -> None:
        super().__init__(config)
        self.scheduler, self.seconds = scheduler, seconds
        self._draining: threading.Thread | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if self._draining is not None:
            super().handle_exit(sig, frame)
            return
        # Not here: what a signal interrupts may have the lock that draining waits for.
        self._draining = threading.Thread(target=self._drain, args=(sig, frame), daemon=True)
        self._draining.start()

    def _drain(self, sig: int, frame: FrameType | None) -> None:
        self.scheduler.drain(self.seconds)
        super().handle_exit(sig, frame)
