"""Whatever comes, exactly one reply of the contract goes back, and nothing of what was sent gets into the log."""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from actions_support import ask, create, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.actions import limits
from gateway.actions.door import MAXIMUM_SIZE, ActionDoor
from gateway.actions.limits import Allowance
from gateway.actions.times import SiteClock
from gateway.application import Gateway, opened

STATUSES = {"created", "exists", "updated", "cancelled", "echo", "ok", "error"}
CODES = {
    "malformed",
    "unsupported_version",
    "unsupported_action",
    "validation",
    "action_id_conflict",
    "accession_conflict",
    "not_found",
    "illegal_transition",
}
"""The final ones: `internal` would be our fault."""

MANY = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def strictly(text: str) -> Any:
    """JSON as JavaScript reads it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def is_of_the_contract(reply: dict[str, Any]) -> None:
    assert reply["status"] in STATUSES
    if reply["status"] == "error":
        assert reply["code"] in CODES
        assert reply["retryable"] is False
        assert reply["message"]
        assert {"action_id", "field", "received_at", "gateway_version"} <= reply.keys()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)

ACTION_TYPES = (
    "echo",
    "health",
    "worklist.create_item",
    "worklist.create_test_item",
    "worklist.update_item",
    "worklist.update_status",
    "worklist.cancel_item",
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key of a message."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from leaves(inner, (*path, name))


@st.composite
def damaged_actions(draw: st.DrawFn) -> dict[str, Any]:
    """A sample of the contract with up to three values replaced or removed."""
    message = draw(st.sampled_from(SAMPLES))
    message = json.loads(json.dumps(message)) | {"action_id": draw(st.uuids().map(str))}
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(list(leaves(message)) or [("action_type",)]))
        place = message
        for name in parents:
            place = place[name]
        if draw(st.booleans()):
            place[last] = draw(values)
        else:
            place.pop(last, None)
    return message


SAMPLES = [sample(f"actions/{name}.json") for name in (*ACTION_TYPES, "worklist.create_item.extended")]
objects = st.fixed_dictionaries(
    {}, optional={"action_id": values, "action_type": st.sampled_from(ACTION_TYPES) | values, "parameters": values}
)
frames = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    values.map(json.dumps),
    objects.map(json.dumps),
    damaged_actions().map(json.dumps),
)


@pytest.mark.slow
@MANY
@given(frame=frames)
def test_any_frame_gets_exactly_one_reply_with_a_documented_status_and_code(
    door: ActionDoor, frame: str | bytes
) -> None:
    is_of_the_contract(strictly(door.answer(frame)))


secrets = st.text("abcdefghijklmnopqrstuvwxyzÄÖ^= ", min_size=1, max_size=8).map(lambda text: f"Ω{text}Ω")


@st.composite
def telling_actions(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """A sample whose values, right or wrong, can be recognised; and those values."""
    message = json.loads(json.dumps(draw(st.sampled_from(SAMPLES))))
    told = []
    for *parents, last in list(leaves(message)):
        place = message
        for name in parents:
            place = place[name]
        if not isinstance(place[last], dict) and draw(st.integers(0, 3)) == 0 and last != "accession_number":
            secret = draw(secrets)
            place[last] = secret if draw(st.booleans()) else {"x": [secret]}
            told.append(secret)
    if draw(st.booleans()) or not isinstance(message.get("action_id"), str):
        message["action_id"] = draw(st.none() | st.uuids().map(str))
    return message, told


def written(log: io.StringIO) -> str:
    """All that was logged, as text without JSON's escapes."""
    return "\n".join(str(json.loads(line)) for line in log.getvalue().splitlines())


@pytest.mark.slow
@MANY
@given(given_action=telling_actions())
def test_no_value_of_a_message_gets_into_the_log(
    door: ActionDoor, written_log: io.StringIO, given_action: tuple[dict[str, Any], list[str]]
) -> None:
    message, told = given_action
    told = [secret for secret in told if secret != message.get("action_id")]
    written_log.seek(0)
    written_log.truncate()  # examples share it, and an action_id may be logged
    door.answer(json.dumps(message))
    log = written(written_log)
    assert [secret for secret in told if secret in log] == []


def test_the_participant_of_a_create_is_neither_in_the_log_nor_on_the_timeline(
    door: ActionDoor, gateway: Gateway, written_log: io.StringIO
) -> None:
    ask(door, create(participant={"sex": "X"}))
    ask(door, create("create-2"))
    told = written(written_log) + repr(gateway.timeline("ACC001"))
    assert [value for value in ("9990000018", "SMITH", "19650315") if value in told] == []


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"action_type": "echo"}', b"\xff\xfe\x00"])
def test_a_binary_frame_is_malformed(door: ActionDoor, frame: bytes) -> None:
    assert ask(door, frame)["message"] == "the message is binary, not a text frame"


@pytest.mark.parametrize("text", ["", " ", "{", "SMITH^JANE", '{"a": NaN}', '{"a": 1,}', "\ufeff{}", "{}{}"], ids=repr)
def test_what_is_not_json_is_malformed(door: ActionDoor, text: str) -> None:
    reply = ask(door, text)
    assert (reply["code"], reply["message"], reply["action_id"]) == ("malformed", "the message is not JSON", None)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"echo"', "true", '[{"action_type": "echo"}]'])
def test_json_that_is_no_object_is_malformed(door: ActionDoor, text: str) -> None:
    assert ask(door, text)["message"] == "the message is not a JSON object"


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
@pytest.mark.parametrize("action_type", ["echo", "worklist.create_item"])
def test_a_number_that_becomes_infinite_is_malformed_since_no_reply_could_repeat_it(
    door: ActionDoor, number: str, action_type: str
) -> None:
    assert math.isinf(float(number))
    text = door.answer(f'{{"action_type": "{action_type}", "action_id": "a", "x": {number}}}')
    assert strictly(text)["code"] == "malformed"


