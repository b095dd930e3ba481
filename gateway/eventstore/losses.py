"""What a log holds and another one lacks: what a restore may have lost.

Only what identifies nobody is read, straight from the stored rows, so that it also works on events of any version, with
sealed fields, and on a database with damaged places.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote


@dataclass(slots=True)
class Losses:
    """What was answered, reported or settled in the one log and is not in the other, in the order of the log.

    `complete` is false when part of the log could not be read.
    """

    complete: bool = True
    actions: list[dict[str, Any]] = field(default_factory=list)
    """Actions that the web app was answered: action_id, action_type, accession_number, status of the reply."""
    accession_numbers: list[str] = field(default_factory=list)
    """Worklist items that came or changed."""
    performed_steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What modalities reported, by SOP Instance UID: that, accession_numbers, and what was reported last."""
    status_events: list[dict[str, Any]] = field(default_factory=list)
    """Status events that the web app acknowledged, or that were parked: event_id, accession_number, state, answer."""

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {
            "actions": len(self.actions),
            "items": len(self.accession_numbers),
            "performed_steps": len(self.performed_steps),
            "status_events": len(self.status_events),
        }


def missing(log: Path, other: Path, *, in_backup: bool) -> Losses:
    """What is in `log` and not in `other`, which is a backup or the database in its place.

    An event is missing when its stream has none of its version there; in a backup also when it has another one: then
    both have gone on from a common past.
    """
    found = Losses()
    with closing(sqlite3.connect(_uri(log, "mode=rw"), uri=True)) as connection:
        connection.execute("ATTACH ? AS other", (_uri(other, "immutable=1" if in_backup else "mode=rw"),))
        try:
            for committed_at, topic, state in connection.execute(_MISSING, {"in_backup": in_backup}):
                _take(found, committed_at, str(topic), state)
        except sqlite3.DatabaseError:
            found.complete = False
    found.accession_numbers = sorted(set(found.accession_numbers))
    return found


def _uri(file: Path, how: str) -> str:
    return f"file:{quote(str(file.absolute()))}?{how}"


_MISSING = """
    SELECT c.committed_at, e.topic, e.state
    FROM main.stored_events e
    LEFT JOIN other.stored_events o
        ON o.originator_id = e.originator_id AND o.originator_version = e.originator_version
    LEFT JOIN main.event_chain c ON c.position = e.rowid
    WHERE o.rowid IS NULL OR (:in_backup AND o.state IS NOT e.state)
    ORDER BY e.rowid
"""


def _take(found: Losses, committed_at: str, topic: str, state: bytes) -> None:
    try:
        values: dict[str, Any] = json.loads(state)
        _sort_in(found, committed_at, topic, values)
    except (ValueError, KeyError, TypeError, AttributeError):
        found.complete = False


def _sort_in(found: Losses, committed_at: str, topic: str, values: dict[str, Any]) -> None:
    match topic.partition(".")[0]:
        case "RelayAction":
            found.actions.append(
                {
                    "action_id": values["action_id"],
                    "action_type": values["action_type"],
                    "accession_number": values["accession_number"],
                    "status": values["reply"]["status"],
                    "committed_at": committed_at,
                }
            )
        case "WorklistItem":
            found.accession_numbers.append(values["accession_number"])
        case "PerformedProcedureStep":
            _note_step(found, committed_at, topic, values)
        case "StatusUpdate" if topic in ("StatusUpdate.Acknowledged", "StatusUpdate.Parked"):
            found.status_events.append(
                {
                    "event_id": values["event_id"],
                    "accession_number": values["accession_number"],
                    "state": topic.split(".")[1].lower(),
                    "answer": values.get("answer", values.get("reason")),
                    "committed_at": committed_at,
                }
            )


def _note_step(found: Losses, committed_at: str, topic: str, values: dict[str, Any]) -> None:
    """One entry to a step: what was reported last."""
    uid = values["sop_instance_uid"]
    found.performed_steps[uid] = {
        "sop_instance_uid": uid,
        "accession_numbers": list(values["concerned"]),
        "last": topic.split(".")[1],
        "committed_at": committed_at,
    }
