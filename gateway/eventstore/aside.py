"""A place aside, where projections are built beside the tables that are served, and what differs between the two.

It is a temporary database of SQLite's: in memory, or, when that gets too much, in a file without a name, which nobody
can open and a kill leaves nothing of. The served database is attached to it as `live`, so that SQLite itself compares.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import StoreUnusable
from gateway.eventstore.projection import Projection

_CACHE_KIB = 128 * 1024
_PORTION = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row that is served but not explained by events, or the other way round."""

    projection: str
    table: str
    key: str
    finding: str


class Correction(NamedTuple):
    """A statement for the served database, and what it is done for; nothing: it stands for itself."""

    statement: str
    rows: list[tuple[Any, ...]] | None = None


class Aside:
    """The projections' tables, empty at first. `position` is up to where they have been built."""

    def __init__(self, path: Path, projections: Sequence[Projection]) -> None:
        self.projections = projections
        self.position = 0
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute("ATTACH ? AS live", (str(path),))
        self.connection = connection
        """Reads the log and the served tables too; whatever is in both is found here first."""
        for projection in projections:
            for statement in projection.SCHEMA:
                if "CREATE TABLE" in statement:  # nothing is looked up here but by primary keys
                    connection.execute(statement)

    def close(self) -> None:
        """Throw it away."""
        self.connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """While it lasts, all that is read of the served database is of one commit."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN")
        self.head()  # a read fixes the snapshot
        yield
        self.connection.execute("COMMIT")

    def head(self) -> int:
        """The log's last position."""
        return self.connection.execute("SELECT MAX(rowid) FROM live.stored_events").fetchone()[0] or 0

    # --- what differs

    def first_difference(self, projection: Projection) -> Difference | None:
        """The first row by key, of the first table, in which what is served differs."""
        for table in projection.TABLES:
            if self.is_altered(table):
                return Difference(projection.NAME, table, "", "the table itself is missing or altered")
        for table in projection.TABLES:
            if self.note_differences(table):
                return Difference(projection.NAME, table, *self._first_finding(table))
        return None

    def is_altered(self, table: str) -> bool:
        """Whether somebody has dropped or altered the table that is served."""
        return columns(self.connection, table, "main") != columns(self.connection, table, "live")

    def note_differences(self, table: str) -> int:
        """Note the keys of the rows that differ, are missing, or are not explained; returns how many."""
        execute = self.connection.execute
        key, names = self._key(table), [column[1] for column in columns(self.connection, table, "main")]
        same_key = " AND ".join(f"l.{name} = a.{name}" for name in key)
        left, right = (", ".join(f"{side}.{name}" for name in names) for side in "al")
        execute(f"DROP TABLE IF EXISTS main.differing_{table}")
        execute(  # a key never is NULL aside: nothing has to tell a row of NULLs from no row
            f"CREATE TABLE main.differing_{table} AS SELECT {_of('a', key)} FROM main.{table} a"  # noqa: S608  our own words
            f" LEFT JOIN live.{table} l ON {same_key} WHERE ({left}) IS NOT ({right})"
        )
        if self._count(f"main.differing_{table}") or self._count(f"main.{table}") != self._count(f"live.{table}"):
            execute(
                f"INSERT INTO main.differing_{table} SELECT {_of('l', key)} FROM live.{table} l"  # noqa: S608
                f" LEFT JOIN main.{table} a ON {same_key} WHERE a.{key[0]} IS NULL"
            )
        return self._count(f"main.differing_{table}")

    def _count(self, table: str) -> int:
        count: int = self.connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608
        return count

    def corrections(self, table: str) -> Iterator[Correction]:
        """What brings the served rows whose keys were noted to what they are here by now."""
        key = self._key(table)
        yield from self._for_each(
            f"DELETE FROM {table} WHERE {' AND '.join(f'{name} IS ?' for name in key)}",  # noqa: S608
            f"SELECT * FROM main.differing_{table}",  # noqa: S608
        )
        same_key = " AND ".join(f"a.{name} = d.{name}" for name in key)
        yield from self._insertions(
            table,
            f"SELECT a.* FROM main.differing_{table} d CROSS JOIN main.{table} a ON {same_key}",  # noqa: S608
        )

    def whole(self, table: str) -> Iterator[Correction]:
        """What fills the served table, which is empty."""
        return self._insertions(table, f"SELECT * FROM main.{table}")  # noqa: S608

    def _insertions(self, table: str, selecting: str) -> Iterator[Correction]:
        marks = ", ".join("?" * len(columns(self.connection, table)))
        return self._for_each(f"INSERT INTO {table} VALUES ({marks})", selecting)  # noqa: S608

    def _for_each(self, statement: str, selecting: str) -> Iterator[Correction]:
        rows = self.connection.execute(selecting)
        while portion := rows.fetchmany(_PORTION):
            yield Correction(statement, portion)

    def _key(self, table: str) -> list[str]:
        found = [column for column in columns(self.connection, table, "main") if column[5]]
        return [column[1] for column in sorted(found, key=lambda column: column[5])]

    def _first_finding(self, table: str) -> tuple[str, str]:
        key = self._key(table)
        served, explained = (self._in_order(f"{schema}.{table}", key) for schema in ("live", "main"))
        while True:
            finding = _finding(served.fetchone(), explained.fetchone(), key)
            if finding:
                return finding

    def _in_order(self, table: str, key: Sequence[str]) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(f"SELECT * FROM {table} ORDER BY {', '.join(key)}")  # noqa: S608


@contextmanager
def opened(path: Path, projections: Sequence[Projection]) -> Iterator[Aside]:
    """A place aside for as long as the `with` lasts. Raises `StoreUnusable` when it or the database can't be read."""
    try:
        aside = Aside(path, projections)
        try:
            yield aside
        finally:
            aside.close()
    except sqlite3.DatabaseError as error:
        raise StoreUnusable(
            f"the projections can't be built aside: {error}",
            remedy="check the database's disk, and the room in the folder for temporary files (TMPDIR)",
        ) from error


def columns(connection: sqlite3.Connection | sqlite3.Cursor, table: str, schema: str = "main") -> list[tuple[Any, ...]]:
    """A table's columns as SQLite describes them; none when there is no such table."""
    return [tuple(column) for column in connection.execute(f"PRAGMA {schema}.table_info({table})").fetchall()]


def _of(side: str, key: Sequence[str]) -> str:
    return ", ".join(f"{side}.{name} AS {name}" for name in key)


def _finding(served: sqlite3.Row | None, explained: sqlite3.Row | None, key: Sequence[str]) -> tuple[str, str] | None:
    """The key of the row and what is wrong with it; both sides come in the order of their keys."""
    left, right = _key_of(served, key), _key_of(explained, key)
    if served is None or (explained is not None and left > right):
        return _named(right), "the row is missing from what is served"
    if explained is None or left < right:
        return _named(left), "the row is served, but no event explains it"
    differing = [
        name for name, *values in zip(explained.keys(), served, explained, strict=True) if values[0] != values[1]
    ]
    return (_named(left), f"the row differs from its events in {', '.join(differing)}") if differing else None


_ORDER = {type(None): 0, int: 1, float: 1, str: 2, bytes: 3}
"""SQLite's order of types: a hand at its prompt may put any of them into a key."""


def _key_of(row: sqlite3.Row | None, key: Sequence[str]) -> tuple[tuple[int, Any], ...]:
    return tuple((_ORDER[type(row[column])], row[column]) for column in key) if row is not None else ()


def _named(key: tuple[tuple[int, Any], ...]) -> str:
    return "/".join(str(value) for _, value in key)
