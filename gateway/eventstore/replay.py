"""Reading the log, and building projections from it: at start, on request, and aside for comparison."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple, cast
from uuid import UUID, SafeUUID

from eventsourcing.persistence import IntegrityError, Mapper, StoredEvent

from gateway.errors import Contention, EventUnreadable, RebuildRuns, StoreUnusable
from gateway.eventstore import aside, chain, positions
from gateway.eventstore.aside import Aside, Difference
from gateway.eventstore.collecting import CollectingCursor
from gateway.eventstore.connections import Writer
from gateway.eventstore.ownership import is_served
from gateway.eventstore.projection import Projection, RecordedEvent

__all__ = ["Difference", "Progress", "catch_up", "compare", "project", "read", "rebuild"]

_PAGE = 2_000
_ALL = 2**63 - 1

_PORTION = 300
"""Events decoded before they are applied: this keeps a processor's caches, and is a quarter faster than one by one."""

_FEW = 20
"""Events that may be left to take while saves wait: a millisecond."""

_TRIES = 5

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


class _Stored(NamedTuple):
    """A `StoredEvent`, made three times as fast."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: bytes


def read(
    connection: sqlite3.Connection | sqlite3.Cursor, mapper: Mapper[UUID], *, after: int = 0, until: int = _ALL
) -> Iterator[RecordedEvent]:
    """The events after one position up to another, in order, read in pages.

    Raises `EventUnreadable` with the position of one that is damaged.
    """
    to_event = mapper.to_domain_event
    while True:
        rows = connection.execute(
            "SELECT e.rowid, committed_at, originator_id, originator_version, topic, state FROM stored_events e"
            " JOIN event_chain c ON c.position = e.rowid WHERE e.rowid > ? AND e.rowid <= ? ORDER BY e.rowid LIMIT ?",
            (after, until, _PAGE),
        ).fetchall()
        for position, committed_at, stream, version, topic, state in rows:
            try:
                stored = _Stored(_uuid(stream), version, topic, state)
                event = to_event(cast("StoredEvent", stored))
            except (EventUnreadable, TypeError, ValueError) as error:
                raise _damaged(position, "read", error) from None
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
    except _DAMAGE as error:
        raise _damaged(event.position, "projected", error) from None


def _project_all(projections: Sequence[Projection], cursor: sqlite3.Cursor, events: Iterable[RecordedEvent]) -> None:
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


def _project_portion(projection: Projection, collector: CollectingCursor, events: Sequence[RecordedEvent]) -> None:
    """Apply some events to one projection; none: write what it left to be collected."""
    concerned = getattr(projection, "CONCERNED", None)
    apply, cursor = projection.apply, cast("sqlite3.Cursor", collector)
    try:
        for event in events:
            if concerned is None or type(event.domain_event) in concerned:
                collector.position = event.position
                apply(cursor, event)
        if not events:
            collector.flush()
    except _DAMAGE as error:
        raise _damaged(collector.position, "projected", error) from None


_DAMAGE = (
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


def catch_up(path: Path, writer: Writer, mapper: Mapper[UUID], projections: Sequence[Projection]) -> dict[str, int]:
    """Bring each projection to the log's head: behind → the rest; ahead, another version or other tables → anew.

    Returns how many events each projection that was not up to date has taken. Raises `StoreUnusable` when a service of
    another version runs on the database: its tables are its own.
    """
    with writer.transaction() as cursor:
        head = chain.head(cursor)[0]
        ours = {projection.NAME: (projection.VERSION, head) for projection in projections}
        _leave_another_version_alone(path, cursor, projections)
        behind = [(projection, start) for projection, start in _starts(cursor, projections, head) if start < head]
        taken = _apply_from(cursor, mapper, behind)
        if positions.noted(cursor) != ours:  # a look writes nothing
            positions.take_over(cursor, projections, head)
    return {name: count for name, count in taken.items() if count}


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
        _project_all(lacking, writing, read(cursor, mapper, after=start, until=until))
    return {projection.NAME: _count(cursor, after=start) for projection, start in behind}


def _count(cursor: sqlite3.Cursor, *, after: int) -> int:
    count: int = cursor.execute("SELECT COUNT(*) FROM stored_events WHERE rowid > ?", (after,)).fetchone()[0]
    return count


def _recreate(cursor: sqlite3.Cursor, projection: Projection) -> None:
    for table in projection.TABLES:
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in projection.SCHEMA:
        cursor.execute(statement)


def _changed_tables(cursor: sqlite3.Cursor, projection: Projection) -> bool:
    """Whether somebody has dropped or altered a table."""
    declared = sqlite3.connect(":memory:")
    try:
        for statement in projection.SCHEMA:
            declared.execute(statement)
        return any(aside.columns(cursor, table) != aside.columns(declared, table) for table in projection.TABLES)
    finally:
        declared.close()


# --- on request


def rebuild(
    path: Path, writer: Writer, mapper: Mapper[UUID], projections: Sequence[Projection], progress: Progress
) -> int:
    """Build the projections anew aside, compare, and write into the served tables just what differs.

    The service goes on meanwhile. Saves wait only while the differing rows are written, in one transaction: nobody sees
    a half of it, and a kill leaves the old tables. It ends with a comparison in which nothing differs, so that it does
    not matter what was written in between. Returns the number of events. Raises `Contention` when another rebuild runs,
    or somebody goes on writing into the tables by hand.
    """
    with _alone(path), aside.opened(path, projections) as built:
        _build(built, mapper, built.head(), progress)
        for _ in range(_TRIES):
            differing = _differing(built, mapper)
            if not differing:
                return built.position
            _put_right(built, writer, mapper, differing)
    raise Contention(
        "the tables were changed by hand again and again during the rebuild",
        remedy="find out who writes to the database beside the gateway, then try again",
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One rebuild of a database at a time. Raises `Contention`."""
    lock = path.with_name(path.name + ".rebuild")
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{lock} can't be written: {error.strerror}", remedy="check the folder's rights") from error
    try:
        if not _locked(file, lock):
            raise RebuildRuns("another rebuild of this database runs", remedy="wait for it to end")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(file)


