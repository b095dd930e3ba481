"""How often and since when the delivery of a status update was tried. No projection: attempts are no events."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.application import Gateway

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS delivery_attempts (
        event_id TEXT PRIMARY KEY,
        attempts INTEGER NOT NULL,
        first_sent_at TEXT,
        last_sent_at TEXT NOT NULL,
        last_error TEXT,
        sent_before_at TEXT
    ) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt that begins now: its number from 1, and when the update was sent first."""

    number: int
    first_sent_at: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is known of the tries so far; nothing was sent, and so at no time, while `attempts` is 0."""

    attempts: int
    first_sent_at: str | None
    last_sent_at: str | None
    last_error: str | None


class AttemptBook:
    """Counts attempts before they are made, so that a killed process has counted too.

    An attempt is a message that may have reached the web app; a dial that found no connection is none.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._store = gateway.datastore
        with self._store.writer.transaction() as cursor:
            cursor.execute(_SCHEMA)
            columns = {row[1] for row in cursor.execute("PRAGMA table_info(delivery_attempts)")}
            if "sent_before_at" not in columns:  # a database from before there was one
                cursor.execute("ALTER TABLE delivery_attempts ADD COLUMN sent_before_at TEXT")

    def begin(self, event_id: str) -> Attempt:
        """Count one more attempt."""
        now = datetime.now(UTC).isoformat()

        def count(cursor: sqlite3.Cursor) -> Attempt:
            cursor.execute(
                "INSERT INTO delivery_attempts (event_id, attempts, first_sent_at, last_sent_at) VALUES (?, 1, ?, ?)"
                " ON CONFLICT (event_id) DO UPDATE"
                " SET attempts = attempts + 1, sent_before_at = last_sent_at, last_sent_at = excluded.last_sent_at,"
                " first_sent_at = COALESCE(first_sent_at, excluded.first_sent_at)",
                (event_id, now, now),
            )
            number, first = cursor.execute(
                "SELECT attempts, first_sent_at FROM delivery_attempts WHERE event_id = ?", (event_id,)
            ).fetchone()
            return Attempt(number, first)

        return self._store.shared_commit.save(count)

    def take_back(self, event_id: str) -> None:
        """The last attempt was none: no connection came about, so the web app can't have seen it."""
        self._write(
            "UPDATE delivery_attempts SET first_sent_at = CASE attempts WHEN 1 THEN NULL ELSE first_sent_at END,"
            " last_sent_at = COALESCE(sent_before_at, last_sent_at), attempts = attempts - 1 WHERE event_id = ?",
            (event_id,),
        )

    def note_failure(self, event_id: str, error: str) -> None:
        """Keep why the last attempt failed, for people."""
        self._write("UPDATE delivery_attempts SET last_error = ? WHERE event_id = ?", (error, event_id))

    def _write(self, statement: str, parameters: tuple[str, ...]) -> None:
        def write(cursor: sqlite3.Cursor) -> None:
            cursor.execute(statement, parameters)

        self._store.shared_commit.save(write)


_TRIES = (
    "SELECT event_id, attempts, first_sent_at, CASE attempts WHEN 0 THEN NULL ELSE last_sent_at END, last_error"
    " FROM delivery_attempts"
)
_OF_THESE = " WHERE event_id IN (SELECT value FROM json_each(?))"


def attempts_of(connection: sqlite3.Connection, event_ids: Iterable[str] | None = None) -> dict[str, Attempts]:
    """The tries of each update that was ever tried, or of these, by event_id; empty where the service never ran."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'delivery_attempts'").fetchone():
        return {}
    if event_ids is None:
        rows = connection.execute(_TRIES)
    else:
        rows = connection.execute(_TRIES + _OF_THESE, [json.dumps(list(event_ids))])
    return {row[0]: Attempts(*row[1:]) for row in rows}
