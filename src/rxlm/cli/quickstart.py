"""`rxlm quickstart`: the whole way from nothing to a model that remembers."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rxlm.recipes.facts import tiny
from rxlm.recipes.run import FactsRun
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.generation import SamplingConfig
from rxlm.rxt.models import RxTAlpha

MESSAGES = (
    "Hello!",
    "My dog's name is Buddy.",
    "I have a flat in Sydney.",
    "It is raining again.",
    "What is my dog's name?",
    "My room number is 19.",
    "How are you?",
    "Do you remember my room?",
)
LONG = {16: 200, 32: 100, 64: 64, 128: 32}
"""Turns of the longer test dialogues, and how many of each are asked."""


def quickstart(*, output: Path = Path("runs/quickstart"), dialogues: int = 1000) -> None:
    """Train a small Reactive Transformer on this machine and see what it remembers.

    Trains a tokenizer and the model `tiny` through stages 1 to 4 on generated dialogues (about ten minutes on two
    cores), talks with it, and prints how often it answers exactly, by the distance in turns between a fact and the
    question about it. Started again it goes on where it stopped, and shows the results of a finished run.

    Args:
        output: folder of the run.
        dialogues: test dialogues of 8 turns to ask.
    """
    console = Console(highlight=False)
    run = FactsRun(tiny(), output)
    console.rule("Training")
    console.print(
        f"Stages {', '.join(stage.name for stage in run.stages())}, in {output}; about ten minutes on two cores."
    )
    started = time.perf_counter()
    model = run.train()
    console.print(f"Trained in {(time.perf_counter() - started) / 60:.1f} minutes.")

    console.rule("A conversation")
    converse(model, console)

    console.rule("What it remembers")
    console.print(retention_table(run, model, dialogues))
    console.print(
        "Exact answers to questions about facts told so many turns before, in test dialogues whose combinations of "
        "facts training has not seen. The control answers every turn from an empty memory: what it scores is luck."
    )
    console.rule()
    console.print(f"Go on: [bold]rxlm chat {output}[/bold]")


def converse(model: RxTAlpha, console: Console) -> None:
    """Show a conversation in which facts are told, and asked for some turns later."""
    conversation = Conversation(model.eval(), sampling=SamplingConfig(temperature=0.0))
    for text in MESSAGES:
        answer = "".join(conversation.send(text))
        console.print(f"[bold]you>[/bold]   {text}\n[bold]model>[/bold] {answer}", markup=True)


def retention_table(run: FactsRun, model: RxTAlpha, dialogues: int) -> Table:
    """Measure accuracy by distance: dialogues of 8 turns with the control, then longer ones."""
    rows = {
        "8 turns": run.retention(model, 8, dialogues),
        "8 turns, empty memory": run.retention(model, 8, dialogues, control="empty"),
        **{f"{turns} turns": run.retention(model, turns, count) for turns, count in LONG.items()},
    }
    ranges = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table(title="exact recall by distance in turns (questions)", title_justify="left")
    table.add_column("dialogues of")
    for name in ranges:
        table.add_column(name, justify="right")
    for label, row in rows.items():
        table.add_row(label, *(_cell(row, name) for name in ranges))
    return table


def _cell(row: Mapping[str, tuple[float, int]], name: str) -> str:
    if name not in row:
        return ""
    share, count = row[name]
    return f"{share:.1%} ({count})"
