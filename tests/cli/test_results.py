"""What a finished run shows is shown as it is."""

from io import StringIO

from rich.console import Console

from rxlm.cli.results import show
from rxlm.recipes.run_results import ResultTable, RunResults


def test_conversations_and_tables_are_no_markup_and_steer_nothing() -> None:
    text = "C:\\[bold] :key: [/x]"
    console = Console(file=StringIO(), width=100)
    show(
        RunResults((ResultTable(text, (text, text), ((text, text),), text),), ((text, text + "\x1b[2J\u202e"),)),
        console,
    )
    output = console.file.getvalue()

    assert output.count(text) == 8
    assert "\x1b" not in output
    assert "\u202e" not in output
