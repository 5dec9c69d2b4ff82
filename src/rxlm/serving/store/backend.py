"""What a database must do to hold a store: values by key, ordered sets and counters, changed all at once or not at all.

Everything that a store knows is put together of these few operations, so that another database is a hundred lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


class StoreError(Exception):
    """A store that cannot be opened, reached or written."""


@dataclass
class Changes:
    """Changes that are made together.

    Fields:
        expected: what values must be before, by key; None: there must be none. Otherwise nothing is changed.
        values: values to write, by key. deleted: keys whose values go.
        members: members to put into sets, by set and member, with the number that orders them.
        removed: members to take out of sets, by set and member.
        counted: what is added to counters, by name.
    """

    expected: dict[str, bytes | None] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    members: dict[tuple[str, str], float] = field(default_factory=dict)
    removed: set[tuple[str, str]] = field(default_factory=set)
    counted: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, more: int) -> None:
        """Add to a counter."""
        self.counted[name] = self.counted.get(name, 0) + more


class Backend(Protocol):
    """A database; threads share it. `StoreError` where it cannot be reached or written."""

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, None where there is none."""

    def apply(self, changes: Changes) -> bool:
        """Make all changes at once; False, and none made, where a value is not what was expected."""

    def members(self, name: str, limit: int, after: str | None = None, *, newest: bool = True) -> list[str]:
        """Return members of a set, largest numbers first (smallest, unless `newest`), from the one after `after` on.

        Where `after` is no member, there are none.
        """

    def numbers(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Return the members with the smallest numbers, with these, smallest first."""

    def number(self, name: str, member: str) -> float | None:
        """Return the number of a member, None where it is none."""

    def size(self, name: str) -> int:
        """Return how many members a set has."""

    def counter(self, name: str) -> int:
        """Return what a counter has."""

    def scrub(self) -> None:
        """Let nothing of what was deleted stand in any file of the database."""

    def close(self) -> None:
        """Give the database back."""
