"""A high-water mark of the status events' `sequence`, in a small file beside the database and in no backup.

The web app drops a `sequence` that is not above the last one it saw. A restored backup has forgotten the last ones;
this file has not: no `sequence` above its number was ever committed. It is kept ahead in blocks, so that only one save
in a thousand, at most, pays for it.
"""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

from gateway.errors import DiskFull, OutcomeUnknown, StoreUnusable
from gateway.eventstore.files import belongs_like, put_in_place

BLOCK = 1000


class SequenceMark:
    """The mark of one database. One writer at a time: call `raise_to` and `cover` under the database's write lock."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".sequence")
        self.kept = 0
        """What this process knows to be durable."""

    def read(self) -> int:
        """The mark. Raises `StoreUnusable` when the file is missing or not as it was written."""
        try:
            text = self.path.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise StoreUnusable(f"the high-water mark {self.path} can't be read: {reason}") from error
        number = text.split(" ")[0]
        if not number.isdecimal() or text != _written(int(number)):
            raise StoreUnusable(f"the high-water mark {self.path} is damaged")
        return int(number)

    def cover(self, sequence: int, known: int) -> None:
        """Make sure that the mark is not below `sequence`, durably; `known` is the highest in the log, floors included.

        The log knows all that was committed since its last restore, so a file that is lost is made from it again.
        Raises `DiskFull`, `OutcomeUnknown`.
        """
        try:
            kept = self.read()
        except StoreUnusable:
            kept = -1
        if kept < max(sequence, known):
            kept = max(sequence, known) + BLOCK
            self.raise_to(kept)
        self.kept = kept

    def raise_to(self, number: int) -> None:
        """Write the mark. Raises `DiskFull`, `OutcomeUnknown`."""
        try:
            self._write(number)
        except OSError as error:
            failed = DiskFull if error.errno == errno.ENOSPC else OutcomeUnknown
            raise failed(
                f"the high-water mark {self.path} can't be written: {error.strerror}",
                remedy="check that this user may write to the folder, and that the disk has room",
            ) from error

    def _write(self, number: int) -> None:
        partial = self.path.with_name(f".{self.path.name}.partial")  # one writer at a time; what a killed one left goes
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(_written(number))
            file.flush()
            os.fsync(file.fileno())
        belongs_like(partial, self.path.parent)
        put_in_place(partial, self.path)


def _written(number: int) -> str:
    return f"{number} {zlib.crc32(str(number).encode()):08x}\n"
