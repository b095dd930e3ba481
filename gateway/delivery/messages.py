"""The event as the web app reads it, and what its acknowledgement means; the published contract is written from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, cast

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from gateway.delivery.attempts import Attempt
from gateway.domain.lifecycle import Status
from projections.outbox import OutboxRow

WORDS = {
    "updated": "settled: the web app has it",
    "ok": "settled, when the event_id of the event comes with it; else it is sent again",
    "action_not_found": "parked for a person: the web app knows no such action_id",
    "appointment_not_found": "parked for a person: the web app knows no such appointment",
    "no_appointment_id": "parked for a person: the web app's action has no appointment",
    "unknown_status": "parked for a person: the web app knows no such status",
    "unknown_event": "parked for a person: the web app knows no such event",
    "unknown_event_type": "parked for a person: the web app knows no such event_type",
    "error": "sent again: the web app can't now",
}
"""Every word of an acknowledgement, and what becomes of the event. After any other word it is sent again."""

_SUCCESSES = frozenset({"ok", "updated"})
_KNOWN_FAILURES = frozenset({"error"})
_REFUSALS = WORDS.keys() - _SUCCESSES - _KNOWN_FAILURES
_WORD = re.compile(r"[a-z][a-z_]{0,39}")


_INSTANT = WithJsonSchema({"type": "string", "format": "date-time"})


class Performed(TypedDict, total=False):
    """Counts and dose of the performed procedure step, as far as the modality said them (`gateway.dicom.performed`)."""

    series_count: int
    image_count: int
    non_image_count: int
    exposure_count: int
    fluoroscopy_seconds: int
    entrance_dose_mgy: float
    organ_dose_mgy: float
    area_dose_product_dgycm2: float


class StatusUpdateData(TypedDict):
    """Which item has which status."""

    action_id: Annotated[str | None, Field(description="Of the action that created the item; null: no action did.")]
    accession_number: Annotated[str, Field(max_length=16)]
    status: Annotated[
        str, WithJsonSchema({"enum": [*Status], "description": "IN PROGRESS, COMPLETED or DISCONTINUED by a modality."})
    ]
    mpps_instance_uid: Annotated[
        str | None, Field(description="SOP Instance UID of the performed procedure step; null: set by hand.")
    ]
    occurred_at: NotRequired[
        Annotated[str, _INSTANT, Field(description="When the gateway received what caused it, UTC.")]
    ]
    performed: NotRequired[Performed]
    test: NotRequired[Annotated[Literal[True], Field(description="The item is a test's; nobody was examined.")]]


class StatusUpdateEvent(TypedDict):
    """`mpps.status_update`: the status of an item has changed."""

    schema_version: Literal[1]
    event_type: Literal["mpps.status_update"]
    timestamp: Annotated[str, _INSTANT, Field(description="When it was sent first, UTC.")]
    source_system: Literal["gateway-mwl"]
    event_id: NotRequired[
        Annotated[str, Field(description="The same whenever it is sent again: an event_id you know changes nothing.")]
    ]
    sequence: NotRequired[
        Annotated[
            int,
            Field(
                ge=1,
                description="Counts per accession number, jumps after a restore; not above the last one is old.",
            ),
        ]
    ]
    attempt: NotRequired[
        Annotated[int, Field(ge=1, description="How often it may have reached you, this one counted.")]
    ]
    data: StatusUpdateData


EVENTS: dict[str, type] = {"mpps.status_update": StatusUpdateEvent}
"""The events that leave, by their type."""


class EventAcknowledged(TypedDict):
    """The web app's answer to an event. A word that is none of these is as good as none: the event is sent again."""

    status: Annotated[str, WithJsonSchema({"enum": [*WORDS]})]
    event_id: NotRequired[Annotated[str | None, Field(description="That of the event; another one settles nothing.")]]


class Meaning(StrEnum):
    """What an acknowledgement does to an event."""

    SETTLED = "settled"
    PARKED = "parked"
    RETRIED = "retried"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The web app's answer: its word, and what it means."""

    word: str
    meaning: Meaning


def event_text(row: OutboxRow, attempt: Attempt) -> str:
    """The JSON of an `mpps.status_update` event (`contract/events/mpps.status_update.json`)."""
    data: StatusUpdateData = {
        "action_id": row.action_id,
        "accession_number": row.accession_number,
        "status": row.status,
        "mpps_instance_uid": row.mpps_instance_uid,
        "occurred_at": _zulu(row.occurred_at, "milliseconds"),
    }
    if row.performed:
        data["performed"] = cast("Performed", row.performed)  # as gateway.dicom.performed has counted
    if row.is_test:
        data["test"] = True
    event: StatusUpdateEvent = {
        "schema_version": 1,
        "event_type": "mpps.status_update",
        "timestamp": _zulu(attempt.first_sent_at, "seconds"),  # as it always was
        "source_system": "gateway-mwl",
        "event_id": row.event_id,
        "sequence": row.sequence,
        "attempt": attempt.number,
        "data": data,
    }
    return json.dumps(event)


def read_acknowledgement(text: str, event_id: str) -> Acknowledgement:
    """What the web app's answer means for this event.

    `updated` settles it; so does a reply with `ok` or `updated` that echoes its event_id. A reply that names another
    event_id is about something else and settles nothing. Refusals park it. All else is retried.
    """
    try:
        answer: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Acknowledgement("not JSON", Meaning.RETRIED)
    word = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(word, str):
        return Acknowledgement("no status", Meaning.RETRIED)
    echoed = answer.get("event_id")
    if echoed not in (None, event_id):
        return Acknowledgement("another event_id", Meaning.RETRIED)
    if word == "updated" or (word in _SUCCESSES and echoed == event_id):
        return Acknowledgement(word, Meaning.SETTLED)
    if word in _REFUSALS:
        return Acknowledgement(word, Meaning.PARKED)
    known = word in _SUCCESSES | _KNOWN_FAILURES
    return Acknowledgement(word if known else _unknown(word), Meaning.RETRIED)


def _unknown(word: str) -> str:
    """A word that is none of the contract's; what does not look like a word may be somebody's name."""
    return f"unknown word {word}" if _WORD.fullmatch(word) else "no word of the contract"


def _zulu(instant: str, precision: str) -> str:
    text = datetime.fromisoformat(instant).astimezone(UTC).isoformat(timespec=precision)
    return text.replace("+00:00", "Z")
