"""Things that answer generated dialogues and are known to be right, or wrong in a known way."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from rxlm.data.fact_kinds import fact_kinds
from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.protocol import Control

UNKNOWN = "You have not told me that."


class Told(NamedTuple):
    turn: int
    value: str


@cache
def what_queries_say() -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Return what each telling of the small variety tells (kind, value), and which kind each question asks for."""
    tells, asks = {}, {}
    for kind in fact_kinds("small"):
        for value in kind.values:
            for wording in (*kind.tell, *kind.update):
                for old in kind.values if "{o}" in wording.query else ("",):
                    tells[wording.fill(value, old)[0]] = (kind.name, value)
        asks.update((wording.fill(kind.values[0])[0], kind.name) for wording in kind.ask)
    return tells, asks


class Oracle:
    """Reads what it is told, and answers from it.

    Args:
        window: knows what was told at most so many turns ago.
        capacity: knows the facts that were told last, so many of them.
        keeps_first: never takes a change in.
    """

    controls: tuple[Control, ...] = ("none", "empty", "shuffled")

    def __init__(self, window: int = 10**9, capacity: int = 10**9, keeps_first: bool = False) -> None:
        self.window, self.capacity, self.keeps_first = window, capacity, keeps_first
        self.calls = 0

    def describe(self) -> Mapping[str, Any]:
        return {"kind": "oracle", "window": self.window, "capacity": self.capacity, "keeps first": self.keeps_first}

    def cuts(self, query: str) -> bool:
        return False

    def reset(self, batch_size: int, control: Control = "none") -> None:
        self.control = control
        self.turn = 0
        self.facts: list[dict[str, Told]] = [{} for _ in range(batch_size)]

    def respond(self, queries: Sequence[str | None]) -> list[str]:
        self.calls += 1
        self.turn += 1
        answers = ["" if query is None else self.answer(row, query) for row, query in enumerate(queries)]
        for row, query in enumerate(queries):
            kind, value = what_queries_say()[0].get(query or "", ("", ""))
            if kind and not (self.keeps_first and kind in self.facts[row]):
                self.facts[row].pop(kind, None)  # the last told stands last
                self.facts[row][kind] = Told(self.turn, value)
        return answers

    def answer(self, row: int, query: str) -> str:
        kind = what_queries_say()[1].get(query)
        if kind is None:
            return "I see."
        if self.control == "empty":
            return UNKNOWN
        facts = self.facts[(row + 1) % len(self.facts) if self.control == "shuffled" else row]
        known = dict(list(facts.items())[-self.capacity :]) if self.capacity else {}
        told = known.get(kind)
        return f"It is {told.value}." if told and self.turn - told.turn <= self.window else UNKNOWN


class Constant(Oracle):
    """Names the first value of every kind, whatever it is asked."""

    def answer(self, row: int, query: str) -> str:
        return ", ".join(kind.values[0] for kind in fact_kinds("small"))


def quick(**changes: Any) -> BenchmarkConfig:
    """Return a configuration for a second of measuring: reports 1 to 4 on a few dialogues."""
    given = {
        "turns": (8, 24),
        "dialogues": 40,
        "reports": ("retention", "capacity", "updates", "controls"),
        "batch_size": 16,
        **changes,
    }
    return BenchmarkConfig(**given)
