"""What happened to each accession number, in order.

It identifies nobody: `details` hold no names, patient ids or birth dates, unless somebody wrote one into a reason.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gateway.domain.epoch import Epoch
from gateway.domain.erasure import Erasure
from gateway.domain.image_feed import ImageFeed
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.relay_action import RelayAction
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import PERSON_FIELDS, WorklistItem
from gateway.eventstore.json_text import as_unicode
from gateway.eventstore.projection import RecordedEvent

NAME = "timeline"
VERSION = 1
TABLES = ("timeline",)

_NOTHING: tuple[object, ...] = (None, "", [], {})

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS timeline (
        accession_number TEXT NOT NULL,
        position INTEGER NOT NULL,
        occurred_at TEXT,
        committed_at TEXT NOT NULL,
        kind TEXT NOT NULL,
        source TEXT,
        ae_title TEXT,
        details TEXT NOT NULL,
        PRIMARY KEY (accession_number, position)
    ) WITHOUT ROWID
    """,  # accession_number is '' where none was named
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRow:
    """One thing that happened; `kind` is the event's topic, `occurred_at` when its cause came in, where known."""

    accession_number: str
    position: int
    occurred_at: str | None
    committed_at: str
    kind: str
    source: str | None
    ae_title: str | None
    details: dict[str, Any]

    @property
    def has_written_reason(self) -> bool:
        """Whether its reason is what somebody wrote, and so may name a person."""
        return has_written_reason(self.kind, self.details, self.source)


def has_written_reason(kind: str, details: dict[str, Any], source: str | None) -> bool:
    """Whether the details hold a reason that somebody wrote.

    Those of the gateway are words of the contract with the web app, those to discontinue codes of DICOM (CID 9300).
    """
    return "reason" in details and source != "gateway" and kind not in _CODED


_CODED = (WorklistItem.StepDiscontinued.TOPIC, PerformedProcedureStep.Discontinued.TOPIC)


def find(connection: sqlite3.Connection, accession_number: str) -> list[TimelineRow]:
    """The story of one accession number; "" gives what named none."""
    cursor = connection.execute(
        "SELECT * FROM timeline WHERE accession_number = ? ORDER BY position", (accession_number,)
    )
    return list(_rows(cursor))


def of_kinds(
    connection: sqlite3.Connection, kinds: Sequence[str], accession_numbers: Sequence[str], *, until: int | None = None
) -> Iterator[TimelineRow]:
    """What happened of these kinds to these accession numbers, up to a position, in the order of the log."""
    last = "" if until is None else " AND position <= ?"
    statement = (
        f"SELECT * FROM timeline WHERE accession_number IN (SELECT value FROM json_each(?))"  # noqa: S608  our own words
        f" AND kind IN ({_marks(kinds)}){last} ORDER BY position"
    )
    values = [json.dumps(list(accession_numbers)), *kinds, *([] if until is None else [until])]
    return _rows(connection.execute(statement, values))


def of_sources(
    connection: sqlite3.Connection,
    sources: Sequence[str],
    *,
    accession_numbers: Sequence[str] | None = None,
    ae_title: str = "",
    since: str = "",
    until: str = "",
) -> Iterator[TimelineRow]:
    """What came from these sources, committed from `since` on and before `until`, in the order of the log.

    Of these accession numbers only ("" is what named none), or of all; an event about two of them comes twice.
    """
    given: list[tuple[str, tuple[str, ...]]] = [(f"source IN ({_marks(sources)})", tuple(sources))]
    if accession_numbers is not None:
        given.append((f"accession_number IN ({_marks(accession_numbers)})", tuple(accession_numbers)))
    given += [
        (clause, (value,))
        for clause, value in (("ae_title = ?", ae_title), ("committed_at >= ?", since), ("committed_at < ?", until))
        if value
    ]
    where = " AND ".join(clause for clause, _ in given)
    statement = f"SELECT * FROM timeline WHERE {where} ORDER BY position, accession_number"  # noqa: S608  our own words
    return _rows(connection.execute(statement, [value for _, values in given for value in values]))


