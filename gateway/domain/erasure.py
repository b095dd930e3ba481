"""The erasure of a person: that it was done, when, by whom and why; never who it was."""

from __future__ import annotations

from uuid import UUID, uuid4

from gateway.domain.events import Stream


class Erasure(Stream):
    """One act of erasing a person. Its one event is the order to destroy the keys it names."""

    TOPIC = "Erasure"

    class Event(Stream.Event):
        """Base of its one event."""

        TOPIC = "Erasure.Event"

    class PersonErased(Event, Stream.Created):
        """The keys are destroyed because of this event: whoever opens the database finishes what was interrupted.

        `patient` is the Patient ID's HMAC, whose secret is in the key file; `reason` names nobody; `streams` and
        `events` are how many have been sealed with these keys.
        """

        TOPIC = "Erasure.PersonErased"
        patient: str
        key_ids: list[str]
        reason: str
        streams: int
        events: int

    def __init__(self, patient: str, key_ids: list[str]) -> None:
        self.patient = patient
        self.key_ids = key_ids

    @staticmethod
    def create_id() -> UUID:
        """A person may be erased more than once: when new appointments came after it."""
        return uuid4()

    @classmethod
    def order(cls, *, patient: str, key_ids: list[str], reason: str, streams: int, events: int) -> Erasure:
        """The order to destroy these keys."""
        return cls._create(
            event_class=cls.PersonErased,
            patient=patient,
            key_ids=key_ids,
            reason=reason,
            streams=streams,
            events=events,
        )
