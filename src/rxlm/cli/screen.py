"""What a chat reads and writes, on a terminal or through pipes: messages are read whole, text is written as it is."""

import contextlib
import io
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from rich.segment import Segment, Segments
from rich.style import Style

from rxlm.cli.errors import printable
from rxlm.cli.output import Output

BLOCK = '"""'
"""Begins and ends a message of several lines."""


class Screen:
    """Reads messages and writes text. Nothing in a text steers the terminal, and nothing in it is taken for markup."""

    def __init__(self) -> None:
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        self._console = Output(soft_wrap=True)
        self._may_stop = False
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a file's name may be no text; a message is checked

    def show(self, text: str, style: str = "") -> None:
        """Write text in a style of Rich's, without a line end of its own."""
        segment = Segment(printable(text), Style.parse(style))
        self._console.print(Segments([segment]), end="")

    def read(self) -> str | None:
        """Return the next message or command, or None at the end of the input.

        Lines from one that begins with BLOCK to one that ends with it are one message; where that begins with a "/",
        another one is put before it, as a person would, for it is no command. ValueError for one without an end.
        """
        line = self._line("\nyou> ")
        if line is None or not line.startswith(BLOCK):
            return line
        lines = [line.removeprefix(BLOCK)]
        while not lines[-1].rstrip().endswith(BLOCK):
            line = self._line("...> ")
            if line is None:
                raise ValueError(f"The input ended inside a message that began with {BLOCK}.")
            lines.append(line)
        lines[-1] = lines[-1].rstrip().removesuffix(BLOCK)
        text = "\n".join(lines).removeprefix("\n").removesuffix("\n")
        return f"/{text}" if text.startswith("/") else text

    def _line(self, prompt: str) -> str | None:
        """Return a line without its end; what comes through a pipe is shown as if it were typed."""
        if self.interactive:
            try:
                return input(prompt)
            except EOFError:
                return None
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line:
            return None
        line = line.removesuffix("\n")
        if line.strip():
            self.show(f"{prompt}{line}\n")
        return line

    # --- Ctrl-C --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """On a terminal, let Ctrl-C interrupt nothing but what is done in `stoppable`, and give input() a history."""
        in_charge = threading.current_thread() is threading.main_thread()
        if not (self.interactive and in_charge and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
            yield
            return
        with contextlib.suppress(ImportError):  # Windows has none, and keeps a history itself
            import readline  # noqa: F401  # importing it gives input() arrow keys
        signal.signal(signal.SIGINT, self._stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let the first Ctrl-C raise KeyboardInterrupt; those that follow must not interrupt what is done about it."""
        try:
            self._may_stop = True
            yield
        finally:
            self._may_stop = False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._may_stop:
            self._may_stop = False
            raise KeyboardInterrupt