def _locked(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), path.stat())  # no: one ended just now and took the file away
    except (BlockingIOError, FileNotFoundError):
        return False


def _build(built: Aside, mapper: Mapper[UUID], until: int, progress: Progress = lambda _done, _all: None) -> None:
    """Apply the log up to a position, page by page: no snapshot is held for long, nor the log's log kept from reuse."""
    cursor = built.connection.cursor()
    while built.position < until:
        page = min(built.position + _PAGE, until)
        with built.snapshot():
            _project_all(built.projections, cursor, read(built.connection, mapper, after=built.position, until=page))
        built.position = page
        progress(page, until)


def _approach(built: Aside, mapper: Mapper[UUID]) -> None:
    """Take what was appended meanwhile, until it is little."""
    for _ in range(_TRIES):
        head = built.head()
        _build(built, mapper, head)
        if built.head() - head <= _FEW:
            return


def _differing(built: Aside, mapper: Mapper[UUID]) -> list[Projection]:
    """The projections whose served tables, or noted positions, are not what the events up to one commit say."""
    _approach(built, mapper)
    with built.snapshot():
        _build(built, mapper, built.head())
        return [projection for projection in built.projections if _differs(built, projection)]


def _differs(built: Aside, projection: Projection) -> bool:
    found = [built.is_altered(table) or built.note_differences(table) for table in projection.TABLES]
    return any(found) or positions.position_of(built.connection, projection) != built.position


def _put_right(built: Aside, writer: Writer, mapper: Mapper[UUID], differing: Sequence[Projection]) -> None:
    """Rows that did not differ have taken the same events since, so they don't differ now."""
    _approach(built, mapper)
    with writer.transaction() as cursor:
        _build(built, mapper, built.head())
        for projection in differing:
            if any(built.is_altered(table) for table in projection.TABLES):
                _recreate(cursor, projection)
                for table in projection.TABLES:
                    built.put_anew(cursor, table)
            else:
                for table in projection.TABLES:
                    built.put_right(cursor, table)
        positions.advance(cursor, differing, built.position)


def compare(
    path: Path, mapper: Mapper[UUID], projections: Sequence[Projection], progress: Progress
) -> list[Difference]:
    """Build aside and compare with what is served at one commit; the first difference of each projection."""
    with aside.opened(path, projections) as built:
        _build(built, mapper, built.head(), progress)
        _approach(built, mapper)
        with built.snapshot():
            _build(built, mapper, built.head())
            found = (built.first_difference(projection) for projection in projections)
            return [difference for difference in found if difference]
