"""The epochs of the log after its first: one row per restore of a backup (`gateway.domain.epoch`)."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from gateway.domain.epoch import Epoch
from gateway.errors import StoreUnusable
from gateway.eventstore.projection import RecordedEvent

NAME = "epochs"
VERSION = 1
TABLES = ("epochs",)

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS epochs (
        number INTEGER PRIMARY KEY,
        backup TEXT NOT NULL,
        position INTEGER NOT NULL,
        head TEXT NOT NULL,
        backed_up_to TEXT NOT NULL,
        restored_at TEXT NOT NULL,
        operator TEXT NOT NULL,
        sequence_floor INTEGER NOT NULL,
        replaced TEXT,
        replaced_position INTEGER,
        lost TEXT NOT NULL,
        resumed_at TEXT
    )
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """An epoch as `Epoch.Restored` tells it; `resumed_at` is when the outbox was let go on, None while it waits."""

    number: int
    backup: str
    position: int
    head: str
    backed_up_to: str
    restored_at: str
    operator: str
    sequence_floor: int
    replaced: str | None
    replaced_position: int | None
    lost: dict[str, Any]
    resumed_at: str | None


def present(connection: sqlite3.Connection | sqlite3.Cursor) -> EpochRow | None:
    """The epoch that goes on now; None in the first, which no restore began.

    Raises `StoreUnusable` when somebody has altered its row by hand, so that it can't be read.
    """
    cursor = connection.execute("SELECT * FROM epochs ORDER BY number DESC LIMIT 1")
    row = cursor.fetchone()
    if row is None:
        return None
    values = dict(zip((column[0] for column in cursor.description), row, strict=True))
    try:
        return _sound(EpochRow(**{**values, "lost": json.loads(values["lost"])}))
    except (TypeError, ValueError) as error:
        raise StoreUnusable(
            f"row {values.get('number')} of the table epochs was altered by hand: it is not as a restore writes it",
            remedy="gateway projections rebuild puts back what the events say; then start the service again",
        ) from error


def _sound(row: EpochRow) -> EpochRow:
    """The row itself. Raises TypeError when a value is of a type that we never write."""
    texts = (row.backup, row.head, row.backed_up_to, row.restored_at, row.operator, row.replaced, row.resumed_at)
    numbers = (row.position, row.sequence_floor, row.replaced_position)
    if (
        not all(value is None or isinstance(value, str) for value in texts)
        or not all(value is None or isinstance(value, int) for value in numbers)
        or not isinstance(row.lost, dict)
        or not ("actions" not in row.lost or row.lost.keys() >= _COUNTED)
    ):
        raise TypeError("not as it was written")
    return row


_COUNTED = {"known", "actions", "items", "performed_steps", "status_events"}


def number(connection: sqlite3.Connection | sqlite3.Cursor) -> int:
    """The number of the present epoch, from 1, also where the table is behind the log.

    It is so after a restore until the database is opened, and missing in a database of a release that knew of none.
    """
    latest: int = 1
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'epochs'").fetchone():
        latest = connection.execute("SELECT COALESCE(MAX(number), 1) FROM epochs").fetchone()[0]
    later = connection.execute(
        "SELECT state FROM stored_events WHERE topic = ? AND rowid >"
        " COALESCE((SELECT position FROM projection_positions WHERE name = ?), 0)",
        (Epoch.Restored.TOPIC, NAME),
    )
    numbers: list[int] = [json.loads(state)["number"] for (state,) in later]
    return max([latest, *numbers])


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events of other streams leave it alone."""
    match event.domain_event:
        case Epoch.Restored() as restored:
            cursor.execute(
                "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    restored.number,
                    restored.backup,
                    restored.position,
                    restored.head,
                    restored.backed_up_to,
                    restored.restored_at,
                    restored.metadata.get("correlation_id") or "",
                    restored.sequence_floor,
                    restored.replaced,
                    restored.replaced_position,
                    json.dumps(restored.lost),
                ),
            )
        case Epoch.DeliveryResumed() as resumed:
            cursor.execute("UPDATE epochs SET resumed_at = ? WHERE number = ?", (event.committed_at, resumed.number))


CONCERNED = frozenset((Epoch.Restored, Epoch.DeliveryResumed))
OPENED: frozenset[type] = frozenset()
