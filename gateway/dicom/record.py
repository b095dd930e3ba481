"""The record of queries: who asked what, when, and what the answer was; who retrieved a performed step; and who was
refused an association, and why.

Three tables in the one database, no projections: they are no events, and `gateway events verify` and `gateway
projections verify` leave them alone. A query never waits for them. Its thread puts a record into a bounded queue in
memory; once a second a thread of our own writes what has come, over a connection of its own with `synchronous=NORMAL`:
in WAL mode such a commit does not sync, so the write lock is held for a moment only. A killed process loses what came
in the last second; a power cut may also lose what was written since the last sync of the file, which the next save of
an event, or the next checkpoint, brings about. A write that fails is counted, told in the log, and harms nobody.

Consoles poll. A query that repeats the one before it, with the same answer and within `RUN_SECONDS`, makes that row's
`times` and `last_at` grow instead of a new row.

The identifier is kept as it was received, to be read again by `gateway.dicom.explain`. It may name a patient: it stays
in the database, and no log line holds it. Where events are sealed, it is sealed as well, with a key per process and day
(a query may name one patient, several, or none): `opened` reads it again, and erasing a person takes it out of each
query that names them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import attrgetter

from gateway.application import Gateway
from gateway.errors import GatewayError, NotFound
from gateway.eventstore.connections import connect
from gateway.eventstore.sealing import Sealing
from gateway.log import get_logger

_log = get_logger(__name__)

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS queries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        times INTEGER NOT NULL,
        calling_ae_title TEXT NOT NULL,
        called_ae_title TEXT NOT NULL,
        address TEXT NOT NULL,
        keys TEXT NOT NULL,
        identifier BLOB,
        transfer_syntax TEXT NOT NULL,
        status INTEGER NOT NULL,
        error_comment TEXT NOT NULL,
        answers INTEGER NOT NULL,
        accession_numbers TEXT NOT NULL,
        milliseconds REAL NOT NULL,
        key_id TEXT,
        sealed TEXT
    )
    """,  # keys: JSON; accession_numbers: joined with the backslash, as DICOM joins values;
    # sealed: the identifier, when it is sealed with key_id
    "CREATE INDEX IF NOT EXISTS idx_queries_caller ON queries (calling_ae_title, last_at)",
    "CREATE INDEX IF NOT EXISTS idx_queries_last_at ON queries (last_at)",
    """
    CREATE TABLE IF NOT EXISTS refused_associations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        times INTEGER NOT NULL,
        calling_ae_title TEXT NOT NULL,
        called_ae_title TEXT NOT NULL,
        address TEXT NOT NULL,
        reason TEXT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS idx_refused_last_at ON refused_associations (last_at)",
    """
    CREATE TABLE IF NOT EXISTS retrievals (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        last_at TEXT NOT NULL,
        times INTEGER NOT NULL,
        calling_ae_title TEXT NOT NULL,
        called_ae_title TEXT NOT NULL,
        address TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS idx_retrievals_last_at ON retrievals (last_at)",
    "CREATE INDEX IF NOT EXISTS idx_retrievals_step ON retrievals (sop_instance_uid)",
)
_TABLES = ("queries", "refused_associations", "retrievals")

LONGEST_IDENTIFIER = 16 * 1024
"""Bytes; a longer one is not kept. Real ones have some hundreds."""
MOST_NUMBERS = 2000
"""Accession numbers kept of one answer, in its order."""
RUN_SECONDS = 300.0
"""At most so long between two equal queries that share a row."""
MOST_WAITING = 10_000
"""Records held in memory."""
MOST_WAITING_BYTES = 32 * 1024 * 1024
MOST_ROWS = 1_000_000
"""Of each table: a bound against callers that never repeat themselves."""

