"""Reading the log, and applying it to projections; bringing them to its head at start."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import UUID, SafeUUID

from eventsourcing.persistence import IntegrityError, Mapper

from gateway.errors import EventUnreadable, StoreUnusable
from gateway.eventstore import aside, chain, positions
from gateway.eventstore.collecting import CollectingCursor
from gateway.eventstore.connections import Readers, Writer
from gateway.eventstore.mapper import EnvelopeMapper
from gateway.eventstore.ownership import is_served
from gateway.eventstore.projection import Projection, RecordedEvent
from gateway.eventstore.schema import declared

PAGE = 2_000
_ALL = 2**63 - 1

_PORTION = 300
"""Events decoded before they are applied: this keeps a processor's caches, and is a quarter faster than one by one."""

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


class _Stored(NamedTuple):
    """A `StoredEvent`, made three times as fast."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


def read(
    connection: sqlite3.Connection | sqlite3.Cursor,
    mapper: Mapper[UUID],
    *,
    after: int = 0,
    until: int = _ALL,
    leave_out: Sequence[str] = (),
    opened: Set[type] | None = None,
) -> Iterator[RecordedEvent]:
    """The events after one position up to another, in order, read in pages; those of some topics are left out.

    `opened` are the classes whose identifying fields are wanted; None: all.

    Raises `EventUnreadable` with the position of one that is damaged.
    """
    to_event, new_tuple = cast("EnvelopeMapper", mapper).read, cast("Any", tuple.__new__)
    statement = (
        "SELECT e.rowid, committed_at, originator_id, originator_version, topic, state FROM stored_events e"  # noqa: S608
        " JOIN event_chain c ON c.position = e.rowid WHERE e.rowid > ? AND e.rowid <= ?"
        f" AND topic NOT IN ({', '.join('?' * len(leave_out))}) ORDER BY e.rowid LIMIT ?"
    )
    while True:
        rows = connection.execute(statement, (after, until, *leave_out, PAGE)).fetchall()
        for position, committed_at, stream, version, topic, state in rows:
            try:
                stored = new_tuple(_Stored, (_uuid(stream), version, topic, state))
                event = to_event(stored, opened)
            except (EventUnreadable, TypeError, ValueError) as error:
                raise _damaged(position, "read", error) from None
            yield new_tuple(RecordedEvent, (position, committed_at, event))
        if len(rows) < PAGE:
            return
        after = rows[-1][0]


def read_stream(connection: sqlite3.Connection, mapper: Mapper[UUID], stream_id: UUID) -> Iterator[RecordedEvent]:
    """The events of one stream with their places in the log, in order."""
    positions = connection.execute(
        "SELECT rowid FROM stored_events WHERE originator_id = ? ORDER BY originator_version", (stream_id.hex,)
    ).fetchall()
    for (position,) in positions:
        yield from read(connection, mapper, after=position - 1, until=position)


def _uuid(stream: str) -> UUID:
    """`UUID(stream)`, made twice as fast: they are 32 digits as we write them."""
    if len(stream) != _UUID_DIGITS:
        raise ValueError("no stream of ours")
    made = _new_uuid(UUID)
    _set(made, "int", int(stream, 16))
    _set(made, "is_safe", SafeUUID.unknown)
    return made


_UUID_DIGITS = 32
_new_uuid, _set = UUID.__new__, object.__setattr__


def _damaged(position: int, verb: str, error: Exception) -> EventUnreadable:
    why = error.message if isinstance(error, EventUnreadable) else type(error).__name__
    return EventUnreadable(
        f"the event at position {position} can't be {verb} ({why})",
        remedy="gateway events verify names the first event that was altered",
    )


def project(projection: Projection, cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Apply one event of the log. Raises `EventUnreadable` for one that is not what its topic says."""
    try:
        projection.apply(cursor, event)
    except DAMAGE as error:
        raise _damaged(event.position, "projected", error) from None


def project_all(projections: Sequence[Projection], cursor: sqlite3.Cursor, events: Iterable[RecordedEvent]) -> None:
    """Apply many events, portion by portion and to one projection after the other: what is at work stays at hand.

    Raises `EventUnreadable`.
    """
    events = iter(events)
    collecting = [(projection, CollectingCursor(cursor)) for projection in projections]
    while portion := list(islice(events, _PORTION)):
        for projection, collector in collecting:
            _project_portion(projection, collector, portion)
    for projection, collector in collecting:
        _project_portion(projection, collector, ())


def opened_by(projections: Sequence[Projection]) -> frozenset[type]:
    """The event classes whose identifying fields any of these projections reads."""
    return frozenset().union(*(projection.OPENED for projection in projections))


