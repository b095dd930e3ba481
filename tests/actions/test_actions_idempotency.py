"""One action_id, one effect, one answer; and what happens when numbers are used twice for different things."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from actions_support import action, ask, create, replaced, sample

from gateway.actions.door import ActionDoor
from gateway.application import Gateway

ITEM = "parameters.worklist_item"


def events(gateway: Gateway) -> int:
    with gateway.reading() as connection:
        return connection.execute("SELECT COUNT(*) FROM stored_events").fetchone()[0]


ACTIONS: dict[str, dict[str, Any]] = {
    "create": create("again"),
    "create that is refused": create("again", "A" * 17),
    "update": action("again", "update_item", scheduled={"time": "1515"}),
    "status": action("again", "update_status", status="in progress"),
    "illegal status": action("again", "update_status", status="completed"),
    "cancellation": action("again", "cancel_item", reason="did not attend"),
    "unknown action": {"action_id": "again", "action_type": "no-op"},
    "unknown item": action("again", "cancel_item", accession_number="ACC999"),
}


@pytest.mark.parametrize("message", ACTIONS.values(), ids=ACTIONS.keys())
def test_a_repeat_gets_the_first_reply_again_marked_duplicate_and_changes_nothing(
    door: ActionDoor, gateway: Gateway, message: dict[str, Any]
) -> None:
    if "create" not in message["action_type"]:
        ask(door, create())
    first = ask(door, message)
    before = events(gateway)
    assert "duplicate" not in first
    for _ in range(2):
        assert ask(door, message) == first | {"duplicate": True}
    assert events(gateway) == before


def test_a_repeat_is_the_same_after_a_restart(door: ActionDoor, gateway: Gateway) -> None:
    first = ask(door, create())
    gateway.close()
    with_another = type(gateway)(gateway.path)
    try:
        again = ActionDoor(with_another, door._clock, dict)
        assert ask(again, create()) == first | {"duplicate": True}
    finally:
        with_another.close()


def test_a_repeat_after_the_item_went_on_still_gets_the_first_reply(door: ActionDoor) -> None:
    first = ask(door, create())
    ask(door, action("s", "update_status", status="in progress"))
    assert ask(door, create()) == first | {"duplicate": True}


@pytest.mark.parametrize(
    "changed",
    [{"timestamp": "2026-05-01T00:00:00Z"}, {"source_system": "another"}, {"schema_version": "1.0"}, {"later": 1}],
    ids=lambda changed: next(iter(changed)),
)
def test_content_is_the_action_type_and_the_parameters_and_nothing_else(
    door: ActionDoor, changed: dict[str, Any]
) -> None:
    ask(door, create())
    assert ask(door, create() | changed)["duplicate"] is True


def test_the_order_of_keys_and_the_blanks_between_them_are_no_content(door: ActionDoor) -> None:
    ask(door, create())
    turned = json.loads(json.dumps(create()), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert ask(door, json.dumps(turned, indent=4))["duplicate"] is True


@pytest.mark.parametrize(
    "other",
    [
        create(participant={"name": "SMITH^JO"}),
        create(accession_number="ACC002"),
        create() | {"action_type": "worklist.create_test_item"},
        create() | {"parameters": {}},
    ],
    ids=["another name", "another number", "another action", "no parameters"],
)
def test_other_content_under_a_known_action_id_is_a_conflict_and_has_no_effect(
    door: ActionDoor, gateway: Gateway, other: dict[str, Any]
) -> None:
    first = ask(door, create())
    reply = ask(door, other)
    assert (reply["status"], reply["code"], reply["field"]) == ("error", "action_id_conflict", "action_id")
    assert (reply["retryable"], reply["action_id"]) == (False, "create-1")
    assert gateway.count_by_status() == {"SCHEDULED": 1}
    assert ask(door, create()) == first | {"duplicate": True}


def test_a_conflict_is_kept_under_an_id_of_its_own(door: ActionDoor, gateway: Gateway) -> None:
    ask(door, create())
    ask(door, create(accession_number="ACC002"))
    [kept] = gateway.timeline("ACC002")
    assert (kept.details["code"], kept.details["action_id"].split("-")[0]) == ("action_id_conflict", "unidentified")


CONFLICTS: dict[str, tuple[str, Any]] = {
    "another patient": (f"{ITEM}.participant.nhs_number", "9990000026"),
    "another name": (f"{ITEM}.participant.name", "SMITH^JO"),
    "another birth date": (f"{ITEM}.participant.birth_date", "19650316"),
    "another sex": (f"{ITEM}.participant.sex", "M"),
    "another date": (f"{ITEM}.scheduled.date", "20260425"),
    "another time": (f"{ITEM}.scheduled.time", "1001"),
    "a station": (f"{ITEM}.scheduled.station_ae_title", "MAMMO1"),
    "a room": (f"{ITEM}.scheduled.location", "ROOM 2"),
    "a physician": (f"{ITEM}.scheduled.performing_physician", "PATEL^ANITA"),
    "another modality": (f"{ITEM}.procedure.modality", "US"),
    "another description": (f"{ITEM}.procedure.study_description", "Ultrasound"),
    "a code": (f"{ITEM}.procedure.code", "MAMMO"),
    "a code scheme": (f"{ITEM}.procedure.code_scheme", "99BSS"),
    "a code meaning": (f"{ITEM}.procedure.code_meaning", "Screening"),
}


@pytest.mark.parametrize(("place", "value"), CONFLICTS.values(), ids=CONFLICTS.keys())
def test_an_accession_number_that_is_taken_is_a_conflict_naming_the_field_and_not_its_value(
    door: ActionDoor, gateway: Gateway, place: str, value: Any
) -> None:
    ask(door, create())
    before = gateway.timeline("ACC001")
    reply = ask(door, replaced(create("create-2"), place, value))
    assert (reply["code"], reply["field"], reply["retryable"]) == ("accession_conflict", place, False)
    assert "9990000018" not in reply["message"]
    assert "SMITH" not in reply["message"]
    assert [row.kind for row in gateway.timeline("ACC001")[len(before) :]] == ["RelayAction.Rejected"]


def test_of_several_differences_the_patient_is_named(door: ActionDoor) -> None:
    ask(door, create())
    other = create("create-2", participant={"nhs_number": "9990000026"}, scheduled={"time": "1100"})
    assert ask(door, other)["field"] == f"{ITEM}.participant.nhs_number"


def test_a_test_item_and_a_real_one_do_not_share_an_accession_number(door: ActionDoor) -> None:
    ask(door, create())
    reply = ask(door, create("create-2") | {"action_type": "worklist.create_test_item"})
    assert (reply["code"], reply["field"]) == ("accession_conflict", "action_type")


@pytest.mark.parametrize(
    "end",
    [
        [action("x", "cancel_item")],
        [action("x", "update_status", status="in progress"), action("y", "update_status", status="completed")],
        [action("x", "update_status", status="in progress"), action("y", "update_status", status="discontinued")],
    ],
    ids=["cancelled", "completed", "discontinued"],
)
def test_the_accession_number_of_an_item_that_is_over_is_not_scheduled_again(
    door: ActionDoor, end: list[dict[str, Any]]
) -> None:
    ask(door, create())
    for message in end:
        ask(door, message)
    reply = ask(door, create("create-2"))
    assert (reply["code"], reply["field"]) == ("accession_conflict", "status")


def test_an_item_in_progress_is_still_the_same_appointment(door: ActionDoor) -> None:
    ask(door, create())
    ask(door, action("x", "update_status", status="in progress"))
    assert ask(door, create("create-2"))["status"] == "exists"


def test_of_many_that_ask_the_same_at_once_one_is_the_first_and_all_others_are_duplicates(
    door: ActionDoor, gateway: Gateway
) -> None:
    text, replies = json.dumps(sample("actions/worklist.create_item.json")), []
    gate = threading.Barrier(8)

    def send() -> None:
        gate.wait()
        replies.append(json.loads(door.answer(text)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {reply["status"] for reply in replies} == {"created"}
    assert sorted(reply.get("duplicate", False) for reply in replies) == [False] + [True] * 7
    assert (gateway.count_by_status(), events(gateway)) == ({"SCHEDULED": 1}, 2)


def test_of_many_that_want_one_accession_number_for_different_people_one_gets_it(
    door: ActionDoor, gateway: Gateway
) -> None:
    replies: list[dict[str, Any]] = []
    gate = threading.Barrier(8)

    def send(number: int) -> None:
        gate.wait()
        replies.append(ask(door, create(f"create-{number}", participant={"nhs_number": f"999000{number:04d}"})))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.get("code", reply["status"]) for reply in replies) == ["accession_conflict"] * 7 + ["created"]
    assert gateway.count_by_status() == {"SCHEDULED": 1}
