"""The worklist table: what modalities are answered from, and what people look at with `sqlite3`.

It keeps the proof of concept's name, columns and indexes (design §3.12). Direct writes are found by
`gateway projections verify` and lost in a rebuild: `gateway worklist add` and `set-status` are their replacement.

Which index serves a query is decided here, not by SQLite, which keeps no statistics of this table and would guess: an
indexed column that is not to be used is asked for with a unary plus.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any, NamedTuple

from gateway.domain.lifecycle import Status
from gateway.domain.names import folded
from gateway.domain.worklist_item import ERASED_PERSON, WorklistItem
from gateway.eventstore.projection import RecordedEvent

NAME = "worklist"
VERSION = 4
TABLES = ("worklist_items",)

SCHEMA = (
    f"""
    CREATE TABLE IF NOT EXISTS worklist_items (
        accession_number TEXT PRIMARY KEY,
        patient_id TEXT NOT NULL,
        patient_name TEXT NOT NULL,
        patient_birth_date TEXT NOT NULL,
        patient_sex TEXT,
        scheduled_date TEXT NOT NULL,
        scheduled_time TEXT NOT NULL,
        modality TEXT NOT NULL,
        study_description TEXT,
        procedure_code TEXT,
        status TEXT DEFAULT 'SCHEDULED' CHECK (status IN ({", ".join(f"'{status}'" for status in Status)})),
        study_instance_uid TEXT,
        mpps_instance_uid TEXT,
        created_at TEXT DEFAULT CURRENT_TIMESTAMP,
        updated_at TEXT DEFAULT CURRENT_TIMESTAMP,
        source_message_id TEXT,
        procedure_code_scheme TEXT,
        procedure_code_meaning TEXT,
        station_ae_titles TEXT NOT NULL DEFAULT '',
        location TEXT,
        performing_physician TEXT,
        is_test INTEGER NOT NULL DEFAULT 0,
        row_version INTEGER NOT NULL DEFAULT 0,
        folded_alphabetic TEXT,
        folded_ideographic TEXT,
        folded_phonetic TEXT
    )
    """,  # station_ae_titles: joined with the backslash, as DICOM joins values; row_version: the stream's version,
    # 0 when somebody has written the row by hand; folded_*: the groups of the name as they are compared,
    # no alphabetic one when somebody has written the row by hand
    "CREATE INDEX IF NOT EXISTS idx_worklist_date_modality ON worklist_items (scheduled_date, modality)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_status ON worklist_items (status)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_study_uid ON worklist_items (study_instance_uid)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_patient_id ON worklist_items (patient_id)",
    "CREATE INDEX IF NOT EXISTS idx_worklist_alphabetic ON worklist_items (folded_alphabetic)",
    """
    CREATE INDEX IF NOT EXISTS idx_worklist_ideographic ON worklist_items (folded_ideographic)
        WHERE folded_ideographic IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS idx_worklist_phonetic ON worklist_items (folded_phonetic)
        WHERE folded_phonetic IS NOT NULL
    """,
    """
    CREATE TRIGGER IF NOT EXISTS worklist_items_by_hand AFTER UPDATE ON worklist_items
        WHEN new.row_version = old.row_version OR old.row_version = 0
    BEGIN
        UPDATE worklist_items SET row_version = 0 WHERE rowid = new.rowid;
    END
    """,  # whoever keeps something by row version keeps nothing of such a row; a rebuild puts it right
)
_LAST_RESORT = "status"
_FOLDED = ("folded_alphabetic", "folded_ideographic", "folded_phonetic")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistRow:
    """One item as it is served. Dates are `YYYYMMDD`, times `HHMMSS`, both the site's wall clock."""

    accession_number: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str | None
    scheduled_date: str
    scheduled_time: str
    modality: str
    study_description: str | None
    procedure_code: str | None
    status: str
    study_instance_uid: str | None
    mpps_instance_uid: str | None
    created_at: str
    updated_at: str
    source_message_id: str | None
    procedure_code_scheme: str | None
    procedure_code_meaning: str | None
    station_ae_titles: tuple[str, ...]
    location: str | None
    performing_physician: str | None
    is_test: bool
    row_version: int

    @property
    def is_erased(self) -> bool:
        """Whether its person was erased."""
        return not (self.patient_id or self.patient_name or self.patient_birth_date)