def _project_portion(projection: Projection, collector: CollectingCursor, events: Sequence[RecordedEvent]) -> None:
    """Apply some events to one projection; none: write what it left to be collected."""
    concerned = projection.CONCERNED
    apply, cursor = projection.apply, cast("sqlite3.Cursor", collector)
    try:
        for event in events:
            if type(event.domain_event) in concerned:
                collector.position = event.position
                apply(cursor, event)
        if not events:
            collector.flush()
    except DAMAGE as error:
        raise _damaged(collector.position, "projected", error) from None


DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    IntegrityError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a field of another type or value than its class says may lead to."""


# --- at start


def catch_up(
    path: Path, writer: Writer, readers: Readers, mapper: Mapper[UUID], projections: Sequence[Projection]
) -> dict[str, int]:
    """Bring each projection to the log's head: behind → the rest; ahead, another version or other tables → anew.

    Returns how many events each projection that was not up to date has taken. Where none is behind, nothing is written.
    Raises `StoreUnusable` when a service of another version runs on the database: its tables are its own.
    """
    with readers.snapshot() as connection:
        if _are_at_the_head(connection, projections):
            return {}
    with writer.transaction() as cursor:
        head = chain.head(cursor)[0]
        ours = _noted_at(head, projections)
        _leave_another_version_alone(path, cursor, projections)
        behind = [(projection, start) for projection, start in _starts(cursor, projections, head) if start < head]
        taken = _apply_from(cursor, mapper, behind)
        if positions.noted(cursor) != ours:  # a look writes nothing
            positions.take_over(cursor, projections, head)
    return {name: count for name, count in taken.items() if count}


def _are_at_the_head(connection: sqlite3.Connection, projections: Sequence[Projection]) -> bool:
    is_noted = positions.noted(connection) == _noted_at(chain.head(connection)[0], projections)
    return is_noted and not any(_changed_tables(connection, projection) for projection in projections)


def _noted_at(head: int, projections: Sequence[Projection]) -> dict[str, tuple[int, int]]:
    """The positions as they are when these projections, and no others, have taken everything."""
    return {projection.NAME: (projection.VERSION, head) for projection in projections}


def _leave_another_version_alone(path: Path, cursor: sqlite3.Cursor, projections: Sequence[Projection]) -> None:
    theirs = {name: version for name, (version, _) in positions.noted(cursor).items()}
    if theirs != {projection.NAME: projection.VERSION for projection in projections} and is_served(path):
        raise StoreUnusable(
            f"the running service is another version: it keeps other tables in {path} than this command would",
            remedy="restart it as this version first (stop, install, start), then ask again",
        )


def _starts(cursor: sqlite3.Cursor, projections: Sequence[Projection], head: int) -> Iterator[tuple[Projection, int]]:
    """From where each projection goes on; those that can't go on are empty by then."""
    for projection in projections:
        position = positions.position_of(cursor, projection)
        if position is None or position > head or _changed_tables(cursor, projection):
            position = 0
            _recreate(cursor, projection)
        yield projection, position


def _apply_from(
    cursor: sqlite3.Cursor, mapper: Mapper[UUID], behind: Sequence[tuple[Projection, int]]
) -> dict[str, int]:
    """Read once what any of them lacks, and give each what it lacks; returns how many events that is for each."""
    writing = cursor.connection.cursor()
    for start, until in pairwise(sorted({start for _, start in behind} | {_ALL})):
        lacking = [projection for projection, begin in behind if begin <= start]
        events = read(cursor, mapper, after=start, until=until, opened=opened_by(lacking))
        project_all(lacking, writing, events)
    return {projection.NAME: _count(cursor, after=start) for projection, start in behind}


def _count(cursor: sqlite3.Cursor, *, after: int) -> int:
    count: int = cursor.execute("SELECT COUNT(*) FROM stored_events WHERE rowid > ?", (after,)).fetchone()[0]
    return count


def _recreate(cursor: sqlite3.Cursor, projection: Projection) -> None:
    for statement in anew(projection):
        cursor.execute(statement)


def anew(projection: Projection) -> list[str]:
    """The statements that leave the projection's tables empty and as its schema says."""
    return [*(f"DROP TABLE IF EXISTS {table}" for table in projection.TABLES), *projection.SCHEMA]


def _changed_tables(cursor: sqlite3.Cursor | sqlite3.Connection, projection: Projection) -> bool:
    """Whether somebody has dropped or altered a table."""
    with declared(projection.SCHEMA) as whole:
        return any(aside.columns(cursor, table) != aside.columns(whole, table) for table in projection.TABLES)