_INTERVAL = 1.0
"""Seconds between writes."""
_PORTION = 500
"""Rows of one transaction: another's save waits for no more than that."""
_PATIENCE_MILLISECONDS = 500
"""How long one write waits for whoever holds the file; then it tries again a second later."""
_SILENCE = 60.0
"""Seconds between two log lines about the same trouble."""
_CLEANING = 3600.0
"""Seconds between looks for rows that are too old."""
_RUNS = 512
"""Askers whose latest row is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A C-FIND that was answered. Instants are ISO 8601 in UTC.

    `keys` are the keywords of the matching keys, without their values. `identifier` is None when it was longer than
    `LONGEST_IDENTIFIER`, is sealed (`opened` opens it), or was erased. `status` is the final one; 0xFF00 when the
    association ended before there was one. `accession_numbers` are the first `MOST_NUMBERS` of the `answers`. A row
    from the database stands for `times` equal queries from `at` to `last_at`, and `milliseconds` for the slowest.
    """

    at: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    keys: tuple[str, ...]
    identifier: bytes | None
    transfer_syntax: str
    status: int
    error_comment: str
    answers: int
    accession_numbers: tuple[str, ...]
    milliseconds: float
    id: int = 0
    last_at: str = ""
    times: int = 1
    key_id: str | None = None
    sealed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAssociation:
    """An association, or its proposal of a worklist, that was turned down; AE titles are "" where none was said."""

    at: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    reason: str
    id: int = 0
    last_at: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """An N-GET that was answered with a performed step, and so with its patient (MPPS Retrieve, PS3.4 F.8)."""

    at: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    sop_instance_uid: str
    id: int = 0
    last_at: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """That a caller asked `times` times from `at` to `last_at`, without what: enough to tell how often it does."""

    calling_ae_title: str
    address: str
    at: str
    last_at: str
    times: int


Record = Query | RefusedAssociation | Retrieval

Asker = tuple[type[Record], tuple[object, ...]]
_CALLER = ("calling_ae_title", "called_ae_title", "address")
_ASKED: dict[type[Record], Callable[[Record], tuple[object, ...]]] = {
    Query: attrgetter(*_CALLER, "keys", "identifier", "transfer_syntax", "key_id", "sealed"),
    RefusedAssociation: attrgetter(*_CALLER, "reason"),
    Retrieval: attrgetter(*_CALLER, "sop_instance_uid"),
}
_outcome = attrgetter("status", "error_comment", "answers", "accession_numbers")


