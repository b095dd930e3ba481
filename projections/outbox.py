"""What the web app is owed: one row per status update, waiting until it is acknowledged or parked.

Rows are born in the transaction that changed the status. Those of test items are delivered like all others, and are
counted and listed apart: nobody is waiting for them. How often and when delivery was tried is kept elsewhere
(`gateway.delivery.attempts`): attempts are no events, and a rebuild must not send anything again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.json_text import as_text
from gateway.eventstore.projection import RecordedEvent

NAME = "outbox"
VERSION = 3
TABLES = ("outbox", "outbox_test_items")

_STATES = {state: state for state in ("waiting", "acknowledged", "parked")}

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS outbox (
        event_id TEXT PRIMARY KEY,
        accession_number TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        status TEXT NOT NULL,
        action_id TEXT,
        mpps_instance_uid TEXT,
        occurred_at TEXT NOT NULL,
        performed TEXT NOT NULL,
        requested_at TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'acknowledged', 'parked')),
        settled_at TEXT,
        answer TEXT,
        is_test INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS outbox_test_items (
        accession_number TEXT PRIMARY KEY,
        scheduled_at TEXT NOT NULL
    )
    """,
    # Partial, and asked for in just these words: what is settled for years must not slow the look at what is not.
    "CREATE INDEX IF NOT EXISTS idx_outbox_waiting ON outbox (accession_number, sequence) WHERE state = 'waiting'",
    "CREATE INDEX IF NOT EXISTS idx_outbox_parked ON outbox (accession_number, sequence) WHERE state = 'parked'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One status update. `answer` is the web app's word, or why it was parked; `performed` are counts and dose."""

    event_id: str
    accession_number: str
    sequence: int
    status: str
    action_id: str | None
    mpps_instance_uid: str | None
    occurred_at: str
    performed: dict[str, Any]
    requested_at: str
    state: str
    settled_at: str | None
    answer: str | None
    is_test: bool


@dataclass(frozen=True, slots=True)
class OutboxCounts:
    """How many wait, since when the oldest does (`requested_at`), and how many are parked; test items left out."""

    waiting: int
    oldest: str | None
    parked: int


def next_due(connection: sqlite3.Connection) -> list[OutboxRow]:
    """The first waiting update of each accession number: later ones wait for it (design §3.8)."""
    return _rows(
        connection,
        "SELECT outbox.* FROM outbox JOIN (SELECT accession_number AS a, MIN(sequence) AS s FROM outbox"
        " WHERE state = 'waiting' GROUP BY accession_number) ON accession_number = a AND sequence = s"
        " WHERE state = 'waiting' ORDER BY requested_at",
    )


def find(
    connection: sqlite3.Connection,
    *,
    state: str | None = None,
    accession_number: str = "",
    is_test: bool | None = False,
) -> list[OutboxRow]:
    """Updates in the order they were requested; without a state: those not yet acknowledged.

    `is_test` None: both those of real and of test items.
    """
    states = ("waiting", "parked") if state is None else (state,)
    rows = [row for one in states for row in _find(connection, one, accession_number)]
    wanted = (row for row in rows if is_test in (None, row.is_test))
    return sorted(wanted, key=lambda row: (row.requested_at, row.sequence))


def _find(connection: sqlite3.Connection, state: str, accession_number: str) -> list[OutboxRow]:
    statement = f"SELECT * FROM outbox WHERE state = '{_STATES[state]}'"  # noqa: S608  one of our own words
    if accession_number:
        return _rows(connection, statement + " AND accession_number = ?", [accession_number])
    return _rows(connection, statement)


def get(connection: sqlite3.Connection, event_id: str) -> OutboxRow | None:
    """The update with this event_id."""
    rows = _rows(connection, "SELECT * FROM outbox WHERE event_id = ?", [event_id])
    return rows[0] if rows else None


