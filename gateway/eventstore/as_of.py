"""The log up to a place in it, and a projection's table as it stood there.

An event is never changed and `committed_at` never decreases. So the place is found by a binary search, and what was
served there is what the events up to it say, written by the projection's own `apply` into an empty table in memory.
Each statement looks at the newest commit and no transaction stays open: nothing behind the place can change meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent

from gateway.eventstore.projection import Projection, RecordedEvent
from gateway.eventstore.replay import project

Progress = Callable[[int, int | None], None]
"""Called with (events done, events in all, or None when that is not known before)."""

_PAGE = 2_000

_PORTION = 300
"""Events decoded before they are applied: faster than one by one."""

# The unary plus: only the index that is meant may serve it (SQLite keeps no statistics here and would guess).
_EVENTS = """
    SELECT e.rowid, committed_at, originator_id, originator_version, topic, state
    FROM stored_events e CROSS JOIN event_chain c ON c.position = e.rowid
"""
_OF_STREAM = f"{_EVENTS} WHERE originator_id = ? AND +e.rowid <= ? ORDER BY originator_version"
_OF_KIND = f"{_EVENTS} WHERE e.rowid > ? AND e.rowid <= ? AND topic GLOB ? ORDER BY e.rowid LIMIT ?"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the log: after the event at `position`, before the next. Before the first one: 0 and ""."""

    position: int
    committed_at: str


def place_of(connection: sqlite3.Connection, position: int) -> Place:
    """The place after the last event up to a position."""
    row = connection.execute(
        "SELECT position, committed_at FROM event_chain WHERE position <= ? ORDER BY position DESC LIMIT 1", (position,)
    ).fetchone()
    return Place(*row) if row else Place(0, "")


def place_at(connection: sqlite3.Connection, instant: str) -> Place:
    """The place after the last event that was committed at an instant or before (UTC, ISO 8601, microseconds)."""
    place = head(connection)
    if place.committed_at <= instant:
        return place
    before, after = 0, place.position
    while after - before > 1:
        middle = (before + after) // 2
        if place_of(connection, middle).committed_at <= instant:
            before = middle
        else:
            after = middle
    return place_of(connection, before)


def head(connection: sqlite3.Connection) -> Place:
    """The place after the newest event."""
    return place_of(connection, 2**63 - 1)


def first(connection: sqlite3.Connection) -> Place:
    """The place after the first event; `Place(0, "")` in an empty log."""
    row = connection.execute("SELECT position, committed_at FROM event_chain ORDER BY position LIMIT 1").fetchone()
    return Place(*row) if row else Place(0, "")


def of_streams(
    connection: sqlite3.Connection,
    mapper: Mapper[UUID],
    streams: Iterable[str],
    until: int,
    progress: Progress = lambda _done, _all: None,
) -> Iterator[RecordedEvent]:
    """The events of these streams up to a position: one stream after the other, each in its order."""
    done = 0
    for stream in streams:
        rows = connection.execute(_OF_STREAM, (stream, until)).fetchall()
        yield from _events(mapper, rows)
        done += len(rows)
        progress(done, None)


def of_kind(
    connection: sqlite3.Connection,
    mapper: Mapper[UUID],
    kind: str,
    until: int,
    progress: Progress = lambda _done, _all: None,
) -> Iterator[RecordedEvent]:
    """The events of all streams of one kind (`WorklistItem`) up to a position, in order, read in pages."""
    after = 0
    while True:
        rows = connection.execute(_OF_KIND, (after, until, f"{kind}.*", _PAGE)).fetchall()
        yield from _events(mapper, rows)
        if len(rows) < _PAGE:
            progress(until, until)
            return
        after = rows[-1][0]
        progress(after, until)


def _events(mapper: Mapper[UUID], rows: Iterable[sqlite3.Row]) -> Iterator[RecordedEvent]:
    for position, committed_at, originator_id, version, topic, state in rows:
        event = mapper.to_domain_event(StoredEvent(_stream(originator_id), version, topic, state))
        yield RecordedEvent(position, committed_at, event)


_stream = lru_cache(maxsize=1024)(UUID)  # a stream's events often stand near each other


def table(projection: Projection, events: Iterable[RecordedEvent]) -> sqlite3.Connection:
    """A projection's tables in memory, written from these events; whoever asked closes them.

    The projection must take its events stream by stream, none looking at another's rows. Raises `EventUnreadable`.
    """
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        memory.execute("PRAGMA temp_store=MEMORY")  # what is looked up stays off the disk, its sorting too
        cursor = memory.cursor()
        cursor.execute("BEGIN")
        for statement in projection.SCHEMA:
            if "CREATE TABLE" in statement:  # an index costs more here than the few looks that follow
                cursor.execute(statement)
        events = iter(events)
        while portion := list(islice(events, _PORTION)):
            for event in portion:
                project(projection, cursor, event)
        cursor.execute("COMMIT")
    except BaseException:
        memory.close()
        raise
    return memory
