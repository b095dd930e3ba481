"""The record of queries: each is kept after it was answered, none waits for it, and nothing of it grows without end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from dicom_samples import InMemory, captured_logs, query, row, samples, to_bytes
from structlog.testing import LogCapture

from bench.synthetic import naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.dicom import record
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.mpps import RETRIEVE_SOP_CLASS
from gateway.dicom.record import Query, QueryRecord, RefusedAssociation
from gateway.dicom.responder import Responder
from gateway.errors import NotFound

CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def a_query(seconds: float = 0, **values: Any) -> Query:
    defaults: dict[str, Any] = {
        "at": at(seconds),
        "calling_ae_title": "MAMMO1",
        "called_ae_title": "ORTHANC_MWL",
        "address": "192.0.2.7",
        "keys": ("Modality",),
        "identifier": b"an identifier",
        "transfer_syntax": IMPLICIT,
        "status": 0,
        "error_comment": "",
        "answers": 1,
        "accession_numbers": ("ACC001",),
        "milliseconds": 1.5,
    }
    return Query(**{**defaults, **values})


def a_refusal(seconds: float = 0, **values: str) -> RefusedAssociation:
    defaults = {
        "at": at(seconds),
        "calling_ae_title": "MAMMO1",
        "called_ae_title": "GATEWAY",
        "address": "192.0.2.7",
        "reason": "Called AE title not recognised",
    }
    return RefusedAssociation(**{**defaults, **values})


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "gateway.db") as gateway:
        yield gateway


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the record says in the log."""
    capture = LogCapture()
    logger = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr(record, "_log", logger)
    return capture.entries


def kept(gateway: Gateway, limit: int = 100) -> list[Query]:
    with gateway.reading() as connection:
        return record.latest_queries(connection, limit=limit)


def kept_refusals(gateway: Gateway) -> list[RefusedAssociation]:
    with gateway.reading() as connection:
        return record.refused_associations(connection)


def written(gateway: Gateway, *records: record.Record, kept_days: int = 36500) -> QueryRecord:
    """A record that took these and was closed."""
    book = QueryRecord(gateway, kept_days=kept_days)
    for one in records:
        book.add(one)
    book.start()
    book.close()
    return book


# --- what is kept


def test_all_of_a_query_is_kept_and_read_back(gateway: Gateway) -> None:
    asked = a_query(accession_numbers=("ACC001", "ACC002"), answers=2, status=0xA700, error_comment="cut")
    written(gateway, asked)
    assert kept(gateway) == [replace(asked, id=1, last_at=asked.at)]


def test_a_refused_association_is_kept_and_read_back(gateway: Gateway) -> None:
    written(gateway, a_refusal())
    assert kept_refusals(gateway) == [replace(a_refusal(), id=1, last_at=at(0))]


def test_the_responder_records_each_query_with_its_bytes_its_outcome_and_what_it_was_answered(
    gateway: Gateway,
) -> None:
    book = QueryRecord(gateway)
    responder = Responder(InMemory(samples()), record=book)
    data = to_bytes(query({"Modality": "MG"}, PatientName="SMITH*"))
    list(responder.find(CALLER, data, IMPLICIT, lambda: False))
    list(responder.find(CALLER, None, IMPLICIT, lambda: False))
    book.start()
    book.close()
    refused, answered = kept(gateway)
    assert (answered.calling_ae_title, answered.address, answered.keys) == (
        "MAMMO1",
        "192.0.2.7",
        ("PatientName", "Modality"),
    )
    assert (answered.identifier, answered.transfer_syntax) == (data, IMPLICIT)
    assert (answered.status, answered.answers, answered.accession_numbers) == (0, 2, ("ACC000", "ACC001"))
    assert (refused.identifier, refused.status, refused.error_comment) == (b"", 0xA900, "the identifier is absent")


def test_the_responder_records_who_retrieved_which_performed_step_and_no_failure(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming(), attribute_list=b"")
    book = QueryRecord(gateway)
    responder = Responder(gateway, record=book)
    for uid in (step_uid(1), step_uid(1), step_uid(2)):
        responder.n_get(CALLER, RETRIEVE_SOP_CLASS, uid, (), IMPLICIT)
    book.start()
    book.close()
    with gateway.reading() as connection:
        [one] = record.retrievals_between(connection)
    assert (one.calling_ae_title, one.address, one.sop_instance_uid) == ("MAMMO1", "192.0.2.7", step_uid(1))
    assert one.times == 2


