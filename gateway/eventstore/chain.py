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
_BEFORE_ALL = -(2**63)


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
    given = _highest_given(connection)  # before the walk: the service may go on meanwhile
    previous, expected, after = GENESIS, 1, _BEFORE_ALL
    while True:
        rows = connection.execute(_SELECT, (after, _PAGE)).fetchall()
        for row in rows:
            finding = _finding(row, previous, expected)
            if finding:
                return Verification(expected - 1, previous, min(expected, row["position"]), finding)
            previous, expected = row["link"], expected + 1
        after = expected - 1
        progress(after)
        if len(rows) < _PAGE:
            break
    if given > after:
        return Verification(after, previous, expected, "the newest events are missing")
    return Verification(after, previous)


def _highest_given(connection: sqlite3.Connection) -> int:
    """SQLite remembers the highest position it ever gave: a cut tail shows there, unless that was edited too."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'stored_events'").fetchone()
    return int(row[0]) if row else 0


# Both tables are walked together, so that a row missing on either side is seen.
_SELECT = """
    SELECT position, e.rowid AS event_position, originator_id, originator_version, topic, state, committed_at, link
    FROM (SELECT position FROM event_chain UNION SELECT rowid FROM stored_events)
    LEFT JOIN event_chain USING (position) LEFT JOIN stored_events e ON e.rowid = position
    WHERE position > ? ORDER BY position LIMIT ?
"""


def _finding(row: sqlite3.Row, previous: bytes, expected: int) -> str:
    if row["position"] < expected:
        return "the event was inserted"
    if row["position"] > expected:
        return "the event is missing"
    if row["event_position"] is None:
        return "the event is missing"
    if row["link"] is None:
        return "the event was inserted, or its link removed"
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
