"""A store in a file: SQLite, which several processes of one machine can share."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rxlm.serving.store.backend import Changes, StoreError

BUSY_SECONDS = 30.0
"""How long a change waits for that of another process."""
FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS items (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS members (name TEXT, member TEXT, number REAL NOT NULL, PRIMARY KEY (name, member))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_number ON members (name, number, member);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class SQLiteBackend:
    """See `Backend`. What was committed outlives a process that is killed; `path` ":memory:" lives in this one.

    `StoreError` for a file that cannot be opened, or that is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        with self._told():
            self._database = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            has_tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version != FORMAT and (version or has_tables):
                self._database.close()
                raise StoreError(f"{self.path} is a database of something else, or of another version of rxlm.")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
            self._database.executescript(_TABLES)
            self._database.execute(f"PRAGMA user_version = {FORMAT}")

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, None where there is none."""
        query = "SELECT value FROM items WHERE key = ?"
        with self._told():
            found = [self._database.execute(query, (key,)).fetchone() for key in keys]
        return [None if row is None else row[0] for row in found]

    def apply(self, changes: Changes) -> bool:
        """Make all changes at once; False, and none made, where a value is not what was expected."""
        with self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                holds = self._holds(changes)
                if holds:
                    self._make(changes)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT" if holds else "ROLLBACK")
        return holds

    def _holds(self, changes: Changes) -> bool:
        for key, value in changes.expected.items():
            found = self._database.execute("SELECT value FROM items WHERE key = ?", (key,)).fetchone()
            if (None if found is None else found[0]) != value:
                return False
        return True

    def _make(self, changes: Changes) -> None:
        many = self._database.executemany
        many("DELETE FROM items WHERE key = ?", [(key,) for key in changes.deleted])
        many("DELETE FROM members WHERE name = ? AND member = ?", changes.removed)
        many("INSERT OR REPLACE INTO items VALUES (?, ?)", changes.values.items())
        rows = [(name, member, number) for (name, member), number in changes.members.items()]
        many("INSERT OR REPLACE INTO members VALUES (?, ?, ?)", rows)
        counted = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        many(counted, changes.counted.items())

    def members(self, name: str, limit: int, after: str | None = None, *, newest: bool = True) -> list[str]:
        """Return members of a set in order, from the one after `after` on; see `Backend`."""
        order, beyond = ("DESC", "<") if newest else ("ASC", ">")
        where, given = "name = ?", [name]
        if after is not None:
            number = self.number(name, after)
            if number is None:
                return []
            where += f" AND (number, member) {beyond} (?, ?)"
            given += [number, after]
        with self._told():
            query = f"SELECT member FROM members WHERE {where} ORDER BY number {order}, member {order} LIMIT ?"
            return [row[0] for row in self._database.execute(query, (*given, limit))]

    def numbers(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Return the members with the smallest numbers, with these, smallest first."""
        query = "SELECT member, number FROM members WHERE name = ? ORDER BY number, member LIMIT ?"
        with self._told():
            return self._database.execute(query, (name, limit)).fetchall()

    def number(self, name: str, member: str) -> float | None:
        """Return the number of a member, None where it is none."""
        query = "SELECT number FROM members WHERE name = ? AND member = ?"
        with self._told():
            found = self._database.execute(query, (name, member)).fetchone()
        return None if found is None else found[0]

    def size(self, name: str) -> int:
        """Return how many members a set has."""
        with self._told():
            return self._database.execute("SELECT count(*) FROM members WHERE name = ?", (name,)).fetchone()[0]

    def counter(self, name: str) -> int:
        """Return what a counter has."""
        with self._told():
            found = self._database.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return 0 if found is None else found[0]

    def scrub(self) -> None:
        """Empty the write-ahead log, which still holds what was deleted."""
        with self._told():
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._told():
            self._database.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """One thread at a time; what SQLite says becomes an error that names the file."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError(f"The store {self.path}: {error}.") from error
