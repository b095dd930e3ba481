"""SQLite connections: one writer, a few readers, WAL, and `synchronous=FULL` set and asserted.

The library's own pool is not used: it lets readers queue behind writers, gives a waiting writer five seconds, and keeps
the writer's lock when opening a connection fails once.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventsourcing.persistence import IntegrityError

from gateway.errors import Contention, DiskFull, OutcomeUnknown, StoreUnusable

APPLICATION_ID = 0x574C4757  # "WLGW", in the file's header: whose database this is
_FULL = 2
_PRIMARY = 0xFF  # the part of an extended error code that says what it is
PATIENCE = 20.0
"""Seconds a save waits its turn: less than whoever asked waits for an answer (the web app 30 s, the handler 25 s)."""

_NAP_MILLISECONDS = 250
"""How long SQLite itself waits for the write lock at a stretch: we look between, whether waiting makes sense still."""

_IDLE_READERS = 8
_READER_CACHE_KIB = 512
"""Pages that each of them may keep: SQLite's 2 MiB would be 16 in all, and every commit empties them."""
_A_FEW_SAVES = 512 * 1024


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. Raises `StoreUnusable` when the file can't be used."""
    try:
        if not read_only:
            _create_for_us_alone(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
        _recognise(connection, path)
        connection.execute(f"PRAGMA synchronous={_FULL}")
        connection.execute(f"PRAGMA query_only={int(read_only)}")
        mode = connection.execute("PRAGMA journal_mode" if read_only else "PRAGMA journal_mode=WAL").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
    except (sqlite3.Error, OSError) as error:
        raise StoreUnusable(f"the database {path} can't be opened: {error}", remedy=_remedy(path)) from error
    if level != _FULL or (mode.lower() != "wal" and not read_only):  # a copy that is only looked at may be in any mode
        connection.close()
        raise StoreUnusable(
            f"the database {path} is in mode {mode} with synchronous={level}, not WAL and FULL",
            remedy="put it on a local disk: acknowledged data must survive a power cut",
        )
    connection.row_factory = sqlite3.Row
    return connection


def _create_for_us_alone(path: Path) -> None:
    """It holds names: nobody else on this machine reads it (SQLite gives its side files the same mode)."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    """An empty database is taken, our own is known by its header; another one is left exactly as it is."""
    connection.execute("BEGIN")
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
    connection.execute("COMMIT")
    if owner != APPLICATION_ID and (owner or tables):
        connection.close()
        raise StoreUnusable(
            f"the database {path} belongs to another program",
            remedy="set WORKLIST_DB_PATH to a new file; a proof of concept's worklist.db is not taken over, "
            "its items are scheduled again",
        )


def _remedy(path: Path) -> str:
    if not path.parent.is_dir():
        return f"create the folder {path.parent}, or set WORKLIST_DB_PATH to a path on a local disk"
    if path.is_dir():
        return "it is a folder: set WORKLIST_DB_PATH to a file"
    return (
        "check that this user may write to the file and its folder, that the disk has room, "
        "and that it is a database of this gateway"
    )


def require_room(path: Path) -> None:
    """Raise OSError unless the database's disk takes as much as a few saves write."""
    with tempfile.TemporaryFile(dir=path.parent) as file:
        file.write(bytes(_A_FEW_SAVES))
        file.flush()
        os.fsync(file.fileno())


class Writer:
    """The one connection that writes. Callers queue; the transaction takes SQLite's write lock at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._secure_delete = False
        self._connection: sqlite3.Connection | None = self._open()
        self._is_doubtful = False
        self._given_up = False
        self._waiting_since: float | None = None
        self.failure: str | None = None
        """Why the last save could not be written, until one can be again (`recovered`)."""

    @property
    def held_up(self) -> float:
        """Seconds for which the present save has been waiting for another process to let go of the file."""
        since = self._waiting_since
        return time.monotonic() - since if since is not None else 0.0

    @contextmanager
    def transaction(self, patience: float = PATIENCE) -> Iterator[sqlite3.Cursor]:
        """BEGIN IMMEDIATE … COMMIT.

        Raises the library's `IntegrityError`; `Contention` when its turn does not come within `patience` seconds, most
        often because another process holds the file; `DiskFull`; `OutcomeUnknown` after an input/output error, which
        leaves open whether the commit happened: the connection is then replaced.
        """
        self.refuse_inside()
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=patience):
            raise self.held()
        try:
            self._owner = threading.get_ident()
            yield from self._attempt(deadline)
        except sqlite3.DatabaseError as error:
            raise self.translated(error) from error
        finally:
            self._owner = None
            try:
                if self._is_doubtful:
                    self._drop()
            finally:
                self._lock.release()

    def refuse_inside(self) -> None:
        """Raise RuntimeError in the thread whose transaction is under way: it would wait for itself."""
        if self._owner == threading.get_ident():
            raise RuntimeError("a save inside a save: a projection must not write through the application")

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._path)
        connection.execute(f"PRAGMA busy_timeout={_NAP_MILLISECONDS}")
        connection.execute(f"PRAGMA secure_delete={int(self._secure_delete)}")
        return connection

    def delete_securely(self) -> None:
        """From here on, what is deleted or changed is overwritten in the file, not only forgotten."""
        with self._lock:
            self._secure_delete = True
            if self._connection is not None:
                self._connection.execute("PRAGMA secure_delete=ON")

    def _attempt(self, deadline: float) -> Iterator[sqlite3.Cursor]:
        connection = self._connection or self._open()
        self._connection = connection
        cursor = connection.cursor()
        self._begin(cursor, deadline)
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        finally:
            cursor.close()

    def _begin(self, cursor: sqlite3.Cursor, deadline: float) -> None:
        self._waiting_since = time.monotonic()
        try:
            while True:
                try:
                    cursor.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if is_busy(error) and self._given_up:
                        cursor.execute("PRAGMA busy_timeout=0")  # who waits behind this one does not nap as well
                    if not is_busy(error) or self._given_up or time.monotonic() >= deadline:
                        raise
                else:
                    return
        finally:
            self._waiting_since = None

    def give_up(self) -> None:
        """We stop: whoever waits for another process to let go of the file waits no longer."""
        self._given_up = True

    def held(self) -> Contention:
        """What to raise when its turn did not come in time."""
        self.failure = "the database was held by another process"
        return Contention(self.failure, remedy="ask again; look for a long-running sqlite3 prompt or backup")

    def translated(self, error: Exception) -> Exception:
        """What to raise for an error inside a transaction: SQLite's in the library's words or ours, others as they are.

        After what leaves open what the connection is worth, another one takes its place when the transaction is over.
        """
        if not isinstance(error, sqlite3.DatabaseError):
            return error
        if isinstance(error, sqlite3.IntegrityError):
            return IntegrityError(error)
        return self.held() if is_busy(error) else self._lost(error)

    def _lost(self, error: sqlite3.DatabaseError) -> OutcomeUnknown:
        self._is_doubtful = True
        self.failure = str(error)
        failed = DiskFull if _code(error) == sqlite3.SQLITE_FULL else OutcomeUnknown
        return failed(f"the store failed: {error}", remedy=_remedy(self._path))

    def _drop(self) -> None:
        self._is_doubtful = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def recovered(self) -> None:
        """A save has been written. Small writes alone prove nothing: they fit into what room the log has left."""
        self.failure = None

    def close(self) -> None:
        """Wait for the transaction under way, then close."""
        with self._lock:
            self._drop()


def is_busy(error: sqlite3.DatabaseError) -> bool:
    """Whether somebody else holds the file, and nothing worse."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: sqlite3.DatabaseError) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # not set on what the module itself raises
    return code & _PRIMARY


class Readers:
    """Connections for reading, kept for reuse; they never wait for the writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own for a while. Each statement sees the newest commit.

        Raises `StoreUnusable` when the file can't be read.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = connect(self._path, read_only=True)
            connection.execute(f"PRAGMA cache_size=-{_READER_CACHE_KIB}")
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise StoreUnusable(f"the database can't be read: {error}", remedy=_remedy(self._path)) from error
        finally:
            if connection.in_transaction:
                connection.rollback()
            if self._closed or len(self._idle) >= _IDLE_READERS:
                connection.close()
            else:
                self._idle.append(connection)

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements all see the same commit."""
        with self.connection() as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # a read fixes the snapshot
            yield connection

    def close(self) -> None:
        """Close what is idle; what is in use closes when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
