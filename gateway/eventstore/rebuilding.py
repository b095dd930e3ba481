"""Building projections anew beside those that are served: to put these right, or to compare.

A long log is read by two processes at once, each for some of the projections (`gateway.eventstore.shares`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from eventsourcing.persistence import Mapper

from gateway.errors import Contention, RebuildRuns, StoreUnusable
from gateway.eventstore import positions, shares
from gateway.eventstore.aside import Difference
from gateway.eventstore.connections import Writer
from gateway.eventstore.files import belongs_like
from gateway.eventstore.projection import Projection
from gateway.eventstore.replay import Progress
from gateway.eventstore.shares import Shares

__all__ = ["Difference", "Progress", "compare", "rebuild"]

_TRIES = 5


def rebuild(
    path: Path,
    writer: Writer,
    mapper: Mapper[UUID],
    projections: Sequence[Projection],
    progress: Progress,
    *,
    apart: Sequence[Projection] = (),
) -> int:
    """Build the projections anew aside, compare, and write into the served tables just what differs.

    The service goes on meanwhile. Saves wait only while the differing rows are written, in one transaction: nobody sees
    a half of it, and a kill leaves the old tables. It ends with a comparison in which nothing differs, so that it does
    not matter what was written in between. `apart` are those that a second process builds when the log is long. Returns
    the number of events. Raises `RebuildRuns` when another one runs, `Contention` when somebody goes on writing into
    the tables by hand.
    """
    with _alone(path), shares.opened(path, mapper, projections, apart) as built:
        built.build(progress)
        for _ in range(_TRIES):
            differing = _differing(built)
            if not differing:
                return built.position
            _put_right(built, writer, [projection for projection in projections if projection.NAME in differing])
    raise Contention(
        "the tables were changed by hand again and again during the rebuild",
        remedy="find out who writes to the database beside the gateway, then try again",
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One rebuild of a database at a time. Raises `Contention`."""
    lock = path.with_name(path.name + ".rebuild")
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        belongs_like(lock, lock.absolute().parent)
    except OSError as error:
        raise StoreUnusable(f"{lock} can't be written: {error.strerror}", remedy="check the folder's rights") from error
    try:
        if not _locked(file, lock):
            raise RebuildRuns("another rebuild of this database runs", remedy="wait for it to end")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(file)


def _locked(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), path.stat())  # no: one ended just now and took the file away
    except (BlockingIOError, FileNotFoundError):
        return False


def _differing(built: Shares) -> set[str]:
    return set(built.ask("differing"))


def _put_right(built: Shares, writer: Writer, differing: Sequence[Projection]) -> None:
    """Rows that did not differ have taken the same events since, so they don't differ now."""
    built.ask("approach")
    with writer.transaction() as cursor:
        for statement, rows in built.corrections([projection.NAME for projection in differing]):
            if rows:
                cursor.executemany(statement, rows)
            else:
                cursor.execute(statement)
        positions.advance(cursor, differing, built.position)


def compare(
    path: Path,
    mapper: Mapper[UUID],
    projections: Sequence[Projection],
    progress: Progress,
    *,
    apart: Sequence[Projection] = (),
) -> list[Difference]:
    """Build aside and compare with what is served; the first difference of each projection, each at one commit."""
    with shares.opened(path, mapper, projections, apart) as built:
        built.build(progress)
        found = {difference.projection: difference for difference in built.ask("first_differences")}
        return [found[projection.NAME] for projection in projections if projection.NAME in found]
