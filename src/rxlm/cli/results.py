"""Shows what a finished run was measured to do."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from rxlm.cli.errors import printable
from rxlm.cli.output import Output
from rxlm.recipes.run_results import RunResults


def show(results: RunResults, console: Output) -> None:
    """Print a run's conversation and its tables."""
    if results.conversation:
        console.rule("A conversation")
        for query, answer in results.conversation:
            said = (("you>", "bold"), f"   {printable(query)}\n", ("model>", "bold"), f" {printable(answer)}")
            console.print(Text.assemble(*said))  # whose texts are no markup
    if results.tables:
        console.rule("Results")
    for table in results.tables:
        console.print(rich_table(table.title, table.header, table.rows))
        if table.note:
            console.print(Text(table.note))


def rich_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table for the terminal: the first column to the left, figures to the right."""
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(header):
        longest = max(map(len, name.split()), default=0)  # Rich would cut words where lines are short
        table.add_column(Text(name), justify="right" if number else "left", min_width=longest)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