def now() -> str:
    """This instant as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class QueryRecord:
    """Takes records from the associations' threads and writes them from its own.

    `kept_days` is how long a row is kept after the last time it stands for.
    """

    def __init__(self, gateway: Gateway, *, kept_days: int = 90) -> None:
        """Create the tables where they are missing. Raises `Contention`, `OutcomeUnknown`."""
        self._path = gateway.path
        self._kept_days = kept_days
        with gateway.datastore.writer.transaction() as cursor:
            for statement in _SCHEMA:
                cursor.execute(statement)
            _add_columns(cursor)
        self._sealing = gateway.sealing
        self._day_key = ("", "")
        self._waiting: deque[Record] = deque()
        self._weight = 0
        self._lock = threading.Lock()
        self._dropped = 0
        self._told_at = -_SILENCE
        self._clean_at = time.monotonic()
        self._runs: OrderedDict[Asker, tuple[int, Record]] = OrderedDict()
        """For each asker its latest row: its id, and the record it was last made of."""
        self._connection: sqlite3.Connection | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="query-record", daemon=True)

    def start(self) -> None:
        """Begin to write; what came before waits for it."""
        self._thread.start()

    # --- from any thread

    def add(self, record: Record) -> None:
        """Take a record, or drop it when too many wait; never waits for the database."""
        weight = _weight(record)
        with self._lock:
            if len(self._waiting) < MOST_WAITING and self._weight + weight <= MOST_WAITING_BYTES:
                self._waiting.append(record)
                self._weight += weight
            else:
                self._dropped += 1

    def close(self) -> None:
        """Write what waits, as far as the database lets us within a moment, and end. Only after `start`."""
        self._ending.set()
        self._thread.join()

    # --- on its own thread

    def _run(self) -> None:
        while not self._ending.wait(_INTERVAL):
            self._write_all()
            self._clean()
        self._write_all()
        with self._lock:
            self._dropped += len(self._waiting)
            self._waiting.clear()
        self._tell_dropped("the service stopped while the database was held", at_once=True)
        self._disconnect()

    def _write_all(self) -> None:
        """Everything that waits, portion by portion, until one can't be written."""
        while portion := self._next():
            try:
                with self._transaction() as cursor:
                    for record in portion:
                        self._put(cursor, record)
            except Exception as error:  # noqa: BLE001  whatever fails here, queries are answered and the next is tried
                self._runs.clear()
                if not _is_held(error):
                    self._lose(portion, _said(error))
                return  # while others hold the file, it waits: the queue's bound is what that can cost
            self._forget(portion)
        self._tell_dropped("too many waited to be recorded")

    def _lose(self, portion: Sequence[Record], reason: str) -> None:
        self._disconnect()
        self._forget(portion)
        with self._lock:
            self._dropped += len(portion)
        self._tell_dropped(reason)

    def _next(self) -> list[Record]:
        with self._lock:
            return list(islice(self._waiting, _PORTION))

    def _forget(self, portion: Sequence[Record]) -> None:
        with self._lock:
            for record in portion:
                self._waiting.popleft()
                self._weight -= _weight(record)

    def _put(self, cursor: sqlite3.Cursor, record: Record) -> None:
        asker = _asker(record)
        row_id, before = self._runs.pop(asker, (0, None))
        if before is not None and _continues(before, record):
            _lengthen(cursor, row_id, record)
        else:
            row_id = _insert(cursor, self._sealed(record))
        self._runs[asker] = row_id, record
        if len(self._runs) > _RUNS:
            self._runs.popitem(last=False)

    def _sealed(self, record: Record) -> Record:
        """The record with its identifier sealed, where that is switched on; without it when no key can be had."""
        if not isinstance(record, Query) or record.identifier is None or not self._sealing.switched_on:
            return record
        day = record.at[:10]
        try:
            if self._day_key[0] != day:
                self._day_key = (day, self._sealing.fresh())
            sealed = self._sealing.seal(self._day_key[1], record.identifier, _place(record))
        except GatewayError as error:
            _log.warning("query_without_identifier", code=error.code, reason=error.message, remedy=error.remedy)
            return replace(record, identifier=None)
        return replace(record, identifier=None, key_id=self._day_key[1], sealed=sealed)

    def _clean(self) -> None:
        """A portion of the rows that are too old or too many; the next second the next one."""
        if time.monotonic() < self._clean_at:
            return
        oldest = (datetime.now(UTC) - timedelta(days=self._kept_days)).isoformat(timespec="milliseconds")
        try:
            with self._transaction() as cursor:
                done = [_delete(cursor, table, oldest) for table in _TABLES]
        except Exception as error:  # noqa: BLE001  the record goes on with its old rows
            if not _is_held(error):
                self._disconnect()
                self._clean_at = time.monotonic() + _CLEANING
                _log.warning("old_queries_not_deleted", reason=_said(error))
            return
        early = sum(too_many for _, too_many in done)
        if early:
            _log.warning(
                "queries_deleted_early",
                rows=early,
                reason=f"more than {MOST_ROWS} are not kept, however young",
                remedy="gateway audit export more often keeps them elsewhere",
            )
        if max(map(max, done)) < _PORTION:
            self._clean_at = time.monotonic() + _CLEANING

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        if self._connection is None:
            self._connection = connect(self._path)
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(f"PRAGMA secure_delete={int(self._sealing.is_used)}")
            self._connection.execute(f"PRAGMA busy_timeout={_PATIENCE_MILLISECONDS}")
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            cursor.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _tell_dropped(self, reason: str, *, at_once: bool = False) -> None:
        if not self._dropped or (time.monotonic() < self._told_at + _SILENCE and not at_once):
            return
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        self._told_at = time.monotonic()
        _log.warning("queries_not_recorded", dropped=dropped, reason=reason, remedy="they were answered all the same")


def _add_columns(cursor: sqlite3.Cursor) -> None:
    """What a table of an earlier version lacks."""
    present = {row[1] for row in cursor.execute("PRAGMA table_info(queries)").fetchall()}
    for column in ("key_id", "sealed"):
        if column not in present:
            cursor.execute(f"ALTER TABLE queries ADD COLUMN {column} TEXT")


