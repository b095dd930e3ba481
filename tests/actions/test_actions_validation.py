"""Each rule about a value is answered with its code, the path of the field and no hint that asking again helps."""

from __future__ import annotations

from typing import Any

import pytest
from actions_support import action, ask, create, replaced, sample, without

from gateway.actions.door import ActionDoor
from gateway.application import Gateway

ITEM = "parameters.worklist_item"
CREATE = create()

ABSENT = object()

TEXT_FIELDS = {
    "accession_number": 16,
    "participant.nhs_number": 64,
    "procedure.study_description": 64,
    "procedure.code": 16,
    "procedure.code_scheme": 16,
    "procedure.code_meaning": 64,
    "scheduled.location": 16,
}
"""Texts with DICOM's limit in characters."""

REQUIRED = (
    "accession_number",
    "participant",
    "participant.nhs_number",
    "participant.name",
    "participant.birth_date",
    "scheduled",
    "scheduled.date",
    "scheduled.time",
    "procedure",
    "procedure.modality",
)

WRONG: dict[str, list[Any]] = {
    "accession_number": ["", "  ", "A\\B", "A\nB", "A\x7fB", "A\x85B", None, 5, [], {}],
    "participant": [None, 5, "SMITH", []],
    "participant.nhs_number": ["", "A\\B", None, 9990000018],
    "participant.name": [
        "",
        "^^^",
        "=",
        "SMITH\\JANE",
        "SMITH\tJANE",
        "A^B^C^D^E^F",
        "A=B=C=D",
        "S" * 65,
        "A=" + "I" * 65,
        None,
        5,
        {"family": "SMITH"},
    ],
    "participant.birth_date": [
        "",
        "1965-03-15",
        "19650230",
        "19651315",
        "00000101",
        "1965031",
        "１９６５０３１５",
        None,
        19650315,
    ],
    "participant.sex": ["X", "female", "MF", 1, []],
    "scheduled": [None, "20260424", []],
    "scheduled.date": ["", "24/04/2026", "20260230", "today", 20260424],
    "scheduled.time": ["", "9", "10:00", "2400", "1060", "100061", "100000.5", 100000],
    "scheduled.starts_at": ["", "tomorrow", "2026-04-24T11:00:00", "2026-04-24", 1777024800, "2026-02-30T10:00:00Z"],
    "scheduled.station_ae_title": ["A" * 17, "MAMMO\\1", "MÄMMO", 5, {"a": "MAMMO1"}],
    "scheduled.location": ["ROOM\\2", 2],
    "scheduled.performing_physician": ["P" * 65, "^", "A\\B", 7],
    "procedure": [None, "MG", []],
    "procedure.modality": ["", "MG-1", "M" * 17, "MÄ", None, ["MG"]],
    "procedure.study_description": ["a\\b", "a\x00b", 5],
    "procedure.code": ["A\\B", 5],
}

CASES = [(place, value) for place, values in WRONG.items() for value in values]


def refused(reply: dict[str, Any], code: str, field: str | None) -> None:
    assert (reply["status"], reply["code"], reply["field"], reply["retryable"]) == ("error", code, field, False)


@pytest.mark.parametrize(("place", "value"), CASES, ids=[f"{place}={value!r:.24}" for place, value in CASES])
def test_a_wrong_value_is_refused_with_its_path_and_nothing_is_scheduled(
    door: ActionDoor, gateway: Gateway, place: str, value: Any
) -> None:
    reply = ask(door, replaced(CREATE, f"{ITEM}.{place}", value))
    refused(reply, "validation", f"{ITEM}.{place}")
    assert gateway.count_by_status() == {}


@pytest.mark.parametrize("place", REQUIRED)
def test_what_is_required_must_be_there(door: ActionDoor, place: str) -> None:
    reply = ask(door, without(CREATE, f"{ITEM}.{place}"))
    refused(reply, "validation", f"{ITEM}.{place}")
    assert reply["message"]


@pytest.mark.parametrize("place", ["parameters", ITEM])
@pytest.mark.parametrize("value", [ABSENT, None, [], "x", 1], ids=["absent", "null", "list", "text", "number"])
def test_parameters_and_worklist_item_are_objects(door: ActionDoor, place: str, value: Any) -> None:
    message = without(CREATE, place) if value is ABSENT else replaced(CREATE, place, value)
    refused(ask(door, message), "validation", place)


