"""Building a log from events that were recorded elsewhere: their times are kept, the chain is its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from eventsourcing.persistence import Mapper, StoredEvent

from gateway.errors import EventUnreadable, GatewayError
from gateway.eventstore import chain, positions
from gateway.eventstore.projection import Projection, RecordedEvent
from gateway.eventstore.replay import DAMAGE


class CannotBeLoaded(GatewayError):
    """An event does not fit after those before it."""

    code = "cannot_be_loaded"


class Loader:
    """Appends one event after the other to a log that nobody else writes, with link and projections.

    One to a transaction; the next one goes on where it stopped.
    """

    def __init__(self, cursor: sqlite3.Cursor, mapper: Mapper[UUID], projections: Sequence[Projection]) -> None:
        self._cursor = cursor
        self._mapper = mapper
        self._projections = projections
        self._position, self._committed_at, self._link = chain.head(cursor)

    def add(self, committed_at: str, stored: StoredEvent) -> None:
        """Append one. Raises `CannotBeLoaded`, and `EventUnreadable` when no event of ours is stored so."""
        if committed_at < self._committed_at:
            raise CannotBeLoaded("the event was committed before the one that it follows")
        position, stream = self._position + 1, UUID(str(stored.originator_id)).hex
        row = (position, stream, stored.originator_version, stored.topic, stored.state)
        event = self._mapper.to_domain_event(stored)
        try:
            self._cursor.execute(
                "INSERT INTO stored_events (rowid, originator_id, originator_version, topic, state)"
                " VALUES (?, ?, ?, ?, ?)",
                row,
            )
        except sqlite3.IntegrityError:
            raise CannotBeLoaded("its stream has an event of that version already") from None
        self._link = chain.link(self._link, *row[:4], committed_at, stored.state)
        self._cursor.execute("INSERT INTO event_chain VALUES (?, ?, ?)", (position, committed_at, self._link))
        self._project(RecordedEvent(position, committed_at, event))
        self._position, self._committed_at = position, committed_at

    def _project(self, event: RecordedEvent) -> None:
        try:
            for projection in self._projections:
                projection.apply(self._cursor, event)
        except DAMAGE as error:  # and no other error of SQLite's: a full disk is not the event's fault
            raise EventUnreadable(f"the event can't be projected ({type(error).__name__})") from None

    def finish(self) -> int:
        """Note that the projections have taken everything; returns the last position."""
        positions.advance(self._cursor, self._projections, self._position)
        return self._position
