"""What commands print: tables and text on standard output."""

import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def as_here(command: str) -> str:
    """Return a command of ours as it can be given here: where `rxlm` is not on the search path, with its folder."""
    program = Path(sys.argv[0])
    is_found = shutil.which("rxlm") is not None or program.name != "rxlm"
    return command if is_found else command.replace("rxlm", str(program), 1)


class Output(Console):
    """Rich's console, which changes nothing in a text, and ends as other commands do where its output is closed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled: Rich would end the process with the status of a fault."""
        raise
