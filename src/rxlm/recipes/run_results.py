"""What a finished run has to show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ResultTable:
    """Figures of a finished run, as a table: texts that are ready to be shown."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class RunResults:
    """What a finished run has to show: tables, and a conversation with the model, query and answer a turn."""

    tables: tuple[ResultTable, ...] = ()
    conversation: tuple[tuple[str, str], ...] = ()
