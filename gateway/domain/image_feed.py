"""A feed of changes of one Orthanc: begun, followed, and begun anew when Orthanc's database is another one.

How far it was followed stands in the events that it caused (`FeedPlace`), in the transaction that saved them. The feed
itself has few events: where it began, where long stretches without a study ended, and what could not be read.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from gateway.domain.events import Stream
from gateway.domain.identity import image_feed_id
from gateway.domain.received_study import FeedPlace


class ImageFeed(Stream):
    """One feed, followed from its first change on."""

    TOPIC = "ImageFeed"

    class Event(Stream.Event):
        """Base of the feed's events."""

        TOPIC = "ImageFeed.Event"
        number: int

    class Began(Event, Stream.Created):
        """An Orthanc is followed that was not known: the first, or one that was wiped or replaced (`reason`).

        `database` is what Orthanc calls its database (`DatabaseServerIdentifier`; "" before Orthanc 1.11.1).
        """

        TOPIC = "ImageFeed.Began"
        reason: str
        database: str

    class Advanced(Event):
        """Nothing that matters was told for long: reading goes on from here."""

        TOPIC = "ImageFeed.Advanced"
        place: dict[str, Any]

    class StudyParked(Event):
        """A study could not be read; the feed goes on without it."""

        TOPIC = "ImageFeed.StudyParked"
        orthanc_id: str
        why: str
        place: dict[str, Any]

    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def create_id(number: int) -> UUID:
        """The stream of the n-th feed."""
        return image_feed_id(number)

    @classmethod
    def begin(cls, number: int, *, reason: str, database: str) -> ImageFeed:
        """The feed that is followed from now on."""
        return cls._create(event_class=cls.Began, number=number, reason=reason, database=database)

    def advance(self, place: FeedPlace) -> None:
        """Go on from here after a restart."""
        self.trigger_event(self.Advanced, number=self.number, place=_told(place))

    def park(self, orthanc_id: str, why: str, place: FeedPlace) -> None:
        """Go on without a study."""
        self.trigger_event(self.StudyParked, number=self.number, orthanc_id=orthanc_id, why=why, place=_told(place))


def _told(place: FeedPlace) -> dict[str, Any]:
    return {name: getattr(place, name) for name in ("feed", "change", "changed", "resume_after")}
