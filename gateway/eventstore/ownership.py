"""One service to a database: two would deliver the same status events. Commands beside the service are welcome."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway.errors import StoreUnusable


class Ownership:
    """Held as long as the process lives or until `release`; the operating system lets go of a killed process's.

    It is a lock on a file beside the database: one on the database itself would interfere with SQLite's own.
    """

    def __init__(self, database: Path) -> None:
        """Raises `StoreUnusable` when another service holds it."""
        path = database.with_name(database.name + ".lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(
                f"{path} can't be written: {error.strerror}", remedy="check the folder's rights"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise StoreUnusable(
                f"another gateway serves the database {database}",
                remedy="stop the other one, or set WORKLIST_DB_PATH to a file of its own",
            ) from None

    def release(self) -> None:
        """Let another service have it."""
        os.close(self._file)
