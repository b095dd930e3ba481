"""Studies that Orthanc received, where each was sent on, and how far Orthanc's feed of changes was followed.

`patient_id`, `patient_name` and `study_description` are the modality's own words, for people who look for the item of
a study that has none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from gateway.domain.image_feed import ImageFeed
from gateway.domain.received_study import ReceivedStudy
from gateway.eventstore.json_text import as_text
from gateway.eventstore.projection import RecordedEvent

NAME = "received_studies"
VERSION = 1
TABLES = ("received_studies", "study_routes", "image_feeds", "parked_studies")

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS received_studies (
        orthanc_id TEXT PRIMARY KEY,
        study_instance_uid TEXT NOT NULL,
        accession_number TEXT NOT NULL,
        named TEXT NOT NULL,
        matched_by TEXT NOT NULL,
        unmatched TEXT NOT NULL,
        waits_for_person INTEGER NOT NULL,
        patient_id TEXT NOT NULL,
        patient_name TEXT NOT NULL,
        study_description TEXT NOT NULL,
        station_ae_title TEXT NOT NULL,
        modalities TEXT NOT NULL,
        series INTEGER NOT NULL,
        instances INTEGER NOT NULL,
        arrivals INTEGER NOT NULL,
        first_received_at TEXT NOT NULL,
        received_at TEXT NOT NULL
    )
    """,  # lists are JSON; accession_number is '' of a study that has no item, named what its images say then
    "CREATE INDEX IF NOT EXISTS idx_studies_uid ON received_studies (study_instance_uid)",
    "CREATE INDEX IF NOT EXISTS idx_studies_item ON received_studies (accession_number) WHERE accession_number != ''",
    "CREATE INDEX IF NOT EXISTS idx_studies_waiting ON received_studies (received_at) WHERE waits_for_person = 1",
    "CREATE INDEX IF NOT EXISTS idx_studies_received ON received_studies (received_at)",
    """
    CREATE TABLE IF NOT EXISTS study_routes (
        orthanc_id TEXT NOT NULL,
        target TEXT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        accession_number TEXT NOT NULL,
        rule TEXT NOT NULL,
        arrival INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'failing', 'routed', 'abandoned')),
        chosen_at TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        error TEXT,
        instances INTEGER,
        PRIMARY KEY (orthanc_id, target)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX IF NOT EXISTS idx_routes_open ON study_routes (chosen_at) WHERE state IN ('waiting', 'failing')",
    """
    CREATE TABLE IF NOT EXISTS image_feeds (
        number INTEGER PRIMARY KEY,
        began_at TEXT NOT NULL,
        reason TEXT NOT NULL,
        database TEXT NOT NULL,
        change INTEGER NOT NULL,
        changed TEXT NOT NULL,
        resume_after INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS parked_studies (
        orthanc_id TEXT PRIMARY KEY,
        why TEXT NOT NULL,
        parked_at TEXT NOT NULL
    ) WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedStudyRow:
    """One study in Orthanc.

    `accession_number` is its item's, or "": then `named` is what the images say and `unmatched` why that is no item's.
    `arrivals` counts how often its content was another one; the latest was at `received_at`.
    """

    orthanc_id: str
    study_instance_uid: str
    accession_number: str
    named: str
    matched_by: tuple[str, ...]
    unmatched: str
    waits_for_person: bool
    patient_id: str
    patient_name: str
    study_description: str
    station_ae_title: str
    modalities: tuple[str, ...]
    series: int
    instances: int
    arrivals: int
    first_received_at: str
    received_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRow:
    """One study on its way to another modality.

    `state` is `waiting`, `failing` (tried again; `error` says why), `routed` (`instances` images) or `abandoned`.
    """

    orthanc_id: str
    target: str
    study_instance_uid: str
    accession_number: str
    rule: str
    arrival: int
    state: str
    chosen_at: str
    changed_at: str
    error: str | None
    instances: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRow:
    """How far a feed is followed; fields as of `gateway.domain.received_study.FeedPlace`."""

    number: int
    began_at: str
    reason: str
    database: str
    change: int
    changed: str
    resume_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedStudyRow:
    """A study of Orthanc's that could not be read."""

    orthanc_id: str
    why: str
    parked_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """How many are to be sent, and how many of these have failed so far."""

    waiting: int
    failing: int


# --- queries


def called(connection: sqlite3.Connection, name: str) -> list[ReceivedStudyRow]:
    """The studies with this Orthanc id or Study Instance UID, the newest first. Two patients' may have one UID."""
    return _studies(connection, "orthanc_id = ? OR study_instance_uid = ?", name, name)


def of_accession(connection: sqlite3.Connection, accession_number: str) -> list[ReceivedStudyRow]:
    """The studies of an item, the oldest first."""
    return _studies(connection, "accession_number = ? AND accession_number != ''", accession_number)[::-1]


def of_patient(connection: sqlite3.Connection, patient_id: str) -> list[ReceivedStudyRow]:
    """Studies whose images name this Patient ID."""
    return _studies(connection, "patient_id = ?", patient_id)


def latest(connection: sqlite3.Connection, limit: int) -> list[ReceivedStudyRow]:
    """The studies that came last, the newest first."""
    return _studies(connection, "1", limit=limit)


def unmatched(connection: sqlite3.Connection, limit: int = -1) -> list[ReceivedStudyRow]:
    """Studies of nobody on the list, the newest first."""
    return _studies(connection, "waits_for_person = 1", limit=limit)


def count_unmatched(connection: sqlite3.Connection) -> int:
    """How many they are."""
    count: int = connection.execute("SELECT COUNT(*) FROM received_studies WHERE waits_for_person = 1").fetchone()[0]
    return count


def known(connection: sqlite3.Connection, orthanc_ids: Collection[str]) -> frozenset[str]:
    """Those of these Orthanc ids that were received or parked."""
    rows = connection.execute(
        "WITH asked AS (SELECT value FROM json_each(?))"
        " SELECT orthanc_id FROM received_studies WHERE orthanc_id IN asked"
        " UNION SELECT orthanc_id FROM parked_studies WHERE orthanc_id IN asked",
        (json.dumps(list(orthanc_ids)),),
    )
    return frozenset(orthanc_id for (orthanc_id,) in rows)


def open_routes(connection: sqlite3.Connection, limit: int = -1) -> list[RouteRow]:
    """Studies that are to be sent, the longest waiting first."""
    return _routes(connection, "state IN ('waiting', 'failing') ORDER BY chosen_at, orthanc_id LIMIT ?", limit)


def routes_of(connection: sqlite3.Connection, orthanc_id: str) -> list[RouteRow]:
    """Where a study is sent."""
    return _routes(connection, "orthanc_id = ? ORDER BY target", orthanc_id)


def latest_routes(connection: sqlite3.Connection, limit: int) -> list[RouteRow]:
    """The routes that changed last, the newest first."""
    return _routes(connection, "1 ORDER BY changed_at DESC, orthanc_id, target LIMIT ?", limit)


def count_routes(connection: sqlite3.Connection) -> RouteCounts:
    """How many are open."""
    counts = dict(
        connection.execute(
            "SELECT state, COUNT(*) FROM study_routes WHERE state IN ('waiting', 'failing') GROUP BY state"
        ).fetchall()
    )
    return RouteCounts(waiting=counts.get("waiting", 0), failing=counts.get("failing", 0))


def feed(connection: sqlite3.Connection) -> FeedRow | None:
    """The feed that is followed now; None before the first."""
    return next(_as(FeedRow, connection.execute("SELECT * FROM image_feeds ORDER BY number DESC LIMIT 1")), None)


def parked(connection: sqlite3.Connection) -> list[ParkedStudyRow]:
    """Studies that could not be read, the oldest first."""
    return list(_as(ParkedStudyRow, connection.execute("SELECT * FROM parked_studies ORDER BY parked_at, orthanc_id")))


def _studies(connection: sqlite3.Connection, where: str, *parameters: str, limit: int = -1) -> list[ReceivedStudyRow]:
    cursor = connection.execute(
        f"SELECT * FROM received_studies WHERE {where}"  # noqa: S608  our own words
        " ORDER BY received_at DESC, orthanc_id LIMIT ?",
        (*parameters, limit),
    )
    names = [column[0] for column in cursor.description]
    return [_study(dict(zip(names, values, strict=True))) for values in cursor]


def _study(values: dict[str, Any]) -> ReceivedStudyRow:
    for name in ("matched_by", "modalities"):
        values[name] = tuple(json.loads(values[name]))
    return ReceivedStudyRow(**{**values, "waits_for_person": bool(values["waits_for_person"])})


def _routes(connection: sqlite3.Connection, where: str, parameter: object) -> list[RouteRow]:
    statement = f"SELECT * FROM study_routes WHERE {where}"  # noqa: S608  our own words
    return list(_as(RouteRow, connection.execute(statement, (parameter,))))


def _as(row: Any, cursor: sqlite3.Cursor) -> Iterator[Any]:  # noqa: ANN401  one of the classes above
    names = [column[0] for column in cursor.description]
    return (row(**dict(zip(names, values, strict=True))) for values in cursor)


# --- events


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the tables; events of other streams leave them alone."""
    write = _WRITERS.get(type(event.domain_event))
    if write:
        write(cursor, event, event.domain_event)


def _insert(cursor: sqlite3.Cursor, event: RecordedEvent, received: ReceivedStudy.Received) -> None:
    cursor.execute(
        "INSERT OR REPLACE INTO received_studies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            received.orthanc_id,
            received.study_instance_uid,
            received.accession_number,
            _named(received),
            as_text(received.matched_by),
            received.unmatched,
            int(not received.accession_number),
            received.patient.get("patient_id", ""),
            received.patient.get("patient_name", ""),
            received.study_description,
            received.station_ae_title,
            *_counts(received.series),
            received.arrival,
            received.received_at,
            received.received_at,
        ),
    )
    _readable(cursor, event, received)


def _update(cursor: sqlite3.Cursor, event: RecordedEvent, updated: ReceivedStudy.Updated) -> None:
    cursor.execute(
        "UPDATE received_studies SET accession_number = ?, named = ?, matched_by = ?, unmatched = ?,"
        " waits_for_person = ?, station_ae_title = ?, modalities = ?, series = ?, instances = ?, arrivals = ?,"
        " received_at = ? WHERE orthanc_id = ?",
        (
            updated.accession_number,
            _named(updated),
            as_text(updated.matched_by),
            updated.unmatched,
            int(not updated.accession_number),
            updated.station_ae_title,
            *_counts(updated.series),
            updated.arrival,
            updated.received_at,
            updated.orthanc_id,
        ),
    )
    cursor.execute(
        "UPDATE study_routes SET accession_number = ? WHERE orthanc_id = ?",
        (updated.accession_number, updated.orthanc_id),
    )
    _readable(cursor, event, updated)


def _named(content: ReceivedStudy.Received | ReceivedStudy.Updated) -> str:
    return "" if content.accession_number else "".join(content.concerned)


def _counts(series: list[dict[str, Any]]) -> tuple[str, int, int]:
    modalities = list(dict.fromkeys(one["modality"] for one in series if one["modality"]))
    return as_text(modalities), len(series), sum(one["instances"] for one in series)


def _readable(
    cursor: sqlite3.Cursor, event: RecordedEvent, content: ReceivedStudy.Received | ReceivedStudy.Updated
) -> None:
    cursor.execute("DELETE FROM parked_studies WHERE orthanc_id = ?", (content.orthanc_id,))
    _follow(cursor, event, content)


def _follow(cursor: sqlite3.Cursor, _: RecordedEvent, told: Any) -> None:  # noqa: ANN401  any event with a place
    place = told.place
    cursor.execute(
        "UPDATE image_feeds SET change = ?, changed = ?, resume_after = ? WHERE number = ?",
        (place["change"], place["changed"], place["resume_after"], place["feed"]),
    )


def _begin(cursor: sqlite3.Cursor, event: RecordedEvent, began: ImageFeed.Began) -> None:
    cursor.execute(
        "INSERT OR REPLACE INTO image_feeds VALUES (?, ?, ?, ?, 0, '', 0)",
        (began.number, event.committed_at, began.reason, began.database),
    )


def _park(cursor: sqlite3.Cursor, event: RecordedEvent, parked_one: ImageFeed.StudyParked) -> None:
    cursor.execute(
        "INSERT OR REPLACE INTO parked_studies VALUES (?, ?, ?)",
        (parked_one.orthanc_id, parked_one.why, event.committed_at),
    )
    _follow(cursor, event, parked_one)


def _choose(cursor: sqlite3.Cursor, event: RecordedEvent, chosen: ReceivedStudy.RouteChosen) -> None:
    cursor.execute(
        "INSERT OR REPLACE INTO study_routes SELECT orthanc_id, ?, study_instance_uid, accession_number, ?, ?,"
        " 'waiting', ?, ?, NULL, NULL FROM received_studies WHERE orthanc_id = ?",
        (
            chosen.target,
            chosen.rule,
            chosen.arrival,
            event.committed_at,
            event.committed_at,
            chosen.orthanc_id,
        ),
    )


def _route(cursor: sqlite3.Cursor, event: RecordedEvent, happened: ReceivedStudy.RouteEvent) -> None:
    told = vars(happened)
    cursor.execute(
        "UPDATE study_routes SET state = ?, changed_at = ?, error = ?, instances = ?"
        " WHERE orthanc_id = ? AND target = ?",
        (
            happened.STATE,
            event.committed_at,
            told.get("error"),
            told.get("instances"),
            happened.orthanc_id,
            happened.target,
        ),
    )


def _dismiss(cursor: sqlite3.Cursor, _: RecordedEvent, dismissed: ReceivedStudy.Dismissed) -> None:
    cursor.execute(
        "UPDATE received_studies SET waits_for_person = 0 WHERE orthanc_id = ?",
        (dismissed.orthanc_id,),
    )


def _erase(cursor: sqlite3.Cursor, _: RecordedEvent, erased: ReceivedStudy.PersonErased) -> None:
    cursor.execute(
        "UPDATE received_studies SET patient_id = '', patient_name = '', study_description = '', waits_for_person = 0"
        " WHERE orthanc_id = ?",
        (erased.orthanc_id,),
    )


_WRITERS: dict[type, Callable[[sqlite3.Cursor, RecordedEvent, Any], None]] = {
    ReceivedStudy.Received: _insert,
    ReceivedStudy.Updated: _update,
    ReceivedStudy.RouteChosen: _choose,
    ReceivedStudy.Routed: _route,
    ReceivedStudy.RouteFailed: _route,
    ReceivedStudy.RouteAbandoned: _route,
    ReceivedStudy.Dismissed: _dismiss,
    ReceivedStudy.PersonErased: _erase,
    ImageFeed.Began: _begin,
    ImageFeed.Advanced: _follow,
    ImageFeed.StudyParked: _park,
}
CONCERNED = frozenset(_WRITERS)
OPENED = frozenset((ReceivedStudy.Received,))
