"""Which key is whose: by the HMAC of the Patient ID, and by stream. It identifies nobody without the key file's secret.

A patient may have several keys: first saves that raced, and those of unmatched steps that turned out to be theirs. A
key of its own (*apart*) may be several patients', when a step named one and was linked to an item of another: erasing
any of them destroys it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from gateway.domain.erasure import Erasure
from gateway.domain.identity import worklist_item_id
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.relay_action import RelayAction
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.projection import RecordedEvent
from gateway.eventstore.sealing import KeyErasedMeanwhile

NAME = "patient_keys"
VERSION = 1
TABLES = ("patient_keys", "stream_keys", "erased_keys")

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS patient_keys (
        key_id TEXT NOT NULL,
        patient TEXT NOT NULL,
        is_apart INTEGER NOT NULL,
        PRIMARY KEY (key_id, patient)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS idx_patient_keys ON patient_keys (patient)",
    """
    CREATE TABLE IF NOT EXISTS stream_keys (
        stream TEXT PRIMARY KEY,
        key_id TEXT NOT NULL,
        is_apart INTEGER NOT NULL
    ) WITHOUT ROWID
    """,  # the latest key of each item and step: their later events name nobody
    "CREATE INDEX IF NOT EXISTS idx_stream_keys_apart ON stream_keys (key_id) WHERE is_apart = 1",
    "CREATE TABLE IF NOT EXISTS erased_keys (key_id TEXT PRIMARY KEY, erased_at TEXT NOT NULL) WITHOUT ROWID",
)


def key_of_patient(connection: sqlite3.Connection, patient: str) -> str | None:
    """The key for what a patient is named in; those apart are not shared."""
    row = connection.execute(
        "SELECT key_id FROM patient_keys WHERE patient = ? AND is_apart = 0 ORDER BY key_id LIMIT 1", (patient,)
    ).fetchone()
    return row[0] if row else None


def key_of_stream(connection: sqlite3.Connection | sqlite3.Cursor, stream: str) -> str | None:
    """The latest key of a stream (32 hexadecimal digits)."""
    row = connection.execute("SELECT key_id FROM stream_keys WHERE stream = ?", (stream,)).fetchone()
    return row[0] if row else None


def keys_of_patient(connection: sqlite3.Connection | sqlite3.Cursor, patient: str) -> set[str]:
    """All keys that are the patient's, or also theirs."""
    return {row[0] for row in connection.execute("SELECT key_id FROM patient_keys WHERE patient = ?", (patient,))}


def known_keys(connection: sqlite3.Connection | sqlite3.Cursor) -> set[str]:
    """The keys of all items and steps that are sealed and were not erased."""
    statement = "SELECT key_id FROM patient_keys UNION SELECT key_id FROM stream_keys WHERE is_apart = 1"
    return {row[0] for row in connection.execute(statement)}


