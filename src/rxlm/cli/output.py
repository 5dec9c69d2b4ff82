"""What commands print: tables and text on standard output."""

from typing import Any

from rich.console import Console


class Output(Console):
    """Rich's console, which changes nothing in a text, and ends as other commands do where its output is closed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled: Rich would end the process with the status of a fault."""
        raise
