"""Epochs of the log: it begins with the first, and each restore of a backup begins the next.

What was acknowledged after the backup is no longer in the log. Others may remember it: the web app has seen status
events, modalities have performed steps. So the log says where it was cut, and nothing is told to the web app before a
person says so.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from gateway.domain.events import Stream
from gateway.domain.identity import epoch_id
from gateway.errors import IllegalTransition


def _upcast_without_reason(state: dict[str, Any]) -> None:
    """Version 1 did not say why."""
    state["reason"] = ""


class Epoch(Stream):
    """One epoch, the second or a later one: it began with a restore; then somebody lets deliveries go on.

    Who did it stands in the metadata, as `correlation_id`.
    """

    TOPIC = "Epoch"

    class Event(Stream.Event):
        """Base of the epoch's events."""

        TOPIC = "Epoch.Event"
        number: int

    class Restored(Event, Stream.Created):
        """A backup took the database's place.

        `backup` is its file's name; `position`, `head` (hexadecimal) and `backed_up_to` (the time of its last commit)
        say where it ends. `sequence_floor`: every `sequence` the web app may have seen is at most this one; later ones
        are above. `replaced` is the name under which the replaced database is kept, and `replaced_position` its last
        position, so far as known. `lost` says what was acknowledged and is missing now: `known`, counts, and
        `accession_numbers`.
        """

        TOPIC = "Epoch.Restored"
        backup: str
        position: int
        head: str
        backed_up_to: str
        restored_at: str
        sequence_floor: int
        replaced: str | None
        replaced_position: int | None
        lost: dict[str, Any]

    class DeliveryResumed(Event):
        """An operator has looked, and the outbox goes on; `waiting` is how many status events it held then.

        `reason` is what the operator wrote about it, or "".
        """

        TOPIC = "Epoch.DeliveryResumed"
        class_version = 2
        upcast_v1_v2 = staticmethod(_upcast_without_reason)
        waiting: int
        reason: str

        def apply(self, aggregate: Epoch) -> None:
            """The outbox goes on."""
            aggregate.resumed = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.resumed = False

    @staticmethod
    def create_id(number: int) -> UUID:
        """The stream of this epoch."""
        return epoch_id(number)

    @classmethod
    def restore(
        cls,
        *,
        number: int,
        backup: str,
        position: int,
        head: str,
        backed_up_to: str,
        restored_at: str,
        sequence_floor: int,
        replaced: str | None,
        replaced_position: int | None,
        lost: dict[str, Any],
    ) -> Epoch:
        """The epoch that this restore begins."""
        return cls._create(
            event_class=cls.Restored,
            number=number,
            backup=backup,
            position=position,
            head=head,
            backed_up_to=backed_up_to,
            restored_at=restored_at,
            sequence_floor=sequence_floor,
            replaced=replaced,
            replaced_position=replaced_position,
            lost=lost,
        )

    def resume(self, waiting: int, reason: str = "") -> None:
        """Let the outbox go on. Raises `IllegalTransition` when it does already."""
        if self.resumed:
            raise IllegalTransition("the outbox does not wait: it was resumed")
        self.trigger_event(self.DeliveryResumed, number=self.number, waiting=waiting, reason=reason)
