"""The worklist as it stood at an earlier moment, found and shown by the very code that serves the present one.

Of a day or an accession number only the events of the items concerned are read; else the whole history of all items.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import projections.worklist
import projections.worklist_days
from gateway.application import Gateway
from gateway.domain.moments import Moment
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore import as_of
from gateway.eventstore.as_of import Place, Progress
from gateway.eventstore.projection import as_projection
from projections.worklist import WorklistFilter, WorklistRow

_WORKLIST = as_projection(projections.worklist)


@dataclass(frozen=True, slots=True)
class Standing:
    """The place of the record that was taken for a moment or a position, and what has to be said about that.

    `position` and `committed_at` are of the last event that counts, 0 and "" before the first one. `instant` is the
    moment that is meant: the one asked for, now when that is still to come, or that event's; UTC, as the record
    writes it.
    """

    instant: str
    position: int
    committed_at: str
    notes: tuple[str, ...] = ()


def standing_at(gateway: Gateway, moment: Moment) -> Standing:
    """Where the record stood at a moment; one in the future is now."""
    with gateway.reading() as connection:
        head, first, place = as_of.head(connection), as_of.first(connection), as_of.place_at(connection, moment.text)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    notes = [moment.decided] if moment.decided else []
    notes += _about(moment.text, now, place, first, head)
    return Standing(min(moment.text, now), place.position, place.committed_at, tuple(notes))


def standing_after(gateway: Gateway, position: int) -> Standing:
    """Where the record stood after a position; one that is not reached yet is now."""
    with gateway.reading() as connection:
        place, first = as_of.place_of(connection, position), as_of.first(connection)
    notes = []
    if not first.position:
        notes = [_NOTHING]
    elif not place.position:
        notes = [_BEFORE_ALL]
    elif place.position < position:
        notes = [f"the record ends at position {place.position}: taken is that"]
    return Standing(place.committed_at, place.position, place.committed_at, tuple(notes))


_NOTHING = "nothing was ever recorded here"
_BEFORE_ALL = "that is before the first event: the list was empty"


def _about(instant: str, now: str, place: Place, first: Place, head: Place) -> Iterator[str]:
    if not first.position:
        yield _NOTHING
    elif not place.position:
        yield f"{_BEFORE_ALL}; the first event is of {first.committed_at}"
    if instant > now:
        yield "that moment is still to come: taken is what stands now"
    if head.committed_at > now:
        yield (
            f"the newest event is stamped {head.committed_at}, which is still to come by this machine's clock: it was "
            "set back, and what was recorded since then counts as of that stamp"
        )


class WorklistAsOf:
    """The worklist as it stood after a position. Used by one thread, within `worklist_as_of`.

    `progress` is told how many events were read.
    """

    def __init__(self, gateway: Gateway, position: int, progress: Progress) -> None:
        self._gateway = gateway
        self._position = position
        self._progress = progress
        self._whole: sqlite3.Connection | None = None

    def find_items(self, wanted: WorklistFilter) -> list[WorklistRow]:
        """Worklist items by date and time, as `Gateway.find_items` would have found them then."""
        streams = self._streams(wanted) if self._whole is None else None
        if streams is not None:
            with closing(self._of_streams(streams)) as table:
                return list(projections.worklist.find(table, wanted))
        self._whole = self._whole or self._of_all()
        return list(projections.worklist.find(self._whole, wanted))

    def _streams(self, wanted: WorklistFilter) -> list[str] | None:
        """The streams of all items that may be found, or None when nothing says which."""
        if wanted.accession_number:
            return [WorklistItem.create_id(wanted.accession_number).hex]
        if any(wanted.dates):
            with self._gateway.reading() as connection:
                return projections.worklist_days.streams(connection, wanted.dates, self._position)
        return None

    def _of_streams(self, streams: list[str]) -> sqlite3.Connection:
        mapper = self._gateway.mapper
        with self._gateway.reading() as connection:
            events = as_of.of_streams(connection, mapper, streams, self._position, self._progress)
            return as_of.table(_WORKLIST, events)

    def _of_all(self) -> sqlite3.Connection:
        mapper = self._gateway.mapper
        with self._gateway.reading() as connection:
            events = as_of.of_kind(connection, mapper, WorklistItem.TOPIC, self._position, self._progress)
            return as_of.table(_WORKLIST, events)

    def close(self) -> None:
        """Forget what was read."""
        if self._whole is not None:
            self._whole.close()


@contextmanager
def worklist_as_of(
    gateway: Gateway, standing: Standing, progress: Progress = lambda _done, _all: None
) -> Iterator[WorklistAsOf]:
    """The worklist as it stood there, for as long as the `with` lasts."""
    worklist = WorklistAsOf(gateway, standing.position, progress)
    try:
        yield worklist
    finally:
        worklist.close()
