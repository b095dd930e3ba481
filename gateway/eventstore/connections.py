"""SQLite connections: one writer, a few readers, WAL, and `synchronous=FULL` set and asserted.

The library's own pool is not used: it lets readers queue behind writers, gives a waiting writer five seconds, and keeps
the writer's lock when opening a connection fails once.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventsourcing.persistence import IntegrityError

from gateway.errors import Contention, OutcomeUnknown, StoreUnusable

APPLICATION_ID = 0x574C4757  # "WLGW", in the file's header: whose database this is
_FULL = 2
_PRIMARY = 0xFF  # the part of an extended error code that says what it is
_BUSY_SECONDS = 30.0
_IDLE_READERS = 8
_A_FEW_SAVES = 512 * 1024


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode. Raises `StoreUnusable` when the file can't be used."""
    try:
        if not read_only:
            _create_for_us_alone(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        _recognise(connection, path)
        connection.execute(f"PRAGMA synchronous={_FULL}")
        connection.execute(f"PRAGMA query_only={int(read_only)}")
        mode = connection.execute("PRAGMA journal_mode" if read_only else "PRAGMA journal_mode=WAL").fetchone()[0]
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
    except (sqlite3.Error, OSError) as error:
        raise StoreUnusable(f"the database {path} can't be opened: {error}", remedy=_remedy(path)) from error
    if level != _FULL or mode.lower() != "wal":
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
        self._connection: sqlite3.Connection | None = connect(path)
        self.failure: str | None = None
        """Why the last save could not be written, until one can be again (`recovered`)."""

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """BEGIN IMMEDIATE … COMMIT.

        Raises the library's `IntegrityError`; `Contention` when another process holds the file for 30 s;
        `OutcomeUnknown` after an input/output error, which leaves open whether the commit happened: the connection is
        then replaced.
        """
        if self._owner == threading.get_ident():
            raise RuntimeError("a save inside a save: a projection must not write through the application")
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield from self._attempt()
            except sqlite3.IntegrityError as error:
                raise IntegrityError(error) from error
            except sqlite3.OperationalError as error:
                raise self._translated(error) from error
            except sqlite3.DatabaseError as error:
                raise self._lost(error) from error
            finally:
                self._owner = None

    def _attempt(self) -> Iterator[sqlite3.Cursor]:
        connection = self._connection or connect(self._path)
        self._connection = connection
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        finally:
            cursor.close()

    def _translated(self, error: sqlite3.OperationalError) -> Contention | OutcomeUnknown:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # not set on what the module itself raises
        if code & _PRIMARY in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Contention(
                "the database was held by another process", remedy="ask again; look for a long-running sqlite3 prompt"
            )
        return self._lost(error)

    def _lost(self, error: sqlite3.DatabaseError) -> OutcomeUnknown:
        self._drop()
        self.failure = str(error)
        return OutcomeUnknown(f"the store failed: {error}", remedy=_remedy(self._path))

    def _drop(self) -> None:
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
