"""`gateway worklist explain` and `queries`: the calls that support gets, by the record of a real unit's queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_support import Command
from test_cli_json import is_documented

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Responder
from gateway.domain.lifecycle import Status
from gateway.rehearsal.modality import AssociationRejected, Modality, RequestFailed
from tests.serving import serving

DAY = "20261123"
Recorded = Callable[[], None]
Provider = tuple[AssociationServer, Recorded]


@pytest.fixture
def clinic(gateway: Gateway) -> Gateway:
    """A morning: one for any station, one for another station, one withdrawn, one the day before."""
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002", scheduled_time="101500", station_ae_titles=("MAMMO2",), patient_name="JONES^MARY")
    schedule(gateway, "ACC003", scheduled_time="103000", patient_name="O'BRIEN^SIÂN")
    schedule(gateway, "ACC004", scheduled_date="20261122")
    gateway.correct_status("ACC003", Status.CANCELLED, reason="withdrawn", operator="tester")
    return gateway


@pytest.fixture
def provider(clinic: Gateway) -> Iterator[Provider]:
    """A provider that records, and how to have all of it written."""
    record = QueryRecord(clinic)
    with serving(Responder(clinic, record=record)) as server:
        record.start()
        yield server, record.close
    record.close()


def ask(port: int, title: str = "MAMMO1", called: str = "ORTHANC_MWL", **keys: str) -> None:
    Modality("127.0.0.1", port, called, title).find(**{"modality": "MG", **keys})


def test_the_calls_that_support_gets(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY)
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY)
    assert outcome.code == 0
    assert outcome.out.startswith("MAMMO1 asked ORTHANC_MWL from 127.0.0.1 at ")
    assert f"ScheduledProcedureStepStartDate (0040,0002) = {DAY}" in outcome.out
    assert "answer    2 items, 0x0000 success" in outcome.out
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("ACC0")] == ["ACC001", "ACC002", "ACC003"]
    assert "every key matches" in next(line for line in lines if line.startswith("ACC001"))
    assert "(GATEWAY_LISTED_STATUSES)" in next(line for line in lines if line.startswith("ACC003"))


def test_a_patient_of_another_day(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY)
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--accession", "ACC004")
    assert (
        "ScheduledProcedureStepStartDate (0040,0002): asked 20261123, the item has 20261122 (PS3.4 C.2.2.2.5, dates)"
        in outcome.out
    )


def test_a_name_with_another_spelling_is_masked_unless_revealed(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY, patient_name="SMYTH^JANE", patient_id="9990000034")
    recorded()
    masked = run("worklist", "explain", "--from", "MAMMO1", "--accession", "ACC001")
    assert "PatientName (0010,0010): asked S••••^J•••, the item has S••••^J•••" in masked.out
    assert "PatientID (0010,0020): asked •••••••034, the item has •••••••018" in masked.out
    assert "--reveal" in masked.err
    as_json = run("worklist", "explain", "--from", "MAMMO1", "--accession", "ACC001", "--json")
    for text in (masked.out, masked.err, as_json.out):
        assert not any(word in text for word in ("SMYTH", "SMITH", "99900000"))
    revealed = run("worklist", "explain", "--from", "MAMMO1", "--accession", "ACC001", "--reveal")
    assert "asked SMYTH^JANE, the item has SMITH^JANE" in revealed.out


def test_a_title_that_is_refused_and_one_that_never_asked(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY)
    for _ in range(3):
        with pytest.raises(AssociationRejected):
            ask(server.port, called="GATEWAY")
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY)
    assert "since     refused 3 times, last at " in outcome.out
    assert "calling GATEWAY: Called AE title not recogni" in outcome.out
    unknown = run("worklist", "explain", "--from", "MAMO1")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith("gateway: not_found: nobody has asked as MAMO1; these have: MAMMO1")


def test_a_query_that_was_refused_tells_its_reason(provider: Provider, run: Command) -> None:
    server, recorded = provider
    with pytest.raises(RequestFailed):
        ask(server.port, date="20260230")
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1")
    assert outcome.code == 0
    assert "refused   (0040,0002) is no date and no range of them: such a query lists nothing" in outcome.out
    assert "ScheduledProcedureStepStartDate (0040,0002) = 20260230" in outcome.out
    assert "answer    0 items, 0xA900 refused" in outcome.out


def test_both_print_json_as_documented(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY)
    with pytest.raises(AssociationRejected):
        ask(server.port, called="GATEWAY")
    recorded()
    explained = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY, "--json")
    assert [item["listed"] for item in explained.json["items"]] == [True, True, False]
    is_documented(explained.json, "worklist explain")
    listed = run("worklist", "queries", "--json")
    assert [query["accession_numbers"] for query in listed.json["queries"]] == [["ACC001", "ACC002"]]
    is_documented(listed.json, "worklist queries")


def test_queries_are_listed_with_the_refused_associations(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY, patient_name="SMITH*")
    ask(server.port, title="MAMMO2", date=DAY)
    with pytest.raises(AssociationRejected):
        ask(server.port, called="GATEWAY")
    recorded()
    outcome = run("worklist", "queries")
    lines = outcome.out.splitlines()
    assert lines[0].split()[:2] == ["ID", "LAST"]
    assert {"MAMMO1", "MAMMO2"} == {line.split()[4] for line in lines[1:3]}
    assert "PatientName" in outcome.out
    assert "SMITH" not in outcome.out
    assert lines[-1].split()[3:6] == ["MAMMO1", "127.0.0.1", "GATEWAY"]
    assert "MAMMO2" not in run("worklist", "queries", "--from", "MAMMO1").out


def test_a_database_without_a_record_is_told(clinic: Gateway, run: Command) -> None:
    for words in (("queries",), ("explain", "--from", "MAMMO1")):
        outcome = run("worklist", *words)
        assert (outcome.code, outcome.out) == (1, "")
        assert "this database has no record of queries yet → gateway serve" in outcome.err


def test_explaining_nobody_s_query_is_misuse(gateway: Gateway, run: Command, database: Path) -> None:
    outcome = run("worklist", "explain")
    assert (outcome.code, outcome.err.startswith("gateway: validation: --from")) == (2, True)


def test_what_a_unit_sent_can_not_steer_the_terminal(provider: Provider, run: Command) -> None:
    server, recorded = provider
    ask(server.port, date=DAY, patient_name="X\x1b[2J")
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY, "--reveal")
    assert "PatientName (0010,0010) = X\ufffd[2J" in outcome.out
    assert "\x1b" not in outcome.out + outcome.err
