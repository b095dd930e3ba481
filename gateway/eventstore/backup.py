"""Backups: whole copies of the database, taken while the service goes on, each one file that was checked.

SQLite's online backup copies one snapshot in steps; saves go on, and what they add stays out. The copy gets its name
only once it is complete, checked and on the disk, so that a file with a backup's name is a backup. The name also says
of which log it is: gateways may share a folder, and databases have the same name.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from gateway.errors import BackupUnusable, StoreUnusable
from gateway.eventstore import chain
from gateway.eventstore.connections import APPLICATION_ID, connect
from gateway.eventstore.files import belongs_like, put_in_place, sync
from gateway.eventstore.ownership import Use

_PAGES = 256
"""Pages of one step: 1 MB."""
_INSTRUCTIONS = 100_000
"""Of SQLite's machine, between two looks whether to stop."""

_ORIGIN_BYTES = 4
"""Of a log's first link: enough to tell the few databases apart whose backups are in one folder."""

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a backup shares the machine: seconds of rest after each step of the copy, and whether it is to stop.

    With rests, the check of the copy's chain rests too.
    """

    rest: float = 0.0
    stopping: Callable[[], bool] = lambda: False

    def look(self) -> None:
        """Raises `BackupUnusable` when it is to stop."""
        if self.stopping():
            raise BackupUnusable("the backup was given up: the service stops")

    def step(self) -> None:
        """One step is done. Raises `BackupUnusable` when there is to be no other."""
        self.look()
        if self.rest:
            time.sleep(self.rest)


FAST = Pace()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check of a backup found. `damage` is SQLite's own finding, "" when the file is whole.

    `position`, `head` and `committed_at` are of its last event; `projections` says how far each is; `origin` which log
    it is of (`origin`).
    """

    file: Path
    size: int
    damage: str
    chain: chain.Verification
    position: int
    head: bytes
    committed_at: str
    origin: str
    projections: dict[str, int]

    @property
    def finding(self) -> str:
        """The first thing that is wrong with it, "" when all is well."""
        if self.damage:
            return f"the file is damaged: {self.damage}"
        if not self.chain.intact:
            return f"the chain is not intact: at position {self.chain.position} {self.chain.finding}"
        ahead = [name for name, position in self.projections.items() if position > self.position]
        return f"the log is shorter than the table {ahead[0]} says: its end is cut off" if ahead else ""

    @property
    def anchor(self) -> str:
        """Its head, as `gateway events verify` takes anchors."""
        return f"{self.position}:{self.head.hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file that has a backup's name, and what the name says; `sound` is what its check said when it was taken.

    `origin` is of which log it is (`origin`).
    """

    file: Path
    taken_at: datetime
    position: int
    origin: str
    sound: bool


# --- taking one


def take(database: Path, folder: Path, *, pace: Pace = FAST, progress: Progress = lambda _done, _all: None) -> Checked:
    """Copy the database into a new file in the folder, and check the copy.

    A copy that is whole and whose chain is not intact is kept all the same, under a name that says so: it may be all
    there is. Raises `BackupUnusable`, `StoreUnusable`.
    """
    if not database.is_file():
        raise BackupUnusable(f"there is no database at {database}", remedy="set WORKLIST_DB_PATH")
    try:
        with _one_at_a_time(folder, database.stem):
            partial = folder / f".{database.stem}-{uuid4().hex}{_PARTIAL}"
            try:
                _copy(database, partial, pace)
                found = check(partial, pace=pace, progress=progress)
                if found.damage:
                    raise BackupUnusable(f"the copy of {database} is of no use: {found.finding}", remedy=_DAMAGED)
                sync(partial)
                file = folder / _name(database.stem, datetime.now(UTC), found)
                put_in_place(partial, file)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise BackupUnusable(f"no backup can be put into {folder}: {error.strerror}", remedy=_FOLDER) from error
    except sqlite3.Error as error:
        raise BackupUnusable(f"no backup of {database} can be taken: {error}", remedy=_FOLDER) from error
    return Checked(**{name: getattr(found, name) for name in Checked.__slots__} | {"file": file})


_DAMAGED = "look at the disk, and restore the last good backup"
_FOLDER = "check that the folder is there, that this user may write to it, and that its disk has room"
_PARTIAL = ".partial"


@contextmanager
def _one_at_a_time(folder: Path, stem: str) -> Iterator[None]:
    """Hold the folder, and clear away what a killed backup has left in it. Raises OSError, `BackupUnusable`."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        belongs_like(folder, folder.parent)
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupUnusable(f"another backup is being put into {folder}", remedy="wait for it to end") from None
        for left in folder.glob(f".{stem}-*{_PARTIAL}*"):
            left.unlink(missing_ok=True)
        yield
    finally:
        os.close(held)