def test_a_query_whose_association_ended_in_the_middle_is_recorded_as_far_as_it_came(gateway: Gateway) -> None:
    book = QueryRecord(gateway)
    responses = Responder(InMemory(samples()), record=book).find(
        CALLER, to_bytes(query({}, AccessionNumber="")), IMPLICIT, lambda: False
    )
    next(responses)
    responses.close()  # type: ignore[attr-defined]
    book.start()
    book.close()
    (cut,) = kept(gateway)
    assert (cut.status, cut.accession_numbers) == (0xFF00, ("ACC000",))


def test_refusals_are_recorded_also_where_only_the_worklist_was_not_what_was_proposed(gateway: Gateway) -> None:
    book = QueryRecord(gateway)
    responder = Responder(InMemory(), record=book)
    responder.association_refused(CALLER, reason="Called AE title not recognised")
    responder.association_accepted(CALLER, refused_contexts=["Study Root Query/Retrieve - FIND", "CT Image Storage"])
    responder.association_accepted(CALLER, refused_contexts=["CT Image Storage"])
    responder.connection_broken("192.0.2.9", reason="sent what is no DICOM PDU")
    book.start()
    book.close()
    assert sorted((one.calling_ae_title, one.address, one.reason.split(":")[0]) for one in kept_refusals(gateway)) == [
        ("", "192.0.2.9", "sent what is no DICOM PDU"),
        ("MAMMO1", "192.0.2.7", "Called AE title not recognised"),
        ("MAMMO1", "192.0.2.7", "Study Root Query/Retrieve - FIND is not supported"),
    ]


def test_no_log_line_holds_what_the_identifier_holds(gateway: Gateway, logs: list[Any]) -> None:
    book = QueryRecord(gateway)
    with captured_logs() as said:
        data = to_bytes(query({}, PatientName="SMITH^JANE", PatientID="9990000034"))
        list(Responder(InMemory(samples()), record=book).find(CALLER, data, IMPLICIT, lambda: False))
    book._path = Path("/nowhere/at/all")
    book.start()
    book.close()
    told = str([*said, *logs])
    assert "queries_not_recorded" in told
    assert "SMITH" not in told
    assert "9990000034" not in told


def test_the_tables_are_no_projections_and_verify_leaves_them_alone(gateway: Gateway) -> None:
    written(gateway, a_query(), a_refusal())
    assert gateway.verify_chain().intact
    assert gateway.verify_projections() == []
    gateway.rebuild_projections()
    assert len(kept(gateway)) == 1


def test_a_database_that_no_service_ever_recorded_in_says_so(gateway: Gateway) -> None:
    with gateway.reading() as connection, pytest.raises(NotFound, match="no record of queries"):
        record.require_record(connection)


# --- consoles poll


def test_equal_queries_soon_after_one_another_share_a_row(gateway: Gateway) -> None:
    polls = [a_query(30 * number, milliseconds=float(number % 3)) for number in range(120)]
    written(gateway, *polls)
    (row,) = kept(gateway)
    assert (row.at, row.last_at, row.times, row.milliseconds) == (at(0), at(30 * 119), 120, 2.0)


@pytest.mark.parametrize(
    "other",
    [
        {"accession_numbers": ("ACC002",)},
        {"status": 0xC000},
        {"identifier": b"another identifier"},
        {"calling_ae_title": "MAMMO2"},
        {"address": "192.0.2.8"},
    ],
    ids=str,
)
def test_another_caller_question_or_answer_has_a_row_of_its_own(gateway: Gateway, other: dict[str, Any]) -> None:
    written(gateway, a_query(0), a_query(1, **other))
    assert [row.times for row in kept(gateway)] == [1, 1]


def test_a_row_spans_neither_another_answer_nor_a_long_pause_nor_a_clock_set_back(gateway: Gateway) -> None:
    other = a_query(30, accession_numbers=())
    written(gateway, a_query(0), other, a_query(60), a_query(60 + record.RUN_SECONDS + 1), a_query(10))
    assert [row.times for row in kept(gateway)] == [1] * 5


def test_refusals_that_repeat_share_a_row_too(gateway: Gateway) -> None:
    written(gateway, *(a_refusal(number) for number in range(50)), a_refusal(51, reason="another"))
    assert [(one.reason, one.times) for one in kept_refusals(gateway)] == [
        ("another", 1),
        ("Called AE title not recognised", 50),
    ]


# --- bounds


