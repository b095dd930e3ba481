"""The hash chain: each event's link is a hash over the link before it and over the stored row itself.

    link(n) = SHA-256(link(n-1), position, stream, version, topic, committed_at, state), each part length-prefixed

Links are written in the append's transaction (design §3.6). An altered, missing or inserted event breaks the chain at
its position. A cut tail or an old copy of the whole file breaks nothing: that takes an anchor kept elsewhere.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

GENESIS = bytes(32)

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS event_chain (
        position INTEGER PRIMARY KEY,
        committed_at TEXT NOT NULL,
        link BLOB NOT NULL
    )
    """,
)

_PAGE = 2_000


def link(
    previous: bytes, position: int, stream: str, version: int, topic: str, committed_at: str, state: bytes | str
) -> bytes:
    """The link of one stored event."""
    digest = hashlib.sha256(previous)
    raw = state if isinstance(state, bytes) else str(state).encode()
    for part in (str(position), str(stream), str(version), str(topic), str(committed_at)):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.digest()


def head(cursor: sqlite3.Cursor | sqlite3.Connection) -> tuple[int, str, bytes]:
    """Position, committed_at and link of the newest event; (0, "", GENESIS) in an empty log."""
    row = cursor.execute(
        "SELECT position, committed_at, link FROM event_chain ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return (row[0], row[1], row[2]) if row else (0, "", GENESIS)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the chain found. `position` is the first bad one; None when all is well."""

    events: int
    head: bytes
    position: int | None = None
    finding: str = ""

    @property
    def intact(self) -> bool:
        """Whether nothing was altered, removed or inserted."""
        return self.position is None


def verify(connection: sqlite3.Connection, progress: Callable[[int], None] = lambda _: None) -> Verification:
    """Walk the whole chain in pages and stop at the first position that is not as it was written."""
    first, last = connection.execute(_BOUNDS).fetchone()  # before the walk: the service may go on meanwhile
    if first < 1:
        return Verification(0, GENESIS, first, _INSERTED)
    previous, expected = GENESIS, 1
    while expected <= last:
        rows = connection.execute(_SELECT, (expected, expected + _PAGE)).fetchall()
        for row in rows:
            finding = _finding(row, previous, expected)
            if finding:
                return Verification(expected - 1, previous, expected, finding)
            previous, expected = row["link"], expected + 1
        if not rows:
            return Verification(expected - 1, previous, expected, _MISSING)
        progress(expected - 1)
    return Verification(expected - 1, previous)


_MISSING = "the event is missing"
_INSERTED = "the event was inserted, or its link removed"

# The last position is the highest that SQLite ever gave: a cut tail shows there, unless that was edited too.
_BOUNDS = """
    SELECT MIN(first), MAX(last) FROM (
        SELECT 1 AS first, seq AS last FROM sqlite_sequence WHERE name = 'stored_events'
        UNION ALL SELECT COALESCE(MIN(rowid), 1), COALESCE(MAX(rowid), 0) FROM stored_events
        UNION ALL SELECT COALESCE(MIN(position), 1), COALESCE(MAX(position), 0) FROM event_chain
    )
"""

# Both tables are walked together, so that a row missing on either side is seen.
_SELECT = """
    SELECT position, e.rowid AS event_position, originator_id, originator_version, topic, state, committed_at, link
    FROM (
        SELECT position FROM event_chain WHERE position >= ?1 AND position < ?2
        UNION SELECT rowid FROM stored_events WHERE rowid >= ?1 AND rowid < ?2
    )
    LEFT JOIN event_chain USING (position) LEFT JOIN stored_events e ON e.rowid = position
    ORDER BY position
"""


def _finding(row: sqlite3.Row, previous: bytes, expected: int) -> str:
    if row["position"] != expected or row["event_position"] is None:
        return _MISSING
    if row["link"] is None:
        return _INSERTED
    calculated = link(
        previous,
        row["position"],
        row["originator_id"],
        row["originator_version"],
        row["topic"],
        row["committed_at"],
        row["state"],
    )
    as_written = isinstance(row["state"], bytes) and calculated == row["link"]
    return "" if as_written else "the event, its time or its link was altered"