def amended(connection: sqlite3.Connection, fields: Sequence[str], accession_number: str = "") -> list[str]:
    """The items of which an amendment changed one of these fields of the appointment, or this one if it is one."""
    named = " OR ".join(["instr(details, ?) > 0"] * len(fields))
    of_one, values = (" AND accession_number = ?", [accession_number]) if accession_number else ("", [])
    rows = connection.execute(
        f"SELECT DISTINCT accession_number FROM timeline WHERE kind = ? AND ({named}){of_one}",  # noqa: S608  our own words
        [WorklistItem.Amended.TOPIC, *(json.dumps(name) for name in fields), *values],
    )
    return [number for (number,) in rows]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _rows(cursor: sqlite3.Cursor) -> Iterator[TimelineRow]:
    names = [column[0] for column in cursor.description]
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    return (TimelineRow(**{**row, "details": json.loads(row["details"])}) for row in rows)


def rows_of(events: Iterable[RecordedEvent]) -> list[TimelineRow]:
    """The rows that these events make, one for each accession number that each concerns."""
    with closing(sqlite3.connect(":memory:")) as aside:
        for statement in SCHEMA:
            aside.execute(statement)
        cursor = aside.cursor()
        for event in events:
            apply(cursor, event)
        return list(_rows(aside.execute("SELECT * FROM timeline ORDER BY position, accession_number")))


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event under each accession number it concerns."""
    happened = event.domain_event
    describe = _DETAILS.get(type(happened))
    if not describe:
        return
    if type(happened) in _WITH_REASONS:
        _erase(cursor, happened)
    metadata = happened.metadata
    told = (
        event.position,
        vars(happened).get("received_at"),
        event.committed_at,
        happened.TOPIC,
        metadata.get("source"),
        metadata.get("ae_title"),
        as_unicode({k: v for k, v in describe(happened).items() if v or v not in _NOTHING}),
    )
    for accession_number in _concerned(happened):
        cursor.execute("INSERT OR REPLACE INTO timeline VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (accession_number, *told))


def _erase(cursor: sqlite3.Cursor, erased: _Erased) -> None:
    """Take out of earlier rows of its stream what people wrote, and which of a person's fields changed."""
    of_step, of_study = getattr(erased, "sop_instance_uid", None), getattr(erased, "study_instance_uid", None)
    kinds = _WITH_REASONS[type(erased)]
    for accession_number in _concerned(erased):
        rows = cursor.execute(
            "SELECT position, kind, details FROM timeline WHERE accession_number = ?", (accession_number,)
        ).fetchall()
        for position, kind, details in rows:
            told = json.loads(details)
            if (
                kind in kinds
                and of_step in (None, told.get("mpps_instance_uid"))
                and of_study in (None, told.get("study_instance_uid"))
            ):
                cursor.execute(
                    "UPDATE timeline SET details = ? WHERE accession_number = ? AND position = ?",
                    (as_unicode(_without_person(told)), accession_number, position),
                )


