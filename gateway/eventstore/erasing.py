"""That what was erased is not left in the files: in the write-ahead log, or in a page's unused bytes."""

from __future__ import annotations

import mmap
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gateway.errors import OutcomeUnknown
from gateway.eventstore.connections import connect

_PATIENCE = 20.0
_NAP = 0.1


class TracesLeft(OutcomeUnknown):
    """The keys are destroyed and the tables cleared, but the write-ahead log could not be cut off yet."""

    code = "traces_left"


def leave_no_trace(path: Path, traces: Sequence[bytes]) -> bool:
    """Cut the write-ahead log off; write the database anew only when its pages still hold one of these texts.

    Returns whether it was written anew. Raises `TracesLeft` while somebody reads from the old log without end.
    """
    _cut_log(path)
    if not holds(path, traces):
        return False
    with closing(connect(path)) as connection:
        try:
            connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise _left(path, f"it can't be written anew: {error}") from error
    _cut_log(path)
    return True


def holds(path: Path, traces: Sequence[bytes]) -> bool:
    """Whether the file holds any of these texts."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(trace) >= 0 for trace in traces)


def _cut_log(path: Path) -> None:
    """The log is emptied and cut to nothing once nobody reads from it."""
    deadline = time.monotonic() + _PATIENCE
    with closing(connect(path)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() >= deadline:
                raise _left(path, "somebody reads from it without end")
            time.sleep(_NAP)


def _left(path: Path, why: str) -> TracesLeft:
    return TracesLeft(
        f"the keys are destroyed and the tables cleared, but {path} may still hold old pages: {why}",
        remedy="look for a long-running sqlite3 prompt or backup, and for room on the disk; then repeat gateway erase",
    )
