"""Events in, and with them in the same transaction: their links in the chain and the rows of every projection."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import EventStore, IntegrityError, Recording, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor, SQLiteDatastore

from gateway.errors import OutcomeUnknown, StoreUnusable
from gateway.eventstore import chain, positions, sealing
from gateway.eventstore.connections import APPLICATION_ID, Readers, Writer
from gateway.eventstore.mapper import EnvelopeMapper
from gateway.eventstore.ownership import Use
from gateway.eventstore.projection import Projection, RecordedEvent
from gateway.eventstore.schema import declared
from gateway.eventstore.sealing import KeyErasedMeanwhile
from gateway.eventstore.shared_commit import SharedCommit

EVENTS_SCHEMA = """
    CREATE TABLE IF NOT EXISTS stored_events (
        rowid INTEGER PRIMARY KEY AUTOINCREMENT,
        originator_id TEXT NOT NULL,
        originator_version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        state BLOB NOT NULL,
        UNIQUE (originator_id, originator_version)
    )
"""  # the column is called rowid because the library reads it by that name


class Datastore(SQLiteDatastore):
    """The library's datastore over our connections."""

    def __init__(self, path: Path) -> None:
        self.single_row_tracking = True
        self.originator_id_type = "uuid"
        self.path = path
        self._use = Use(path)
        try:
            self.writer = Writer(path)
        except BaseException:
            self._use.give_up()
            raise
        self.readers = Readers(path)
        self.shared_commit = SharedCommit(self.writer)

    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        """A transaction that writes, or a look at the newest commit."""
        if commit:
            with self.writer.transaction() as cursor:
                yield SQLiteCursor(cursor)
        else:
            with self.readers.connection() as connection:
                yield SQLiteCursor(connection.cursor())

    def close(self) -> None:
        """Close all connections."""
        self.writer.close()
        self.readers.close()
        self._use.release()

    def __del__(self) -> None:
        """The owner closes; the library's finaliser would close twice."""


