"""An action has its effect once, and the same answer for ever (design §3.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import (
    appointment,
    change,
    completed,
    create_request,
    naming,
    participant,
    request,
    schedule,
    start,
    step_uid,
)
from gateway.application import Gateway, opened
from gateway.domain.lifecycle import Status
from gateway.domain.relay_action import ActionReply
from gateway.errors import AccessionConflict, IllegalTransition, InvalidValue, NotFound
from projections.worklist import WorklistFilter


def events(gateway: Gateway) -> int:
    return gateway.check_store()


def create(gateway: Gateway, action_id: str, accession_number: str = "ACC001", **changes: Any) -> ActionReply:
    wanted = appointment(accession_number, **changes)
    return gateway.schedule(wanted, request=create_request(action_id, wanted))


def in_turn(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run in as many threads, all let go at the same moment."""
    gate = threading.Barrier(count)

    def wait_and_work(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_work, range(count)))


def test_an_appointment_is_created_with_its_receipt_and_is_in_the_worklist_when_it_is_answered(
    gateway: Gateway,
) -> None:
    reply = create(gateway, "1")
    assert (reply.status, reply.accession_number, reply.duplicate) == ("created", "ACC001", False)
    assert events(gateway) == 2
    [row] = gateway.find_items(WorklistFilter(accession_number="ACC001"))
    assert row.source_message_id == "1"


def test_a_repeat_is_answered_as_the_first_time_and_marked_and_changes_nothing(gateway: Gateway) -> None:
    first = create(gateway, "1")
    assert create(gateway, "1") == replace(first, duplicate=True)
    assert events(gateway) == 2


def test_a_repeat_is_answered_as_the_first_time_after_a_restart(path: Path) -> None:
    with opened(path) as gateway:
        first = create(gateway, "1")
    with opened(path) as gateway:
        assert create(gateway, "1") == replace(first, duplicate=True)


def test_a_repeat_is_answered_as_the_first_time_whatever_happened_since(gateway: Gateway) -> None:
    first = create(gateway, "1")
    gateway.cancel("ACC001", None, request=request("2", "worklist.cancel_item"))
    assert create(gateway, "1") == replace(first, duplicate=True)


def test_the_same_action_from_sixteen_threads_is_done_once(gateway: Gateway) -> None:
    replies = in_turn(16, lambda _: create(gateway, "1"))
    assert {reply.status for reply in replies} == {"created"}
    assert Counter(reply.duplicate for reply in replies) == {False: 1, True: 15}
    assert events(gateway) == 2


def test_sixteen_actions_for_one_accession_number_create_it_once(gateway: Gateway) -> None:
    replies = in_turn(16, lambda number: create(gateway, str(number)))
    assert Counter(reply.status for reply in replies) == {"created": 1, "exists": 15}
    assert events(gateway) == 17


def test_sixteen_amendments_of_one_item_are_all_done_one_after_the_other(gateway: Gateway) -> None:
    schedule(gateway)

    def amend(number: int) -> ActionReply:
        asked = request(str(number), "worklist.update_item", number=number)
        return gateway.amend("ACC001", lambda now: {"location": (now.location or "") + "x"}, request=asked)

    assert {reply.status for reply in in_turn(16, amend)} == {"updated"}
    [row] = gateway.find_items(WorklistFilter())
    assert (row.location, row.row_version) == ("x" * 16, 17)


def test_other_content_under_the_same_action_id_is_refused_and_kept(gateway: Gateway) -> None:
    create(gateway, "1")
    reply = create(gateway, "1", "ACC002")
    assert (reply.status, reply.code, reply.field) == ("error", "action_id_conflict", "action_id")
    assert gateway.find_items(WorklistFilter(accession_number="ACC002")) == []
    [kept] = gateway.timeline("ACC002")
    assert kept.details["code"] == "action_id_conflict"


def test_the_first_answer_stands_after_a_conflict(gateway: Gateway) -> None:
    create(gateway, "1")
    create(gateway, "1", "ACC002")
    assert create(gateway, "1").status == "created"


def test_a_final_error_is_kept_and_repeated_although_it_would_succeed_now(gateway: Gateway) -> None:
    asked = request("1", "worklist.cancel_item")
    first = gateway.cancel("ACC001", None, request=asked)
    assert (first.status, first.code) == ("error", "not_found")
    schedule(gateway)
    assert gateway.cancel("ACC001", None, request=asked) == replace(first, duplicate=True)


def test_a_new_action_id_tries_again(gateway: Gateway) -> None:
    gateway.cancel("ACC001", None, request=request("1", "worklist.cancel_item"))
    schedule(gateway)
    assert gateway.cancel("ACC001", None, request=request("2", "worklist.cancel_item")).status == "cancelled"


def test_a_request_that_can_not_be_tried_is_kept_and_its_answer_repeated(gateway: Gateway) -> None:
    refusal = InvalidValue("accession_number: at most 16 characters (DICOM SH)", field="accession_number")
    first = gateway.reject(request("1"), refusal)
    assert (first.code, first.field) == ("validation", "accession_number")
    assert gateway.reject(request("1"), refusal) == replace(first, duplicate=True)
    assert events(gateway) == 1


