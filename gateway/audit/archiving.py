"""Copying closed clinic days out of the log into an archive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from eventsourcing.utils import resolve_topic

from gateway.application import Gateway
from gateway.audit import event_log
from gateway.domain.moments import Moment
from gateway.errors import InvalidValue
from gateway.eventstore import archive, replay, selection
from gateway.eventstore.archive import Part
from gateway.eventstore.mapper import ENVELOPE
from gateway.eventstore.selection import Selection, StoredRow


@dataclass(frozen=True, slots=True)
class Days:
    """The stretch of the log to archive: everything committed up to the end of a day on the site's clock."""

    until: date
    zone: ZoneInfo
    part: Part


def closed_days(gateway: Gateway, until: date, zone: ZoneInfo, *, after: Part | None = None) -> Days | None:
    """What there is to archive up to a day, from the beginning or from where an archive ended; None when nothing is.

    Raises `InvalidValue` for a day that is not over, and `ArchiveUnusable`.
    """
    end = datetime.combine(until + timedelta(days=1), time(), zone)
    if end > datetime.now(zone):
        raise InvalidValue("--until: that day is not over on the site's clock", field="until")
    with gateway.reading() as connection:
        last = selection.last_before(connection, Moment(end.astimezone(UTC)).text)
        part = archive.part_of(connection, last, after=after)
    return Days(until, zone, part) if part else None


def identifies(gateway: Gateway, days: Days) -> bool:
    """Whether any event of these days says in clear what identifies a person: it was saved before sealing was on."""
    known = frozenset(event_log.topics())
    stretch = Selection(first=days.part.first, last=days.part.last)
    return any(row.topic not in known or _is_open(row) for row in event_log.rows(gateway, stretch))


def _is_open(row: StoredRow) -> bool:
    """A state that can't be read may say anything."""
    try:
        state = json.loads(row.state)
        envelope = state.get(ENVELOPE) or {}
        in_clear = envelope.get("sealed")
    except (AttributeError, RecursionError, TypeError, ValueError):
        return True
    held = state | in_clear if isinstance(in_clear, dict) else state
    return any(held.get(name) for name in getattr(resolve_topic(row.topic), "IDENTIFYING", ()))


def lines(gateway: Gateway, days: Days, progress: replay.Progress = lambda _done, _all: None) -> Iterator[str]:
    """The archive, line by line. Raises `ArchiveUnusable` when the log is not as it was written."""
    facts = {"until": days.until.isoformat(), "time_zone": days.zone.key}
    with gateway.reading() as connection:
        yield from archive.lines(connection, days.part, facts, progress)
