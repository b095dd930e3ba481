"""Stored rows of the log, as they are, chosen by place, time, kind and stream."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent

_PAGE = 2_000
_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One event as it is stored: its place, its time, its row, and its link in the chain."""

    position: int
    committed_at: str
    stream: str
    version: int
    topic: str
    state: bytes
    link: bytes

    @property
    def event(self) -> StoredEvent:
        """The part that the mapper reads."""
        return StoredEvent(UUID(self.stream), self.version, self.topic, self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events: from one position to another, both included, of any of the topics, of any of the streams.

    None asks nothing; an empty collection is met by no event.
    """

    first: int = 1
    last: int = _ALL
    topics: tuple[str, ...] | None = None
    streams: tuple[str, ...] | None = None


def extent(connection: sqlite3.Connection, selection: Selection) -> tuple[int | None, int | None, int]:
    """First and last position of the events it chooses, None when there are none, and how many there are."""
    where, parameters = _where(selection)
    statement = f"SELECT MIN(e.rowid), MAX(e.rowid), COUNT(*) FROM stored_events e WHERE {where}"  # noqa: S608  our own words
    first, last, events = connection.execute(statement, parameters).fetchone()
    return first, last, events


def newest(connection: sqlite3.Connection, selection: Selection, limit: int) -> Selection:
    """The same, narrowed to the newest `limit` events."""
    where, parameters = _where(selection)
    statement = f"SELECT e.rowid FROM stored_events e WHERE {where} ORDER BY e.rowid DESC LIMIT 1 OFFSET ?"  # noqa: S608  our own words
    row = connection.execute(statement, [*parameters, limit - 1]).fetchone()
    return replace(selection, first=row[0]) if row else selection


def rows(connection: sqlite3.Connection, selection: Selection) -> Iterator[StoredRow]:
    """The chosen events in order, read in pages: no transaction stays open between two of them."""
    first = selection.first
    while True:
        where, parameters = _where(replace(selection, first=first))
        page = connection.execute(
            "SELECT e.rowid, c.committed_at, e.originator_id, e.originator_version, e.topic, e.state, c.link"  # noqa: S608  our own words
            f" FROM stored_events e JOIN event_chain c ON c.position = e.rowid WHERE {where} ORDER BY e.rowid LIMIT ?",
            [*parameters, _PAGE],
        ).fetchall()
        for row in page:
            yield StoredRow(*row)
        if len(page) < _PAGE:
            return
        first = page[-1][0] + 1


def _where(selection: Selection) -> tuple[str, list[object]]:
    clauses, parameters = ["e.rowid >= ? AND e.rowid <= ?"], [selection.first, selection.last]
    values: list[object] = list(parameters)
    for column, wanted in (("e.topic", selection.topics), ("e.originator_id", selection.streams)):
        if wanted is not None:
            clauses.append(f"{column} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    return " AND ".join(clauses), values


def streams_of(connection: sqlite3.Connection, positions: Collection[int]) -> tuple[str, ...]:
    """The streams that have an event at any of these positions."""
    found = (
        connection.execute("SELECT originator_id FROM stored_events WHERE rowid = ?", (position,)).fetchone()
        for position in positions
    )
    return tuple(dict.fromkeys(row[0] for row in found if row))


def link_at(connection: sqlite3.Connection, position: int) -> bytes | None:
    """The link of the event at a position; None where there is none."""
    row = connection.execute("SELECT link FROM event_chain WHERE position = ?", (position,)).fetchone()
    return row[0] if row else None


def last_before(connection: sqlite3.Connection, instant: str) -> int:
    """The last position committed before an instant, as the log writes its own; 0 when there is none.

    A binary search: instants never decrease.
    """
    low, high = 0, connection.execute("SELECT COALESCE(MAX(position), 0) FROM event_chain").fetchone()[0]
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute(
            "SELECT committed_at FROM event_chain WHERE position <= ? ORDER BY position DESC LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[0] < instant:
            low = middle
        else:
            high = middle - 1
    return low


def latest_of(connection: sqlite3.Connection, topics: str) -> tuple[str, bytes] | None:
    """Topic and state of the newest event whose topic is like this (`Epoch.*`), as stored."""
    row = connection.execute(
        "SELECT topic, state FROM stored_events WHERE topic GLOB ? ORDER BY rowid DESC LIMIT 1", (topics,)
    ).fetchone()
    return (row[0], row[1]) if row else None


def whole_table(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """All rows of one of our own tables; none when it is not there."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
        cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608  our own names
        names = [column[0] for column in cursor.description]
        yield from (dict(zip(names, row, strict=True)) for row in cursor)
