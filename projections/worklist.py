"""The worklist table: what modalities are answered from, and what people look at with `sqlite3`.

It keeps the proof of concept's name, columns and indexes (design §3.12). Direct writes are found by
`gateway projections verify` and lost in a rebuild: `gateway worklist add` and `set-status` are their replacement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.lifecycle import Status
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.projection import RecordedEvent

NAME = "worklist"
VERSION = 1
TABLES = ("worklist_items",)

SCHEMA = (
    f"""
    CREATE TABLE IF NOT EXISTS worklist_items (
        accession_number TEXT PRIMARY KEY,
        patient_id TEXT NOT NULL,
        patient_name TEXT NOT NULL,
        patient_birth_date TEXT NOT NULL,
        patient_sex TEXT,
        scheduled_date TEXT NOT NULL,
        scheduled_time TEXT NOT NULL,
        modality TEXT NOT NULL,
        study_description TEXT,
        procedure_code TEXT,
        status TEXT DEFAULT 'SCHEDULED' CHECK (status IN ({", ".join(f"'{status}'" for status in Status)})),
        study_instance_uid TEXT,
        mpps_instance_uid TEXT,
        created_at TEXT DEFAULT CURRENT_TIMESTAMP,
        updated_at TEXT DEFAULT CURRENT_TIMESTAMP,
        source_message_id TEXT,
        procedure_code_scheme TEXT,
        procedure_code_meaning TEXT,
        station_ae_titles TEXT NOT NULL DEFAULT '',
        location TEXT,
        performing_physician TEXT,
        is_test INTEGER NOT NULL DEFAULT 0,
        row_version INTEGER NOT NULL DEFAULT 0
    )
    """,  # station_ae_titles: joined with the backslash, as DICOM joins values; row_version: the stream's version
    "CREATE INDEX IF NOT EXISTS idx_worklist_date_modality ON worklist_items (scheduled_date, modality)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_status ON worklist_items (status)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_study_uid ON worklist_items (study_instance_uid)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_patient_id ON worklist_items (patient_id)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistRow:
    """One item as it is served. Dates are `YYYYMMDD`, times `HHMMSS`, both the site's wall clock."""

    accession_number: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str | None
    scheduled_date: str
    scheduled_time: str
    modality: str
    study_description: str | None
    procedure_code: str | None
    status: str
    study_instance_uid: str | None
    mpps_instance_uid: str | None
    created_at: str
    updated_at: str
    source_message_id: str | None
    procedure_code_scheme: str | None
    procedure_code_meaning: str | None
    station_ae_titles: tuple[str, ...]
    location: str | None
    performing_physician: str | None
    is_test: bool
    row_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistFilter:
    """What to look for; an empty field asks nothing. `dates` is a closed range, either end may be "".

    `is_test` None: both real and test items.
    """

    accession_number: str = ""
    patient_id: str = ""
    study_instance_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    dates: tuple[str, str] = ("", "")
    statuses: tuple[str, ...] = ()
    is_test: bool | None = None
    limit: int | None = None


def find(connection: sqlite3.Connection, wanted: WorklistFilter) -> Iterator[WorklistRow]:
    """Items in the order of their date and time, then accession number."""
    clauses, parameters = _conditions(wanted)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    statement = f"SELECT * FROM worklist_items {where} ORDER BY scheduled_date, scheduled_time, accession_number"  # noqa: S608  our own words
    if wanted.limit is not None:
        statement += " LIMIT ?"
        parameters.append(wanted.limit)
    cursor = connection.execute(statement, parameters)
    names = [column[0] for column in cursor.description]
    for values in cursor:
        yield _row(dict(zip(names, values, strict=True)))


def count_by_status(connection: sqlite3.Connection, *, is_test: bool = False) -> dict[str, int]:
    """How many items there are in each status; statuses without any are left out."""
    statement = "SELECT status, COUNT(*) FROM worklist_items WHERE is_test = ? GROUP BY status ORDER BY status"
    return dict(connection.execute(statement, (int(is_test),)).fetchall())


