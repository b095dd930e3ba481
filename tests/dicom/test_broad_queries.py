"""Queries over the real store: which index serves which, and what a query that none serves does to the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dicom_samples import AE_TITLE, from_bytes, query, to_bytes

from bench import worklist as bench_worklist
from bench.synthetic import participant, schedule
from gateway.application import Gateway, opened
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.responder import Responder
from gateway.eventstore.turns import Turns
from projections.worklist import WorklistFilter

CALLER = Caller("MAMMO1", AE_TITLE, "192.0.2.7", 50000)
UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}
MINUTE = 60.0
EVERYTHING = to_bytes(query({}, AccessionNumber="", PatientName=""))


# --- which index serves what


def query_plans(gateway: Gateway, identifier: bytes, **settings: Any) -> list[str]:
    """How SQLite goes about each statement that a query leads to."""
    asked: list[str] = []
    with gateway.reading() as connection:  # the only one, which the responder will use as well
        connection.set_trace_callback(asked.append)
    answers = list(Responder(gateway, **settings).find(CALLER, identifier, IMPLICIT, lambda: False))
    assert answers[-1].status == 0x0000
    with gateway.reading() as connection:
        connection.set_trace_callback(None)
        statements = [statement for statement in asked if statement.startswith("SELECT")]
        return ["; ".join(r["detail"] for r in connection.execute(f"EXPLAIN QUERY PLAN {s}")) for s in statements]


DAY = "ScheduledProcedureStepStartDate"
BY_DATE_AND_MODALITY = "SEARCH worklist_items USING INDEX idx_worklist_date_modality (scheduled_date=? AND modality=?)"
BY_DATES = "SEARCH worklist_items USING INDEX idx_worklist_date_modality (scheduled_date>? AND scheduled_date<?)"
BY_PATIENT = "SEARCH worklist_items USING INDEX idx_worklist_patient_id (patient_id=?)"
BY_NUMBER = "SEARCH worklist_items USING INDEX sqlite_autoindex_worklist_items_1 (accession_number=?)"
BY_NAME = "SEARCH worklist_items USING INDEX idx_worklist_alphabetic (folded_alphabetic>? AND folded_alphabetic<?)"


ASKED: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    ({DAY: "20361124", "Modality": "MG"}, {}, BY_DATE_AND_MODALITY),
    ({DAY: "20361124-20361124", "Modality": "MG"}, {}, BY_DATE_AND_MODALITY),
    ({DAY: "20361124", "Modality": "MG", "ScheduledStationAETitle": "MAMMO1"}, {}, BY_DATE_AND_MODALITY),
    ({DAY: "20361124"}, {}, "USING INDEX idx_worklist_date_modality (scheduled_date=?)"),
    ({DAY: "20361123-20361125", "Modality": "MG"}, {}, BY_DATES),
    ({DAY: "20400101-"}, {}, "USING INDEX idx_worklist_date_modality (scheduled_date>?)"),
    ({DAY: "20361123-20361125"}, {"PatientName": "SMYTHE*"}, BY_DATES),
    ({DAY: "20361124-"}, {"PatientName": "SMYTHE*"}, BY_NAME),
    ({}, {"AccessionNumber": "TARGET3"}, BY_NUMBER),
    ({"ScheduledProcedureStepID": "TARGET3"}, {}, BY_NUMBER),
    ({}, {"AccessionNumber": "TARG*"}, "(accession_number>? AND accession_number<?)"),
    ({}, {"PatientID": "9998000018"}, BY_PATIENT),
    ({}, {"PatientID": "9998000018", "PatientName": "SMYTHE*"}, BY_PATIENT),
    ({}, {"PatientID": "99980*"}, "USING INDEX idx_worklist_patient_id (patient_id>? AND patient_id<?)"),
    ({}, {"PatientName": "smythe*"}, BY_NAME),
    ({}, {"PatientName": "Smythe^Zoë"}, BY_NAME),
    ({}, {"PatientName": "SM?THE*"}, BY_NAME),
    ({}, {"PatientName": "Smythe*=山田*"}, "USING INDEX idx_worklist_ideographic (folded_ideographic>?"),
    ({}, {"StudyInstanceUID": ["1.2.3", "1.2.4"]}, "USING INDEX idx_worklist_study_uid (study_instance_uid=?)"),
)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = tmp_path_factory.mktemp("seeded") / "gateway.db"
    bench_worklist.seed(path, 10, 0)
    with opened(path) as gateway:
        yield gateway


@pytest.mark.parametrize(("step", "root", "plan"), ASKED)
@pytest.mark.parametrize("statuses", [("SCHEDULED",), ("SCHEDULED", "IN PROGRESS", "COMPLETED")])
def test_an_index_serves_what_units_ask(
    seeded: Gateway, step: dict[str, Any], root: dict[str, Any], plan: str, statuses: tuple[str, ...]
) -> None:
    first, *_ = query_plans(seeded, to_bytes(query(step, **UTF8, **root)), listed_statuses=statuses)
    assert plan in first
    assert "SCAN" not in first
    assert "idx_worklist_status" not in first


@pytest.mark.slow
def test_the_same_indexes_serve_a_hundred_thousand_items(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    bench_worklist.seed(path, 100_000, 0)
    with opened(path) as gateway:
        for step, root, plan in ASKED:
            first, *_ = query_plans(gateway, to_bytes(query(step, **UTF8, **root)))
            assert plan in first
            assert "SCAN" not in first


def test_a_name_is_looked_for_in_each_of_its_groups_by_its_index(seeded: Gateway) -> None:
    [plan] = query_plans(seeded, to_bytes(query({}, **UTF8, PatientName="山田*")))
    for group in ("alphabetic", "ideographic", "phonetic"):
        assert f"USING INDEX idx_worklist_{group} (folded_{group}>? AND folded_{group}<?)" in plan


def test_what_no_index_serves_leaves_out_by_status_what_is_long_over(seeded: Gateway) -> None:
    plans = query_plans(seeded, to_bytes(query({}, PatientName="*SMYTHE*")))
    assert "USING INDEX idx_worklist_status (status=?)" in plans[0]


# --- long answers


@pytest.fixture
def many(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """Ten items in portions of three."""
    monkeypatch.setattr("gateway.application.worklist._PORTION", 3)
    for number in range(10):
        schedule(gateway, f"ACC{number}", **participant(number), scheduled_time=f"{19 - number}0000")
    return gateway


IN_ORDER = [f"ACC{number}" for number in range(9, -1, -1)]


def test_a_long_answer_is_the_whole_list_in_the_order_of_the_day(many: Gateway) -> None:
    assert [row.accession_number for row in many.worklist(WorklistFilter())] == IN_ORDER
    assert [row.accession_number for row in many.worklist(WorklistFilter(limit=None, statuses=("COMPLETED",)))] == []


@pytest.mark.parametrize("taken", [1, 3, 4, 7])
def test_no_transaction_stays_open_while_a_peer_reads_slowly(many: Gateway, taken: int) -> None:
    """A reader that lasts keeps the write-ahead log from being emptied; this one lasts as long as a peer likes."""
    rows = many.worklist(WorklistFilter())
    for _ in range(taken):
        next(rows)
    schedule(many, "LATER")
    with many.datastore.writer.transaction() as cursor:
        connection = cursor.connection
    blocked, _, left = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (blocked, left) == (0, 0)


def test_what_changes_during_a_long_answer_comes_changed_and_is_matched_again(many: Gateway) -> None:
    responses = Responder(many).find(CALLER, EVERYTHING, IMPLICIT, lambda: False)
    first = [from_bytes(next(responses).identifier or b"").AccessionNumber for _ in range(3)]
    many.cancel("ACC2")
    many.amend("ACC1", lambda _: {"patient_name": "AKERMAN^EVA"})
    rest = [from_bytes(r.identifier) for r in responses if r.identifier is not None]
    assert first + [answer.AccessionNumber for answer in rest] == [n for n in IN_ORDER if n != "ACC2"]
    assert [answer.PatientName for answer in rest if answer.AccessionNumber == "ACC1"] == ["AKERMAN^EVA"]


def test_an_item_that_moves_to_the_front_during_a_long_answer_comes_once(many: Gateway) -> None:
    rows = many.worklist(WorklistFilter())
    first = [next(rows).accession_number for _ in range(3)]
    many.amend("ACC0", lambda _: {"scheduled_time": "070000"})
    assert sorted(first + [row.accession_number for row in rows]) == sorted(IN_ORDER)


# --- taking turns


def test_a_scan_waits_for_the_one_before_it_and_is_refused_a700_when_that_takes_too_long(many: Gateway) -> None:
    many._turns = Turns(patience=0.01)
    with many._turns.scan():
        (response,) = Responder(many).find(CALLER, to_bytes(query({}, PatientName="*SMITH*")), IMPLICIT, lambda: False)
        assert response.status == 0xA700
        assert "no index" in response.error_comment
        by_key = to_bytes(query({}, PatientID=participant(1)["patient_id"]))
        assert len(list(Responder(many).find(CALLER, by_key, IMPLICIT, lambda: False))) == 2
    assert len(list(Responder(many).find(CALLER, EVERYTHING, IMPLICIT, lambda: False))) == 11


def test_a_query_that_was_left_gives_its_turn_back(many: Gateway) -> None:
    many._turns = Turns(patience=0.01)
    left = many.worklist(WorklistFilter())
    for _ in range(4):
        next(left)
    assert len(list(many.worklist(WorklistFilter()))) == 10