Version = tuple[str, int]
"""An accession number and the version of its row.

Two rows of the same version are the same row: whatever changes one, in whichever process, changes its version too. 0 is
no version: such a row is to be read each time (somebody has written it by hand, or its person was erased).
"""


@dataclass(frozen=True, slots=True)
class TextFilter:
    """A column that is like any of the patterns: `*` is any run of characters, `?` one character, all else itself."""

    column: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistFilter:
    """What to look for; an empty field asks nothing. Dates and times are closed ranges, either end may be "".

    `names` are folded patient names (`gateway.domain.names`), any of which: one pattern is for whichever group, several
    are for the groups in their order, an empty one for any. `times` leaves out only what is `HHMMSS` and outside.
    `is_test` None: both real and test items.
    """

    accession_number: str = ""
    patient_id: str = ""
    study_instance_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    dates: tuple[str, str] = ("", "")
    birth_dates: tuple[str, str] = ("", "")
    times: tuple[str, str] = ("", "")
    names: tuple[tuple[str, ...], ...] = ()
    texts: tuple[TextFilter, ...] = ()
    statuses: tuple[str, ...] = ()
    is_test: bool | None = None
    limit: int | None = None


_ORDER = "ORDER BY scheduled_date, scheduled_time, accession_number"
_NAMES = tuple(field.name for field in fields(WorklistRow))
_COLUMNS = ", ".join(_NAMES)
_VERSION = "accession_number, CASE patient_id WHEN '' THEN 0 ELSE row_version END"


def find(connection: sqlite3.Connection, wanted: WorklistFilter) -> Iterator[WorklistRow]:
    """Items in the order of their date and time, then accession number."""
    return map(_row, _select(connection, _COLUMNS, wanted))


def find_numbers(connection: sqlite3.Connection, wanted: WorklistFilter) -> list[str]:
    """The accession numbers of what `find` finds, in its order."""
    return [number for (number,) in _select(connection, "accession_number", wanted)]


def find_versions(connection: sqlite3.Connection, wanted: WorklistFilter, *, limit: int) -> list[Version]:
    """The versions of what `find` finds, in its order: the first ones, at most so many."""
    statement, parameters = _selection(_VERSION, wanted)
    return _execute(connection, statement, (*parameters, limit)).fetchall()


def get(connection: sqlite3.Connection, accession_numbers: Sequence[str]) -> Iterator[WorklistRow]:
    """These items, as far as there are such, in the order of `find`."""
    marks = _marks(accession_numbers)
    statement = f"SELECT {_COLUMNS} FROM worklist_items WHERE accession_number IN ({marks}) {_ORDER}"  # noqa: S608  our own words
    return map(_row, _execute(connection, statement, accession_numbers))


class Named(NamedTuple):
    """What tells whether an item is meant."""

    accession_number: str
    study_instance_uid: str | None
    patient_id: str


def named(connection: sqlite3.Connection, study_instance_uid: str, accession_numbers: tuple[str, str]) -> list[Named]:
    """The items that have this Study Instance UID or one of two accession numbers; "" names none."""
    statement = (
        "SELECT accession_number, study_instance_uid, patient_id FROM worklist_items WHERE accession_number IN (?, ?)"
        " UNION SELECT accession_number, study_instance_uid, patient_id FROM worklist_items"
        " WHERE study_instance_uid = ?"
    )
    keys = (key or None for key in (*accession_numbers, study_instance_uid))
    return [Named(*row) for row in _execute(connection, statement, tuple(keys))]


