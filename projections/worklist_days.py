"""On which days each item has ever been: what a look at the worklist of an earlier moment starts from.

Positions and stream ids only, so it names nobody. What is found here is read again from its events
(`gateway.eventstore.as_of`).
"""

from __future__ import annotations

import sqlite3

from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.projection import RecordedEvent

NAME = "worklist_days"
VERSION = 1
TABLES = ("worklist_days",)

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS worklist_days (
        scheduled_date TEXT NOT NULL,
        stream TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (scheduled_date, stream)
    ) WITHOUT ROWID
    """,  # stream: as `stored_events.originator_id` has it; position: of the event that first brought it to that day
)

_AFTER_ALL_DAYS = "\U0010ffff"


def streams(connection: sqlite3.Connection, dates: tuple[str, str], until: int) -> list[str]:
    """The items that were on one of these days by a position of the log; either end of the dates may be ""."""
    first, last = dates
    rows = connection.execute(
        "SELECT DISTINCT stream FROM worklist_days WHERE scheduled_date BETWEEN ? AND ? AND position <= ?",
        (first, last or _AFTER_ALL_DAYS, until),
    )
    return [row[0] for row in rows]


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events that leave an item on its day leave it alone."""
    day = _day(event.domain_event)
    if day is not None:
        cursor.execute(
            "INSERT OR IGNORE INTO worklist_days VALUES (?, ?, ?)",
            (day, event.domain_event.originator_id.hex, event.position),
        )


def _day(happened: object) -> str | None:
    """The day that an event brings its item to, if it says one."""
    if isinstance(happened, WorklistItem.Scheduled | WorklistItem.Amended):
        day: str | None = happened.step.get("scheduled_date")
        return day
    return happened.scheduled_date if isinstance(happened, WorklistItem.Rescheduled) else None


CONCERNED = frozenset((WorklistItem.Scheduled, WorklistItem.Amended, WorklistItem.Rescheduled))
OPENED: frozenset[type] = frozenset()
