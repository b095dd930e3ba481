"""The event as the web app reads it, and what its acknowledgement means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from gateway.delivery.attempts import Attempt
from gateway.delivery.images_message import IMAGES_RECEIVED, images_data
from projections.outbox import OutboxRow

SOURCE_SYSTEM = "gateway-mwl"

_REFUSALS = frozenset(
    {
        "action_not_found",
        "appointment_not_found",
        "no_appointment_id",
        "unknown_status",
        "unknown_event",
        "unknown_event_type",
    }
)
_SUCCESSES = frozenset({"ok", "updated"})
_KNOWN_FAILURES = frozenset({"error"})
_WORD = re.compile(r"[a-z][a-z_]{0,39}")


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
    """The JSON of an `mpps.status_update` event (`contract/events/mpps.status_update.json`), or of news of images."""
    return json.dumps(
        {
            "schema_version": 1,
            "event_type": row.event_type,
            "timestamp": _zulu(attempt.first_sent_at, "seconds"),  # as it always was
            "source_system": SOURCE_SYSTEM,
            "event_id": row.event_id,
            "sequence": row.sequence,
            "attempt": attempt.number,
            "data": _data(row),
        }
    )


def _data(row: OutboxRow) -> Mapping[str, Any]:
    occurred_at = _zulu(row.occurred_at, "milliseconds")
    if row.event_type == IMAGES_RECEIVED:
        return images_data(row, occurred_at)
    return {
        "action_id": row.action_id,
        "accession_number": row.accession_number,
        "status": row.status,
        "mpps_instance_uid": row.mpps_instance_uid,
        "occurred_at": occurred_at,
        **({"performed": row.performed} if row.performed else {}),
    }


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
