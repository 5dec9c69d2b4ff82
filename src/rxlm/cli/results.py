"""Shows what a finished run was measured to do."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rxlm.recipes.corpus import Results, ResultTable


def show(results: Results, console: Console) -> None:
    """Print a run's conversation and its tables."""
    if results.conversation:
        console.rule("A conversation")
        for query, answer in results.conversation:
            console.print(f"[bold]you>[/bold]   {escape(query)}\n[bold]model>[/bold] {escape(answer)}")
    if results.tables:
        console.rule("Results")
    for table in results.tables:
        console.print(_table(table))
        if table.note:
            console.print(escape(table.note))


def _table(results: ResultTable) -> Table:
    table = Table(title=results.title, title_justify="left")
    for number, name in enumerate(results.header):
        table.add_column(name, justify="right" if number else "left")
    for row in results.rows:
        table.add_row(*row)
    return table
