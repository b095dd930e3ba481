"""Orthanc's feed of changes: which one is followed, how far, and what in it can't be read."""

from __future__ import annotations

from collections.abc import Callable

import projections.received_studies
from gateway.application.deciding import Deciding, Decision
from gateway.domain.events import circumstances
from gateway.domain.image_feed import ImageFeed
from gateway.domain.received_study import FeedPlace
from gateway.errors import NotFound
from projections.received_studies import FeedRow, ParkedStudyRow


class Feed(Deciding):
    """The place in the feed of changes."""

    def begin_feed(self, *, reason: str, database: str) -> int:
        """An Orthanc is followed from its first change on; returns the feed's number."""

        def decide() -> Decision[int]:
            known = self.image_feed()
            number = known.number + 1 if known else 1
            return number, [ImageFeed.begin(number, reason=reason, database=database)]

        with circumstances(source="orthanc"):
            return self._retry(decide)

    def advance_feed(self, place: FeedPlace) -> None:
        """Keep how far the feed was followed, where no study was told of for long. Raises `NotFound`."""
        self._on_feed(place, lambda feed: feed.advance(place))

    def park_study(self, orthanc_id: str, why: str, place: FeedPlace) -> None:
        """Go on without a study that can't be read; a person is told. Raises `NotFound`."""
        self._on_feed(place, lambda feed: feed.park(orthanc_id, why, place))

    def _on_feed(self, place: FeedPlace, command: Callable[[ImageFeed], None]) -> None:
        def decide() -> Decision[None]:
            feed = self._load(ImageFeed, ImageFeed.create_id(place.feed))
            if feed is None:
                raise NotFound("there is no feed of this number", field="feed")
            command(feed)
            return None, [feed]

        with circumstances(source="orthanc"):
            self._retry(decide)

    def image_feed(self) -> FeedRow | None:
        """The feed of changes that is followed, and how far; None before the first."""
        with self.reading() as connection:
            return projections.received_studies.feed(connection)

    def parked_studies(self) -> list[ParkedStudyRow]:
        """Studies of Orthanc's that could not be read."""
        with self.reading() as connection:
            return projections.received_studies.parked(connection)

    def _is_parked(self, orthanc_id: str) -> bool:
        return any(row.orthanc_id == orthanc_id for row in self.parked_studies())