def _place(query: Query) -> str:
    return f"queries/{query.at}/{query.calling_ae_title}"


def _weight(record: Record) -> int:
    """About how many bytes it holds in memory."""
    if isinstance(record, Query):
        return 1000 + len(record.identifier or b"") + 70 * len(record.accession_numbers)
    return 1000


def _asker(record: Record) -> Asker:
    """What makes a run: the same caller and identifier, or the same refusal; when it was and what came of it left out.

    A row may only grow while it is the asker's latest, or its span would cover another answer.
    """
    kind = type(record)
    return kind, _ASKED[kind](record)


def _continues(before: Record, record: Record) -> bool:
    """Whether the record is what came before from its asker once more, soon enough."""
    pause = datetime.fromisoformat(record.at) - datetime.fromisoformat(before.at)
    if not timedelta(0) <= pause <= timedelta(seconds=RUN_SECONDS):
        return False
    return not isinstance(record, Query) or _outcome(before) == _outcome(record)


def _is_held(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _said(error: Exception) -> str:
    """Of the database's errors and ours it is known that they name nobody."""
    known = isinstance(error, sqlite3.Error | GatewayError)
    return f"{type(error).__name__}: {error}" if known else type(error).__name__


# --- the tables


def _insert(cursor: sqlite3.Cursor, record: Record) -> int:
    values: dict[str, object] = {
        "at": record.at,
        "last_at": record.at,
        "times": 1,
        "calling_ae_title": record.calling_ae_title,
        "called_ae_title": record.called_ae_title,
        "address": record.address,
    }
    if isinstance(record, Query):
        values |= {
            "keys": json.dumps(record.keys, separators=(",", ":")),
            "identifier": record.identifier,
            "transfer_syntax": record.transfer_syntax,
            "status": record.status,
            "error_comment": record.error_comment,
            "answers": record.answers,
            "accession_numbers": "\\".join(record.accession_numbers),
            "milliseconds": record.milliseconds,
            "key_id": record.key_id,
            "sealed": record.sealed,
        }
    elif isinstance(record, Retrieval):
        values["sop_instance_uid"] = record.sop_instance_uid
    else:
        values["reason"] = record.reason
    table = _table_of(record)
    columns, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
    cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608  our own words
    return cursor.lastrowid or 0


def _lengthen(cursor: sqlite3.Cursor, row_id: int, record: Record) -> None:
    if isinstance(record, Query):
        cursor.execute(
            "UPDATE queries SET last_at = ?, times = times + 1, milliseconds = MAX(milliseconds, ?) WHERE id = ?",
            (record.at, record.milliseconds, row_id),
        )
    else:
        table = _table_of(record)
        cursor.execute(f"UPDATE {table} SET last_at = ?, times = times + 1 WHERE id = ?", (record.at, row_id))  # noqa: S608  our own words


def _table_of(record: Record) -> str:
    return dict(zip((Query, RefusedAssociation, Retrieval), _TABLES, strict=True))[type(record)]


def _delete(cursor: sqlite3.Cursor, table: str, oldest: str) -> tuple[int, int]:
    """Delete at most a portion of the old and one of the too many; returns how many of each.

    Two statements: each finds its rows by an index, and the write lock is held no longer than that.
    """
    old = cursor.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE last_at < ? ORDER BY last_at LIMIT ?)",  # noqa: S608  our own words
        (oldest, _PORTION),
    ).rowcount
    too_many = cursor.execute(
        f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table}"  # noqa: S608  our own words
        f" WHERE id <= (SELECT MAX(id) FROM {table}) - ? ORDER BY id LIMIT ?)",
        (MOST_ROWS, _PORTION),
    ).rowcount
    return old, too_many


def require_record(connection: sqlite3.Connection) -> None:
    """Raise `NotFound` when this database has no record of queries: no service that keeps one ever ran on it."""
    if not has_record(connection):
        raise NotFound(
            "this database has no record of queries yet", remedy="gateway serve makes it at its start and keeps it"
        )


