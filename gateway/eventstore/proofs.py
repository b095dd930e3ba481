"""Proofs that the file takes what is appended: rows that say nothing else, the latest hundred of them.

A table beside the log, so that looking whether the record works leaves no trace in it.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

_SCHEMA = "CREATE TABLE IF NOT EXISTS proofs (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL)"
_KEPT = 100


def append(cursor: sqlite3.Cursor) -> int:
    """Append a row within the writer's transaction; its id."""
    cursor.execute(_SCHEMA)
    cursor.execute("INSERT INTO proofs (at) VALUES (?)", (datetime.now(UTC).isoformat(timespec="microseconds"),))
    appended = cursor.lastrowid or 0
    cursor.execute("DELETE FROM proofs WHERE id <= ?", (appended - _KEPT,))
    return appended


def is_there(connection: sqlite3.Connection, appended: int) -> bool:
    """Whether another connection reads it back."""
    return connection.execute("SELECT 1 FROM proofs WHERE id = ?", (appended,)).fetchone() is not None
