"""What the web app is told: each change of an item's status, once, in order, under a stable id (design §3.7)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from bench.synthetic import (
    RECEIVED,
    change,
    completed,
    discontinued,
    naming,
    request,
    schedule,
    start,
    step_uid,
    wrong_entry,
)
from gateway.application import Gateway, opened
from gateway.domain.identity import status_update_id
from gateway.domain.lifecycle import Status
from gateway.errors import IllegalTransition, NotFound
from projections.outbox import OutboxRow
from projections.worklist import WorklistFilter

ONE, TWO = step_uid(1), step_uid(2)


def owed(gateway: Gateway) -> list[tuple[str, int, str]]:
    return [(row.accession_number, row.sequence, row.status) for row in gateway.find_updates()]


def correct(gateway: Gateway, status: Status) -> Status:
    return gateway.correct_status("ACC001", status, reason="test", operator="night shift")


def test_an_examination_is_told_in_two_updates_that_name_what_the_web_app_asked_and_the_unit_did(
    gateway: Gateway,
) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    change(gateway, completed(ONE))
    first, second = gateway.find_updates()
    assert [(u.sequence, u.status) for u in (first, second)] == [(1, "IN PROGRESS"), (2, "COMPLETED")]
    for update in (first, second):
        assert (update.action_id, update.mpps_instance_uid) == ("create-ACC001", ONE)
        assert update.occurred_at == RECEIVED.isoformat()


def test_sequences_count_per_accession_number(gateway: Gateway) -> None:
    for number in (1, 2):
        schedule(gateway, f"ACC00{number}")
        start(gateway, step_uid(number), naming(f"ACC00{number}"))
    assert sorted(owed(gateway)) == [("ACC001", 1, "IN PROGRESS"), ("ACC002", 1, "IN PROGRESS")]


def test_the_same_cause_item_and_status_give_the_same_event_id_on_any_gateway(tmp_path: Path, gateway: Gateway) -> None:
    with opened(tmp_path / "other.db") as other:
        ids: list[set[str]] = []
        for one in (gateway, other):
            schedule(one)
            start(one, ONE, naming())
            change(one, completed(ONE))
            ids.append({update.event_id for update in one.find_updates()})
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


def test_a_group_case_tells_each_of_its_items_under_an_id_of_its_own(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    start(gateway, ONE, naming("ACC001"), naming("ACC002"))
    assert len({update.event_id for update in gateway.find_updates()}) == 2


def test_a_second_step_of_an_item_in_progress_tells_nothing_new(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    start(gateway, TWO, naming())
    assert owed(gateway) == [("ACC001", 1, "IN PROGRESS")]


def test_what_the_web_app_reported_itself_is_not_told_to_it(gateway: Gateway) -> None:
    schedule(gateway)
    reply = gateway.report_status("ACC001", Status.IN_PROGRESS, request=request("2", "worklist.update_status"))
    assert reply.status == "updated"
    assert owed(gateway) == []


def test_a_status_the_web_app_may_not_report_is_an_illegal_transition(gateway: Gateway) -> None:
    schedule(gateway)
    reply = gateway.report_status("ACC001", Status.COMPLETED, request=request("2", "worklist.update_status"))
    assert reply.code == "illegal_transition"


def test_cancelling_and_expiring_tell_nothing(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    gateway.cancel("ACC001", None, request=request("2"))
    gateway.expire(date(2026, 12, 24), after_days=1)
    assert owed(gateway) == []


def test_an_unmatched_step_tells_nothing(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC999"))
    change(gateway, completed(ONE))
    assert owed(gateway) == []


def test_a_wrong_worklist_entry_tells_nothing(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    change(gateway, wrong_entry(ONE))
    assert owed(gateway) == [("ACC001", 1, "IN PROGRESS")]


def test_a_wrong_worklist_entry_is_told_where_the_site_wants_it(tmp_path: Path) -> None:
    with opened(tmp_path / "gateway.db", report_wrong_entry=True) as gateway:
        schedule(gateway)
        start(gateway, ONE, naming())
        change(gateway, wrong_entry(ONE))
        assert owed(gateway) == [("ACC001", 1, "IN PROGRESS"), ("ACC001", 2, "SCHEDULED")]


def test_the_same_status_again_by_another_cause_is_another_update(gateway: Gateway) -> None:
    schedule(gateway)
    for uid in (ONE, TWO):
        start(gateway, uid, naming())
        change(gateway, wrong_entry(uid))
    first, second = gateway.find_updates()
    assert (first.status, second.status) == ("IN PROGRESS", "IN PROGRESS")
    assert first.event_id != second.event_id


def test_a_step_that_brings_the_same_status_about_twice_is_told_twice(gateway: Gateway) -> None:
    """Its start did, an operator changed it, and its end does again because another step still goes on."""
    schedule(gateway)
    start(gateway, ONE, naming())
    correct(gateway, Status.CANCELLED)
    start(gateway, TWO, naming())
    correct(gateway, Status.CANCELLED)
    change(gateway, discontinued(TWO))
    assert [status for _, _, status in owed(gateway)] == [
        "IN PROGRESS",
        "CANCELLED",
        "IN PROGRESS",
        "CANCELLED",
        "IN PROGRESS",
    ]


def test_an_operator_s_correction_is_told_and_names_the_step_it_corrects(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    assert correct(gateway, Status.DISCONTINUED) is Status.IN_PROGRESS
    update = gateway.find_updates()[-1]
    assert (update.sequence, update.status, update.mpps_instance_uid) == (2, "DISCONTINUED", ONE)


def test_an_operator_can_not_correct_what_is_completed_or_not_there(gateway: Gateway) -> None:
    schedule(gateway)
    correct(gateway, Status.COMPLETED)
    with pytest.raises(IllegalTransition):
        correct(gateway, Status.SCHEDULED)
    with pytest.raises(NotFound):
        gateway.correct_status("ACC002", Status.COMPLETED, reason="test", operator="test")


def test_items_are_expired_when_they_are_more_than_the_given_days_old_and_scheduled(gateway: Gateway) -> None:
    for accession_number, day in {"OLD": "20261120", "YESTERDAY": "20261122", "TODAY": "20261123"}.items():
        schedule(gateway, accession_number, scheduled_date=day)
    schedule(gateway, "STARTED", scheduled_date="20261120")
    start(gateway, ONE, naming("STARTED"))
    schedule(gateway, "BEFORE", scheduled_date="20261121")
    assert gateway.expire(date(2026, 11, 23), after_days=1) == ["OLD", "BEFORE"]
    assert gateway.count_by_status() == {"EXPIRED": 2, "IN PROGRESS": 1, "SCHEDULED": 2}
    assert gateway.expire(date(2026, 11, 23), after_days=1) == []


def test_an_expiry_made_up_for_later_leaves_what_came_after_its_moment(gateway: Gateway) -> None:
    """Expiry is at one moment of the day (design §3.17): a restart after it alters nothing."""
    schedule(gateway, "BEFORE", scheduled_date="20261120")
    due = datetime.now(UTC)
    schedule(gateway, "AFTER", scheduled_date="20261120")
    assert gateway.expire(date(2026, 11, 23), after_days=1, due=due) == ["BEFORE"]
    assert gateway.expire(date(2026, 11, 24), after_days=1, due=datetime.now(UTC)) == ["AFTER"]


def test_a_row_that_no_event_explains_does_not_stop_the_others_from_expiring(gateway: Gateway) -> None:
    schedule(gateway, "OLD", scheduled_date="20261120")
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute(
            "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date,"
            " scheduled_date, scheduled_time, modality)"
            " VALUES ('HAND', '9990000018', 'SMITH^JANE', '19800101', '20261119', '143000', 'MG')"
        )
    assert gateway.expire(date(2026, 11, 23), after_days=1) == ["OLD"]


def test_an_item_that_was_changed_in_the_meantime_is_not_expired(gateway: Gateway) -> None:
    """The row that was looked at is older than the events that decide."""
    schedule(gateway, "MOVED", scheduled_date="20261124")
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("UPDATE worklist_items SET scheduled_date = '20261101'")
    assert gateway.expire(date(2026, 11, 23), after_days=1) == []


@pytest.fixture
def update(gateway: Gateway) -> OutboxRow:
    schedule(gateway)
    start(gateway, ONE, naming())
    [row] = gateway.due_updates()
    return row


def state_of(gateway: Gateway, update: OutboxRow) -> tuple[str, str | None]:
    [row] = [r for s in ("waiting", "parked", "acknowledged") for r in gateway.find_updates(state=s)]
    assert row.event_id == update.event_id
    return row.state, row.answer


def test_an_acknowledged_update_is_settled_for_ever(gateway: Gateway, update: OutboxRow) -> None:
    for _ in range(2):
        gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)
    assert state_of(gateway, update) == ("acknowledged", "updated")
    assert gateway.due_updates() == []
    assert gateway.repository.get(status_update_id(update.event_id)).version == 2


def test_a_parked_update_is_visible_and_due_again_once_it_is_requeued(gateway: Gateway, update: OutboxRow) -> None:
    gateway.park_update(update.event_id, reason="appointment_not_found", attempts=3)
    assert state_of(gateway, update) == ("parked", "appointment_not_found")
    assert (gateway.due_updates(), len(gateway.find_updates())) == ([], 1)
    gateway.requeue_update(update.event_id, reason="the appointment exists now")
    assert state_of(gateway, update) == ("waiting", None)
    assert gateway.due_updates() == [update]


def test_what_is_reported_of_an_unknown_update_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(NotFound):
        gateway.acknowledge_update("unknown", answer="updated", attempts=1)


@pytest.mark.parametrize(
    ("source", "correlation"), [("relay", "create-ACC001"), ("mpps", ONE), ("operator", "night shift")]
)
def test_every_event_says_who_caused_it(gateway: Gateway, source: str, correlation: str) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    correct(gateway, Status.DISCONTINUED)
    with gateway.reading() as connection:
        rows = connection.execute(
            "SELECT state ->> '$.metadata.correlation_id' AS correlation, state ->> '$.metadata.causation_id',"
            " state ->> '$.metadata.ae_title' FROM (SELECT CAST(state AS TEXT) AS state FROM stored_events)"
            " WHERE state ->> '$.metadata.source' = ?",
            (source,),
        ).fetchall()
    assert {(row[0], row[1]) for row in rows} == {(correlation, correlation)}
    assert {row[2] for row in rows} == {"MAMMO1" if source == "mpps" else None}


def test_test_items_are_counted_apart(gateway: Gateway) -> None:
    wanted = schedule(gateway)
    gateway.schedule(replace(wanted, accession_number="TEST1"), is_test=True)
    assert gateway.count_by_status() == gateway.count_by_status(is_test=True) == {"SCHEDULED": 1}
    [row] = gateway.find_items(WorklistFilter(is_test=True))
    assert row.accession_number == "TEST1"
