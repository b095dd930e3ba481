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
from gateway.eventstore.chain import Anchor

_ANCHOR = re.compile(r"([1-9][0-9]{0,17}):([0-9A-Fa-f]{64})(?:\s+(\S+))?")
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
    """What an anchors file holds. `unreadable` are the numbers of lines that are no anchors, counted from 1."""

    anchors: tuple[Anchor, ...]
    unreadable: tuple[int, ...] = ()


def read(path: Path) -> Kept:
    """The anchors of a file; empty lines and those that begin with `#` are skipped. Raises `AnchorsUnusable`."""
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode) or there.st_size > _LARGEST:
            raise AnchorsUnusable(f"{path} is no anchors file", remedy="name a text file of anchors, a line each")
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise AnchorsUnusable(
            f"the anchors file {path} can't be read: {error.strerror}", remedy="check its path and rights"
        ) from error
    anchors, unreadable = [], []
    for number, entry in enumerate(text.splitlines(), 1):
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        try:
            anchors.append(parse(entry))
        except InvalidValue:
            unreadable.append(number)
    return Kept(tuple(anchors), tuple(unreadable))


def keep(path: Path, anchor: Anchor) -> bool:
    """Add an anchor to the file, durably; False when it is in it. Raises `AnchorsUnusable`.

    What is in the file is never changed: a line that a power cut has left incomplete stays, and the next begins anew.
    """
    try:
        is_new = not path.exists()
        if not is_new and _is_in(path, anchor):
            return False
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            broken_off = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            _write(file, f"{chr(10) * broken_off}{line(anchor)}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)
        if is_new:
            _sync_folder(path.absolute().parent)
    except OSError as error:
        raise AnchorsUnusable(
            f"the anchors file {path} can't be written: {error.strerror}",
            remedy="check its folder, its rights and the disk, or set GATEWAY_ANCHORS_FILE",
        ) from error
    return True


def _is_in(path: Path, anchor: Anchor) -> bool:
    return any((kept.position, kept.link) == (anchor.position, anchor.link) for kept in read(path).anchors)


def _write(file: int, data: bytes) -> None:
    """All of it, or an error: a full disk takes a part and says so only the next time."""
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """The file's name is to survive a power cut too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
