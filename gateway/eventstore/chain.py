"""The hash chain: each event's link is a hash over the link before it and over the stored row itself.

    link(n) = SHA-256(link(n-1), position, stream, version, topic, committed_at, state), each part length-prefixed

Links are written in the append's transaction (design §3.6). An altered, missing or inserted event breaks the chain at
its position. A cut tail, an old copy of the whole file or a history whose links were all computed anew breaks nothing:
that takes an anchor, a position and its link kept elsewhere (`gateway.eventstore.anchors`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import sha256
from typing import Any

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
_GENTLE_PAGE = 200
_GENTLE_PAUSE = 0.005
"""Seconds between pages where a service works on the same file: its saves then take as long as they did."""


def link(
    previous: bytes, position: int, stream: str, version: int, topic: str, committed_at: str, state: bytes | str
) -> bytes:
    """The link of one stored event."""
    raw = state if isinstance(state, bytes) else str(state).encode()
    parts = [previous]
    for text in (str(position), str(stream), str(version), str(topic), str(committed_at)):
        part = text.encode()
        parts += len(part).to_bytes(4, "big"), part
    parts += len(raw).to_bytes(4, "big"), raw
    return sha256(b"".join(parts)).digest()


def head(cursor: sqlite3.Cursor | sqlite3.Connection) -> tuple[int, str, bytes]:
    """Position, committed_at and link of the newest event; (0, "", GENESIS) in an empty log."""
    row = cursor.execute(
        "SELECT position, committed_at, link FROM event_chain ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return (row[0], row[1], row[2]) if row else (0, "", GENESIS)


# --- anchors


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the link at a position was, noted at a place that whoever alters the log can't reach.

    `committed_at` says when that event was committed; empty when it was not noted. The link covers it.
    """

    position: int
    link: bytes
    committed_at: str = ""

    def __str__(self) -> str:
        return f"{self.position}:{self.link.hex()}"


def newest(cursor: sqlite3.Cursor | sqlite3.Connection) -> Anchor | None:
    """The log's head as an anchor; None in an empty log."""
    position, committed_at, last = head(cursor)
    return Anchor(position, last, committed_at) if position else None


def holds(cursor: sqlite3.Cursor | sqlite3.Connection, anchor: Anchor) -> bool:
    """Whether the log has this link at this position."""
    row = cursor.execute("SELECT link FROM event_chain WHERE position = ?", (anchor.position,)).fetchone()
    return row is not None and row[0] == anchor.link


class Verdict(Enum):
    """What the log says to an anchor."""

    HOLDS = "holds"
    DIFFERS = "differs"
    BEYOND = "beyond"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Anchored:
    """An anchor and what became of it; `meaning` is a sentence for people."""

    anchor: Anchor
    verdict: Verdict
    meaning: str


# --- verifying


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of the log found.

    `events` of the log are as they were written, up to the link `head`; `position` is the first one that is not, None
    when all is well. `finding` says in words what is wrong, as they follow on "at position N".
    """

    events: int
    head: bytes
    position: int | None = None
    finding: str = ""
    anchors: tuple[Anchored, ...] = ()

    @property
    def intact(self) -> bool:
        """Whether nothing was altered, removed or inserted, and every anchor holds."""
        return self.position is None


def verify(
    connection: sqlite3.Connection,
    progress: Callable[[int], None] = lambda _: None,
    *,
    anchors: Sequence[Anchor] = (),
    gently: bool = False,
) -> Verification:
    """Walk the whole chain in pages up to the first position that is not as it was written, then compare the anchors.

    `progress` is told how many events have been found good. `gently` rests between short pages. Nothing is kept in
    memory but one event, and no transaction stays open between two pages. Whatever a hand has put into the tables is a
    finding; only where the tables themselves can't be asked the error is sqlite3's.
    """
    with _as_stored(connection) as cursor:
        walked = _walk(cursor, progress, gently=gently)
        return _compared(cursor, walked, anchors) if anchors else walked


_MISSING = "the event is missing"
_CUT = "the event is missing, and all that came after it: the end of the log was cut off"
_INSERTED = "the event was inserted, or its link removed"
_ALTERED = "the event, its time or its link was altered"
_UNREADABLE = "the event can't be read: the file is damaged there"
_COUNT_EDITED = (
    "SQLite's own count of events (sqlite_sequence) was edited: whether there were events from here on is open"
)


@contextmanager
def _as_stored(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """A cursor whose rows are tuples of what is stored: text as bytearray, blobs as bytes, and none that can't be read.

    Decoding would cost time, and fail where somebody put bytes that are no text.
    """
    as_it_was = connection.text_factory
    connection.text_factory = bytearray
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        yield cursor
    finally:
        cursor.close()
        connection.text_factory = as_it_was


# One statement, so that all is of one commit: the service may go on meanwhile. The highest position that SQLite ever
# gave is its own count: a naively cut tail shows there.
_BOUNDS = """
    SELECT (SELECT MIN(rowid) FROM stored_events), (SELECT MIN(position) FROM event_chain),
        (SELECT MAX(rowid) FROM stored_events), (SELECT MAX(position) FROM event_chain),
        (SELECT MAX(seq) FROM sqlite_sequence WHERE name = 'stored_events')
