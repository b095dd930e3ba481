"""Whose an item was, and when: an amendment may give it another Patient ID or name.

The worklist's table holds the person of now. Only the events of an item whose person was amended are read; every other
one has had the same person all the time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import projections.timeline
from gateway.application import Gateway
from gateway.domain.worklist_item import ERASED_PERSON, WorklistItem
from gateway.eventstore import replay

_PATIENT_ID = ("patient_id",)
_TOLD_OF = ("patient_id", "patient_name")

_STAMP = timedelta(milliseconds=1)
"""Queries are stamped to the millisecond, commits to the microsecond."""


@dataclass(frozen=True, slots=True)
class Holding:
    """An item was this person's from one event of it up to another; None: it still is.

    Positions are those of the log, instants those of the commits; 0 and "" of the first person, whose it ever was
    before. The event that ends it is still about this person.
    """

    person: dict[str, Any]
    position: int
    since: str
    until_position: int | None = None
    until: str | None = None

    def holds_at(self, position: int) -> bool:
        """Whether an event at this position was about this person."""
        return self.position <= position and (self.until_position is None or position <= self.until_position)

    def holds_within(self, first: str, last: str) -> bool:
        """Whether the item was this person's at any instant from the first ("": ever before) to the last."""
        if self.since and _instant(last) + _STAMP <= _instant(self.since):
            return False
        return self.until is None or not first or _instant(first) <= _instant(self.until)


def holdings(gateway: Gateway, connection: sqlite3.Connection, accession_number: str) -> list[Holding]:
    """Whose the item was, in order; [] of one whose Patient ID and name never changed."""
    if not projections.timeline.amended(connection, _TOLD_OF, accession_number):
        return []
    return list(_holdings(gateway, connection, accession_number))


def held_by(gateway: Gateway, connection: sqlite3.Connection, patient_id: str) -> dict[str, tuple[Holding, ...]]:
    """The items that had this Patient ID for a part of their time only, by accession number, and for which part."""
    held = {}
    for number in projections.timeline.amended(connection, _PATIENT_ID):
        theirs = [one for one in _holdings(gateway, connection, number) if one.person["patient_id"] == patient_id]
        if theirs:
            held[number] = tuple(theirs)
    return held


def at_position(found: list[Holding], position: int) -> dict[str, Any] | None:
    """Whom an event at this position was about: the person after it; None when nothing ever changed."""
    return next((one.person for one in reversed(found) if one.position <= position), None)


def at_instant(found: list[Holding], instant: str) -> dict[str, Any] | None:
    """Whose the item was at an instant; None when nothing ever changed."""
    then = _instant(instant)
    return next((one.person for one in reversed(found) if not one.since or _instant(one.since) <= then), None)


def _holdings(gateway: Gateway, connection: sqlite3.Connection, accession_number: str) -> Iterator[Holding]:
    latest: Holding | None = None
    stream = WorklistItem.create_id(accession_number)
    for event in replay.read_stream(connection, gateway.mapper, stream):
        told = _person(event.domain_event)
        if not told:
            continue
        if latest:
            yield Holding(latest.person, latest.position, latest.since, event.position, event.committed_at)
            latest = Holding({**latest.person, **told}, event.position, event.committed_at)
        else:
            latest = Holding(told, 0, "")
    if latest:
        yield latest


def _person(happened: object) -> dict[str, Any]:
    """What an event says about the item's person."""
    if isinstance(happened, WorklistItem.Scheduled | WorklistItem.Amended):
        return happened.person
    return ERASED_PERSON if isinstance(happened, WorklistItem.PersonErased) else {}


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