def count(connection: sqlite3.Connection) -> OutboxCounts:
    """The state of the outbox in three figures."""
    waiting, oldest = connection.execute(
        "SELECT COUNT(*), MIN(requested_at) FROM outbox WHERE state = 'waiting' AND NOT is_test"
    ).fetchone()
    parked = connection.execute("SELECT COUNT(*) FROM outbox WHERE state = 'parked' AND NOT is_test").fetchone()[0]
    return OutboxCounts(waiting, oldest, parked)


def last_acknowledged(connection: sqlite3.Connection) -> str | None:
    """When the web app last acknowledged one, a test item's included; None when it never did."""
    latest: str | None = connection.execute(
        "SELECT MAX(settled_at) FROM outbox WHERE state = 'acknowledged'"
    ).fetchone()[0]
    return latest


def highest_sequence(cursor: sqlite3.Connection | sqlite3.Cursor) -> int:
    """The highest `sequence` of all; 0 when there are none."""
    highest: int | None = cursor.execute("SELECT MAX(sequence) FROM outbox").fetchone()[0]
    return highest or 0


def _rows(connection: sqlite3.Connection, statement: str, parameters: list[str] | None = None) -> list[OutboxRow]:
    cursor = connection.execute(statement, parameters or [])
    names = [column[0] for column in cursor.description]
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    return [
        OutboxRow(**{**row, "performed": json.loads(row["performed"]), "is_test": bool(row["is_test"])}) for row in rows
    ]


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events of other streams leave it alone."""
    write = _WRITERS.get(type(event.domain_event))
    if write:
        write(cursor, event, event.domain_event)


def _note_test_item(cursor: sqlite3.Cursor, event: RecordedEvent, scheduled: WorklistItem.Scheduled) -> None:
    if scheduled.is_test:
        row = (scheduled.accession_number, event.committed_at)
        cursor.execute("INSERT OR IGNORE INTO outbox_test_items VALUES (?, ?)", row)


def _insert(cursor: sqlite3.Cursor, event: RecordedEvent, requested: StatusUpdate.Requested) -> None:
    cursor.execute(
        "INSERT OR REPLACE INTO outbox VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'waiting', NULL, NULL,"
        " EXISTS (SELECT 1 FROM outbox_test_items WHERE accession_number = ?2))",
        (
            requested.event_id,
            requested.accession_number,
            requested.sequence,
            requested.status,
            requested.action_id,
            requested.mpps_instance_uid,
            requested.occurred_at,
            as_text(requested.performed),
            event.committed_at,
        ),
    )


def _acknowledge(cursor: sqlite3.Cursor, event: RecordedEvent, acknowledged: StatusUpdate.Acknowledged) -> None:
    _settle(cursor, event, "acknowledged", acknowledged.answer)


def _park(cursor: sqlite3.Cursor, event: RecordedEvent, parked: StatusUpdate.Parked) -> None:
    _settle(cursor, event, "parked", parked.reason)


def _requeue(cursor: sqlite3.Cursor, event: RecordedEvent, _: StatusUpdate.Requeued) -> None:
    _settle(cursor, event, "waiting", None)


def _settle(cursor: sqlite3.Cursor, event: RecordedEvent, state: str, answer: str | None) -> None:
    cursor.execute(
        "UPDATE outbox SET state = ?, settled_at = ?, answer = ? WHERE event_id = ?",
        (state, None if state == "waiting" else event.committed_at, answer, event.domain_event.event_id),
    )


_WRITERS: dict[type, Callable[[sqlite3.Cursor, RecordedEvent, Any], None]] = {
    WorklistItem.Scheduled: _note_test_item,
    StatusUpdate.Requested: _insert,
    StatusUpdate.Acknowledged: _acknowledge,
    StatusUpdate.Parked: _park,
    StatusUpdate.Requeued: _requeue,
}
CONCERNED = frozenset(_WRITERS)
OPENED: frozenset[type] = frozenset()