@pytest.mark.parametrize("depth", [80, 120, 480, 960, 985, 990, 991, 992, 993, 994, 995, 1000, 5000, 20000])
@pytest.mark.parametrize("action_type", ["echo", "health", "worklist.create_item"])
def test_however_deep_a_message_is_nested_it_is_answered(door: ActionDoor, action_type: str, depth: int) -> None:
    nested = f'{{"action_type": "{action_type}", "action_id": "d", "parameters": {"[" * depth}{"]" * depth}}}'
    reply = strictly(door.answer(nested))
    is_of_the_contract(reply)
    assert (reply.get("code") == "malformed") == (depth > 100)


@pytest.mark.parametrize("identity", [{}, {"action_id": "a"}], ids=["without action_id", "with action_id"])
@pytest.mark.parametrize(
    "action_type",
    ["\ud800", "x\x00y", "SMITH^JANE", ["9990000018"], "é" * 100],
    ids=["half a character", "control characters", "a name", "a list", "long"],
)
def test_an_action_type_that_can_be_no_name_is_answered_and_kept_out_of_log_and_timeline(
    door: ActionDoor, gateway: Gateway, written_log: io.StringIO, action_type: Any, identity: dict[str, str]
) -> None:
    reply = ask(door, {"action_type": action_type, **identity})
    assert reply["code"] == ("unsupported_action" if identity else "validation")
    [row] = gateway.timeline("")
    assert not row.details.get("action_type")
    assert "9990000018" not in written_log.getvalue()
    assert "SMITH" not in written_log.getvalue()


def test_an_action_type_that_is_only_misspelt_is_told_on_the_timeline(door: ActionDoor, gateway: Gateway) -> None:
    ask(door, {"action_type": "worklist.creat_item", "action_id": "a"})
    assert gateway.timeline("")[0].details["action_type"] == "worklist.creat_item"


def padded(size: int, filler: str = "x") -> str:
    """An echo of exactly so many bytes."""
    empty = '{"action_type": "echo", "padding": ""}'
    room = size - len(empty.encode())
    text = filler * (room // len(filler.encode()))
    return empty.replace('""', f'"{text.ljust(len(text) + room - len(text.encode()), "x")}"')


@pytest.mark.parametrize("filler", ["x", "é", "𝄞"], ids=["1 byte", "2 bytes", "4 bytes"])
def test_a_message_of_64_kib_is_read_and_one_byte_more_is_malformed(door: ActionDoor, filler: str) -> None:
    fits, too_large = padded(MAXIMUM_SIZE, filler), padded(MAXIMUM_SIZE + 1, filler)
    assert (len(fits.encode()), len(too_large.encode())) == (65536, 65537)
    assert ask(door, fits)["payload"]["padding"].startswith(filler)
    reply = ask(door, too_large)
    assert (reply["code"], reply["message"]) == ("malformed", "the message is larger than 65536 bytes")


def test_of_a_message_that_is_too_large_the_size_the_hash_and_the_beginning_are_kept(
    door: ActionDoor, gateway: Gateway, database: Path
) -> None:
    ask(door, padded(4 * 1024 * 1024))
    with gateway.reading() as connection:
        state = bytes(connection.execute("SELECT state FROM stored_events").fetchone()[0]).decode()
    assert "4194304 bytes, SHA-256 " in state
    assert len(state) < 24 * 1024


# --- the bound on what strangers can make us write down


@contextmanager
def door_with(allowance: Allowance) -> Iterator[tuple[ActionDoor, Gateway]]:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "gateway.db") as gateway:
        door = ActionDoor(gateway, SiteClock(ZoneInfo("Europe/London")), dict)
        door._unidentified = allowance
        yield door, gateway


def test_messages_without_identity_are_kept_up_to_the_bound_and_always_answered(written_log: io.StringIO) -> None:
    with door_with(Allowance(burst=5, per_minute=0)) as (door, gateway):
        replies = [ask(door, "nonsense") for _ in range(8)]
        assert {reply["code"] for reply in replies} == {"malformed"}
        assert len(gateway.timeline("")) == 5
    assert written(written_log).count("refusal_not_kept") == 3


def test_a_refusal_with_an_action_id_is_kept_beyond_that_bound() -> None:
    with door_with(Allowance(burst=0, per_minute=0)) as (door, gateway):
        ask(door, {"action_id": "a", "action_type": "no-op"})
        assert len(gateway.timeline("")) == 1


def test_the_bound_is_a_hundred_at_once_and_one_a_second_after_that(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    allowance = Allowance(burst=100, per_minute=60)
    assert [allowance.take() for _ in range(101)] == [True] * 100 + [False]
    now[0] += 3.0
    assert [allowance.take() for _ in range(4)] == [True] * 3 + [False]
    now[0] += 3600.0
    assert [allowance.take() for _ in range(101)] == [True] * 100 + [False]


def test_a_store_that_is_lost_is_answered_as_internal_and_retryable(door: ActionDoor, gateway: Gateway) -> None:
    gateway.close()
    gateway.path.unlink()
    gateway.path.mkdir()
    reply = ask(door, create())
    assert (reply["status"], reply["code"], reply["retryable"], reply["action_id"]) == (
        "error",
        "internal",
        True,
        "create-1",
    )


def test_and_a_malformed_message_is_answered_all_the_same(door: ActionDoor, gateway: Gateway) -> None:
    gateway.close()
    gateway.path.unlink()
    gateway.path.mkdir()
    assert ask(door, "nonsense")["code"] == "malformed"


def test_times_in_replies_are_utc_with_their_zone(door: ActionDoor) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", ask(door, create())["received_at"])