def test_so_many_wait_and_what_does_not_fit_is_counted_and_told(gateway: Gateway, logs: list[Any]) -> None:
    asked = [a_query(number, identifier=str(number).encode()) for number in range(record.MOST_WAITING + 7)]
    written(gateway, *asked)
    assert len(kept(gateway, limit=20_000)) == record.MOST_WAITING
    assert [line["dropped"] for line in logs if line["event"] == "queries_not_recorded"] == [7]


def test_long_identifiers_and_answers_are_bounded(gateway: Gateway) -> None:
    items = [row(f"A{number:05}", study_instance_uid=f"1.2.{number}") for number in range(record.MOST_NUMBERS + 5)]
    book = QueryRecord(gateway)
    data = to_bytes(query({}, AccessionNumber="", RequestedProcedureDescription="x" * record.LONGEST_IDENTIFIER))
    list(Responder(InMemory(items), record=book).find(CALLER, data, IMPLICIT, lambda: False))
    list(
        Responder(InMemory(items), record=book).find(
            CALLER, to_bytes(query({}, AccessionNumber="")), IMPLICIT, lambda: False
        )
    )
    book.start()
    book.close()
    many, long = kept(gateway)
    assert long.identifier is None
    assert (many.answers, len(many.accession_numbers)) == (record.MOST_NUMBERS + 5, record.MOST_NUMBERS)


def test_waiting_records_are_bounded_by_bytes_too(gateway: Gateway, logs: list[Any]) -> None:
    large = bytes(record.LONGEST_IDENTIFIER)
    book = QueryRecord(gateway)
    for number in range(4000):
        book.add(a_query(number, identifier=large))
    assert book._weight <= record.MOST_WAITING_BYTES
    assert len(book._waiting) < 4000


def test_what_was_written_makes_room_for_more(gateway: Gateway, logs: list[Any]) -> None:
    book = QueryRecord(gateway)
    for number in range(3):
        book.add(a_query(number, identifier=bytes(record.LONGEST_IDENTIFIER)))
    assert book._weight > 0
    book._write_all()
    book._disconnect()
    assert (book._weight, logs) == (0, [])


@pytest.mark.parametrize(("more", "is_kept"), [(0, True), (1, False)])
def test_an_identifier_is_kept_up_to_its_bound(gateway: Gateway, more: int, is_kept: bool) -> None:
    book = Recorded()
    sent = bytes(record.LONGEST_IDENTIFIER + more)
    list(Responder(InMemory(), record=book).find(CALLER, sent, IMPLICIT, lambda: False))  # type: ignore[arg-type]
    (kept_query,) = book.records
    assert kept_query.identifier == (sent if is_kept else None)


