"""The schemas say what the code does: samples, boundaries of values, and every reply and event that is really sent."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from contract_support import REPLIES, SAMPLES, VALIDATORS, findings, names, sample
from jsonschema import Draft202012Validator

from bench.synthetic import schedule
from gateway.actions.door import ActionDoor
from gateway.actions.replies import ERROR_CODES, UNANSWERED
from gateway.actions.times import SiteClock
from gateway.application import Gateway
from gateway.contract.catalogue import MESSAGES, Kind
from gateway.delivery.attempts import Attempt
from gateway.delivery.messages import WORDS, Meaning, event_text, read_acknowledgement
from gateway.dicom import performed
from gateway.domain.lifecycle import Status
from gateway.errors import GatewayError, Refusal
from gateway.ops.health import Health

HEALTH = {"healthy": True, "version": "0", "listener_uptime_seconds": 0, "checks": {"store": {"ok": True}}}
EVERY_SAMPLE = [(message.name, name) for message in MESSAGES for name in message.samples]


@pytest.fixture
def ask(gateway: Gateway) -> Callable[[Any], dict[str, Any]]:
    """What a running door answers."""
    door = ActionDoor(gateway, SiteClock(ZoneInfo("Europe/London")), lambda: HEALTH)
    return lambda message: json.loads(door.answer(message if isinstance(message, str) else json.dumps(message)))


# --- the schemas themselves, and the samples


@pytest.mark.parametrize("name", VALIDATORS)
def test_each_schema_is_one_by_json_schema_2020_12(name: str) -> None:
    Draft202012Validator.check_schema(VALIDATORS[name].schema)


@pytest.mark.parametrize(("message", "name"), EVERY_SAMPLE, ids=lambda word: word)
def test_each_sample_is_as_its_schema_says(message: str, name: str) -> None:
    assert findings(message, sample(name, message)) == []


def test_each_sample_that_there_is_belongs_to_a_message() -> None:
    kinds = {message.name: message.kind for message in MESSAGES}
    files = {str(file.relative_to(SAMPLES)) for file in SAMPLES.rglob("*.json")}
    assert files == {f"{kinds[message]}/{name}.json" for message, name in EVERY_SAMPLE}


@pytest.mark.parametrize(("message", "name"), EVERY_SAMPLE, ids=lambda word: word)
def test_a_key_that_nobody_knows_is_allowed_everywhere_because_keys_are_only_ever_added(
    message: str, name: str
) -> None:
    def extended(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: extended(inner) for key, inner in value.items()} | {"of_a_later_version": {"x": [1]}}
        return value

    told = extended(sample(name, message))
    if message == "health_told":
        del told["health"]["checks"]["of_a_later_version"]
    assert findings(message, told) == []


@pytest.mark.parametrize("message", [m.name for m in MESSAGES if m.kind is not Kind.ACKNOWLEDGEMENT])
def test_nothing_at_all_is_no_message(message: str) -> None:
    assert findings(message, {})
    assert findings(message, [])


# --- what the web app may send: the schema and the door agree


def create(path: str, value: Any) -> dict[str, Any]:
    """The extended sample with another value at a place in its item; `...` takes the key out."""
    message = copy.deepcopy(sample("worklist.create_item.extended", "worklist.create_item"))
    message["parameters"]["worklist_item"]["accession_number"] = "ACC001"
    place = message["parameters"]["worklist_item"]
    *parents, last = path.split(".")
    for name in parents:
        place = place[name]
    if value is ...:
        place.pop(last, None)
    else:
        place[last] = value
    return message


TAKEN = [
    ("accession_number", ["A", "A" * 16, "ÄÖ-1/2"]),
    ("participant.nhs_number", ["9990000018", "x", "9" * 64]),
    ("participant.name", ["A", "A" * 64, "^JANE", "A^B^C^D^E", "YAMADA^TARO=山田^太郎=やまだ^たろう", "O'CONNOR^ZOË"]),
    ("participant.birth_date", ["19650315", "20240229"]),
    ("participant.sex", ["M", "f", "O", "", None, ...]),
    ("scheduled.starts_at", ["2026-04-24T11:00:00+01:00", "2026-04-24T10:00:00Z"]),
    ("scheduled.station_ae_title", ["MAMMO1", ["MAMMO1"], [], "", None, ["A" * 16], ...]),
    ("scheduled.location", ["ROOM 2", "", None, "R" * 16, ...]),
    ("scheduled.performing_physician", ["PATEL^ANITA", "", None, ...]),
    ("procedure.modality", ["MG", "mg", "A_B 1"]),
    ("procedure.study_description", ["x" * 64, "", None, ...]),
    ("procedure.code", ["x" * 16, "", None, ...]),
    ("procedure.code_scheme", ["x" * 16, "", None, ...]),
    ("procedure.code_meaning", ["x" * 64, "", None, ...]),
]
REFUSED = [
    ("accession_number", ["", " ", "A" * 17, "A\\B", "A\nB", "A\x85B", None, 7, ...]),
    ("participant", [None, [], "x", ...]),
    ("participant.nhs_number", ["", "9" * 65, "9\\9", None, 9990000018, ...]),
    ("participant.name", ["", "^^", "= =", "A" * 65, "A^B^C^D^E^F", "A=B=C=D", "A\\B", "A\tB", None, ...]),
    ("participant.birth_date", ["1965-03-15", "19651315", "19650332", "", None, 19650315, ...]),
    ("participant.sex", ["X", "female", 1]),
    ("scheduled.starts_at", ["2026-04-24T11:00:00", "tomorrow", "", 7, ...]),
    ("scheduled.station_ae_title", ["A" * 17, "A\\B", ["A", ""], "MÜNCHEN", 7, [7]]),
    ("scheduled.location", ["R" * 17, "R\\2", 7]),
    ("scheduled.performing_physician", ["P" * 65, "A^B^C^D^E^F", 7]),
    ("procedure.modality", ["", " ", "M" * 17, "M-G", None, ...]),
    ("procedure.study_description", ["x" * 65, "x\ny", 7]),
    ("procedure.code", ["x" * 17, 7]),
    ("procedure.code_scheme", ["x" * 17, 7]),
    ("procedure.code_meaning", ["x" * 65, 7]),
]


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in TAKEN for value in values], ids=repr)
def test_what_the_schema_takes_the_door_takes(ask: Callable[..., Any], path: str, value: Any) -> None:
    message = create(path, value)
    assert findings("worklist.create_item", message) == []
    assert ask(message)["status"] == "created"


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in REFUSED for value in values], ids=repr)
def test_what_the_schema_refuses_the_door_refuses(ask: Callable[..., Any], path: str, value: Any) -> None:
    message = create(path, value)
    assert findings("worklist.create_item", message)
    assert ask(message)["code"] == "validation"


@pytest.mark.parametrize(
    ("scheduled", "complete"),
    [
        ({"date": "20260424", "time": "1000"}, True),
        ({"date": "20260424", "time": "100059", "starts_at": None}, True),
        ({"date": None, "time": None, "starts_at": "2026-04-24T10:00:00Z"}, True),
        ({"date": "20260424"}, False),
        ({"time": "1000", "date": None}, False),
        ({"date": "20260424", "time": "2400"}, False),
        ({"date": "20260424", "time": "10:00"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_date_and_time_or_starts_at_make_a_schedule(ask: Callable[..., Any], scheduled: Any, *, complete: bool) -> None:
    message = create("scheduled", scheduled)
    assert (findings("worklist.create_item", message) == []) is complete
    assert (ask(message)["status"] == "created") is complete


@pytest.mark.parametrize("version", [1, 1.7, "1", "1.0", "1.7", 2, 0, "2.0", "10", "", None, True, [1]], ids=repr)
def test_the_schema_and_the_door_know_the_same_versions(ask: Callable[..., Any], version: Any) -> None:
    message = create("accession_number", "ACC001") | {"schema_version": version}
    known = not findings("worklist.create_item", message)
    assert (ask(message).get("code") != "unsupported_version") is known


@pytest.mark.parametrize("action_id", ["a", "a" * 128, "a b", "", " ", "a" * 129, "a\nb", None, 7], ids=repr)
def test_the_schema_and_the_door_know_the_same_action_ids(ask: Callable[..., Any], action_id: Any) -> None:
    message = create("accession_number", "ACC001") | {"action_id": action_id}
    known = not findings("worklist.create_item", message)
    assert (ask(message)["status"] == "created") is known


@pytest.mark.parametrize("word", [*Status, "in_progress", "In Progress", "done", "", None, 7])
def test_the_schema_and_the_door_know_the_same_words_for_a_status(ask: Callable[..., Any], word: Any) -> None:
    message = sample("worklist.update_status", "worklist.update_status")
    message["parameters"]["worklist_item"]["status"] = word
    known = not findings("worklist.update_status", message)
    assert (ask(message).get("code") != "validation") is known


# --- what is answered


def story(ask: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """A reply of every kind and every code, from the door itself."""
    item = create("accession_number", "ACC001")
    update = sample("worklist.update_item", "worklist.update_item")
    update["parameters"]["worklist_item"]["accession_number"] = "ACC001"
    status = sample("worklist.update_status", "worklist.update_status")
    status["parameters"]["worklist_item"]["accession_number"] = "ACC001"
    cancel = sample("worklist.cancel_item", "worklist.cancel_item")
    cancel["parameters"]["worklist_item"]["accession_number"] = "ACC001"
    return [
        ask(message)
        for message in (
            item,
            item,
            item | {"action_id": "other"},
            create("participant.name", "OTHER") | {"action_id": "conflict"},
            create("procedure.modality", "CT"),
            update,
            update | {"schema_version": 2, "action_id": "version"},
            cancel,
            cancel | {"action_id": "again"},
            status | {"action_id": "late"},
            create("accession_number", "A" * 17) | {"action_id": "invalid"},
            {"action_id": "unknown", "action_type": "worklist.delete_item"},
            {**cancel, "action_id": "nobody", "parameters": {"worklist_item": {"accession_number": "NOBODY"}}},
            {"action_type": "echo", "x": [None]},
            {"action_type": "health"},
            "{",
            '{"action_type": "worklist.create_item"}',
        )
    ]


def test_each_reply_of_the_door_is_exactly_one_of_the_contract_s(ask: Callable[..., Any]) -> None:
    replies = story(ask)
    assert [len(names(reply)) for reply in replies] == [1] * len(replies), replies
    assert {name for reply in replies for name in names(reply)} == set(REPLIES)
    assert {reply["status"] for reply in replies} == {
        "created",
        "exists",
        "updated",
        "cancelled",
        "error",
        "echo",
        "ok",
    }
    assert all("gateway_version" in reply and "received_at" in reply for reply in replies if reply["status"] != "echo")


def test_each_code_is_listed_with_its_meaning_and_what_to_do_and_there_is_no_other(
    ask: Callable[..., Any], gateway: Gateway
) -> None:
    def fails() -> dict[str, Any]:
        raise OSError

    broken = ActionDoor(gateway, SiteClock(ZoneInfo("Europe/London")), fails)
    replies = [*story(ask), json.loads(broken.answer('{"action_type": "health"}'))]
    assert {reply["code"] for reply in replies if reply["status"] == "error"} == set(ERROR_CODES)
    assert all(told.meaning and told.remedy for told in ERROR_CODES.values())


def test_a_refusal_of_a_code_that_is_not_listed_is_none_that_the_web_app_can_meet() -> None:
    def every(kind: type[GatewayError]) -> set[type[GatewayError]]:
        return {kind}.union(*(every(sub) for sub in kind.__subclasses__()))

    codes = {kind.code for kind in every(Refusal) if kind.__module__ in ("gateway.errors", "gateway.actions.door")}
    assert codes - ERROR_CODES.keys() == {"refused", "other_patient"}  # the base; and linking a step, by an operator


def test_what_the_listener_says_in_the_door_s_place_is_a_reply_of_the_contract() -> None:
    assert names(UNANSWERED) == ["failed"]


def test_retryable_is_what_the_code_s_entry_says(ask: Callable[..., Any]) -> None:
    for reply in story(ask):
        if reply["status"] == "error":
            assert reply["retryable"] is ERROR_CODES[reply["code"]].retryable
    assert UNANSWERED["retryable"] is ERROR_CODES[UNANSWERED["code"]].retryable


def test_health_as_it_is_really_told_is_as_the_schema_says() -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("?")

    checks = {"store": lambda: {"ok": True, "position": 1}, "disk": lambda: {"ok": True, "warning": "!"}, "x": broken}
    told = Health(checks).report()
    assert names({"status": "ok", "action_id": None, "health": json.loads(json.dumps(told))}) == ["health_told"]


# --- what is told, and its acknowledgement


def test_each_event_that_leaves_is_as_its_schema_says(gateway: Gateway) -> None:
    schedule(gateway)
    for status in (Status.IN_PROGRESS, Status.COMPLETED):
        gateway.correct_status("ACC001", status, reason="test", operator="test")
    told = {"series_count": 1, "image_count": 4, "entrance_dose_mgy": 5.8}
    rows = [replace(row, performed=numbers) for row in gateway.find_updates() for numbers in ({}, told)]
    assert len(rows) == 4
    for number, row in enumerate(rows, 1):
        event = json.loads(event_text(row, Attempt(number, "2026-11-23T10:00:00.1+00:00")))
        assert findings("mpps.status_update", event) == []


def test_each_count_and_dose_of_a_performed_step_is_in_the_schema_with_its_kind_of_number() -> None:
    table = dict(re.findall(r"^    ([a-z0-9_]+) +(integer|number) {2}", performed.__doc__ or "", re.MULTILINE))
    properties = VALIDATORS["mpps.status_update"].schema["$defs"]["Performed"]["properties"]
    assert {"key": "number"} | {name: schema["type"] for name, schema in properties.items()} == table


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_an_acknowledgement_does_what_its_entry_says(word: str) -> None:
    meaning = read_acknowledgement(json.dumps({"status": word, "event_id": "e"}), "e").meaning
    begins = {Meaning.SETTLED: "settled", Meaning.PARKED: "parked", Meaning.RETRIED: "sent again"}
    assert WORDS[word].startswith(begins[meaning])