def _copy(database: Path, partial: Path, pace: Pace) -> None:
    """One snapshot of the database, as a file that needs no other beside it."""
    use = Use(database)
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        belongs_like(partial, partial.parent)
        with closing(connect(database)) as source, closing(sqlite3.connect(partial, isolation_level=None)) as target:
            # Without a snapshot of our own SQLite would begin again after each save of others, for ever.
            source.execute("BEGIN")
            source.execute("SELECT 1 FROM sqlite_master").fetchone()
            target.execute("PRAGMA synchronous=OFF")
            source.backup(target, pages=_PAGES, progress=lambda _status, _remaining, _total: pace.step())
        with closing(sqlite3.connect(partial, isolation_level=None)) as target:
            target.execute("PRAGMA journal_mode=DELETE")  # else whoever opens it would put a -wal beside it
    finally:
        use.release()


# --- checking one


def check(file: Path, *, pace: Pace = FAST, progress: Progress = lambda _done, _all: None) -> Checked:
    """Read a backup from end to end, without writing a byte: the file itself, the hash chain, the projections' places.

    Raises `BackupUnusable` when it is no database of ours, or one in use.
    """
    if not file.is_file():
        raise BackupUnusable(f"there is no file {file}", remedy="gateway backup list shows the backups there are")
    for beside in (file.with_name(file.name + suffix) for suffix in ("-wal", "-journal")):
        if beside.exists() and beside.stat().st_size:
            raise BackupUnusable(
                f"{file} is a database in use, or a plain copy of one: part of it is in {beside.name}",
                remedy="take backups by gateway backup now",
            )
    try:
        with reading(file) as connection:
            connection.set_progress_handler(lambda: int(pace.stopping()), _INSTRUCTIONS)
            return _checked(file, connection, pace, progress)
    except sqlite3.DatabaseError as error:
        pace.look()  # interrupted because we stop, that is no finding
        unknown = chain.Verification(0, chain.GENESIS, 1, "it can't be read")
        return _of(file, damage=str(error), verification=unknown)


@contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A backup, for reading alone: no lock, no side file, whatever the file's mode. Raises `BackupUnusable`."""
    with closing(_opened(file)) as connection:
        yield connection


def _opened(file: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(file.absolute()))}?mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise BackupUnusable(f"{file} can't be opened: {error}", remedy="check the file's rights") from error
    connection.row_factory = sqlite3.Row
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise BackupUnusable(f"{file} is not a database: {error}", remedy=_WHICH) from error
    if owner != APPLICATION_ID:
        connection.close()
        raise BackupUnusable(f"{file} is not a database of this gateway", remedy=_WHICH)
    return connection


_WHICH = "gateway backup list shows the backups there are"


def _checked(file: Path, connection: sqlite3.Connection, pace: Pace, progress: Progress) -> Checked:
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        unknown = chain.Verification(0, chain.GENESIS, 1, "it was not looked at")
        return _of(file, damage=str(damage), verification=unknown)
    position, committed_at, head = chain.head(connection)

    def advance(done: int) -> None:
        pace.look()
        progress(done, position)

    return _of(
        file,
        damage="",
        verification=chain.verify(connection, advance, gently=pace.rest > 0),
        position=position,
        head=head,
        committed_at=committed_at,
        origin=_origin(connection),
        projections=dict(connection.execute("SELECT name, position FROM projection_positions ORDER BY name")),
    )


