"""One service to a database: two would deliver the same status events. Commands beside the service are welcome.

A restore puts another file in the database's place: nobody may have it open then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from gateway.errors import StoreUnusable
from gateway.eventstore.files import belongs_like

_LOOKING = 0.05
"""Seconds after which somebody who only looked (`is_served`) has let go."""


class Ownership:
    """Held as long as the process lives or until `release`; the operating system lets go of a killed process's.

    It is a lock on a file beside the database: one on the database itself would interfere with SQLite's own.
    """

    def __init__(self, database: Path) -> None:
        """Raises `StoreUnusable` when another service holds it."""
        path = _lock_of(database)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            belongs_like(path, database.parent)
        except OSError as error:
            raise StoreUnusable(
                f"{path} can't be written: {error.strerror}", remedy="check the folder's rights"
            ) from error
        try:
            self._take()
        except BlockingIOError:
            os.close(self._file)
            raise StoreUnusable(
                f"another gateway serves the database {database}",
                remedy="stop the other one, or set WORKLIST_DB_PATH to a file of its own",
            ) from None

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOOKING)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Let another service have it."""
        os.close(self._file)


class Use:
    """Held by whoever has the database open, together; `alone` by the restore that replaces it.

    SQLite would let a process go on with the old file under its new name, and with the new one's log of changes.
    """

    def __init__(self, database: Path, *, alone: bool = False) -> None:
        """Raises `StoreUnusable` when a restore replaces the database, or, `alone`, when somebody has it open."""
        self._file: int | None = None
        path = self._path = database.with_name(database.name + ".use")
        self._made = False
        with contextlib.suppress(OSError):  # where it can't be made the database can't be opened either: that says why
            self._made = not path.exists()
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            belongs_like(path, database.parent)
        if self._file is None:
            return
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            if alone:
                raise StoreUnusable(
                    f"a command has the database {database} open", remedy="wait for it to end, then try again"
                ) from None
            raise StoreUnusable(
                f"a backup is being restored to {database}", remedy="wait for gateway backup restore to end"
            ) from None

    def give_up(self) -> None:
        """It could not be opened: nothing of ours stays beside a file that is not ours."""
        self.release()
        if self._made:
            self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Have it no longer open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_served(database: Path) -> bool:
    """Whether a service runs on the database now. Where nobody may look, one is taken to run."""
    try:
        file = os.open(_lock_of(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _lock_of(database: Path) -> Path:
    return database.with_name(database.name + ".lock")
