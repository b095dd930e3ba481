"""Stream ids: uuid5 of business keys, so that the store's primary key enforces their uniqueness (design §3.3)."""

from __future__ import annotations

from functools import lru_cache
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

_KNOWN = 1024
"""Ids that are known still when the next message asks for them: a digest and a UUID object each time add up."""

_ROOT = uuid5(NAMESPACE_URL, "https://worklist-gateway/streams")


@lru_cache(maxsize=_KNOWN)
def worklist_item_id(accession_number: str) -> UUID:
    """The stream of the item with this accession number."""
    return uuid5(_ROOT, f"/worklist-items/{accession_number}")


@lru_cache(maxsize=_KNOWN)
def performed_step_id(sop_instance_uid: str) -> UUID:
    """The stream of the MPPS with this SOP Instance UID."""
    return uuid5(_ROOT, f"/performed-procedure-steps/{sop_instance_uid}")


def relay_action_id(action_id: str) -> UUID:
    """The stream of the receipt for this action_id."""
    return uuid5(_ROOT, f"/relay-actions/{action_id}")


def status_update_id(event_id: str) -> UUID:
    """The stream of the status update with this event_id."""
    return uuid5(_ROOT, f"/status-updates/{event_id}")


def epoch_id(number: int) -> UUID:
    """The stream of the log's n-th epoch."""
    return uuid5(_ROOT, f"/epochs/{number}")


def received_study_id(orthanc_id: str) -> UUID:
    """The stream of the study that has this id in Orthanc, derived from Patient ID and Study Instance UID.

    A Study Instance UID alone would make one study of two patients' images, as they come when the wrong patient was
    chosen first.
    """
    return uuid5(_ROOT, f"/received-studies/{orthanc_id}")


def image_feed_id(number: int) -> UUID:
    """The stream of the n-th feed of changes of an Orthanc."""
    return uuid5(_ROOT, f"/image-feeds/{number}")


def status_event_id(cause: str, accession_number: str, status: str) -> str:
    """The event_id that the web app sees: the same for the same cause, accession number and status.

    No epoch is in it. A step that a modality reports again after a restore is the same fact under the same UID, and the
    web app, which may know the event from before, drops it rightly. What an operator does has a random cause, so that
    nothing done after a restore is taken for something that was lost by it.
    """
    return str(uuid5(_ROOT, f"/status-events/{cause}/{accession_number}/{status}"))


def images_event_id(orthanc_id: str, accession_number: str, arrival: int, instances: int) -> str:
    """The event_id of `study.images_received`: the same for the same arrival of the same images."""
    return str(uuid5(_ROOT, f"/images-events/{orthanc_id}/{accession_number}/{arrival}/{instances}"))


def new_study_instance_uid() -> str:
    """A Study Instance UID derived from a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"