def _select(connection: sqlite3.Connection, columns: str, wanted: WorklistFilter) -> sqlite3.Cursor:
    statement, parameters = _selection(columns, wanted)
    return _execute(connection, statement, (*parameters, -1 if wanted.limit is None else wanted.limit))


def _execute(connection: sqlite3.Connection, statement: str, parameters: Sequence[object]) -> sqlite3.Cursor:
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(statement, parameters)


@lru_cache(maxsize=64)
def _selection(columns: str, wanted: WorklistFilter) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters but for the last, the limit (-1: none); units ask the same all day."""
    conditions = list(_conditions(wanted))
    where = f"WHERE {' AND '.join(condition.clause for condition in conditions)}" if conditions else ""
    parameters = tuple(value for condition in conditions for value in condition.values)
    return f"SELECT {columns} FROM worklist_items {where} {_ORDER} LIMIT ?", parameters  # noqa: S608  our own words


def erased_numbers(connection: sqlite3.Connection) -> set[str]:
    """The accession numbers of items whose person was erased."""
    statement = "SELECT accession_number FROM worklist_items WHERE patient_id = '' AND patient_name = ''"
    return {number for (number,) in connection.execute(statement)}


def count_by_status(connection: sqlite3.Connection, *, is_test: bool = False) -> dict[str, int]:
    """How many items there are in each status; statuses without any are left out."""
    statement = "SELECT status, COUNT(*) FROM worklist_items WHERE is_test = ? GROUP BY status ORDER BY status"
    return dict(connection.execute(statement, (int(is_test),)).fetchall())


@dataclass(frozen=True, slots=True)
class _Condition:
    """A piece of SQL and the values of its marks."""

    clause: str
    values: tuple[object, ...] = ()


def _conditions(wanted: WorklistFilter) -> Iterator[_Condition]:
    index = _index(wanted)

    def named(column: str) -> str:
        return column if column == index else f"+{column}"

    if wanted.accession_number:
        yield _Condition("accession_number = ?", (wanted.accession_number,))
    if wanted.patient_id:
        yield _Condition(f"{named('patient_id')} = ?", (wanted.patient_id,))
    if wanted.study_instance_uids:
        yield _any_of(named("study_instance_uid"), wanted.study_instance_uids)
    yield from _within(named("scheduled_date"), wanted.dates)
    if wanted.modalities:
        yield _any_of("modality", wanted.modalities)
    if wanted.names:
        yield _names([named(column) if index != _FOLDED[0] else column for column in _FOLDED], wanted.names)
    for text in wanted.texts:
        yield _either(_like(named(text.column), pattern) for pattern in text.patterns)
    yield from _within("patient_birth_date", wanted.birth_dates)
    yield from _times(wanted.times)
    if wanted.statuses:
        yield _any_of(named("status"), wanted.statuses)
    if wanted.is_test is not None:
        yield _Condition("is_test = ?", (int(wanted.is_test),))


def is_indexed(wanted: WorklistFilter) -> bool:
    """Whether an index serves it: what it takes grows with what is found, not with what there is."""
    return _index(wanted) != _LAST_RESORT


def is_of_few(wanted: WorklistFilter) -> bool:
    """Whether it names an item, a study or a patient: few rows, however many there are."""
    return bool(wanted.accession_number or wanted.study_instance_uids or wanted.patient_id)


@lru_cache(maxsize=64)
def _index(wanted: WorklistFilter) -> str:
    """The column whose index leaves the fewest rows to look at; a status is the last resort."""
    texts = {text.column for text in wanted.texts if all(map(_prefix, text.patterns))}
    first, last = wanted.dates
    ways = (
        ("accession_number", bool(wanted.accession_number)),
        ("study_instance_uid", bool(wanted.study_instance_uids)),
        ("patient_id", bool(wanted.patient_id) or "patient_id" in texts),
        ("scheduled_date", bool(first) and _month(first) == _month(last)),
        (_FOLDED[0], bool(wanted.names) and all(map(_begins, wanted.names))),
        ("accession_number", "accession_number" in texts),
        ("scheduled_date", bool(first)),
    )
    return next((column for column, serves in ways if serves), _LAST_RESORT)


def _month(day: str) -> str:
    return day[:6]


def _begins(name: Sequence[str]) -> bool:
    """Whether an index of each group, or of one, serves the name."""
    return any(map(_prefix, name))


def _prefix(pattern: str) -> str:
    return re.split("[*?\U0010ffff]", pattern, maxsplit=1)[0]


def _names(columns: Sequence[str], names: Sequence[Sequence[str]]) -> _Condition:
    """Any of the names. A row without folded name was written by hand: whoever asks has to look at the name itself."""
    ways = [_Condition(f"{columns[0]} IS NULL")]
    for name in names:
        if len(name) == 1:
            ways += [_like(column, name[0]) for column in columns]
        else:
            groups = [_like(column, pattern) for column, pattern in zip(columns, name, strict=False) if pattern]
            ways.append(_all(groups))
    return _either(ways)


def _like(column: str, pattern: str) -> _Condition:
    """A range that an index serves for what the pattern begins with, and SQLite's GLOB for the rest."""
    prefix = _prefix(pattern)
    if prefix == pattern:
        return _Condition(f"{column} = ?", (pattern,))
    conditions = []
    if prefix:
        conditions.append(_Condition(f"{column} >= ? AND {column} < ?", (prefix, _after(prefix))))
    if not prefix or pattern != f"{prefix}*":
        conditions.append(_Condition(f"{column} GLOB ?", (pattern.replace("[", "[[]"),)))
    return _all(conditions)