def erased_keys(connection: sqlite3.Connection | sqlite3.Cursor) -> dict[str, str]:
    """The keys that the log orders to destroy, and since when."""
    return dict(connection.execute("SELECT key_id, erased_at FROM erased_keys").fetchall())


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Note whose key an event was sealed with. Refuses a key that was ordered to be destroyed: choose another."""
    happened = event.domain_event
    tell = _NEVER_SEALED.get(type(happened))
    if tell:
        tell(cursor, event)
        return
    seal = happened.seal
    if seal is None:
        return
    stream = happened.originator_id.hex
    has_more = isinstance(happened, WorklistItem.Event | PerformedProcedureStep.Event | ReceivedStudy.Event)
    if seal.is_erased:  # read again after its erasure: nothing of it is known
        if has_more:
            cursor.execute("DELETE FROM stream_keys WHERE stream = ?", (stream,))
        return
    if has_more and key_of_stream(cursor, stream) == seal.key_id:
        is_new = False  # and not destroyed either: that would have taken the row away
    else:
        is_new = True
        if cursor.execute("SELECT 1 FROM erased_keys WHERE key_id = ?", (seal.key_id,)).fetchone():
            raise KeyErasedMeanwhile("a key was destroyed meanwhile")
    if seal.patient:
        _assign(cursor, seal.key_id, seal.patient, is_apart=seal.is_apart)
    if has_more and is_new:
        cursor.execute("INSERT OR REPLACE INTO stream_keys VALUES (?, ?, ?)", (stream, seal.key_id, seal.is_apart))
    if seal.is_apart or isinstance(happened, PerformedProcedureStep.Linked):
        _link(cursor, stream, happened)


def _link(cursor: sqlite3.Cursor, stream: str, happened: Any) -> None:  # noqa: ANN401  any event
    """A step or a study apart is also its items' patients'."""
    if not isinstance(happened, PerformedProcedureStep.Started | PerformedProcedureStep.Linked | ReceivedStudy.Updated):
        return
    row = cursor.execute("SELECT key_id FROM stream_keys WHERE stream = ? AND is_apart = 1", (stream,)).fetchone()
    if row is None:
        return
    for number in _items_of(happened):
        patients = cursor.execute(
            "SELECT patient FROM patient_keys JOIN stream_keys USING (key_id) WHERE stream = ?",
            (worklist_item_id(number).hex,),
        ).fetchall()
        for (patient,) in patients:
            _assign(cursor, row[0], patient, is_apart=True)


def _items_of(happened: Any) -> list[str]:  # noqa: ANN401  one of these events
    if isinstance(happened, ReceivedStudy.Updated):
        return [happened.accession_number] if happened.accession_number else []
    numbers: list[str] = happened.accession_numbers
    return numbers


def _assign(cursor: sqlite3.Cursor, key_id: str, patient: str, *, is_apart: bool) -> None:
    cursor.execute("INSERT OR IGNORE INTO patient_keys VALUES (?, ?, ?)", (key_id, patient, is_apart))


def _erase(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    for key_id in event.domain_event.key_ids:
        cursor.execute("DELETE FROM patient_keys WHERE key_id = ?", (key_id,))
        cursor.execute("DELETE FROM stream_keys WHERE key_id = ?", (key_id,))
        cursor.execute("INSERT OR REPLACE INTO erased_keys VALUES (?, ?)", (key_id, event.committed_at))


_NEVER_SEALED: dict[type, Callable[[sqlite3.Cursor, RecordedEvent], None]] = {
    Erasure.PersonErased: _erase,
    ReceivedStudy.Updated: lambda cursor, event: _link(
        cursor, event.domain_event.originator_id.hex, event.domain_event
    ),
}
"""They name nobody, and say something of keys: which are destroyed, and whose a study turned out to be."""

CONCERNED = frozenset(
    (
        Erasure.PersonErased,
        PerformedProcedureStep.Started,
        PerformedProcedureStep.Updated,
        PerformedProcedureStep.Completed,
        PerformedProcedureStep.Discontinued,
        PerformedProcedureStep.Linked,
        PerformedProcedureStep.Dismissed,
        ReceivedStudy.Received,
        ReceivedStudy.Updated,
        ReceivedStudy.RouteAbandoned,
        ReceivedStudy.Dismissed,
        RelayAction.Accepted,
        RelayAction.Rejected,
        WorklistItem.Scheduled,
        WorklistItem.Amended,
        WorklistItem.Cancelled,
        WorklistItem.StatusCorrected,
    )
)
"""Of the others nothing is ever sealed: they have no `IDENTIFYING` fields. Neither has `ReceivedStudy.Updated`."""
OPENED = frozenset(
    (
        PerformedProcedureStep.Started,
        ReceivedStudy.Received,
        RelayAction.Rejected,
        WorklistItem.Scheduled,
        WorklistItem.Amended,
    )
)
"""Those with a `subject`."""
