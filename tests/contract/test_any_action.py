"""Whatever is sent, its reply is one of the contract's; and what the schemas take, the door takes too."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from contract_support import findings, names, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.actions.door import ActionDoor
from gateway.actions.times import SiteClock
from gateway.application import opened
from gateway.contract.catalogue import MESSAGES, Kind

REPORT = {"healthy": True, "version": "0", "listener_uptime_seconds": 0, "checks": {}}
ACTIONS = [
    sample(name, message.name) for message in MESSAGES if message.kind is Kind.ACTION for name in message.samples
]
SCHEMA_OF = {"worklist.create_test_item": "worklist.create_item"} | {
    message.name: message.name for message in MESSAGES if message.kind is Kind.ACTION
}

TEXTS = (
    st.text(max_size=70)
    | st.from_regex(r"[A-Z^=\\ ]{0,70}", fullmatch=True)
    | st.from_regex(r"[0-9]{4,8}", fullmatch=True)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A sample with another value somewhere, or without one."""
    message = copy.deepcopy(draw(st.sampled_from(ACTIONS)))
    *parents, last = draw(st.sampled_from(list(places(message))))
    place = message
    for name in parents:
        place = place[name]
    if draw(st.booleans()):
        place[last] = draw(VALUES)
    else:
        del place[last]
    return message


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActionDoor]:
    path: Path = tmp_path_factory.mktemp("door") / "gateway.db"
    with opened(path) as gateway:
        yield ActionDoor(gateway, SiteClock(ZoneInfo("Europe/London")), lambda: REPORT)


def is_no_day(message: dict[str, Any], reply: dict[str, Any]) -> bool:
    """A date or time that is written as one, and that the calendar does not have."""
    return str(reply["field"]).rsplit(".", 1)[-1] in ("date", "birth_date", "starts_at")


@pytest.mark.slow
@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(message=spoilt())
def test_what_a_schema_takes_is_no_mistake_to_the_door(door: ActionDoor, message: dict[str, Any]) -> None:
    reply = json.loads(door.answer(json.dumps(message)))
    assert len(names(reply)) == 1, reply
    schema = SCHEMA_OF.get(str(message.get("action_type")))
    if schema is None or reply["status"] != "error":
        return
    mistaken = reply["code"] in ("validation", "unsupported_version", "unsupported_action", "malformed")
    assert not mistaken or findings(schema, message) or is_no_day(message, reply), (reply, message)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(frame=st.text(max_size=50) | st.binary(max_size=20) | VALUES.map(json.dumps))
def test_whatever_comes_is_answered_in_the_contract_s_words(door: ActionDoor, frame: str | bytes) -> None:
    assert len(names(json.loads(door.answer(frame)))) == 1