def _of(
    file: Path,
    *,
    damage: str,
    verification: chain.Verification,
    position: int = 0,
    head: bytes = chain.GENESIS,
    committed_at: str = "",
    origin: str = "",
    projections: dict[str, int] | None = None,
) -> Checked:
    return Checked(
        file=file,
        size=file.stat().st_size,
        damage=damage,
        chain=verification,
        position=position,
        head=head,
        committed_at=committed_at,
        origin=origin,
        projections=projections or {},
    )


# --- those there are


def origin(database: Path) -> str:
    """Which log a database holds: the first digits of its first link, in every copy the same; zeros while it is empty.

    Raises `StoreUnusable`.
    """
    if not database.is_file():
        return _NO_EVENT
    use = Use(database)
    try:
        with closing(connect(database, read_only=True)) as connection:
            return _origin(connection)
    except sqlite3.Error as error:
        raise StoreUnusable(f"the database {database} can't be read: {error}", remedy="look at its disk") from error
    finally:
        use.release()


def _origin(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT hex(link) FROM event_chain WHERE position = 1").fetchone()
    return str(row[0])[: 2 * _ORIGIN_BYTES].lower().ljust(2 * _ORIGIN_BYTES, "0") if row else _NO_EVENT


_NO_EVENT = "00" * _ORIGIN_BYTES


def _name(stem: str, now: datetime, found: Checked) -> str:
    """Two of the same second and position are the same but for the record of queries: the later one stays."""
    unsound = ".unsound" if found.finding else ""
    return f"{stem}-{now:%Y%m%dT%H%M%SZ}-{found.position}-{found.origin}{unsound}.db"


def listed(folder: Path, stem: str, origin: str | None = None) -> list[Listed]:
    """The backups of a database in a folder by the time they were taken; what has another name is none of ours.

    Those of the log with this `origin`; without it of all databases of that name. Raises OSError.
    """
    pattern = re.compile(re.escape(stem) + r"-(\d{8}T\d{6})Z-(\d+)-([0-9a-f]{8})(\.unsound)?\.db")
    found = []
    for file in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(file.name)
        if match and origin in (None, match[3]):
            with suppress(ValueError):  # digits that are no time
                taken_at = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                found.append(
                    Listed(
                        file=file, taken_at=taken_at, position=int(match[2]), origin=match[3], sound=match[4] is None
                    )
                )
    return sorted(found, key=lambda backup: (backup.taken_at, backup.position))


def taken_until(backups: Sequence[Listed], now: datetime) -> list[Listed]:
    """Without those stamped later than now, by a clock that went wrong: nothing may wait for their time to come."""
    return [backup for backup in backups if backup.taken_at <= now]


def last_good(database: Path, folder: Path) -> datetime | None:
    """When the newest sound backup of this log was taken; None too where the folder lets nobody look.

    Raises `StoreUnusable`.
    """
    with suppress(OSError):
        newest = newest_sound(taken_until(listed(folder, database.stem, origin(database)), datetime.now(UTC)))
        return newest.taken_at if newest else None
    return None


def newest_sound(backups: Sequence[Listed]) -> Listed | None:
    """The last one that was well when it was taken."""
    return next((backup for backup in reversed(backups) if backup.sound), None)


def prune(folder: Path, stem: str, origin: str, *, kept_days: int) -> list[Path]:
    """Remove backups of this log taken longer ago than that, never the newest good one; returns what was removed.

    Raises `BackupUnusable`.
    """
    now = datetime.now(UTC)
    try:
        backups = taken_until(listed(folder, stem, origin), now)
        newest = newest_sound(backups)
        oldest = now - timedelta(days=kept_days)
        old = [backup.file for backup in backups if backup.taken_at < oldest and backup is not newest]
        for file in old:
            file.unlink(missing_ok=True)
        if old:
            sync(folder)
    except OSError as error:
        raise BackupUnusable(
            f"old backups in {folder} can't be removed: {error.strerror}", remedy="check the folder's rights"
        ) from error
    return old
