"""A change of an item's status on its way to the web app: requested, then acknowledged or parked.

News of an item's images go the same way, in one order with its statuses.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from gateway.domain.events import Stream
from gateway.domain.identity import status_update_id


class StatusUpdate(Stream):
    """What the web app is owed. Delivery attempts are no events; their outcome is."""

    TOPIC = "StatusUpdate"

    class Event(Stream.Event):
        """Base of the update's events."""

        TOPIC = "StatusUpdate.Event"
        event_id: str
        accession_number: str

    class Requested(Event, Stream.Created):
        """Born in the transaction that changed the status. `sequence` counts per accession number, from 1.

        `performed` are counts and dose of the step that changed it, so far as they are known.
        """

        TOPIC = "StatusUpdate.Requested"
        class_version = 2
        sequence: int
        status: str
        action_id: str | None
        mpps_instance_uid: str | None
        occurred_at: str
        performed: dict[str, Any]

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> None:
            """Version 1 told the status alone."""
            state["performed"] = {}

    class ImagesUpdateRequested(Event, Stream.Created):
        """Born in the transaction that noted images of the item. `sequence` counts with those of its statuses.

        `images` are `series_count`, `image_count` and `modalities`, as the web app is told.
        """

        TOPIC = "StatusUpdate.ImagesUpdateRequested"
        sequence: int
        action_id: str | None
        study_instance_uid: str
        images: dict[str, Any]
        occurred_at: str

    class Acknowledged(Event):
        """The web app has it."""

        TOPIC = "StatusUpdate.Acknowledged"
        answer: str
        attempts: int

        def apply(self, aggregate: StatusUpdate) -> None:
            """Settled."""
            aggregate.state = "acknowledged"

    class Parked(Event):
        """The web app refused it for good, or an operator took it out; later ones of the accession still go."""

        TOPIC = "StatusUpdate.Parked"
        reason: str
        attempts: int

        def apply(self, aggregate: StatusUpdate) -> None:
            """Out of the queue."""
            aggregate.state = "parked"

    class Requeued(Event):
        """An operator wants it tried again."""

        TOPIC = "StatusUpdate.Requeued"
        reason: str

        def apply(self, aggregate: StatusUpdate) -> None:
            """Back in the queue."""
            aggregate.state = "waiting"

    def __init__(self, event_id: str, accession_number: str) -> None:
        self.event_id = event_id
        self.accession_number = accession_number
        self.state = "waiting"

    @staticmethod
    def create_id(event_id: str) -> UUID:
        """The stream of this event_id."""
        return status_update_id(event_id)

    @classmethod
    def request(
        cls,
        *,
        event_id: str,
        accession_number: str,
        sequence: int,
        status: str,
        action_id: str | None,
        mpps_instance_uid: str | None,
        occurred_at: str,
        performed: dict[str, Any],
    ) -> StatusUpdate:
        """The update that a change of status owes the web app."""
        return cls._create(
            event_class=cls.Requested,
            event_id=event_id,
            accession_number=accession_number,
            sequence=sequence,
            status=status,
            action_id=action_id,
            mpps_instance_uid=mpps_instance_uid,
            occurred_at=occurred_at,
            performed=performed,
        )

    @classmethod
    def request_for_images(
        cls,
        *,
        event_id: str,
        accession_number: str,
        sequence: int,
        action_id: str | None,
        study_instance_uid: str,
        images: dict[str, Any],
        occurred_at: str,
    ) -> StatusUpdate:
        """The update that images of an item owe the web app."""
        return cls._create(
            event_class=cls.ImagesUpdateRequested,
            event_id=event_id,
            accession_number=accession_number,
            sequence=sequence,
            action_id=action_id,
            study_instance_uid=study_instance_uid,
            images=images,
            occurred_at=occurred_at,
        )

    def acknowledge(self, answer: str, attempts: int) -> None:
        """The web app has it. A second acknowledgement changes nothing."""
        if self.state != "acknowledged":
            self._happened(self.Acknowledged, answer=answer, attempts=attempts)

    def park(self, reason: str, attempts: int) -> None:
        """Take it out of the queue, visibly."""
        if self.state == "waiting":
            self._happened(self.Parked, reason=reason, attempts=attempts)

    def requeue(self, reason: str) -> None:
        """Put a parked one back into the queue."""
        if self.state == "parked":
            self._happened(self.Requeued, reason=reason)

    def _happened(self, event: type[Event], **details: str | int) -> None:
        self.trigger_event(event, event_id=self.event_id, accession_number=self.accession_number, **details)
