"""What is done to the record itself: the service's starts and stops, and looks at persons by `--reveal`.

One table beside the log, no projection: these are no events of an appointment, and none of them may hold up or be held
up by one. Unlike the record of queries each row is synced before its writer goes on: rows are few, and a look is not
shown before it is kept. The table identifies no patient (accession numbers and SOP Instance UIDs only) and is kept as
long as the log.
"""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.application import Gateway
from gateway.eventstore import chain
from projections import epochs

STARTED, STOPPED, LOOKED = "started", "stopped", "looked"

EVERYTHING = "*"
"""The subject of a look at everything in a range."""
MOST_SUBJECTS = 2000
"""Accession numbers kept of one look; one at more is kept as a look at everything."""
RUN_SECONDS = 300.0
"""At most so long between two equal looks that share a row: a screen that repaints itself is one look."""

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS activities (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        times INTEGER NOT NULL,
        activity TEXT NOT NULL,
        who TEXT NOT NULL,
        subjects TEXT NOT NULL,
        details TEXT NOT NULL
    )
"""  # subjects: joined with the backslash; details: JSON
_HOLDS_ANY = "EXISTS (SELECT 1 FROM json_each(?) WHERE instr('\\' || subjects || '\\', value))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A row. Instants are ISO 8601 in UTC.

    `activity` is `started`, `stopped` or `looked`; `who` the user of the operating system; `subjects` accession numbers
    and SOP Instance UIDs that were looked at, or `EVERYTHING`. `details` of a look: `verb`, `shown` (how many); of a
    start: `version`, `ae_title`, and `previous_ended_without_stop` with the latest record from before this start.
    """

    at: str
    activity: str
    who: str
    subjects: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    last_at: str = ""
    times: int = 1


def this_user() -> str:
    """Who runs this process, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


def service_started(gateway: Gateway, who: str, **details: Any) -> str | None:  # noqa: ANN401  any JSON values
    """Keep that the service is up.

    When the one before ended without a stop (it was killed, or the power went): the instant of the latest record before
    this start, which is kept too; else None. Of a start that came with a backup it is not known here how it ended: that
    stands in the replaced database. Raises `Contention`, `OutcomeUnknown`.
    """
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute(_SCHEMA)
        row = cursor.execute("SELECT * FROM activities WHERE activity <> ? ORDER BY id DESC LIMIT 1", (LOOKED,))
        latest = row.fetchone()
        sign = None
        if latest is not None and latest["activity"] == STARTED and not _from_a_backup(cursor, latest["at"]):
            sign = _latest_record(cursor, latest["at"])
            details["previous_ended_without_stop"] = sign
        _insert(cursor, Activity(at=_now(), activity=STARTED, who=who, details=details))
    return sign


def service_stopped(gateway: Gateway, who: str) -> None:
    """Keep that the service stops cleanly. Raises `Contention`, `OutcomeUnknown`."""
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute(_SCHEMA)
        _insert(cursor, Activity(at=_now(), activity=STOPPED, who=who))


def looked(gateway: Gateway, who: str, verb: str, subjects: Sequence[str], **details: Any) -> None:  # noqa: ANN401
    """Keep that somebody is about to see persons' names and ids; who finds nobody has seen nobody.

    Raises `Contention`, `OutcomeUnknown`.
    """
    if not subjects:
        return
    told = {"verb": verb, "shown": len(subjects), **details}
    held = tuple(subjects) if len(subjects) <= MOST_SUBJECTS else (EVERYTHING,)
    look = Activity(at=_now(), activity=LOOKED, who=who, subjects=held, details=told)
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute(_SCHEMA)
        row = cursor.execute("SELECT * FROM activities ORDER BY id DESC LIMIT 1").fetchone()
        if row is not None and _continues(_activity(row), look):
            cursor.execute("UPDATE activities SET last_at = ?, times = times + 1 WHERE id = ?", (look.at, row["id"]))
        else:
            _insert(cursor, look)


def find(
    connection: sqlite3.Connection, *, subjects: Sequence[str] | None = None, since: str = "", until: str = ""
) -> Iterator[Activity]:
    """Activities from `since` on and before `until`, in their order.

    With `subjects` only looks at one of these, and looks at everything in a range; else all, starts and stops too.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'activities'").fetchone():
        return iter(())
    given = [(clause, value) for clause, value in (("last_at >= ?", since), ("at < ?", until)) if value]
    where = [clause for clause, _ in given]
    values: list[object] = [value for _, value in given]
    if subjects is not None:
        where.append(f"activity = ? AND {_HOLDS_ANY}")
        values += [LOOKED, json.dumps([f"\\{subject}\\" for subject in (*subjects, EVERYTHING)])]
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    statement = f"SELECT * FROM activities{condition} ORDER BY id"  # noqa: S608  our own words
    return map(_activity, connection.execute(statement, values))


def _insert(cursor: sqlite3.Cursor, activity: Activity) -> None:
    cursor.execute(
        "INSERT INTO activities (at, last_at, times, activity, who, subjects, details) VALUES (?, ?, 1, ?, ?, ?, ?)",
        (
            activity.at,
            activity.at,
            activity.activity,
            activity.who,
            "\\".join(activity.subjects),
            json.dumps(activity.details, ensure_ascii=False),
        ),
    )


def _continues(before: Activity, look: Activity) -> bool:
    if (before.activity, before.who, before.subjects, before.details) != (
        look.activity,
        look.who,
        look.subjects,
        look.details,
    ):
        return False
    pause = datetime.fromisoformat(look.at) - datetime.fromisoformat(before.last_at)
    return timedelta(0) <= pause <= timedelta(seconds=RUN_SECONDS)


def _from_a_backup(cursor: sqlite3.Cursor, started_at: str) -> bool:
    """Whether a restore, for which the service was stopped, came after this start: it came with the backup."""
    epoch = epochs.present(cursor)
    return epoch is not None and datetime.fromisoformat(started_at) < datetime.fromisoformat(epoch.restored_at)


def _latest_record(cursor: sqlite3.Cursor, started_at: str) -> str:
    """Of the start before, the newest event and the newest query."""
    signs = [started_at, chain.head(cursor)[1]]
    if cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'queries'").fetchone():
        signs.append(cursor.execute("SELECT MAX(last_at) FROM queries").fetchone()[0] or "")
    return max((sign for sign in signs if sign), key=datetime.fromisoformat)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _activity(row: sqlite3.Row) -> Activity:
    values = dict(row)
    values["subjects"] = tuple(values["subjects"].split("\\")) if values["subjects"] else ()
    values["details"] = json.loads(values["details"])
    return Activity(**values)
