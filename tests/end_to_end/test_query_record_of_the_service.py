"""The running service keeps the record of queries: beside the answers, never in their way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.end_to_end.harness import GatewayProcess, today, until
from tests.end_to_end.unit import NoAssociation, Unit
from tests.patient_loop import PatientClock

pytestmark = pytest.mark.slow


def add(gateway: GatewayProcess, accession_number: str, *more: str) -> None:
    person = ("--patient-id", "9990000018", "--patient-name", "SMITH^JANE", "--patient-birth-date", "19650315")
    gateway.command("worklist", "add", accession_number, *person, "--scheduled-time", "100000", *more)


def recorded(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """The recorded queries, the oldest first."""
    found: list[dict[str, Any]] = gateway.look("worklist", "queries", "--limit", "1000")["queries"]
    return found[::-1]


def test_a_query_is_on_record_soon_after_its_answer_and_explained(lonely: GatewayProcess) -> None:
    gateway = lonely.start()
    add(gateway, "ACC001")
    add(gateway, "ACC002", "--station-ae-title", "MAMMO2")
    unit = Unit(gateway.dicom_port)
    assert unit.numbers(date=today(), modality="MG") == ["ACC001", "ACC002"]
    with pytest.raises(NoAssociation):
        Unit(gateway.dicom_port, called="GATEWAY").echo()
    (query,) = until(lambda: recorded(gateway), "the query is on record")
    assert (query["calling_ae_title"], query["answers"]) == ("MAMMO1", 2)
    found = gateway.look("worklist", "explain", "--from", "MAMMO1")
    assert [(item["accession_number"], item["listed"]) for item in found["items"]] == [
        ("ACC001", True),
        ("ACC002", True),
    ]
    gateway.command("worklist", "set-status", "ACC001", "COMPLETED", "--reason", "no MPPS")
    (first, _) = gateway.look("worklist", "explain", "--from", "MAMMO1")["items"]
    assert (first["answered"], first["listed"]) == (True, False)
    assert first["since_then"].startswith("it was changed after that query, at ")
    told = until(lambda: gateway.look("worklist", "explain", "--from", "MAMMO1")["refused_since"], "it is told")
    assert [one["called_ae_title"] for one in told] == ["GATEWAY"]


def test_a_clean_stop_keeps_all_of_it_and_no_log_line_names_who_was_asked_for(lonely: GatewayProcess) -> None:
    gateway = lonely.start()
    unit = Unit(gateway.dicom_port)
    for number in range(10):
        unit.find(PatientName=f"SMITH^JANE^{number}", PatientID="9990000018")
    assert gateway.stop() == 0
    assert len(recorded(gateway)) == 10
    gateway.assert_sound()
    assert "SMITH" not in gateway.output()
    assert "9990000018" not in gateway.output()


def test_a_kill_loses_at_most_the_last_moment_and_the_record_goes_on(lonely: GatewayProcess) -> None:
    gateway = lonely.start()
    unit = Unit(gateway.dicom_port)
    unit.find(AccessionNumber="EARLY")
    until(lambda: len(recorded(gateway)) == 1, "the first is on record")
    number = 0
    with PatientClock() as clock:
        began = clock.time()
        while clock.time() < began + 3:
            number += 1
            unit.find(AccessionNumber=f"ACC{number}")
    gateway.kill()
    kept = recorded(gateway)
    assert 1 < len(kept) <= number + 1
    first_third = [query for query in kept if query["answers"] == 0][: number // 3]
    assert len(first_third) == number // 3
    gateway.start()
    gateway.assert_sound()
    unit.find(AccessionNumber="LATE")
    until(lambda: len(recorded(gateway)) == len(kept) + 1, "the record goes on")


def test_while_another_process_holds_the_database_queries_are_answered_at_once_and_recorded_later(
    lonely: GatewayProcess,
) -> None:
    gateway = lonely.start()
    unit = Unit(gateway.dicom_port)
    unit.find(AccessionNumber="EARLY")
    until(lambda: len(recorded(gateway)) == 1, "the first is on record")
    with closing(sqlite3.connect(gateway.database, isolation_level=None)) as other, PatientClock() as clock:
        other.execute("BEGIN IMMEDIATE")
        began = clock.time()
        for number in range(20):
            unit.find(AccessionNumber=f"ACC{number}")
        took = clock.time() - began
        other.execute("ROLLBACK")
    assert took < 5
    until(lambda: len(recorded(gateway)) == 21, "all are on record")
    took_each = sorted(query["milliseconds"] for query in recorded(gateway))
    assert took_each[-3] < 500, "all but two: the machine may stall within one of them"
