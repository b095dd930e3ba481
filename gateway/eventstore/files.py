"""Files that must be whole after a crash, and belong to whoever runs the service."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """A file's bytes, or the names in a folder, survive a power cut from here on. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(whole: Path, path: Path) -> None:
    """Give a synced file its name, in place of what had it: at any moment the one or the other is there, whole."""
    whole.replace(path)
    sync(path.parent)


def belongs_like(path: Path, neighbour: Path) -> None:
    """What root makes for the service is the service's: the same owner as its neighbour's. Raises OSError."""
    if os.geteuid() == 0:
        owner = neighbour.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
