"""Putting another file in the database's place: at any moment, a kill included, the old or the new one is there, whole.

SQLite applies a `-wal` or a `-journal` that lies beside a database to it, whosever it was. So the old database takes
its own into itself before anything is moved, and what it can't take goes aside with it; only then the new file, which
needs none, gets the name, by one rename.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from eventsourcing.persistence import DatetimeAsISO, DecimalAsStr, JSONTranscoder, UUIDAsHex

from gateway.domain.events import Stream
from gateway.errors import StoreUnusable
from gateway.eventstore import chain
from gateway.eventstore.connections import connect, is_busy
from gateway.eventstore.factory import StoreFactory
from gateway.eventstore.files import belongs_like, put_in_place, sync
from gateway.eventstore.mapper import EnvelopeMapper, register_transcodings
from gateway.eventstore.sealing import Sealing

_SIDE_FILES = ("-wal", "-shm", "-journal")
_PATIENCE = 5.0
"""Seconds to wait for another program to let go of the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The database that is to be replaced. `position` is its last one, None when it can't be read; `damage` why not."""

    position: int | None
    damage: str = ""


def look_at(database: Path) -> Present | None:
    """What there is now; None when there is nothing. Raises `StoreUnusable` for another program's, or one in use."""
    if not database.exists():
        return None
    try:
        with closing(connect(database)) as connection:
            return Present(position=chain.head(connection)[0])
    except StoreUnusable as error:
        cause = error.__cause__
        if not isinstance(cause, sqlite3.DatabaseError):
            raise
        if is_busy(cause):
            raise _in_use(database) from error
        return Present(position=None, damage=str(cause))
    except sqlite3.DatabaseError as error:
        return Present(position=None, damage=str(error))


def fold(database: Path) -> bool:
    """Have the database take its `-wal` in; false when it can't. Raises `StoreUnusable` when somebody has it open."""
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=_PATIENCE)) as connection:
            return bool(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0] == "delete")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise _in_use(database) from error
        return False
    except sqlite3.DatabaseError:
        return False


def _in_use(database: Path) -> StoreUnusable:
    return StoreUnusable(
        f"another program has the database {database} open", remedy="close sqlite3 prompts and the like, then try again"
    )


@contextmanager
def workplace(database: Path) -> Iterator[Path]:
    """A folder on the database's own disk, gone in the end. Raises OSError."""
    folder = tempfile.mkdtemp(prefix=_prefix(database), dir=database.parent)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(database: Path) -> None:
    """Clear away what a restore that was killed has left: its folder, and a second name of a database still in place.

    Call it while nobody else may restore.
    """
    for folder in database.parent.glob(f"{_prefix(database)}*"):
        shutil.rmtree(folder, ignore_errors=True)
    for kept in database.parent.glob(f"{database.name}.replaced-*"):
        if database.exists() and kept.samefile(database):
            kept.unlink()


def _prefix(database: Path) -> str:
    return f".restoring-{database.name}-"


def copied(backup: Path, folder: Path, database: Path) -> Path:
    """The backup as the database that is to be, not yet in its place. Raises OSError."""
    copy = folder / database.name
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    shutil.copyfile(backup, copy)
    belongs_like(copy, database if database.exists() else database.parent)
    return copy


def append(database: Path, stream: Stream) -> None:
    """Save a stream's new events. The projections take them when the database is opened next."""
    factory = StoreFactory(database, projections=())
    try:
        factory.event_store(mapper()).put(stream.collect_events())
    finally:
        factory.datastore.close()


def mapper(sealing: Sealing | None = None) -> EnvelopeMapper:
    """Reads and writes events where no application is open."""
    transcoder = JSONTranscoder()
    for transcoding in (UUIDAsHex(), DecimalAsStr(), DatetimeAsISO()):  # those that the library's applications have
        transcoder.register(transcoding)
    register_transcodings(transcoder)
    return EnvelopeMapper(transcoder, sealing)


def set_aside(database: Path, aside: Path, *, folded: bool) -> None:
    """Give the database that goes a second name, which it keeps. Raises OSError."""
    if not folded:
        for suffix in _SIDE_FILES:
            beside = database.with_name(database.name + suffix)
            if beside.exists():
                beside.replace(aside.with_name(aside.name + suffix))
    if database.exists():
        try:
            aside.hardlink_to(database)
        except OSError:  # a disk that knows no links
            shutil.copy2(database, aside)
            sync(aside)
    sync(database.parent)


def take_place(whole: Path, database: Path) -> None:
    """Let the new database have the name: from here on it is the one. Raises OSError."""
    sync(whole)
    put_in_place(whole, database)
