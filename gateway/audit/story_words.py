"""A story's hops as a person reads them: how long each took, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any

from gateway.audit.story import Hop, spans_of


def spans(hops: Sequence[Hop]) -> str:
    """The important spans in one line; "" when there are none."""
    told = [f"{name.replace('_to_', ' → ').replace('_', ' ')} {length(s)}" for name, s in spans_of(hops).items()]
    return " · ".join(told)


def after(seconds: float) -> str:
    """How long after the hop before: `+21 ms`."""
    return f"−{length(-seconds)}" if seconds < 0 else f"+{length(seconds)}"


def length(seconds: float) -> str:
    """In the unit that a person would say it in."""
    if seconds < 0:
        return f"−{length(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


_LEFT_OUT = (
    "arrival",
    "event_id",
    "orthanc_id",
    "study_instance_uid",
    "mpps_instance_uid",
    "performed",
    "performed_procedure_step_id",
    "performed_station_ae_title",
    "status",
    "update_sequence",
)
"""What the eye need not see in the table; --json has it."""


def details_of(hop: Hop, zone: tzinfo) -> str:
    """The details as a person reads them."""
    details = hop.details
    match hop.hop:
        case "clicked" | "received" | "accepted" | "rejected":
            return _action_text(hop.hop, details)
        case "listed":
            return f"for {details['scheduled_date']} {details['scheduled_time']} {details['modality']}"
        case "started" | "completed" | "discontinued":
            clock = _unit_clock(details.get("started") or details.get("ended") or "")
            return f"{clock} {_plain(_rest(details))}".strip()
        case "shown":
            until = f"until {_clock(details['last_at'], zone=zone)[11:]} " if details["times"] > 1 else ""
            keys = " ".join(details["keys"]) or "none"
            test = "a test, " if "is_test" in details else ""
            return f"{test}{until}×{details['times']} at {details['address']}, keys {keys}"
        case "images":
            return f"{_images_text(details)}, by {' and '.join(details['matched_by'])}".replace("_", " ")
        case "queued" | "told" | "told again" | "acknowledged":
            return _delivery_text(hop.hop, details)
        case "reported" | "corrected":
            return f"{details['status']}{': ' + details['reason'] if 'reason' in details else ''}"
        case _:
            return _plain(_rest(details))


def _action_text(hop: str, details: dict[str, Any]) -> str:
    match hop:
        case "clicked":
            return "the web app's own clock"
        case "received":
            return f"{details.get('action_type', '')} {details.get('action_id', '')}".strip()
        case "accepted":
            return str(details["status"])
        case _:
            return _plain_refusal(details)


def _unit_clock(text: str) -> str:
    """`YYYYMMDDHHMMSS` of the unit's wall clock."""
    if len(text) < 14:
        return ""
    return f"at {text[:4]}-{text[4:6]}-{text[6:8]} {text[8:10]}:{text[10:12]}:{text[12:14]} by its own clock"


def _plain_refusal(details: dict[str, Any]) -> str:
    field = f" ({details['field']})" if "field" in details else ""
    return f"{details.get('code')}: {details.get('message')}{field}"


def _delivery_text(hop: str, details: dict[str, Any]) -> str:
    if hop == "acknowledged":
        attempts = details.get("attempts", 1)
        return f"{details['answer']}, {attempts} attempt{'' if attempts == 1 else 's'}"
    attempt = f", attempt {details['attempt']}" if details.get("attempt", 1) > 1 else ""
    error = f", before: {details['last_error']}" if "last_error" in details else ""
    what = details["status"] if "status" in details else f"{details['images']['image_count']} images"
    return f"{what} #{details['sequence']}{attempt}{error}"


def _images_text(details: dict[str, Any]) -> str:
    series, instances = details["series"], details["instances"]
    counted = f"{instances} image{'' if instances == 1 else 's'} in {series} series"
    return " ".join([*details.get("modalities", ()), counted])


def _rest(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if name not in (*_LEFT_OUT, "started", "ended")}


def _plain(details: dict[str, Any]) -> str:
    return " ".join(f"{name}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in details.items())


def _clock(instant: str, *, zone: tzinfo) -> str:
    """An instant of the log on the site's wall clock, to the millisecond."""
    return datetime.fromisoformat(instant).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
