"""The anchors file: one line `POSITION:HASH COMMITTED_AT` for each anchor, only ever added to.

An anchor proves something only where whoever alters the log can't reach it: copy the file, or its lines from the log
of the service and from the replies to `health`, to another machine.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import AnchorsUnusable, InvalidValue
from gateway.eventstore import files
from gateway.eventstore.chain import Anchor

_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9A-Fa-f]{64})(?:\s+(\S+))?")
_RESTORED = re.compile(r"# restored to ([0-9]{1,18})(?:\s.*)?")
_LARGEST = 64 * 1024 * 1024
"""Bytes; two centuries of a start, a stop and a day's anchor each day."""


def parse(text: str) -> Anchor:
    """An anchor from `POSITION:HASH`, with or without the time of its commit. Raises `InvalidValue`."""
    found = _ANCHOR.fullmatch(text.strip())
    if not found:
        raise InvalidValue(
            "anchor: must be POSITION:HASH, a number from 1 and 64 hexadecimal digits, as gateway events anchor prints",
            field="anchor",
        )
    return Anchor(int(found[1]), bytes.fromhex(found[2]), found[3] or "")


def line(anchor: Anchor) -> str:
    """As it stands in the file."""
    return f"{anchor} {anchor.committed_at}".rstrip()


@dataclass(frozen=True, slots=True)
class Kept:
    """What an anchors file holds. `unreadable` are the numbers of lines that are no anchors, counted from 1.

    `replaced` are those of a log that a restore from a backup replaced (`note_restore`): they need not hold any more.
    """

    anchors: tuple[Anchor, ...]
    unreadable: tuple[int, ...] = ()
    replaced: tuple[Anchor, ...] = ()


def read(path: Path) -> Kept:
    """The anchors of a file; empty lines and those that begin with `#` are skipped. Raises `AnchorsUnusable`."""
    text = _text_of(path)
    anchors: list[Anchor] = []
    unreadable: list[int] = []
    replaced: list[Anchor] = []
    for number, entry in enumerate(text.splitlines(), 1):
        restored = _RESTORED.fullmatch(entry)
        if restored:
            replaced += [anchor for anchor in anchors if anchor.position > int(restored[1])]
            anchors = [anchor for anchor in anchors if anchor.position <= int(restored[1])]
        elif entry.strip() and not entry.lstrip().startswith("#"):
            try:
                anchors.append(parse(entry))
            except InvalidValue:
                unreadable.append(number)
    return Kept(tuple(anchors), tuple(unreadable), tuple(replaced))


def _text_of(path: Path) -> str:
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode) or there.st_size > _LARGEST:
            raise AnchorsUnusable(f"{path} is no anchors file", remedy="name a text file of anchors, a line each")
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise AnchorsUnusable(
            f"the anchors file {path} can't be read: {error.strerror}", remedy="check its path and rights"
        ) from error


def keep(path: Path, anchor: Anchor) -> bool:
    """Add an anchor to the file, durably; False when it is in it. Raises `AnchorsUnusable`.

    What is in the file is never changed: a line that a power cut has left incomplete stays, and the next begins anew.
    """
    if _exists(path) and _is_in(path, anchor):
        return False
    _append(path, line(anchor))
    return True


def note_restore(path: Path, position: int, at: str) -> None:
    """Note in the file, if there is one, that a backup of so many events was put in the log's place.

    The anchors after that position stay in the file and are said to be of the log that was replaced. `at` is the
    restore's instant: the same one is noted once. Raises `AnchorsUnusable`.
    """
    note = f"# restored to {position} {at}"
    if _exists(path) and note not in _text_of(path).splitlines():
        _append(path, note)


def _append(path: Path, text: str) -> None:
    try:
        is_new = not path.exists()
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            broken_off = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            _write(file, f"{chr(10) * broken_off}{text}\n".encode())
            if is_new:
                files.belongs_like(path, path.absolute().parent)
            os.fsync(file)
        finally:
            os.close(file)
        if is_new:
            files.sync(path.absolute().parent)  # its name is to survive a power cut too
    except OSError as error:
        raise _unwritable(path, error) from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> AnchorsUnusable:
    return AnchorsUnusable(
        f"the anchors file {path} can't be written: {error.strerror}",
        remedy="check its folder, its rights and the disk, or set GATEWAY_ANCHORS_FILE",
    )


def _is_in(path: Path, anchor: Anchor) -> bool:
    return any((kept.position, kept.link) == (anchor.position, anchor.link) for kept in read(path).anchors)


def _write(file: int, data: bytes) -> None:
    """All of it, or an error: a full disk takes a part and says so only the next time."""
    while data:
        data = data[os.write(file, data) :]