def _conditions(wanted: WorklistFilter) -> tuple[list[str], list[Any]]:
    clauses: list[str] = []
    parameters: list[Any] = []

    def ask(clause: str, *values: object) -> None:
        clauses.append(clause)
        parameters.extend(values)

    def ask_any_of(column: str, values: Sequence[str]) -> None:
        if values:
            ask(f"{column} IN ({', '.join('?' * len(values))})", *values)

    if wanted.accession_number:
        ask("accession_number = ?", wanted.accession_number)
    if wanted.patient_id:
        ask("patient_id = ?", wanted.patient_id)
    if wanted.dates[0]:
        ask("scheduled_date >= ?", wanted.dates[0])
    if wanted.dates[1]:
        ask("scheduled_date <= ?", wanted.dates[1])
    if wanted.is_test is not None:
        ask("is_test = ?", int(wanted.is_test))
    ask_any_of("study_instance_uid", wanted.study_instance_uids)
    ask_any_of("modality", wanted.modalities)
    ask_any_of("status", wanted.statuses)
    return clauses, parameters


def _row(values: dict[str, Any]) -> WorklistRow:
    stations = values["station_ae_titles"]
    values["station_ae_titles"] = tuple(stations.split("\\")) if stations else ()
    values["is_test"] = bool(values["is_test"])
    return WorklistRow(**values)


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events of other streams leave it alone."""
    write = _WRITERS.get(type(event.domain_event))
    if write:
        write(cursor, event, event.domain_event)


def _insert(cursor: sqlite3.Cursor, event: RecordedEvent, scheduled: WorklistItem.Scheduled) -> None:
    values = {
        "accession_number": scheduled.accession_number,
        **_columns(scheduled.person, scheduled.step),
        "status": Status.SCHEDULED.value,
        "study_instance_uid": scheduled.study_instance_uid,
        "created_at": event.committed_at,
        "updated_at": event.committed_at,
        "source_message_id": scheduled.action_id,
        "is_test": int(scheduled.is_test),
        "row_version": scheduled.originator_version,
    }
    columns, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    cursor.execute(f"INSERT OR REPLACE INTO worklist_items ({columns}) VALUES ({marks})", values)  # noqa: S608  our own words


def _amend(cursor: sqlite3.Cursor, event: RecordedEvent, amended: WorklistItem.Amended) -> None:
    _update(cursor, event, amended, _columns(amended.person, amended.step))


def _reschedule(cursor: sqlite3.Cursor, event: RecordedEvent, moved: WorklistItem.Rescheduled) -> None:
    when = {"scheduled_date": moved.scheduled_date, "scheduled_time": moved.scheduled_time}
    _update(cursor, event, moved, when)


def _set_status(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.StatusChanged) -> None:
    _update(cursor, event, changed, {"status": changed.status})


def _set_step(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.StepEvent) -> None:
    """The step that tells the status: a completed item keeps the one that completed it, one put back has none."""
    wrong_entry = getattr(changed, "wrong_entry", False)
    cursor.execute(
        "UPDATE worklist_items SET mpps_instance_uid = CASE"
        " WHEN :wrong_entry THEN NULLIF(mpps_instance_uid, :uid)"
        " WHEN status = 'COMPLETED' THEN mpps_instance_uid ELSE :uid END WHERE accession_number = :accession_number",
        {
            "wrong_entry": wrong_entry,
            "uid": changed.mpps_instance_uid,
            "accession_number": changed.accession_number,
        },
    )
    _update(cursor, event, changed, {"status": changed.status})


def _update(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.Event, columns: dict[str, Any]) -> None:
    values = {**columns, "updated_at": event.committed_at, "row_version": changed.originator_version}
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    cursor.execute(
        f"UPDATE worklist_items SET {assignments} WHERE accession_number = :accession_number",  # noqa: S608  our own words
        {**values, "accession_number": changed.accession_number},
    )


def _columns(person: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    values = {**person, **step}
    if "station_ae_titles" in values:
        values["station_ae_titles"] = "\\".join(values["station_ae_titles"])
    return values


_WRITERS: dict[type, Callable[[sqlite3.Cursor, RecordedEvent, Any], None]] = {
    WorklistItem.Scheduled: _insert,
    WorklistItem.Amended: _amend,
    WorklistItem.Rescheduled: _reschedule,
    WorklistItem.Cancelled: _set_status,
    WorklistItem.Expired: _set_status,
    WorklistItem.StatusReported: _set_status,
    WorklistItem.StatusCorrected: _set_status,
    WorklistItem.StepStarted: _set_step,
    WorklistItem.StepCompleted: _set_step,
    WorklistItem.StepDiscontinued: _set_step,
}