def latest_queries(
    connection: sqlite3.Connection, *, from_ae_title: str = "", until: str = "", limit: int = 1
) -> list[Query]:
    """The latest recorded queries, the newest first; of any AE title when none is named.

    With `until`: those at that instant or before. A row that goes on beyond it counts as one of then: of the queries
    that it stands for only the first and the last instant are kept, and none is long after the one before.
    """
    if until:
        return _latest_until(connection, from_ae_title, until, limit)
    rows = connection.execute(
        "SELECT * FROM queries WHERE calling_ae_title = ?1 ORDER BY last_at DESC, id DESC LIMIT ?2"
        if from_ae_title
        else "SELECT * FROM queries WHERE ?1 = '' ORDER BY last_at DESC, id DESC LIMIT ?2",
        (from_ae_title, limit),
    )
    return [_query(row) for row in rows]


def _latest_until(connection: sqlite3.Connection, from_ae_title: str, until: str, limit: int) -> list[Query]:
    rows = connection.execute(
        "SELECT * FROM queries WHERE (?1 = '' OR calling_ae_title = ?1) AND at <= ?2"
        " ORDER BY MIN(last_at, ?2) DESC, id DESC LIMIT ?3",
        (from_ae_title, until, limit),
    )
    return [_query(row) for row in rows]


def query_of(connection: sqlite3.Connection, query_id: int) -> Query | None:
    """The recorded query with this id."""
    row = connection.execute("SELECT * FROM queries WHERE id = ?", (query_id,)).fetchone()
    return _query(row) if row else None


def asked_since(connection: sqlite3.Connection, since: str) -> Iterator[Asked]:
    """Who asked how often after an instant in UTC, in the order of each caller's queries; no identifier is read."""
    if not has_record(connection):
        return iter(())
    rows = connection.execute(
        "SELECT calling_ae_title, address, at, last_at, times FROM queries WHERE last_at > ?"
        " ORDER BY calling_ae_title, at, id",
        (_as_kept(since),),
    )
    return (Asked(*row) for row in rows)


def refused_associations(
    connection: sqlite3.Connection, *, from_ae_title: str = "", since: str = "", until: str = "", limit: int = 100
) -> list[RefusedAssociation]:
    """The latest refused associations, the newest first; with `since` those after that instant, with `until` not later.

    A row that goes on beyond `until` is told as a whole.
    """
    rows = connection.execute(
        "SELECT * FROM refused_associations WHERE ?1 IN ('', calling_ae_title) AND last_at > ?2"
        " AND (?3 = '' OR at <= ?3) ORDER BY last_at DESC, id DESC LIMIT ?4",
        (from_ae_title, since, until, limit),
    )
    return [RefusedAssociation(**dict(row)) for row in rows]


def opened(query: Query, sealing: Sealing) -> Query:
    """The query with its identifier readable; one that was erased, or was too long, has none."""
    if query.key_id is None or query.sealed is None:
        return query
    return replace(query, identifier=sealing.unseal(query.key_id, query.sealed, _place(query)))


def after(connection: sqlite3.Connection, query_id: int, limit: int) -> list[Query]:
    """Recorded queries that hold an identifier, in the order of their ids, for whoever looks through all of them."""
    rows = connection.execute(
        "SELECT * FROM queries WHERE id > ? AND (identifier IS NOT NULL OR sealed IS NOT NULL) ORDER BY id LIMIT ?",
        (query_id, limit),
    )
    return [_query(row) for row in rows]


def erase_identifiers(cursor: sqlite3.Cursor, query_ids: Sequence[int]) -> None:
    """Forget what these queries asked for; who asked, when, and which accession numbers were answered stays."""
    cursor.executemany(
        "UPDATE queries SET identifier = NULL, sealed = NULL, key_id = NULL WHERE id = ?",
        [(query_id,) for query_id in query_ids],
    )


