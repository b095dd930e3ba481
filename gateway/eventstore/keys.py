"""The key file: a key per patient, in a SQLite file of its own, so that a key can be destroyed and history stays.

WAL, `synchronous=FULL`, `secure_delete`, readable by its owner only. Keys are random, made in batches and durable
before the first of a batch is used: a save that needs a new one waits for no second flush, and after a power cut no
event can name a key that is not here. What a killed process had made and not used stays unused. A destroyed key leaves
its id behind, so that *erased* and *lost* are never taken for each other.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.errors import KeyLost, KeysUnusable, StoreUnusable
from gateway.eventstore.files import belongs_like

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

APPLICATION_ID = 0x574C474B  # "WLGK", in the file's header
BATCH = 256
"""Keys made durable with one flush."""

_FIRST_BATCH = 8
"""A command that seals one reason leaves few unused ones behind."""
_KEY_BYTES = 32
_PATIENCE_MILLISECONDS = 5_000
_FULL = 2
_MOST_CIPHERS = 20_000
_LOOK_AGAIN = 1.0
"""Seconds after which it is asked whether another process has destroyed a key."""
_BELIEVED = 1.0
"""Seconds for which a save believes that the key file is still where it was."""

_SCHEMA = (
    # AUTOINCREMENT appends at the end of the table: no page is split, so no copy of a key is left beside it.
    """
    CREATE TABLE IF NOT EXISTS keys (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key_id TEXT NOT NULL UNIQUE,
        erased INTEGER NOT NULL,
        key BLOB NOT NULL
    )
    """,
    "CREATE TABLE IF NOT EXISTS identity (id INTEGER PRIMARY KEY CHECK (id = 1), file_id TEXT, secret BLOB)",
)


class KeyFile:
    """Keys by their id. Used by many threads."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Raises `StoreUnusable` when there is no such file (unless `create`), or it is none of ours."""
        self.path = path
        self._lock = threading.RLock()
        self._pool: deque[tuple[str, bytes]] = deque()
        self._next_batch = _FIRST_BATCH
        self._ciphers: dict[str, AESGCM] = {}
        self._look_again_at = 0.0
        self._there_until = 0.0
        self._connection = self._open(create=create)
        self._place = _place(self.path)
        self._version = self._data_version()
        self.file_id, self._secret = self._identity()

    # --- opening

    def _open(self, *, create: bool) -> sqlite3.Connection:
        try:
            if create and not self.path.exists():
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
                belongs_like(self.path, self.path.absolute().parent)
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusable(f"the key file {self.path} can't be used: {error}", remedy=_REMEDY) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MILLISECONDS}")
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if owner != APPLICATION_ID and (owner or tables):
            raise StoreUnusable(f"{self.path} is no key file of this gateway", remedy=_REMEDY)
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute(f"PRAGMA synchronous={_FULL}")
        connection.execute("PRAGMA secure_delete=ON")
        level = connection.execute("PRAGMA synchronous").fetchone()[0]
        if mode.lower() != "wal" or level != _FULL:
            raise StoreUnusable(f"the key file {self.path} is in mode {mode}, not WAL", remedy=_REMEDY)
        if not tables:
            with _transaction(connection):
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(
                    "INSERT OR IGNORE INTO identity VALUES (1, ?, ?)",
                    (secrets.token_hex(16), secrets.token_bytes(_KEY_BYTES)),
                )

    def _identity(self) -> tuple[str, bytes]:
        row = self._connection.execute("SELECT file_id, secret FROM identity").fetchone()
        if row is None:
            raise StoreUnusable(f"the key file {self.path} is not complete", remedy=_REMEDY)
        return row[0], row[1]

    def close(self) -> None:
        """Let go of the file and forget the keys."""
        with self._lock:
            self._ciphers.clear()
            self._pool.clear()
            self._connection.close()

    # --- using keys

    def pseudonym(self, patient_id: str) -> str:
        """What stands for a Patient ID where keys are looked up: its HMAC under this file's secret."""
        return hmac.digest(self._secret, patient_id.encode(), "sha256")[:16].hex()

    def fresh(self) -> str:
        """The id of a key that nothing was sealed with. Raises `KeysUnusable`."""
        with self._lock:
            if not self._pool:
                self._refill()
            key_id, key = self._pool.popleft()
            self._remember(key_id, key)
            return key_id

    def make_ready(self) -> None:
        """Make a whole batch now, so that the first saves need not. Raises `KeysUnusable`."""
        with self._lock:
            self._next_batch = BATCH
            if not self._pool:
                self._refill()

    def _refill(self) -> None:
        self.require_file(now=True)
        made = [(secrets.token_hex(8), secrets.token_bytes(_KEY_BYTES)) for _ in range(self._next_batch)]
        try:
            with _transaction(self._connection):
                self._connection.executemany("INSERT INTO keys (key_id, erased, key) VALUES (?, 0, ?)", made)
        except sqlite3.Error as error:
            raise KeysUnusable(
                f"no new key can be written to {self.path}: {error}; nothing was saved",
                remedy="look at the key file's disk: room, rights, health; then ask again",
            ) from error
        self._pool.extend(made)
        self._next_batch = BATCH

    def require_file(self, *, now: bool = False) -> None:
        """Raises `KeysUnusable` when the file that we hold open is no longer at its path.

        Somebody may have deleted or replaced it: what is sealed from then on, with old keys or new, can't be read once
        we let go of it. It is looked at once a second at most, unless `now`.
        """
        if not now and time.monotonic() < self._there_until:
            return
        try:
            same = _place(self.path) == self._place
        except OSError:
            same = False
        self._there_until = time.monotonic() + _BELIEVED if same else 0.0
        if not same:
            raise KeysUnusable(
                f"the key file {self.path} was taken away or replaced; nothing was saved",
                remedy="move that very file back, with its -wal, and saves go on; if it is gone, put its newest copy "
                "there and restart the gateway",
            )

    def cipher(self, key_id: str) -> AESGCM | None:
        """The cipher of a key; None when it was destroyed. Raises `KeyLost` when the file has never held it."""
        found = self._ciphers.get(key_id)
        if found is None or time.monotonic() >= self._look_again_at:
            found = self._looked_up(key_id)
        return found

    def _looked_up(self, key_id: str) -> AESGCM | None:
        with self._lock:
            try:
                self._forget_if_changed()
                found = self._ciphers.get(key_id)
                if found is not None:
                    return found
                row = self._connection.execute("SELECT erased, key FROM keys WHERE key_id = ?", (key_id,)).fetchone()
            except sqlite3.Error as error:
                raise StoreUnusable(f"the key file {self.path} can't be read: {error}", remedy=_REMEDY) from error
            if row is None:
                raise KeyLost(
                    f"the key file {self.path} has lost key {key_id}: it is older than the database, or another's",
                    remedy=_REMEDY,
                )
            if row[0]:
                return None
            return self._remember(key_id, row[1])

    def _remember(self, key_id: str, key: bytes) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(self._ciphers) >= _MOST_CIPHERS:
            self._ciphers.clear()
        cipher = self._ciphers[key_id] = AESGCM(key)
        return cipher

    def forget_destroyed(self) -> None:
        """Drop from memory what another process may have destroyed. Raises `StoreUnusable`."""
        with self._lock:
            try:
                self._forget_if_changed()
            except sqlite3.Error as error:
                raise StoreUnusable(f"the key file {self.path} can't be read: {error}", remedy=_REMEDY) from error

    def _forget_if_changed(self) -> None:
        """Another process may have destroyed a key: it is used no later than a second after that.

        It leaves memory when any key is used next, or health is asked: a process that does neither keeps it.
        """
        if time.monotonic() < self._look_again_at:
            return
        self._look_again_at = time.monotonic() + _LOOK_AGAIN
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._ciphers.clear()

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    # --- destroying keys

    def states(self) -> dict[str, bool]:
        """All key ids, and whether the key was destroyed."""
        with self._lock:
            return {
                key_id: bool(erased) for key_id, erased in self._connection.execute("SELECT key_id, erased FROM keys")
            }

    def destroy(self, key_ids: Iterable[str]) -> int:
        """Overwrite these keys in the file; returns how many were there. Raises `KeysUnusable`.

        A row keeps its length, so that SQLite writes the zeros over the very bytes. `cut_log` comes after it.
        """
        with self._lock:
            self.require_file(now=True)
            try:
                with _transaction(self._connection):
                    return sum(
                        self._connection.execute(
                            "UPDATE keys SET erased = 1, key = zeroblob(?) WHERE key_id = ? AND erased = 0",
                            (_KEY_BYTES, key_id),
                        ).rowcount
                        for key_id in key_ids
                    )
            except sqlite3.Error as error:
                raise self._not_destroyed(str(error)) from error
            finally:
                self._ciphers.clear()

    def cut_log(self) -> None:
        """Bring the zeros into the file itself and cut off the log beside it. Raises `KeysUnusable`."""
        try:
            with self._lock:
                busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise self._not_destroyed(str(error)) from error
        if busy:
            raise self._not_destroyed("another process reads from it without end")

    def _not_destroyed(self, why: str) -> KeysUnusable:
        return KeysUnusable(
            f"the keys can't be destroyed in {self.path}: {why}",
            remedy="the erasure is decided and will be finished: look at the key file's disk, and for a sqlite3 prompt "
            "or a backup that has it open; then repeat gateway erase",
        )


_REMEDY = (
    "put the key file back from its own backup, or say with GATEWAY_KEYS_PATH where it is; "
    "without it nobody can be named any more"
)


def _place(path: Path) -> tuple[int, int]:
    """What tells a file from any other one. Raises OSError."""
    there = path.stat()
    return there.st_dev, there.st_ino


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.rollback()
        raise