def test_each_message_without_an_action_id_is_kept_for_itself(gateway: Gateway) -> None:
    refusal = InvalidValue("action_id: is missing", field="action_id")
    for _ in range(2):
        assert gateway.reject_unidentified(request(""), refusal).code == "validation"
    assert events(gateway) == 2


def test_the_same_appointment_again_exists(gateway: Gateway) -> None:
    create(gateway, "1")
    assert create(gateway, "2").status == "exists"
    assert len(gateway.find_items(WorklistFilter())) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (participant(2), "patient_id"),
        ({"patient_name": "SMITH^JANE^MARY"}, "patient_name"),
        ({"scheduled_date": "20261124"}, "scheduled_date"),
        ({"study_description": None}, "study_description"),
    ],
    ids=["another patient", "another name", "another day", "no description"],
)
def test_an_accession_number_taken_by_something_else_conflicts_in_the_field_that_differs(
    gateway: Gateway, changes: dict[str, Any], field: str
) -> None:
    schedule(gateway)
    reply = create(gateway, "2", **changes)
    assert (reply.status, reply.code, reply.field) == ("error", "accession_conflict", field)


def finish(gateway: Gateway, status: Status) -> None:
    gateway.correct_status("ACC001", status, reason="test", operator="test")


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.DISCONTINUED, Status.CANCELLED, Status.EXPIRED])
def test_an_accession_number_of_a_finished_item_conflicts_in_its_status(gateway: Gateway, status: Status) -> None:
    schedule(gateway)
    finish(gateway, status)
    reply = create(gateway, "2")
    assert (reply.code, reply.field) == ("accession_conflict", "status")


def test_a_test_item_over_a_real_one_conflicts(gateway: Gateway) -> None:
    wanted = schedule(gateway)
    assert gateway.schedule(wanted, is_test=True, request=request("2")).code == "accession_conflict"


def test_no_answer_repeats_what_identifies_somebody(gateway: Gateway) -> None:
    schedule(gateway)
    reply = create(gateway, "2", **participant(2))
    text = str(reply) + str(gateway.timeline("ACC001"))
    assert [value for value in participant(2).values() if len(value) > 1 and value in text] == []


AFTERWARDS: dict[str, Callable[[Gateway, Any], ActionReply]] = {
    "update": lambda gateway, asked: gateway.amend("ACC001", lambda _: {"location": "ROOM 2"}, request=asked),
    "cancel": lambda gateway, asked: gateway.cancel("ACC001", None, request=asked),
}


@pytest.mark.parametrize("act", AFTERWARDS.values(), ids=AFTERWARDS)
@pytest.mark.parametrize("status", [s for s in Status if s is not Status.SCHEDULED])
def test_update_and_cancel_are_refused_once_the_item_is_no_longer_scheduled(
    gateway: Gateway, act: Callable[[Gateway, Any], ActionReply], status: Status
) -> None:
    schedule(gateway)
    finish(gateway, status)
    reply = act(gateway, request("2"))
    assert (reply.status, reply.code, reply.field) == ("error", "illegal_transition", "status")


@pytest.mark.parametrize("act", AFTERWARDS.values(), ids=AFTERWARDS)
def test_update_and_cancel_of_what_is_not_there_are_not_found(
    gateway: Gateway, act: Callable[[Gateway, Any], ActionReply]
) -> None:
    assert act(gateway, request("2")).code == "not_found"


def test_an_amendment_is_in_the_worklist_when_it_is_answered(gateway: Gateway) -> None:
    schedule(gateway, patient_sex="F")
    changes = {"scheduled_time": "143000", "patient_sex": None, "station_ae_titles": ("MAMMO1", "MAMMO2")}
    gateway.amend("ACC001", lambda _: changes, request=request("2"))
    [row] = gateway.find_items(WorklistFilter())
    assert (row.scheduled_time, row.patient_sex, row.station_ae_titles) == ("143000", None, ("MAMMO1", "MAMMO2"))


def test_the_study_instance_uid_never_changes(gateway: Gateway) -> None:
    schedule(gateway)
    [before] = gateway.find_items(WorklistFilter())
    gateway.amend("ACC001", lambda _: participant(2), request=request("2"))
    start(gateway, step_uid(1), naming(), patient_id=participant(2)["patient_id"])
    change(gateway, completed(step_uid(1)))
    [after] = gateway.find_items(WorklistFilter())
    assert after.study_instance_uid == before.study_instance_uid


def test_an_operator_is_refused_by_an_error_instead_of_an_answer(gateway: Gateway) -> None:
    assert gateway.schedule(appointment()).status == "created"
    with pytest.raises(AccessionConflict):
        gateway.schedule(appointment(patient_name="JONES^MARY"))
    with pytest.raises(NotFound):
        gateway.cancel("ACC002")
    gateway.cancel("ACC001")
    with pytest.raises(IllegalTransition):
        gateway.cancel("ACC001")
    assert events(gateway) == 2
