"""What modalities reported (MPPS): one row per performed procedure step, for people.

`unmatched` steps wait for a person: they named an item that could not be found, or none. `patient_id` and
`patient_name` are the modality's own words.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.eventstore.json_text import as_text
from gateway.eventstore.projection import RecordedEvent

NAME = "performed_steps"
VERSION = 2
TABLES = ("performed_steps",)

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS performed_steps (
        sop_instance_uid TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        ae_title TEXT,
        performed_station_ae_title TEXT,
        modality TEXT,
        patient_id TEXT,
        patient_name TEXT,
        started TEXT,
        ended TEXT,
        discontinuation_reason TEXT,
        accession_numbers TEXT NOT NULL,
        named TEXT NOT NULL,
        unmatched TEXT NOT NULL,
        waits_for_person INTEGER NOT NULL,
        dismissed INTEGER NOT NULL,
        performed TEXT NOT NULL,
        received_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    )
    """,  # lists are JSON; started and ended are the unit's wall clock, received_at and updated_at UTC
    # Partial: what is over for years must not slow the look at what is not.
    "CREATE INDEX IF NOT EXISTS idx_steps_waiting ON performed_steps (received_at) WHERE waits_for_person = 1",
    "CREATE INDEX IF NOT EXISTS idx_steps_open ON performed_steps (received_at) WHERE status = 'IN PROGRESS'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStepRow:
    """One performed procedure step.

    `ae_title` is who reported it. `started` and `ended` are `YYYYMMDDHHMMSS` of the unit's wall clock or "". `named`
    are accession numbers that it named without being linked to them, `unmatched` why it could not be linked.
    """

    sop_instance_uid: str
    status: str
    ae_title: str | None
    performed_station_ae_title: str
    modality: str
    patient_id: str
    patient_name: str
    started: str
    ended: str
    discontinuation_reason: str | None
    accession_numbers: tuple[str, ...]
    named: tuple[str, ...]
    unmatched: tuple[str, ...]
    waits_for_person: bool
    dismissed: bool
    performed: dict[str, Any]
    received_at: str
    updated_at: str


def get(connection: sqlite3.Connection, sop_instance_uid: str) -> PerformedStepRow | None:
    """The step with this SOP Instance UID."""
    rows = _rows(connection, "sop_instance_uid = ?", sop_instance_uid)
    return rows[0] if rows else None


def unmatched(connection: sqlite3.Connection) -> list[PerformedStepRow]:
    """Steps that wait for a person, the oldest first."""
    return _rows(connection, "waits_for_person = 1")


def unfinished(connection: sqlite3.Connection, before: str) -> list[PerformedStepRow]:
    """Steps begun (`received_at`) before a moment, still in progress and not dismissed, the oldest first."""
    return _rows(connection, "status = 'IN PROGRESS' AND dismissed = 0 AND received_at < ?", before)


def of_patient(connection: sqlite3.Connection, patient_id: str) -> list[PerformedStepRow]:
    """Steps that were reported with this Patient ID, the oldest first."""
    return _rows(connection, "patient_id = ?", patient_id)


_LISTS = ("accession_numbers", "named", "unmatched")


def _rows(connection: sqlite3.Connection, where: str, *parameters: str) -> list[PerformedStepRow]:
    statement = f"SELECT * FROM performed_steps WHERE {where} ORDER BY received_at, sop_instance_uid"  # noqa: S608  our own words
    cursor = connection.execute(statement, parameters)
    names = [column[0] for column in cursor.description]
    return [_row(dict(zip(names, values, strict=True))) for values in cursor]


