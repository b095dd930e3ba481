"""Where the database is to be, before it is opened."""

from __future__ import annotations

from pathlib import Path

from gateway.errors import StoreUnusable


def is_missing(path: Path) -> bool:
    """Whether there is no database yet. Raises `StoreUnusable` when nobody may look there."""
    try:
        return not path.exists()
    except OSError as error:
        raise _out_of_reach(path, error) from error


def make_folder(path: Path) -> None:
    """Make the folder of a database that is to be. Raises `StoreUnusable` when that can't be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _out_of_reach(path, error) from error


def _out_of_reach(path: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(
        f"the folder {path.parent} can't be used: {error.strerror}",
        remedy="set WORKLIST_DB_PATH to a file in a folder that this user may write to",
    )