"""

_COLUMNS = "originator_id, originator_version, topic, state, committed_at, link"
_SELECT_PAGE = f"""
    SELECT e.rowid, {_COLUMNS} FROM stored_events e JOIN event_chain c ON c.position = e.rowid
    WHERE e.rowid >= ? AND e.rowid < ? ORDER BY e.rowid
"""  # noqa: S608  our own column names
_SELECT_ONE = f"""
    SELECT e.rowid, {_COLUMNS} FROM (SELECT ? AS position) AS wanted
    LEFT JOIN event_chain c ON c.position = wanted.position LEFT JOIN stored_events e ON e.rowid = wanted.position
"""  # noqa: S608


def _walk(cursor: sqlite3.Cursor, progress: Callable[[int], None], *, gently: bool) -> Verification:
    *bounds, count = cursor.execute(_BOUNDS).fetchone()
    present = [bound for bound in bounds if bound is not None]
    if min(present, default=1) < 1:
        return Verification(0, GENESIS, min(present), _INSERTED)
    last = max(present, default=0)
    counted = count if type(count) is int else 0
    previous, good = GENESIS, 0
    while good < max(last, counted):
        end = min(good + (_GENTLE_PAGE if gently else _PAGE), max(last, counted)) + 1
        reached = _page(cursor, previous, good + 1, end)
        if reached is None:
            found = _first_finding(cursor, previous, good + 1, end)
            if found.position is not None:
                return replace(found, finding=_CUT) if found.position > last else found
            reached = found.head  # only the short cut did not know what to make of it
        previous, good = reached, end - 1
        progress(good)
        if gently and good < last:
            time.sleep(_GENTLE_PAUSE)
    if (count or 0) != good:
        return Verification(good, previous, good + 1, _COUNT_EDITED)
    return Verification(good, previous)


# A length of four bytes before each part; the last one's may need more than one of them.
_PARTS: Any = b"%b\0\0\0%c%b\0\0\0%c%b\0\0\0%c%b\0\0\0%c%b\0\0\0%c%b%b%b"


def _page(cursor: sqlite3.Cursor, previous: bytes, first: int, end: int) -> bytes | None:
    """The last link of a page of which every event is there and as it was written; None otherwise.

    `link` in one piece, twice as fast: this loop is what verifying years takes.
    """
    expected = first
    try:
        for position, stream, version, topic, state, committed_at, stored in cursor.execute(_SELECT_PAGE, (first, end)):
            if (
                position != expected
                or not (stream.__class__ is topic.__class__ is committed_at.__class__ is bytearray)
                or not (state.__class__ is stored.__class__ is bytes and version.__class__ is int)
            ):
                return None
            at, number = b"%d" % position, b"%d" % version
            parts = _PARTS % (
                previous,
                len(at), at,
                len(stream), stream,
                len(number), number,
                len(topic), topic,
                len(committed_at), committed_at,
                len(state).to_bytes(4, "big"), state,
            )  # fmt: skip
            if sha256(parts).digest() != stored:
                return None
            previous, expected = stored, expected + 1
    except OverflowError:  # a part of more than 255 bytes
        return None
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return None
    return previous if expected == end else None


def _first_finding(cursor: sqlite3.Cursor, previous: bytes, first: int, end: int) -> Verification:
    """Look at each event of a page by itself, and name the first that is not as it was written."""
    for position in range(first, end):
        try:
            row = cursor.execute(_SELECT_ONE, (position,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return Verification(position - 1, previous, position, _UNREADABLE)
        finding = _finding(previous, position, row)
        if finding:
            return Verification(position - 1, previous, position, finding)
        previous = row[-1]
    return Verification(end - 1, previous)


def _finding(previous: bytes, position: int, row: tuple[object, ...]) -> str:
    present, stream, version, topic, state, committed_at, stored = row
    if present is None:
        return _MISSING
    if stored is None:
        return _INSERTED
    if not (
        isinstance(stream, bytearray)
        and isinstance(version, int)
        and isinstance(topic, bytearray)
        and isinstance(state, bytes)
        and isinstance(committed_at, bytearray)
        and isinstance(stored, bytes)
    ):
        return _ALTERED
    try:
        texts = [text.decode() for text in (stream, topic, committed_at)]
    except UnicodeDecodeError:
        return _ALTERED
    calculated = link(previous, position, texts[0], version, texts[1], texts[2], state)
    return "" if calculated == stored else _ALTERED


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether pages of the file are not what SQLite wrote, and no more than that."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


# --- comparing with anchors


def _compared(cursor: sqlite3.Cursor, walked: Verification, anchors: Sequence[Anchor]) -> Verification:
    """What the walk found, with what the anchors add: nothing after the first bad event can be compared."""
    ordered = sorted(anchors, key=lambda anchor: anchor.position)
    holding = [anchor for anchor in ordered if anchor.position <= walked.events and holds(cursor, anchor)]
    last_holding = holding[-1].position if holding else 0
    judged = tuple(_judged(anchor, walked, last_holding, holds=anchor in holding) for anchor in ordered)
    bad = next((each for each in judged if each.verdict in (Verdict.DIFFERS, Verdict.BEYOND)), None)
    if bad is None:
        return replace(walked, anchors=judged)
    before = [anchor for anchor in holding if anchor.position < bad.anchor.position]
    proven = before[-1] if before else Anchor(0, GENESIS)
    if bad.verdict is Verdict.BEYOND:
        only_chained = f" (that those from position {proven.position + 1} on were not rewritten, only the chain says)"
        finding = _CUT + only_chained * (proven.position < walked.events)
        return replace(walked, position=walked.events + 1, finding=finding, anchors=judged)
    finding = (
        "or later: history was rewritten together with its links; the first event that was altered, removed or "
        f"inserted is at {bad.anchor.position} at the latest"
    )
    return Verification(proven.position, proven.link, proven.position + 1, finding, judged)


def _judged(anchor: Anchor, walked: Verification, last_holding: int, *, holds: bool) -> Anchored:
    if holds:
        return Anchored(anchor, Verdict.HOLDS, "all up to here is as it was when the anchor was taken")
    if anchor.position <= last_holding:
        meaning = "a later anchor holds, so one of the two is false: believe the one that was out of reach"
        return Anchored(anchor, Verdict.DIFFERS, meaning)
    if anchor.position <= walked.events:
        meaning = "history before it was rewritten, or an older copy of the file was put back and went on from there"
        return Anchored(anchor, Verdict.DIFFERS, meaning)
    if walked.intact:
        meaning = f"the log ends at position {walked.events}: its end was cut off, or an old backup is in place"
        return Anchored(anchor, Verdict.BEYOND, meaning)
    return Anchored(anchor, Verdict.NOT_REACHED, f"not compared: the log is not whole before it ({walked.position})")