class Recorded:
    """A record in memory."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def add(self, record: Any) -> None:
        self.records.append(record)


def test_rows_older_than_the_setting_go_and_younger_ones_stay(gateway: Gateway) -> None:
    young = (datetime.now(UTC) - timedelta(days=89)).isoformat(timespec="milliseconds")
    old = (datetime.now(UTC) - timedelta(days=91)).isoformat(timespec="milliseconds")
    written(gateway, a_query(at=old), a_query(at=young), a_refusal(at=old), a_refusal(at=young))
    book = QueryRecord(gateway, kept_days=90)
    book._clean()
    book._disconnect()
    assert [row.at for row in kept(gateway)] == [young]
    assert [one.at for one in kept_refusals(gateway)] == [young]


def test_old_rows_go_in_portions(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    written(gateway, *(a_query(number, identifier=str(number).encode()) for number in range(25)))
    monkeypatch.setattr(record, "_PORTION", 10)
    book = QueryRecord(gateway, kept_days=1)
    left = []
    for _ in range(4):
        book._clean()
        left.append(len(kept(gateway)))
    book._disconnect()
    assert left == [15, 5, 0, 0]


def test_more_rows_than_the_bound_go_whatever_their_age_and_the_log_says_so(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    monkeypatch.setattr(record, "MOST_ROWS", 5)
    written(gateway, *(a_query(number, identifier=str(number).encode()) for number in range(8)))
    book = QueryRecord(gateway, kept_days=36500)
    book._clean()
    book._disconnect()
    assert [row.id for row in kept(gateway)] == [8, 7, 6, 5, 4]
    assert [(line["event"], line["rows"]) for line in logs] == [("queries_deleted_early", 3)]


@pytest.mark.parametrize("table", record._TABLES)
def test_looking_for_old_rows_reads_no_others(gateway: Gateway, table: str) -> None:
    """It is done under the write lock, so it must not take longer the more there is."""
    QueryRecord(gateway)
    statements: list[str] = []
    with gateway.datastore.writer.transaction() as cursor:
        cursor.connection.set_trace_callback(statements.append)
        record._delete(cursor, table, at(0))
        cursor.connection.set_trace_callback(None)
        plans = [row[3] for one in statements for row in cursor.execute(f"EXPLAIN QUERY PLAN {one}")]
    assert len(statements) == 2
    assert [step for step in plans if step.startswith("SCAN")] == []


# --- troubles


def test_while_another_process_holds_the_file_no_query_waits_and_nothing_is_lost_afterwards(
    gateway: Gateway, tmp_path: Path
) -> None:
    book = QueryRecord(gateway)
    book.start()
    responder = Responder(InMemory(samples()), record=book)
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.perf_counter()
        for number in range(50):
            data = to_bytes(query({}, AccessionNumber=f"ACC{number:03}"))
            list(responder.find(CALLER, data, IMPLICIT, lambda: False))
        took = time.perf_counter() - began
        book._write_all()
        assert kept(gateway) == []
        other.execute("ROLLBACK")
    book.close()
    assert took < 5, "one that waited for the database each time would take 25 s"
    assert len(kept(gateway)) == 50


def test_a_stop_does_not_wait_for_whoever_holds_the_file_and_says_what_was_lost(
    gateway: Gateway, tmp_path: Path, logs: list[Any]
) -> None:
    book = QueryRecord(gateway)
    book.start()
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        book.add(a_query())
        began = time.monotonic()
        book.close()
        assert time.monotonic() - began < 5
        other.execute("ROLLBACK")
    assert [line["dropped"] for line in logs] == [1]


def test_a_write_that_fails_is_told_and_the_next_one_is_tried(gateway: Gateway, logs: list[Any]) -> None:
    book = QueryRecord(gateway)
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("ALTER TABLE queries RENAME TO hidden")
    book.add(a_query(0))
    book._write_all()
    assert [(line["event"], line["dropped"]) for line in logs] == [("queries_not_recorded", 1)]
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("ALTER TABLE hidden RENAME TO queries")
    book.add(a_query(1))
    book._write_all()
    book._disconnect()
    assert [(row.at, row.times) for row in kept(gateway)] == [(at(1), 1)]
    gateway.check_store()


def test_after_a_failed_write_an_equal_query_gets_its_row(gateway: Gateway, logs: list[Any]) -> None:
    book = QueryRecord(gateway)
    book.add(a_query(0))
    book._write_all()
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("ALTER TABLE queries RENAME TO hidden")
    book.add(a_query(1))
    book._write_all()
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("DELETE FROM hidden")
        cursor.execute("ALTER TABLE hidden RENAME TO queries")
    book.add(a_query(2))
    book._write_all()
    book._disconnect()
    assert [row.at for row in kept(gateway)] == [at(2)]


def test_a_full_disk_costs_the_record_and_no_query(gateway: Gateway, logs: list[Any]) -> None:
    book = QueryRecord(gateway)
    book.add(a_query(0))
    book._write_all()
    assert book._connection is not None
    pages = book._connection.execute("PRAGMA page_count").fetchone()[0]
    book._connection.execute(f"PRAGMA max_page_count={pages}")
    for number in range(200):
        book.add(a_query(number, identifier=bytes(1000) + str(number).encode()))
    book._write_all()
    (line,) = logs
    assert (line["event"], line["dropped"]) == ("queries_not_recorded", 200)
    assert "full" in line["reason"]
    book._disconnect()


def test_its_commits_do_not_sync_and_those_of_events_still_do(gateway: Gateway) -> None:
    book = QueryRecord(gateway)
    book.add(a_query())
    book._write_all()
    assert book._connection is not None
    assert book._connection.execute("PRAGMA synchronous").fetchone()[0] == 1
    with gateway.datastore.writer.transaction() as cursor:
        assert cursor.execute("PRAGMA synchronous").fetchone()[0] == 2
    book._disconnect()


def test_queries_of_any_number_of_items_can_be_asked_for(gateway: Gateway) -> None:
    numbers = [f"ACC{number}" for number in range(40_000)]
    book = QueryRecord(gateway)
    book.add(a_query(0, accession_numbers=("ACC1", "ACC39999")))
    book.add(a_query(1, accession_numbers=("ACC40000",)))
    book._write_all()
    book._disconnect()
    with gateway.reading() as connection:
        found = list(record.queries_between(connection, accession_numbers=numbers))
        assert list(record.retrievals_between(connection, sop_instance_uids=numbers)) == []
    assert [query.at for query in found] == [at(0)]
