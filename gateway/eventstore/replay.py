"""Reading the log, and building projections from it: at start, on request, and aside for comparison."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent

from gateway.errors import EventUnreadable
from gateway.eventstore import chain, positions
from gateway.eventstore.connections import Readers, Writer
from gateway.eventstore.projection import Projection, RecordedEvent

_PAGE = 2_000
_ALL = 2**63 - 1

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


def read(
    connection: sqlite3.Connection | sqlite3.Cursor, mapper: Mapper[UUID], *, after: int = 0, until: int = _ALL
) -> Iterator[RecordedEvent]:
    """The events after one position up to another, in order, read in pages."""
    while True:
        rows = connection.execute(
            "SELECT e.rowid, committed_at, originator_id, originator_version, topic, state FROM stored_events e"
            " JOIN event_chain c ON c.position = e.rowid WHERE e.rowid > ? AND e.rowid <= ? ORDER BY e.rowid LIMIT ?",
            (after, until, _PAGE),
        ).fetchall()
        for position, committed_at, originator_id, version, topic, state in rows:
            event = mapper.to_domain_event(StoredEvent(UUID(originator_id), version, topic, state))
            yield RecordedEvent(position, committed_at, event)
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def read_stream(connection: sqlite3.Connection, mapper: Mapper[UUID], stream_id: UUID) -> Iterator[RecordedEvent]:
    """The events of one stream with their places in the log, in order."""
    positions = connection.execute(
        "SELECT rowid FROM stored_events WHERE originator_id = ? ORDER BY originator_version", (stream_id.hex,)
    ).fetchall()
    for (position,) in positions:
        yield from read(connection, mapper, after=position - 1, until=position)


def catch_up(writer: Writer, mapper: Mapper[UUID], projections: Sequence[Projection]) -> dict[str, int]:
    """Bring each projection to the log's head: behind → the rest; ahead, another version or other tables → anew.

    Returns how many events each projection that was not up to date has taken.
    """
    taken: dict[str, int] = {}
    with writer.transaction() as cursor:
        head = chain.head(cursor)[0]
        for projection in projections:
            position = positions.position_of(cursor, projection)
            if position is None or position > head or _changed_tables(cursor, projection):
                position = 0
                _recreate(cursor, projection)
            if position == head and head:
                continue
            taken[projection.NAME] = _apply_all(cursor, mapper, projection, after=position)
            positions.advance(cursor, [projection], head)
    return {name: count for name, count in taken.items() if count}


def _recreate(cursor: sqlite3.Cursor, projection: Projection) -> None:
    for table in projection.TABLES:
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in projection.SCHEMA:
        cursor.execute(statement)


def _changed_tables(connection: sqlite3.Connection | sqlite3.Cursor, projection: Projection) -> list[str]:
    """The tables that somebody has dropped or altered."""
    declared = sqlite3.connect(":memory:")
    try:
        for statement in projection.SCHEMA:
            declared.execute(statement)
        return [table for table in projection.TABLES if _columns(connection, table) != _columns(declared, table)]
    finally:
        declared.close()


def _columns(connection: sqlite3.Connection | sqlite3.Cursor, table: str) -> list[tuple[Any, ...]]:
    return [tuple(column) for column in connection.execute(f"PRAGMA table_info({table})").fetchall()]


def project(projection: Projection, cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Apply one event of the log. Raises `EventUnreadable` for one that is not what its topic says."""
    try:
        projection.apply(cursor, event)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise EventUnreadable(
            f"the event at position {event.position} can't be projected ({type(error).__name__})",
            remedy="gateway events verify names the first event that was altered",
        ) from None


def _apply_all(cursor: sqlite3.Cursor, mapper: Mapper[UUID], projection: Projection, *, after: int) -> int:
    count = 0
    writing = cursor.connection.cursor()
    for event in read(cursor, mapper, after=after):
        project(projection, writing, event)
        count += 1
    return count


