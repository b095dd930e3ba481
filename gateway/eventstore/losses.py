"""What a log holds and another one lacks: what a restore may have lost.

Only what identifies nobody is read, straight from the stored rows, so that it also works on events of any version, with
sealed fields, and on a database with damaged places.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Hashable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote


@dataclass(slots=True)
class Losses:
    """What was answered, reported, settled or erased in one log, or several, and is not in another, in their order.

    `complete` is false when part of a log could not be read.
    """

    complete: bool = True
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Actions that the web app was answered, by action_id: that, action_type, accession_number, status of the reply."""
    accession_numbers: list[str] = field(default_factory=list)
    """Worklist items that came or changed."""
    performed_steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What modalities reported, by SOP Instance UID: that, accession_numbers, and what was reported last."""
    status_events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Status events that the web app acknowledged, or that were parked, by event_id: that, accession_number, state."""
    erasures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Erasures of persons, by the Patient ID's HMAC: accession_numbers, reason, operator, key_ids. To be repeated."""

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {
            "actions": len(self.actions),
            "items": len(self.accession_numbers),
            "performed_steps": len(self.performed_steps),
            "status_events": len(self.status_events),
            "erasures": len(self.erasures),
        }

    def concerned(self) -> list[str]:
        """The accession numbers of what changed, and of whom was erased."""
        erased = (number for erasure in self.erasures.values() for number in erasure["accession_numbers"])
        return sorted({*self.accession_numbers, *erased})


def add_missing(found: Losses, log: Path, other: Path, *, in_backup: bool, exactly: bool = False) -> None:
    """Add what is in `log` and not in `other`, which is a backup or the database in its place.

    An event is there when the very same one is, wherever the streams have gone on since; unless `exactly`, also when it
    has been done again: the action answered, the step reported, the status event settled, the person erased anew. What
    a person did by hand is nobody's to do again: it stays missing.
    """
    try:
        with closing(sqlite3.connect(_uri(log, "mode=rw"), uri=True)) as connection:
            connection.execute("ATTACH ? AS other", (_uri(other, "immutable=1" if in_backup else "mode=rw"),))
            again = set() if exactly else _new_since(connection)
            _compare(found, connection, again)
    except sqlite3.DatabaseError:
        found.complete = False
    found.accession_numbers = sorted(set(found.accession_numbers))


def _uri(file: Path, how: str) -> str:
    return f"file:{quote(str(file.absolute()))}?{how}"


def _only_in(one: str, another: str, condition: str = "TRUE") -> str:
    return f"""
        SELECT c.committed_at, e.originator_id, e.topic, e.state
        FROM {one}.stored_events e
        LEFT JOIN {another}.stored_events o
            ON o.originator_id = e.originator_id AND o.originator_version = e.originator_version
        LEFT JOIN {one}.event_chain c ON c.position = e.rowid
        WHERE (o.rowid IS NULL OR o.state IS NOT e.state) AND {condition}
        ORDER BY e.rowid
    """  # noqa: S608  our own words; a state holds its event's random event_id, so equal ones are the same event


_SETTLED = ("StatusUpdate.Acknowledged", "StatusUpdate.Parked")
_LOST = _only_in("main", "other")
_NEW = _only_in(
    "other",
    "main",
    "(e.topic GLOB 'Erasure.*' OR EXISTS (SELECT 1 FROM main.stored_events m WHERE m.originator_id = e.originator_id))",
)


def _new_since(connection: sqlite3.Connection) -> set[Hashable]:
    """What was done in the other log alone."""
    times: Counter[Hashable] = Counter()
    done: set[Hashable] = set()
    for _, stream, topic, state in connection.execute(_NEW):
        try:
            values = json.loads(state)
            done.add(_deed(times, stream, topic, values))
            if topic == "RelayAction.Accepted":
                done.add(("accepted", values["action_id"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # then it counts for nothing, and more is listed as missing
    return done - {None}


def _deed(times: Counter[Hashable], stream: str, topic: str, values: dict[str, Any]) -> Hashable:
    """What is the same when it is done again; None for what is never the same. `times` counts the equal ones."""
    source, cause = (values["metadata"].get(name) for name in ("source", "correlation_id"))  # not all events have them
    match topic.partition(".")[0]:
        case "RelayAction":
            return "RelayAction", stream
        case "StatusUpdate":
            return "StatusUpdate", stream, topic in _SETTLED
        case "Erasure":
            return "Erasure", values["patient"]
        case "WorklistItem" if source == "relay":
            return "accepted", cause
    if source == "operator":
        return None
    times[stream, topic, cause] += 1
    return stream, topic, cause, times[stream, topic, cause]


def _compare(found: Losses, connection: sqlite3.Connection, again: set[Hashable]) -> None:
    times: Counter[Hashable] = Counter()
    erased: dict[str, list[str]] = {}
    for committed_at, stream, topic, state in connection.execute(_LOST):
        try:
            values: dict[str, Any] = json.loads(state)
            if topic == "WorklistItem.PersonErased":
                erased.setdefault(committed_at, []).append(values["accession_number"])
            if _deed(times, stream, topic, values) not in again:
                _sort_in(found, committed_at, str(topic), values)
        except (ValueError, KeyError, TypeError, AttributeError):
            found.complete = False
    for erasure in found.erasures.values():  # all of one erasure is one commit
        erasure["accession_numbers"] += erased.get(erasure["committed_at"], [])


def _sort_in(found: Losses, committed_at: str, topic: str, values: dict[str, Any]) -> None:
    match topic.partition(".")[0]:
        case "RelayAction":
            found.actions[values["action_id"]] = {
                "action_id": values["action_id"],
                "action_type": values["action_type"],
                "accession_number": values["accession_number"],
                "status": values["reply"]["status"],
                "committed_at": committed_at,
            }
        case "WorklistItem" | "PerformedProcedureStep" | "ReceivedStudy" if topic.endswith(".PersonErased"):
            pass  # the erasure itself tells
        case "WorklistItem":
            found.accession_numbers.append(values["accession_number"])
        case "PerformedProcedureStep":
            _note_step(found, committed_at, topic, values)
        case "StatusUpdate" if topic in _SETTLED:
            found.status_events[values["event_id"]] = {
                "event_id": values["event_id"],
                "accession_number": values["accession_number"],
                "state": topic.split(".")[1].lower(),
                "answer": values.get("answer", values.get("reason")),
                "committed_at": committed_at,
            }
        case "Erasure":
            found.erasures[values["patient"]] = {
                "accession_numbers": [],
                "reason": values["reason"],
                "operator": values["metadata"].get("correlation_id"),
                "key_ids": values["key_ids"],
                "committed_at": committed_at,
            }


def _note_step(found: Losses, committed_at: str, topic: str, values: dict[str, Any]) -> None:
    """One entry to a step: what was reported last."""
    uid = values["sop_instance_uid"]
    found.performed_steps[uid] = {
        "sop_instance_uid": uid,
        "accession_numbers": list(values["concerned"]),
        "last": topic.split(".")[1],
        "committed_at": committed_at,
    }