@pytest.mark.parametrize(("place", "limit"), TEXT_FIELDS.items())
def test_a_text_may_be_as_long_as_dicom_allows_and_not_longer(door: ActionDoor, place: str, limit: int) -> None:
    assert ask(door, replaced(create("fits"), f"{ITEM}.{place}", "X" * limit))["status"] == "created"
    long = replaced(create("long", "ACC002"), f"{ITEM}.{place}", "X" * (limit + 1))
    reply = ask(door, long)
    refused(reply, "validation", f"{ITEM}.{place}")
    assert f"at most {limit} characters" in reply["message"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("participant.name", "A" * 64 + "=" + "I" * 64 + "=" + "P" * 64),
        ("participant.name", "VAN DER BERG^ZOË^^MS^"),
        ("participant.sex", None),
        ("participant.sex", ""),
        ("participant.sex", "f"),
        ("scheduled.time", "1000"),
        ("scheduled.date", "20280229"),
        ("scheduled.station_ae_title", "MAMMO1"),
        ("scheduled.station_ae_title", []),
        ("scheduled.station_ae_title", None),
        ("scheduled.station_ae_title", " "),
        ("procedure.modality", "mg"),
        ("procedure.study_description", None),
        ("procedure.study_description", ""),
        ("accession_number", " ACC009 "),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_dicom_allows_is_taken(door: ActionDoor, place: str, value: Any) -> None:
    assert ask(door, replaced(CREATE, f"{ITEM}.{place}", value))["status"] == "created"


@pytest.mark.parametrize("number", ["BS001234", "9990000019", "999000001"])
def test_a_patient_id_that_is_no_nhs_number_is_taken_with_a_warning_that_does_not_repeat_it(
    door: ActionDoor, written_log: Any, number: str
) -> None:
    assert ask(door, create(participant={"nhs_number": number}))["status"] == "created"
    assert "patient_id_odd" in written_log.getvalue()
    assert number not in written_log.getvalue()


def test_the_first_thing_that_is_wrong_is_named(door: ActionDoor) -> None:
    message = create(participant={"birth_date": "never"}, scheduled={"date": "never"})
    refused(ask(door, message), "validation", f"{ITEM}.participant.birth_date")


@pytest.mark.parametrize("title", ["MAMMO1\\MAMMO2", "M" * 17, 5, None])
def test_a_wrong_station_in_a_list_is_named_as_a_single_one_is(door: ActionDoor, title: object) -> None:
    reply = ask(door, create(scheduled={"station_ae_title": ["MAMMO1", title]}))
    refused(reply, "validation", f"{ITEM}.scheduled.station_ae_title")
    assert "station_ae_title: " in reply["message"]


@pytest.mark.parametrize(
    ("action_id", "message"),
    [
        (None, "action_id: is required"),
        ("", "action_id: must be 1 to 128 characters"),
        ("   ", "action_id: must be 1 to 128 characters"),
        ("x" * 129, "action_id: must be 1 to 128 characters"),
        (12345, "action_id: must be 1 to 128 characters"),
        ({}, "action_id: must be 1 to 128 characters"),
        ("a\nb", "action_id: no control characters"),
        ("\ud800", "action_id: no control characters"),
    ],
)
def test_an_action_needs_a_usable_action_id(
    door: ActionDoor, gateway: Gateway, action_id: object, message: str
) -> None:
    reply = ask(door, create() | {"action_id": action_id})
    refused(reply, "validation", "action_id")
    assert (reply["message"], gateway.count_by_status()) == (message, {})


def test_an_action_id_may_have_128_characters(door: ActionDoor) -> None:
    assert ask(door, create("x" * 128))["status"] == "created"


@pytest.mark.parametrize("word", ["in progress", "IN_PROGRESS", "In Progress", " in progress "])
def test_a_status_is_understood_in_any_case_with_space_or_underscore(door: ActionDoor, word: str) -> None:
    ask(door, create())
    assert ask(door, action("s", "update_status", status=word))["status"] == "updated"


@pytest.mark.parametrize("word", ["", "done", None, 3, ["IN PROGRESS"]], ids=repr)
def test_another_status_word_is_refused(door: ActionDoor, word: object) -> None:
    ask(door, create())
    refused(ask(door, action("s", "update_status", status=word)), "validation", f"{ITEM}.status")


@pytest.mark.parametrize("status", ["scheduled", "completed", "cancelled", "expired", "discontinued"])
def test_a_status_that_a_scheduled_item_can_not_take_is_an_illegal_transition(door: ActionDoor, status: str) -> None:
    ask(door, create())
    reply = ask(door, action("s", "update_status", status=status))
    assert (reply["code"], reply["retryable"]) == ("illegal_transition", False)


@pytest.mark.parametrize("status", ["completed", "discontinued"])
def test_an_item_in_progress_can_be_completed_or_discontinued_by_the_web_app(door: ActionDoor, status: str) -> None:
    ask(door, create())
    ask(door, action("s1", "update_status", status="in progress"))
    assert ask(door, action("s2", "update_status", status=status))["status"] == "updated"


@pytest.mark.parametrize(
    "message",
    [
        action("x", "update_status", status="in progress"),
        action("x", "update_item", participant={"name": "SMITH^JANE"}),
        action("x", "cancel_item"),
    ],
    ids=lambda message: message["action_type"],
)
def test_an_action_on_an_item_that_there_is_not_is_answered_not_found(door: ActionDoor, message: Any) -> None:
    refused(ask(door, message), "not_found", f"{ITEM}.accession_number")


@pytest.mark.parametrize(
    "message",
    [action("x", "update_item", participant={"name": "SMITH^JO"}), action("x", "cancel_item")],
    ids=lambda message: message["action_type"],
)
def test_an_item_that_is_no_longer_scheduled_can_not_be_amended_or_cancelled(door: ActionDoor, message: Any) -> None:
    ask(door, create())
    ask(door, action("s1", "update_status", status="in progress"))
    assert ask(door, message)["code"] == "illegal_transition"


@pytest.mark.parametrize("reason", [None, "", "did not attend", "x" * 1024])
def test_a_cancellation_may_have_a_reason(door: ActionDoor, reason: str | None) -> None:
    ask(door, create())
    assert ask(door, action("c", "cancel_item", reason=reason))["status"] == "cancelled"


@pytest.mark.parametrize("reason", ["x" * 1025, 5, ["did not attend"]], ids=["too long", "a number", "a list"])
def test_a_reason_of_another_kind_is_refused(door: ActionDoor, reason: object) -> None:
    ask(door, create())
    refused(ask(door, action("c", "cancel_item", reason=reason)), "validation", f"{ITEM}.reason")


def test_the_samples_are_valid_as_they_are(door: ActionDoor) -> None:
    assert ask(door, sample("actions/worklist.create_item.extended.json"))["status"] == "created"