def _after(prefix: str) -> str:
    """The first text in SQLite's order, which is that of code points, after all that begin so."""
    last = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if last == _SURROGATES else last)


_SURROGATES = 0xD800


def _within(column: str, ends: tuple[str, str]) -> Iterator[_Condition]:
    first, last = ends
    if first and first == last:
        yield _Condition(f"{column} = ?", (first,))
        return
    if first:
        yield _Condition(f"{column} >= ?", (first,))
    if last:
        yield _Condition(f"{column} <= ?", (last,))


def _times(times: tuple[str, str]) -> Iterator[_Condition]:
    odd = _Condition("scheduled_time NOT GLOB '[0-2][0-9][0-5][0-9][0-5][0-9]'")
    for condition in _within("scheduled_time", times):
        yield _either([condition, odd])


def _any_of(column: str, values: Sequence[str]) -> _Condition:
    return _Condition(f"{column} IN ({_marks(values)})", tuple(values))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _either(conditions: Iterable[_Condition]) -> _Condition:
    return _joined(" OR ", conditions)


def _all(conditions: Iterable[_Condition]) -> _Condition:
    return _joined(" AND ", conditions)


def _joined(word: str, conditions: Iterable[_Condition]) -> _Condition:
    parts = list(conditions)
    values = tuple(value for part in parts for value in part.values)
    return _Condition(f"({word.join(part.clause for part in parts)})", values)


def _row(values: Sequence[Any]) -> WorklistRow:
    named = dict(zip(_NAMES, values, strict=True))
    stations = named["station_ae_titles"]
    named["station_ae_titles"] = tuple(stations.split("\\")) if stations else ()
    named["is_test"] = bool(named["is_test"])
    return WorklistRow(**named)


def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
    """Write one event into the table; events of other streams leave it alone."""
    write = _WRITERS.get(type(event.domain_event))
    if write:
        write(cursor, event, event.domain_event)


