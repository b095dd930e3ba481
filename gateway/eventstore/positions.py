"""Up to which position of the log each projection has been written, and by which version of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.eventstore.projection import Projection

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS projection_positions (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        position INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)


def advance(cursor: sqlite3.Cursor, projections: Sequence[Projection], position: int) -> None:
    """Note that these projections have taken everything up to `position`: one statement, as every save does it."""
    if not projections:
        return
    rows = ", ".join(["(?, ?, ?)"] * len(projections))
    cursor.execute(
        f"INSERT INTO projection_positions VALUES {rows} ON CONFLICT (name) DO UPDATE"  # noqa: S608  marks alone
        " SET version = excluded.version, position = excluded.position",
        [value for projection in projections for value in (projection.NAME, projection.VERSION, position)],
    )


def position_of(cursor: sqlite3.Cursor | sqlite3.Connection, projection: Projection) -> int | None:
    """The position of this version of the projection; None if it has never been built."""
    row = cursor.execute(
        "SELECT position FROM projection_positions WHERE name = ? AND version = ?",
        (projection.NAME, projection.VERSION),
    ).fetchone()
    return row[0] if row else None


def noted(cursor: sqlite3.Cursor | sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Version and position of each projection that is kept, by name."""
    rows = cursor.execute("SELECT name, version, position FROM projection_positions").fetchall()
    return {name: (version, position) for name, version, position in rows}


def take_over(cursor: sqlite3.Cursor, projections: Sequence[Projection], position: int) -> None:
    """Note that exactly these projections are kept: no others follow the log from here on."""
    names = [projection.NAME for projection in projections]
    marks = ", ".join("?" * len(names))
    cursor.execute(f"DELETE FROM projection_positions WHERE name NOT IN ({marks})", names)  # noqa: S608  marks alone
    advance(cursor, projections, position)


def touch(cursor: sqlite3.Cursor) -> None:
    """Write without changing anything: shows whether the file can be written."""
    cursor.execute("UPDATE projection_positions SET position = position")
