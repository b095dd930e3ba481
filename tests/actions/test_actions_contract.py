"""Every sample of the wire contract gets the reply that the contract shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from actions_support import CONTRACT, action, ask, create, replaced, sample

from gateway import __version__
from gateway.actions.door import ActionDoor
from gateway.application import Gateway

ORIGINAL = Path(__file__).parents[3] / "shared" / "contract"
CREATED = sample("replies/created.json")


def texts(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*.json"))}


def test_the_contract_s_samples_are_among_these_unchanged_where_it_is_at_hand() -> None:
    assert not ORIGINAL.is_dir() or texts(ORIGINAL).items() <= texts(CONTRACT).items()


def holds(reply: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: reply[name] for name in expected} == expected


def also_says_when_and_by_what_version(reply: dict[str, Any]) -> None:
    assert reply["gateway_version"] == __version__
    assert reply["received_at"].endswith("+00:00")


@pytest.mark.parametrize("name", ["create_item", "create_item.extended", "create_test_item"])
def test_a_create_is_answered_created(door: ActionDoor, name: str) -> None:
    message = sample(f"actions/worklist.{name}.json")
    reply = ask(door, message)
    holds(reply, CREATED | {"action_id": message["action_id"]})
    also_says_when_and_by_what_version(reply)


def test_the_same_create_once_more_is_answered_created_duplicate(door: ActionDoor) -> None:
    message = sample("actions/worklist.create_item.json")
    ask(door, message)
    holds(ask(door, message), sample("replies/created.duplicate.json"))


def test_the_same_content_under_another_action_id_is_answered_exists(door: ActionDoor) -> None:
    message = sample("actions/worklist.create_item.json")
    expected = sample("replies/exists.json")
    ask(door, message)
    holds(ask(door, message | {"action_id": expected["action_id"]}), expected)


def test_an_update_and_then_a_cancellation_are_answered_updated_and_cancelled(door: ActionDoor) -> None:
    ask(door, sample("actions/worklist.create_item.json"))
    update = sample("actions/worklist.update_item.json")
    holds(ask(door, update), sample("replies/updated.json") | {"action_id": update["action_id"]})
    holds(ask(door, sample("actions/worklist.cancel_item.json")), sample("replies/cancelled.json"))


def test_a_status_is_answered_updated(door: ActionDoor) -> None:
    ask(door, sample("actions/worklist.create_item.json"))
    holds(ask(door, sample("actions/worklist.update_status.json")), sample("replies/updated.json"))


def test_an_echo_is_answered_with_the_whole_request_and_nothing_else(door: ActionDoor) -> None:
    assert ask(door, sample("actions/echo.json")) == sample("replies/echo.json")


def test_an_echo_touches_no_database(door: ActionDoor, gateway: Gateway) -> None:
    gateway.close()
    gateway.path.unlink()
    assert ask(door, {"action_type": "echo", "x": [1, None, "é"]})["status"] == "echo"
    assert not gateway.path.exists()


def test_health_is_answered_with_the_gateway_s_health(door: ActionDoor) -> None:
    reply = ask(door, sample("actions/health.json"))
    expected = sample("replies/health.json")
    holds(reply, {name: expected[name] for name in ("status", "action_id")})
    assert reply["health"]["healthy"] is True
    also_says_when_and_by_what_version(reply)


def test_health_needs_no_action_id(door: ActionDoor) -> None:
    assert ask(door, {"action_type": "health"})["action_id"] is None


def test_what_is_no_json_object_is_answered_malformed(door: ActionDoor) -> None:
    holds(ask(door, "[]"), sample("replies/malformed.json"))


def test_an_accession_number_of_17_characters_is_answered_with_the_contract_s_error(door: ActionDoor) -> None:
    expected = sample("replies/error.json")
    holds(ask(door, create(expected["action_id"], "A" * 17)), expected)


@pytest.mark.parametrize("name", sorted(texts(CONTRACT)))
def test_every_sample_is_a_json_object(name: str) -> None:
    assert isinstance(sample(name), dict)


@pytest.mark.parametrize(
    "version", [1, "1", "1.0", 1.0, 1.7, "1.7"], ids=lambda version: f"{type(version).__name__} {version}"
)
def test_every_schema_version_with_major_1_is_known(door: ActionDoor, version: object) -> None:
    assert ask(door, create() | {"schema_version": version})["status"] == "created"


@pytest.mark.parametrize("version", [2, "2.0", 0, "", None, True, [1], {}, "one"], ids=repr)
def test_any_other_schema_version_is_unsupported(door: ActionDoor, version: object) -> None:
    reply = ask(door, create() | {"schema_version": version})
    holds(reply, {"status": "error", "code": "unsupported_version", "field": "schema_version", "retryable": False})


@pytest.mark.parametrize("action_type", ["worklist.delete_item", "no-op", "ECHO", "", None, 7, [], {}], ids=repr)
def test_an_action_that_there_is_not_is_unsupported(door: ActionDoor, action_type: object) -> None:
    reply = ask(door, {"action_id": "a", "action_type": action_type})
    holds(reply, {"status": "error", "action_id": "a", "code": "unsupported_action", "field": "action_type"})


def test_keys_that_nobody_knows_are_ignored_at_every_level(door: ActionDoor) -> None:
    message = create()
    for path in ("", "parameters.", "parameters.worklist_item.", "parameters.worklist_item.participant."):
        message = replaced(message, f"{path}of_a_later_version", {"x": 1})
    assert ask(door, message)["status"] == "created"


def test_a_test_item_is_stored_and_marked_and_counted_apart(door: ActionDoor, gateway: Gateway) -> None:
    ask(door, sample("actions/worklist.create_test_item.json"))
    assert (gateway.count_by_status(), gateway.count_by_status(is_test=True)) == ({}, {"SCHEDULED": 1})


def test_a_refusal_is_kept_with_its_code_on_the_timeline_of_the_number_it_named(
    door: ActionDoor, gateway: Gateway
) -> None:
    ask(door, action("u1", "update_status", status="in progress"))
    [row] = gateway.timeline("ACC001")
    assert (row.kind, row.details["code"], row.details["action_id"]) == ("RelayAction.Rejected", "not_found", "u1")


def test_a_refused_message_is_kept_as_it_came(door: ActionDoor, gateway: Gateway) -> None:
    text = json.dumps(create("bad", "A" * 17))
    door.answer(text)
    with gateway.reading() as connection:
        states = [bytes(row[0]) for row in connection.execute("SELECT state FROM stored_events")]
    assert json.dumps(text).encode() in states[0]


def test_echo_and_health_are_told_from_what_is_saved_so_that_they_need_not_wait_for_it() -> None:
    assert ActionDoor.only_looks('{"action_type": "echo", "timestamp": "2026-07-07T09:00:00"}')
    assert ActionDoor.only_looks('{"action_id": "echo", "action_type": "health"}')
    for frame in ('{"action_id": "echo", "action_type": "worklist.create_item"}', '"echo"', "{", "", b"{}", "[]"):
        assert not ActionDoor.only_looks(frame)
    assert not ActionDoor.only_looks('{"action_type": "echo", "padding": "' + "x" * 5000 + '"}')