def _insert(cursor: sqlite3.Cursor, event: RecordedEvent, scheduled: WorklistItem.Scheduled) -> None:
    values = {
        "accession_number": scheduled.accession_number,
        **_columns(scheduled.person, scheduled.step),
        "status": Status.SCHEDULED.value,
        "study_instance_uid": scheduled.study_instance_uid,
        "created_at": event.committed_at,
        "updated_at": event.committed_at,
        "source_message_id": scheduled.action_id,
        "is_test": int(scheduled.is_test),
        "row_version": scheduled.originator_version,
    }
    cursor.execute(_insertion(tuple(values)), tuple(values.values()))


@cache
def _insertion(columns: tuple[str, ...]) -> str:
    return f"INSERT OR REPLACE INTO worklist_items ({', '.join(columns)}) VALUES ({_marks(columns)})"  # noqa: S608  our own words


def _amend(cursor: sqlite3.Cursor, event: RecordedEvent, amended: WorklistItem.Amended) -> None:
    _update(cursor, event, amended, _columns(amended.person, amended.step))


def _reschedule(cursor: sqlite3.Cursor, event: RecordedEvent, moved: WorklistItem.Rescheduled) -> None:
    when = {"scheduled_date": moved.scheduled_date, "scheduled_time": moved.scheduled_time}
    _update(cursor, event, moved, when)


def _set_status(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.StatusChanged) -> None:
    _update(cursor, event, changed, {"status": changed.status})


def _set_step(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.StepEvent) -> None:
    """The step that tells the status: a completed item keeps the one that completed it, one put back has none."""
    uid = changed.mpps_instance_uid
    cursor.execute(
        "UPDATE worklist_items SET mpps_instance_uid = CASE WHEN ? THEN NULLIF(mpps_instance_uid, ?)"
        " WHEN status = 'COMPLETED' THEN mpps_instance_uid ELSE ? END,"
        " status = ?, updated_at = ?, row_version = ? WHERE accession_number = ?",
        (
            getattr(changed, "wrong_entry", False),
            uid,
            uid,
            changed.status,
            event.committed_at,
            changed.originator_version,
            changed.accession_number,
        ),
    )


def _erase(cursor: sqlite3.Cursor, event: RecordedEvent, erased: WorklistItem.PersonErased) -> None:
    _update(cursor, event, erased, _columns(ERASED_PERSON, {}))


def _update(cursor: sqlite3.Cursor, event: RecordedEvent, changed: WorklistItem.Event, columns: dict[str, Any]) -> None:
    values = (*columns.values(), event.committed_at, changed.originator_version, changed.accession_number)
    cursor.execute(_assignment(tuple(columns)), values)


@cache
def _assignment(columns: tuple[str, ...]) -> str:
    assignments = "".join(f"{name} = ?, " for name in columns)
    return f"UPDATE worklist_items SET {assignments}updated_at = ?, row_version = ? WHERE accession_number = ?"  # noqa: S608  our own words


def _columns(person: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    values = {**person, **step}
    if "station_ae_titles" in values:
        values["station_ae_titles"] = "\\".join(values["station_ae_titles"])
    if "patient_name" in values:
        alphabetic, ideographic, phonetic, *_ = (*folded(values["patient_name"]), "", "")
        values |= zip(_FOLDED, (alphabetic, ideographic or None, phonetic or None), strict=True)
    return values


_WRITERS: dict[type, Callable[[sqlite3.Cursor, RecordedEvent, Any], None]] = {
    WorklistItem.Scheduled: _insert,
    WorklistItem.Amended: _amend,
    WorklistItem.Rescheduled: _reschedule,
    WorklistItem.Cancelled: _set_status,
    WorklistItem.Expired: _set_status,
    WorklistItem.StatusReported: _set_status,
    WorklistItem.StatusCorrected: _set_status,
    WorklistItem.StepStarted: _set_step,
    WorklistItem.StepCompleted: _set_step,
    WorklistItem.StepDiscontinued: _set_step,
    WorklistItem.PersonErased: _erase,
}
CONCERNED = frozenset(_WRITERS)
OPENED = frozenset((WorklistItem.Scheduled, WorklistItem.Amended))