def rebuild(
    path: Path,
    writer: Writer,
    readers: Readers,
    mapper: Mapper[UUID],
    projections: Sequence[Projection],
    progress: Progress,
) -> int:
    """Build the projections anew in a file aside, then put their rows in place in one short transaction.

    The service goes on meanwhile: what is appended during the build is applied inside that transaction. Returns the
    number of events.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".rebuild-") as folder:
        aside_path = Path(folder) / "aside.db"
        aside = sqlite3.connect(aside_path, isolation_level=None, check_same_thread=False)
        try:
            aside.execute("PRAGMA journal_mode=OFF")
            aside.execute("PRAGMA synchronous=OFF")
            with readers.connection() as live:
                done = build(aside, live, mapper, projections, progress=progress)
            with writer.transaction() as cursor:
                done = build(aside, cursor, mapper, projections, after=done, progress=progress)
                for projection in projections:
                    if _changed_tables(cursor, projection):
                        _recreate(cursor, projection)
                    _swap(cursor, aside, projection)
                positions.advance(cursor, projections, done)
        finally:
            aside.close()
    return done


def build(
    aside: sqlite3.Connection,
    live: sqlite3.Connection | sqlite3.Cursor,
    mapper: Mapper[UUID],
    projections: Sequence[Projection],
    *,
    after: int = 0,
    progress: Progress = lambda _done, _all: None,
) -> int:
    """Replay the live log into the tables aside; returns the last position."""
    head = live.execute("SELECT MAX(rowid) FROM stored_events").fetchone()[0] or 0
    cursor = aside.cursor()
    cursor.execute("BEGIN")
    for projection in projections:
        for statement in projection.SCHEMA:
            cursor.execute(statement)
    for event in read(live, mapper, after=after, until=head):
        for projection in projections:
            project(projection, cursor, event)
        if event.position % _PAGE == 0:
            progress(event.position, head)
    cursor.execute("COMMIT")
    progress(head, head)
    return head


def _swap(cursor: sqlite3.Cursor, aside: sqlite3.Connection, projection: Projection) -> None:
    for table in projection.TABLES:
        rows = aside.execute(f"SELECT * FROM {table}")  # noqa: S608  our own table names
        marks = ", ".join("?" * len(rows.description))
        cursor.execute(f"DELETE FROM {table}")  # noqa: S608
        cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row that is served but not explained by events, or the other way round."""

    projection: str
    table: str
    key: str
    finding: str


def compare(
    readers: Readers, mapper: Mapper[UUID], projections: Sequence[Projection], progress: Progress
) -> list[Difference]:
    """Rebuild aside from one snapshot and compare row by row; the first difference of each projection."""
    aside = sqlite3.connect(":memory:", isolation_level=None)
    aside.row_factory = sqlite3.Row
    try:
        with readers.snapshot() as live:
            build(aside, live, mapper, projections, progress=progress)
            found = (_first_difference(live, aside, projection) for projection in projections)
            return [difference for difference in found if difference]
    finally:
        aside.close()


def _first_difference(live: sqlite3.Connection, aside: sqlite3.Connection, projection: Projection) -> Difference | None:
    for table in _changed_tables(live, projection):
        return Difference(projection.NAME, table, "", "the table itself is missing or altered")
    for table in projection.TABLES:
        key = _primary_key(aside, table)
        order = ", ".join(key)
        statement = f"SELECT * FROM {table} ORDER BY {order}"  # noqa: S608  our own table names
        served, explained = live.execute(statement), aside.execute(statement)
        while True:
            left, right = served.fetchone(), explained.fetchone()
            if left is None and right is None:
                break
            finding = _finding(left, right, key)
            if finding:
                return Difference(projection.NAME, table, *finding)
    return None


def _finding(served: sqlite3.Row | None, explained: sqlite3.Row | None, key: Sequence[str]) -> tuple[str, str] | None:
    """The key of the row and what is wrong with it; both sides come in the order of their keys."""
    left, right = _key_of(served, key), _key_of(explained, key)
    if served is None or (explained is not None and left > right):
        return _named(right), "the row is missing from what is served"
    if explained is None or left < right:
        return _named(left), "the row is served, but no event explains it"
    columns = [
        name for name, *values in zip(explained.keys(), served, explained, strict=True) if values[0] != values[1]
    ]
    return (_named(left), f"the row differs from its events in {', '.join(columns)}") if columns else None


_ORDER = {type(None): 0, int: 1, float: 1, str: 2, bytes: 3}
"""SQLite's order of types: a hand at its prompt may put any of them into a key."""


def _key_of(row: sqlite3.Row | None, key: Sequence[str]) -> tuple[tuple[int, Any], ...]:
    return tuple((_ORDER[type(row[column])], row[column]) for column in key) if row is not None else ()


def _named(key: tuple[tuple[int, Any], ...]) -> str:
    return "/".join(str(value) for _, value in key)


def _primary_key(connection: sqlite3.Connection, table: str) -> list[str]:
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [row["name"] for row in sorted((row for row in columns if row["pk"]), key=lambda row: row["pk"])]