def _row(values: dict[str, Any]) -> PerformedStepRow:
    for name in _LISTS:
        values[name] = tuple(json.loads(values[name]))
    values["performed"] = json.loads(values["performed"])
    for name in ("waits_for_person", "dismissed"):
        values[name] = bool(values[name])
    return PerformedStepRow(**values)


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events of other streams leave it alone."""
    write = _WRITERS.get(type(event.domain_event))
    if write:
        write(cursor, event, event.domain_event)


def _insert(cursor: sqlite3.Cursor, event: RecordedEvent, started: PerformedProcedureStep.Started) -> None:
    named = [number for number in started.concerned if number not in started.accession_numbers]
    cursor.execute(
        "INSERT OR REPLACE INTO performed_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', NULL, ?, ?, ?, ?, 0, ?, ?, ?)",
        (
            started.sop_instance_uid,
            StepStatus.IN_PROGRESS.value,
            started.metadata.get("ae_title"),
            started.details.get("performed_station_ae_title", ""),
            started.details.get("modality", ""),
            started.patient.get("patient_id", ""),
            started.patient.get("patient_name", ""),
            started.details.get("started", ""),
            as_text(started.accession_numbers),
            as_text(named),
            as_text(started.unmatched),
            int(bool(started.unmatched)),
            as_text(started.performed),
            started.received_at,
            event.committed_at,
        ),
    )


def _change(cursor: sqlite3.Cursor, event: RecordedEvent, changed: PerformedProcedureStep.Changed) -> None:
    row = cursor.execute(
        "SELECT performed FROM performed_steps WHERE sop_instance_uid = ?", (changed.sop_instance_uid,)
    ).fetchone()
    performed = {**json.loads(row[0]), **changed.performed} if row else changed.performed
    cursor.execute(
        "UPDATE performed_steps SET status = ?, ended = ?, discontinuation_reason = ?, performed = ?, updated_at = ?"
        " WHERE sop_instance_uid = ?",
        (
            _STATUSES[type(changed)].value,
            getattr(changed, "ended", ""),
            getattr(changed, "reason", None),
            as_text(performed),
            event.committed_at,
            changed.sop_instance_uid,
        ),
    )


def _link(cursor: sqlite3.Cursor, event: RecordedEvent, linked: PerformedProcedureStep.Linked) -> None:
    named = [number for number in linked.concerned if number not in linked.accession_numbers]
    cursor.execute(
        "UPDATE performed_steps SET accession_numbers = ?, named = ?, waits_for_person = 0, dismissed = 0,"
        " updated_at = ? WHERE sop_instance_uid = ?",
        (as_text(linked.accession_numbers), as_text(named), event.committed_at, linked.sop_instance_uid),
    )


def _dismiss(cursor: sqlite3.Cursor, event: RecordedEvent, dismissed: PerformedProcedureStep.Dismissed) -> None:
    cursor.execute(
        "UPDATE performed_steps SET waits_for_person = 0, dismissed = (accession_numbers = '[]'), updated_at = ?"
        " WHERE sop_instance_uid = ?",
        (event.committed_at, dismissed.sop_instance_uid),
    )


def _erase(cursor: sqlite3.Cursor, event: RecordedEvent, erased: PerformedProcedureStep.PersonErased) -> None:
    cursor.execute(
        "UPDATE performed_steps SET patient_id = '', patient_name = '', waits_for_person = 0, updated_at = ?"
        " WHERE sop_instance_uid = ?",
        (event.committed_at, erased.sop_instance_uid),
    )


_STATUSES = {
    PerformedProcedureStep.Updated: StepStatus.IN_PROGRESS,
    PerformedProcedureStep.Completed: StepStatus.COMPLETED,
    PerformedProcedureStep.Discontinued: StepStatus.DISCONTINUED,
}

_WRITERS: dict[type, Callable[[sqlite3.Cursor, RecordedEvent, Any], None]] = {
    PerformedProcedureStep.Started: _insert,
    PerformedProcedureStep.Updated: _change,
    PerformedProcedureStep.Completed: _change,
    PerformedProcedureStep.Discontinued: _change,
    PerformedProcedureStep.Linked: _link,
    PerformedProcedureStep.Dismissed: _dismiss,
    PerformedProcedureStep.PersonErased: _erase,
}
CONCERNED = frozenset(_WRITERS)
OPENED = frozenset((PerformedProcedureStep.Started,))