def queries_between(
    connection: sqlite3.Connection,
    *,
    accession_numbers: Sequence[str] | None = None,
    with_key: str = "",
    from_ae_title: str = "",
    since: str = "",
    until: str = "",
) -> Iterator[Query]:
    """The recorded queries from `since` on and before `until` (instants in UTC), in the order of the record.

    With accession numbers only those whose answer held one of them, or that had a value for the key `with_key` (a
    keyword). A row that stands for many counts while any of them falls between.
    """
    given = _between(from_ae_title, since, until)
    if accession_numbers is not None:
        # a whole number between separators, so that ACC1 is not found in ACC10
        answered = "EXISTS (SELECT 1 FROM json_each(?) WHERE instr('\\' || accession_numbers || '\\', value))"
        values = [json.dumps([f"\\{number}\\" for number in accession_numbers])]
        clause = f"({answered} OR instr(keys, ?))" if with_key else answered
        given.append((clause, [*values, json.dumps(with_key)] if with_key else values))
    return map(_query, _select(connection, "queries", given))


def refusals_between(
    connection: sqlite3.Connection, *, from_ae_title: str = "", since: str = "", until: str = ""
) -> Iterator[RefusedAssociation]:
    """The refused associations from `since` on and before `until`, in the order of the record."""
    rows = _select(connection, "refused_associations", _between(from_ae_title, since, until))
    return (RefusedAssociation(**dict(row)) for row in rows)


def retrievals_between(
    connection: sqlite3.Connection,
    *,
    sop_instance_uids: Sequence[str] | None = None,
    from_ae_title: str = "",
    since: str = "",
    until: str = "",
) -> Iterator[Retrieval]:
    """Who retrieved performed steps, these or any, from `since` on and before `until`, in the order of the record."""
    given = _between(from_ae_title, since, until)
    if sop_instance_uids is not None:
        clause = "sop_instance_uid IN (SELECT value FROM json_each(?))"
        given.append((clause, [json.dumps(list(sop_instance_uids))]))
    return (Retrieval(**dict(row)) for row in _select(connection, "retrievals", given))


def has_record(connection: sqlite3.Connection) -> bool:
    """Whether a service that keeps one ever ran on this database."""
    return _is_there(connection, "queries")


def _is_there(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None


def reaches_back_to(connection: sqlite3.Connection) -> str | None:
    """When the oldest query that is still kept was asked; None when there is none."""
    row = connection.execute("SELECT MIN(last_at) FROM queries").fetchone() if has_record(connection) else None
    return row[0] if row else None


def _between(from_ae_title: str, since: str, until: str) -> list[tuple[str, list[str]]]:
    clauses = (("calling_ae_title = ?", from_ae_title), ("last_at >= ?", _as_kept(since)), ("at < ?", _as_kept(until)))
    return [(clause, [value]) for clause, value in clauses if value]


def _as_kept(instant: str) -> str:
    """An instant as the record writes its own, so that the two compare as texts."""
    return datetime.fromisoformat(instant).astimezone(UTC).isoformat(timespec="milliseconds") if instant else ""


def _select(connection: sqlite3.Connection, table: str, given: list[tuple[str, list[str]]]) -> Iterator[sqlite3.Row]:
    if not _is_there(connection, table):
        return iter(())
    where = f" WHERE {' AND '.join(clause for clause, _ in given)}" if given else ""
    values = [value for _, some in given for value in some]
    # The ids by whichever index serves, then the rows in their order one by one: no sorting of whole rows.
    ids = f"SELECT id FROM {table}{where}"  # noqa: S608  our own words
    return connection.execute(f"SELECT * FROM {table} WHERE id IN ({ids}) ORDER BY id", values)  # noqa: S608


def callers(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """The AE titles that have asked, and those that were refused."""
    asked = connection.execute("SELECT DISTINCT calling_ae_title FROM queries ORDER BY 1")
    refused = connection.execute(
        "SELECT DISTINCT calling_ae_title FROM refused_associations WHERE calling_ae_title <> '' ORDER BY 1"
    )
    return [row[0] for row in asked], [row[0] for row in refused]


def _query(row: sqlite3.Row) -> Query:
    values = dict(row)
    numbers = values["accession_numbers"]
    values["accession_numbers"] = tuple(numbers.split("\\")) if numbers else ()
    values["keys"] = tuple(json.loads(values["keys"]))
    return Query(**values)