def _without_person(told: dict[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in told.items() if name not in ("reason", "fields")}
    changed = [name for name in told.get("fields", ()) if name not in PERSON_FIELDS]
    return {**left, "fields": changed} if changed else left


_Erased = WorklistItem.PersonErased | PerformedProcedureStep.PersonErased | ReceivedStudy.PersonErased

_WITH_REASONS: dict[type, tuple[str, ...]] = {
    WorklistItem.PersonErased: tuple(
        event.TOPIC for event in (WorklistItem.Amended, WorklistItem.Cancelled, WorklistItem.StatusCorrected)
    ),
    PerformedProcedureStep.PersonErased: tuple(
        event.TOPIC for event in (PerformedProcedureStep.Linked, PerformedProcedureStep.Dismissed)
    ),
    ReceivedStudy.PersonErased: tuple(event.TOPIC for event in (ReceivedStudy.RouteAbandoned, ReceivedStudy.Dismissed)),
}


def _concerned(happened: Any) -> Sequence[str]:  # noqa: ANN401  any of our events
    """The accession numbers; for a performed step also those it named without being linked to them.

    For a restore those of which it may have lost something.
    """
    if type(happened) in _WITH_CONCERNED:
        return happened.concerned or [""]
    if type(happened) is Epoch.Restored:
        return ["", *happened.lost["accession_numbers"]]
    return [getattr(happened, "accession_number", None) or ""]


def _scheduled(e: WorklistItem.Scheduled) -> dict[str, Any]:
    step = {k: e.step[k] for k in ("scheduled_date", "scheduled_time", "modality")}
    return {**step, "study_instance_uid": e.study_instance_uid, "action_id": e.action_id, "is_test": e.is_test or None}


def _amended(e: WorklistItem.Amended) -> dict[str, Any]:
    return {"fields": [*e.person, *e.step]}


def _rescheduled(e: WorklistItem.Rescheduled) -> dict[str, Any]:
    return {"scheduled_date": e.scheduled_date, "scheduled_time": e.scheduled_time}


def _status(e: WorklistItem.StatusChanged) -> dict[str, Any]:
    told = vars(e)
    return {
        "status": e.status,
        "reason": told.get("reason"),
        "mpps_instance_uid": told.get("mpps_instance_uid"),
        "update_sequence": e.update_sequence,
        "wrong_entry": told.get("wrong_entry") or None,
    }


def _step_started(e: PerformedProcedureStep.Started) -> dict[str, Any]:
    details = {"mpps_instance_uid": e.sop_instance_uid, **e.details, "unmatched": e.unmatched, "warnings": e.warnings}
    return {**details, "performed": e.performed}


def _step_changed(e: PerformedProcedureStep.Changed) -> dict[str, Any]:
    return {
        "mpps_instance_uid": e.sop_instance_uid,
        "ended": getattr(e, "ended", None),
        "reason": getattr(e, "reason", None),
        "warnings": e.warnings,
        "performed": e.performed,
    }


def _step_judged(e: PerformedProcedureStep.Linked | PerformedProcedureStep.Dismissed) -> dict[str, Any]:
    return {
        "mpps_instance_uid": e.sop_instance_uid,
        "linked_to": getattr(e, "accession_number", None),
        "reason": e.reason,
    }


def _images(e: WorklistItem.ImagesReceived) -> dict[str, Any]:
    names = ("study_instance_uid", "orthanc_id", "series", "instances", "modalities", "matched_by", "arrival")
    return {name: getattr(e, name) for name in names} | {"update_sequence": e.update_sequence}


def _study(e: ReceivedStudy.Received | ReceivedStudy.Updated) -> dict[str, Any]:
    return {
        "study_instance_uid": e.study_instance_uid,
        "orthanc_id": e.orthanc_id,
        "series": len(e.series),
        "instances": sum(one["instances"] for one in e.series),
        "unmatched": e.unmatched,
        "arrival": e.arrival,
    }


def _route(e: ReceivedStudy.RouteEvent) -> dict[str, Any]:
    told = vars(e)
    names = ("rule", "instances", "error", "reason")
    return {"study_instance_uid": e.study_instance_uid, "target": e.target} | {name: told.get(name) for name in names}


def _study_judged(e: ReceivedStudy.Dismissed) -> dict[str, Any]:
    return {"study_instance_uid": e.study_instance_uid, "reason": e.reason}


def _feed_began(e: ImageFeed.Began) -> dict[str, Any]:
    return {"feed": e.number, "reason": e.reason, "database": e.database}


def _feed_advanced(e: ImageFeed.Advanced) -> dict[str, Any]:
    return {"feed": e.number, "change": e.place["change"]}


def _study_parked(e: ImageFeed.StudyParked) -> dict[str, Any]:
    return {"feed": e.number, "orthanc_id": e.orthanc_id, "error": e.why}


def _erased(e: _Erased) -> dict[str, Any]:
    return {
        "mpps_instance_uid": getattr(e, "sop_instance_uid", None),
        "study_instance_uid": getattr(e, "study_instance_uid", None),
        "reason": e.reason,
    }


def _ordered(e: Erasure.PersonErased) -> dict[str, Any]:
    return {"reason": e.reason, "streams": e.streams, "events": e.events}


def _answered(e: RelayAction.Created) -> dict[str, Any]:
    names = ("status", "code", "message", "field")
    return {"action_id": e.action_id, "action_type": e.action_type} | {name: e.reply.get(name) for name in names}


def _requested(e: StatusUpdate.Requested) -> dict[str, Any]:
    return {"event_id": e.event_id, "sequence": e.sequence, "status": e.status, "occurred_at": e.occurred_at}


def _images_requested(e: StatusUpdate.ImagesUpdateRequested) -> dict[str, Any]:
    told = {"event_id": e.event_id, "sequence": e.sequence, "study_instance_uid": e.study_instance_uid}
    return {**told, "images": e.images, "occurred_at": e.occurred_at}


def _settled(e: StatusUpdate.Event) -> dict[str, Any]:
    told = vars(e)
    return {
        "event_id": e.event_id,
        "answer": told.get("answer"),
        "reason": told.get("reason"),
        "attempts": told.get("attempts"),
    }


def _restored(e: Epoch.Restored) -> dict[str, Any]:
    names = ("backup", "backed_up_to", "restored_at", "sequence_floor", "replaced")
    return {name: getattr(e, name) for name in names} | {"operator": e.metadata.get("correlation_id")}


def _resumed(e: Epoch.DeliveryResumed) -> dict[str, Any]:
    said = {"reason": e.reason} if e.reason else {}
    return {"operator": e.metadata.get("correlation_id"), "waiting": e.waiting, **said}


_DETAILS: dict[type, Callable[[Any], dict[str, Any]]] = {
    RelayAction.Accepted: _answered,
    RelayAction.Rejected: _answered,
    WorklistItem.Scheduled: _scheduled,
    WorklistItem.Amended: _amended,
    WorklistItem.Rescheduled: _rescheduled,
    WorklistItem.Cancelled: _status,
    WorklistItem.Expired: _status,
    WorklistItem.StatusReported: _status,
    WorklistItem.StatusCorrected: _status,
    WorklistItem.StepStarted: _status,
    WorklistItem.StepCompleted: _status,
    WorklistItem.StepDiscontinued: _status,
    PerformedProcedureStep.Started: _step_started,
    PerformedProcedureStep.Updated: _step_changed,
    PerformedProcedureStep.Completed: _step_changed,
    PerformedProcedureStep.Discontinued: _step_changed,
    PerformedProcedureStep.Linked: _step_judged,
    PerformedProcedureStep.Dismissed: _step_judged,
    WorklistItem.PersonErased: _erased,
    PerformedProcedureStep.PersonErased: _erased,
    WorklistItem.ImagesReceived: _images,
    ReceivedStudy.Received: _study,
    ReceivedStudy.Updated: _study,
    ReceivedStudy.RouteChosen: _route,
    ReceivedStudy.Routed: _route,
    ReceivedStudy.RouteFailed: _route,
    ReceivedStudy.RouteAbandoned: _route,
    ReceivedStudy.Dismissed: _study_judged,
    ReceivedStudy.PersonErased: _erased,
    ImageFeed.Began: _feed_began,
    ImageFeed.Advanced: _feed_advanced,
    ImageFeed.StudyParked: _study_parked,
    Erasure.PersonErased: _ordered,
    StatusUpdate.Requested: _requested,
    StatusUpdate.ImagesUpdateRequested: _images_requested,
    StatusUpdate.Acknowledged: _settled,
    StatusUpdate.Parked: _settled,
    StatusUpdate.Requeued: _settled,
    Epoch.Restored: _restored,
    Epoch.DeliveryResumed: _resumed,
}
CONCERNED = frozenset(_DETAILS)
_WITH_CONCERNED = frozenset(
    event for event in CONCERNED if issubclass(event, PerformedProcedureStep.Event | ReceivedStudy.Event)
)
OPENED = frozenset(
    (
        WorklistItem.Amended,
        WorklistItem.Cancelled,
        WorklistItem.StatusCorrected,
        PerformedProcedureStep.Linked,
        PerformedProcedureStep.Dismissed,
        ReceivedStudy.RouteAbandoned,
        ReceivedStudy.Dismissed,
    )
)