class Recorder(SQLiteApplicationRecorder):
    """The library's recorder with AUTOINCREMENT positions, the hash chain and inline projections."""

    datastore: Datastore

    def __init__(self, datastore: Datastore, projections: Sequence[Projection]) -> None:
        super().__init__(datastore)
        self.projections = projections
        self._of_class: dict[type, tuple[Projection, ...]] = {}
        self.insert_events_statement = (
            "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?, ?, ?, ?)"
        )
        self.select_events_statement = (
            "SELECT originator_id, originator_version, topic, state FROM stored_events WHERE originator_id=? "
        )

    def construct_create_table_statements(self) -> list[str]:
        """The log, its chain and which key file it belongs with; projections have their own."""
        return [EVENTS_SCHEMA, *chain.SCHEMA, *positions.SCHEMA, *sealing.SCHEMA]

    def create_table(self) -> None:
        """Create what is missing; where nothing is, nothing is written. Raises `StoreUnusable`, `Contention`."""
        if self._is_in_place():
            return
        try:
            with self.datastore.writer.transaction() as cursor:
                cursor.execute(f"PRAGMA application_id={APPLICATION_ID}")
                for statement in self.create_table_statements:
                    cursor.execute(statement)
        except OutcomeUnknown as error:
            raise StoreUnusable(error.message, remedy=error.remedy) from error

    def _is_in_place(self) -> bool:
        """Whether all is there, and the file may be written: a look then waits for nobody who holds it."""
        if not os.access(self.datastore.path, os.W_OK):
            return False
        with self.datastore.readers.connection() as connection:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            with declared(self.create_table_statements) as whole:
                return owner == APPLICATION_ID and _names(whole) <= _names(connection)

    def is_known(self, stream_id: UUID) -> bool:
        """Whether there is an event of this stream."""
        statement = "SELECT 1 FROM stored_events WHERE originator_id = ? LIMIT 1"
        with self.datastore.readers.connection() as connection:
            return connection.execute(statement, (stream_id.hex,)).fetchone() is not None

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ANN401  the library's own signature
    ) -> Sequence[int] | None:
        """Append in one transaction, which others that arrive meanwhile may share."""
        ids = self.datastore.shared_commit.save(
            lambda cursor: self._insert_events(SQLiteCursor(cursor), stored_events, **kwargs)
        )
        self.datastore.writer.recovered()
        return ids

    def _insert_events(
        self,
        c: SQLiteCursor,
        stored_events: Sequence[StoredEvent],
        *,
        inline: Sequence[DomainEventProtocol[UUID]] = (),
        **_: Any,  # noqa: ANN401  the library's own signature
    ) -> Sequence[int]:
        ids = super()._insert_events(c, stored_events) or []
        if not ids:
            return ids
        cursor = c.sqlite_cursor
        committed_at = self._link(cursor, ids, stored_events)
        for position, event in zip(ids, inline, strict=True):
            recorded = RecordedEvent(position, committed_at, event)
            for projection in self._concerned(type(event)):
                projection.apply(cursor, recorded)
        positions.advance(cursor, self.projections, ids[-1])
        return ids

    def _concerned(self, event_class: type) -> tuple[Projection, ...]:
        """The projections that write anything about events of this class."""
        found = self._of_class.get(event_class)
        if found is None:
            found = tuple(projection for projection in self.projections if event_class in projection.CONCERNED)
            self._of_class[event_class] = found
        return found

    def insert_within(
        self,
        cursor: sqlite3.Cursor,
        stored_events: Sequence[StoredEvent],
        inline: Sequence[DomainEventProtocol[UUID]],
    ) -> None:
        """Append inside a transaction that somebody else began."""
        self._insert_events(SQLiteCursor(cursor), stored_events, inline=inline)

    @staticmethod
    def _link(cursor: sqlite3.Cursor, ids: Sequence[int], stored_events: Sequence[StoredEvent]) -> str:
        """Write the links; all events of one save carry one time that never decreases."""
        _, previous_time, previous = chain.head(cursor)
        committed_at = max(previous_time, datetime.now(UTC).isoformat(timespec="microseconds"))
        links = []
        for position, stored in zip(ids, stored_events, strict=True):
            stream = stored.originator_id.hex if isinstance(stored.originator_id, UUID) else stored.originator_id
            previous = chain.link(
                previous, position, stream, stored.originator_version, stored.topic, committed_at, stored.state
            )
            links.append((position, committed_at, previous))
        cursor.executemany("INSERT INTO event_chain VALUES (?, ?, ?)", links)
        return committed_at


class InlineEventStore(EventStore[UUID]):
    """An event store that chooses keys, and hands the events themselves to the recorder, for the projections."""

    recorder: Recorder

    def __init__(self, mapper: EnvelopeMapper, recorder: Recorder) -> None:
        super().__init__(mapper, recorder)
        self.sealing = mapper.sealing

    def put(
        self,
        domain_events: Sequence[DomainEventProtocol[UUID]],
        **kwargs: Any,  # noqa: ANN401  the library's own signature
    ) -> list[Recording[UUID]]:
        """Append, link and project in one transaction; nothing to append takes no lock.

        Raises `KeysUnusable` when something is to be sealed and no key can be had: nothing is saved then.
        """
        if not domain_events:
            return []
        try:
            return self._put(domain_events, **kwargs)
        except KeyErasedMeanwhile:  # nothing was saved; an erased person begins anew
            return self._put(domain_events, **kwargs)

    def _put(
        self,
        domain_events: Sequence[DomainEventProtocol[UUID]],
        **kwargs: Any,  # noqa: ANN401  the library's own signature
    ) -> list[Recording[UUID]]:
        if self.sealing:
            self.sealing.assign(domain_events)
        try:
            return super().put(domain_events, inline=domain_events, **kwargs)
        except IntegrityError:
            if self.sealing:
                self.sealing.forget()
            raise

    def is_known(self, stream_id: UUID) -> bool:
        """Whether there is an event of this stream."""
        return self.recorder.is_known(stream_id)

    def put_within(self, cursor: sqlite3.Cursor, domain_events: Sequence[DomainEventProtocol[UUID]]) -> None:
        """Append inside a transaction that somebody else began: for a decision over the log as it is then."""
        if self.sealing:
            self.sealing.assign(domain_events)
        stored = [self.mapper.to_stored_event(event) for event in domain_events]
        self.recorder.insert_within(cursor, stored, domain_events)


def _names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
