"""A database that an earlier release wrote opens in this one, and nothing of it is lost (`earlier/README.md`)."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bench.synthetic import change as changed
from bench.synthetic import completed, schedule, step_uid
from gateway.application import Gateway, opened
from gateway.delivery.attempts import attempts_of
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.worklist_item import WorklistItem
from projections.worklist import WorklistFilter

EARLIER = Path(__file__).parent / "earlier"
RELEASES = sorted(file.name.removesuffix(".sql.gz") for file in EARLIER.glob("*.sql.gz"))

each_release = pytest.mark.parametrize("release", RELEASES)


@pytest.fixture
def path(tmp_path: Path, release: str) -> Path:
    file = tmp_path / "gateway.db"
    sql = gzip.decompress((EARLIER / f"{release}.sql.gz").read_bytes()).decode("utf-8")
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(sql)
    return file


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    with opened(path) as opened_gateway:
        yield opened_gateway


def stored(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT e.*, committed_at, link FROM stored_events e JOIN event_chain ON position = e.rowid ORDER BY 1"
        ).fetchall()


def test_the_readme_names_each_of_them() -> None:
    page = (EARLIER / "README.md").read_text()
    assert len(RELEASES) >= 4
    assert [release for release in RELEASES if f"| `{release}` |" not in page] == []


@each_release
def test_it_opens_with_its_chain_intact_and_its_log_as_it_was(path: Path, release: str) -> None:
    before = stored(path)
    with opened(path) as gateway:
        found = gateway.verify_chain()
    assert (found.intact, found.events) == (True, len(before))
    assert stored(path) == before


@each_release
def test_its_tables_are_what_the_events_say(gateway: Gateway, release: str) -> None:
    assert gateway.verify_projections() == []
    gateway.rebuild_projections()
    assert gateway.verify_projections() == []


@each_release
def test_every_event_is_on_a_timeline(gateway: Gateway, release: str) -> None:
    numbers = [f"ACC00{number}" for number in range(1, 8)]
    positions = {row.position for number in ("", *numbers) for row in gateway.timeline(number)}
    assert positions == set(range(1, gateway.verify_chain().events + 1))
    assert [row.kind for row in gateway.timeline("ACC003")][:4] == [
        "WorklistItem.Scheduled",
        "RelayAction.Accepted",
        "WorklistItem.Amended",
        "WorklistItem.Rescheduled",
    ]


@each_release
def test_its_items_are_what_they_were(gateway: Gateway, release: str) -> None:
    statuses = {row.accession_number: row.status for row in gateway.find_items(WorklistFilter())}
    assert statuses["ACC001"] == "COMPLETED"
    assert statuses["ACC002"] == "DISCONTINUED"
    assert (statuses["ACC003"], statuses["ACC005"], statuses["ACC007"]) == ("CANCELLED", "EXPIRED", "IN PROGRESS")
    [item] = gateway.find_items(WorklistFilter(names=(("mull*",),)))
    assert (item.accession_number, item.patient_name) == ("ACC007", "MÜLLER^ÄNNE")


@each_release
def test_what_it_was_owed_is_still_owed_and_tried_so_often(gateway: Gateway, release: str) -> None:
    [update] = gateway.find_updates(accession_number="ACC007")
    with gateway.reading() as connection:
        tried = attempts_of(connection)[update.event_id]
    assert (tried.attempts, tried.last_error) == (1, "ack: no answer came")


@each_release
def test_a_step_that_it_left_in_progress_is_finished_by_this_release(gateway: Gateway, release: str) -> None:
    record = gateway.performed_step(step_uid(7))
    assert record
    assert (record.status, record.accession_numbers, len(record.data_sets)) == ("IN PROGRESS", ("ACC007",), 1)
    changed(gateway, completed(step_uid(7)))
    [item] = gateway.find_items(WorklistFilter(accession_number="ACC007"))
    assert item.status == "COMPLETED"
    assert [update.sequence for update in gateway.find_updates(accession_number="ACC007")] == [1, 2]


@each_release
def test_it_goes_on(gateway: Gateway, release: str) -> None:
    schedule(gateway, "ACC008")
    assert gateway.correct_status("ACC005", Status.COMPLETED, reason="on paper", operator="night shift") == "EXPIRED"
    assert gateway.verify_chain().intact
    assert gateway.verify_projections() == []


@each_release
def test_every_stream_can_be_loaded(gateway: Gateway, release: str) -> None:
    rows = gateway.find_items(WorklistFilter())
    assert len(rows) >= 6
    for row in rows:
        item: WorklistItem = gateway.repository.get(WorklistItem.create_id(row.accession_number))
        assert (item.status, item.appointment.patient_name) == (row.status, row.patient_name)
    for number in (1, 2, 7):
        step: PerformedProcedureStep = gateway.repository.get(PerformedProcedureStep.create_id(step_uid(number)))
        assert step.accession_numbers == [f"ACC00{number}"]


@pytest.mark.parametrize("release", RELEASES[:1])
def test_a_reason_that_stood_openly_is_read_where_it_stood(gateway: Gateway, path: Path, release: str) -> None:
    [state] = [json.loads(str(row[4], "utf-8")) for row in stored(path) if row[3] == "WorklistItem.Cancelled"]  # type: ignore[call-overload]
    assert "envelope" not in state
    [row] = [row for row in gateway.timeline("ACC003") if row.kind == "WorklistItem.Cancelled"]
    assert row.details["reason"] == state["reason"] == "did not attend"
