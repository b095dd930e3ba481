"""Somebody is away, comes back, or behaves badly: status events wait, keep their order, and arrive."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.end_to_end.harness import (
    CONTRACT,
    GatewayProcess,
    LocalRelay,
    RelayProcess,
    ask,
    create_item,
    running,
    until,
)
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import (
    WebApp,
    answers_in_binary,
    answers_without_end,
    closes_at_once,
    drops_the_line,
    hears_and_closes,
    rude_web_app,
    settled,
    web_app,
)

pytestmark = pytest.mark.slow

BOTH = ("IN PROGRESS", "COMPLETED")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_events_wait_for_a_web_app_that_is_away_and_come_in_order_after_a_restart(
    gateway: GatewayProcess, relay: LocalRelay, unit: Unit, number: signal.Signals
) -> None:
    for accession_number in ("ACC1", "ACC2", "ACC3"):
        gateway.ask(create_item(accession_number))
        unit.perform(accession_number)
    gateway.until_said("status_update_not_delivered")
    expected = [(number, sequence, "waiting") for number in ("ACC1", "ACC2", "ACC3") for sequence in (1, 2)]
    assert sorted(gateway.owed()) == expected
    answer = gateway.health()
    assert answer is not None
    assert (answer[0], answer[1]["checks"]["outbox"]["waiting"]) == (200, 6)

    if number == signal.SIGKILL:
        gateway.kill()
    else:
        assert gateway.stop(number) == 0
    assert sorted(gateway.owed()) == expected
    gateway.start()

    with web_app(relay.connection("events")) as listener:
        for accession_number in ("ACC1", "ACC2", "ACC3"):
            events = listener.until_told(accession_number, *BOTH, seconds=30)
            assert [event["sequence"] for event in events] == [1, 2]
        gateway.until_settled()
    assert len(listener.arrived) == 6
    gateway.assert_sound()


def test_events_and_actions_go_on_after_the_relay_was_killed_and_came_back(
    relay_process: RelayProcess, tmp_path: Path
) -> None:
    relay, gateway = relay_process, GatewayProcess(tmp_path / "gateway", relay_process)
    with running(gateway):
        gateway.start()
        unit = Unit(gateway.dicom_port)
        gateway.ask(create_item("ACC1"))
        relay.kill()
        gateway.until_health(lambda report: not report["healthy"], "health says that nothing is heard")
        answer = gateway.health()
        assert answer is not None
        status, report = answer
        assert (status, report["checks"]["relay"]["ok"]) == (503, False)
        assert report["checks"]["relay"]["error"]
        assert report["checks"]["dicom"]["ok"]
        unit.perform("ACC1")
        relay.start()
        with web_app(relay.connection("events")) as listener:
            gateway.until_health(lambda report: report["healthy"], "it hears again", 30)
            assert gateway.ask(create_item("ACC2"))["status"] == "created"
            listener.until_told("ACC1", *BOTH, seconds=30)
        gateway.assert_sound()
        answer = gateway.health()
        assert answer is not None
        assert answer[1]["checks"]["relay"]["reconnects"] >= 1


def test_a_gateway_that_starts_before_its_relay_serves_dicom_and_hears_later(tmp_path: Path) -> None:
    relay = LocalRelay()
    gateway = GatewayProcess(tmp_path / "gateway", relay)
    try:
        with running(gateway):
            gateway.start(healthy=False)
            answer = gateway.health()
            assert answer is not None
            assert answer[0] == 503
            assert Unit(gateway.dicom_port).echo() == 0
            relay.start()
            gateway.until_health(lambda report: report["healthy"], "it hears", 30)
            assert gateway.ask(create_item("ACC1"))["status"] == "created"
    finally:
        relay.close()


def test_a_web_app_that_comes_and_goes_gets_everything_once_and_in_order(
    gateway: GatewayProcess, relay: LocalRelay, unit: Unit
) -> None:
    told: list[list[dict[str, Any]]] = []
    for accession_number in ("ACC1", "ACC2"):
        gateway.ask(create_item(accession_number))
        uid = unit.start(accession_number)
        with web_app(relay.connection("events")) as listener:
            until(lambda found=listener: len(found.arrived) == (1 if not told else 2), "it hears what waited", 30)
            gateway.until_settled()
        told.append(listener.arrived)
        unit.finish(uid)
    with web_app(relay.connection("events")) as listener:
        listener.until_told("ACC2", "COMPLETED", seconds=30)
    heard = [(e["data"]["accession_number"], e["data"]["status"]) for visit in (*told, listener.arrived) for e in visit]
    assert len(heard) == 4
    for accession_number in ("ACC1", "ACC2"):
        assert [status for number, status in heard if number == accession_number] == [*BOTH]


ACKS = {path.stem: json.loads(path.read_text()) for path in CONTRACT.glob("acks/*.json")}
SETTLING, RETRIED = {"updated", "ok"}, {"error"}


def test_each_acknowledgement_of_the_contract_settles_parks_or_repeats_and_later_events_still_go(
    gateway: GatewayProcess, relay: LocalRelay, unit: Unit
) -> None:
    """The first event of each item is answered by its own sample, all others are settled."""
    numbers = {name: f"ACK{index:02d}" for index, name in enumerate(sorted(ACKS))}
    names = {number: name for name, number in numbers.items()}

    def answer(event: dict[str, Any]) -> Any:
        name = names[event["data"]["accession_number"]]
        if event["sequence"] == 2 or (name in RETRIED and event["attempt"] > 2):
            return settled(event)
        echoed = {"event_id": event["event_id"]} if "event_id" in ACKS[name] else {}
        return ACKS[name] | echoed

    with web_app(relay.connection("events"), answer) as listener:
        for number in numbers.values():
            gateway.ask(create_item(number))
            unit.perform(number)
        for name, number in numbers.items():
            tries = 3 if name in RETRIED else 1
            listener.until_told(number, *["IN PROGRESS"] * tries, "COMPLETED", seconds=30)
        gateway.until_settled()

    parked = {numbers[name] for name in ACKS.keys() - SETTLING - RETRIED}
    assert sorted(gateway.owed()) == [(number, 1, "parked") for number in sorted(parked)]
    with gateway.store() as store:
        reasons = {row.accession_number: row.answer for row in store.find_updates(state="parked")}
    assert reasons == {numbers[name]: ACKS[name]["status"] for name in ACKS.keys() - SETTLING - RETRIED}
    health = gateway.health()
    assert health is not None
    status, report = health
    assert (status, report["checks"]["outbox"]["parked"]) == (200, len(parked))
    assert [warning for warning in report["warnings"] if "refused" in warning]
    shown = gateway.command("outbox", "list", "--state", "parked").stdout
    assert all(number in shown for number in parked)

    arrived = len(listener.arrived)
    gateway.restart()
    with web_app(relay.connection("events")) as later:
        gateway.ask(create_item("AFTER"))
        unit.perform("AFTER")
        later.until_told("AFTER", *BOTH)
    assert arrived == len(numbers) * 2 + 2 * len(RETRIED)
    assert {event["data"]["accession_number"] for event in later.arrived} == {"AFTER"}, "what is parked stays parked"


def test_answers_that_are_none_are_retried_until_one_is(gateway: GatewayProcess, relay: LocalRelay, unit: Unit) -> None:
    other = "00000000-0000-0000-0000-000000000000"
    answers = [
        "",
        "thanks",
        "[]",
        '{"status": 1}',
        '{"status": "ok"}',
        json.dumps({"status": "updated", "event_id": other}),
    ]
    numbers = [f"ODD{index}" for index in range(len(answers))]

    def answer(event: dict[str, Any]) -> Any:
        return settled(event) if event["attempt"] > 1 else answers[numbers.index(event["data"]["accession_number"])]

    with web_app(relay.connection("events"), answer) as listener:
        for number in numbers:
            gateway.ask(create_item(number))
            unit.start(number)
        for number in numbers:
            listener.until_told(number, "IN PROGRESS", "IN PROGRESS")
        gateway.until_settled()
    assert {event["event_id"] for event in listener.arrived} == {
        listener.of(number)[0]["event_id"] for number in numbers
    }


def test_rude_web_apps_are_tried_again_and_lose_nothing(gateway: GatewayProcess, relay: LocalRelay, unit: Unit) -> None:
    conducts = (closes_at_once, hears_and_closes, drops_the_line, answers_in_binary, answers_without_end)
    for conduct in conducts:
        number = f"RUDE{conducts.index(conduct)}"
        gateway.ask(create_item(number))
        with rude_web_app(relay.connection("events"), conduct) as rude:
            unit.perform(number)
            until(lambda found=rude: found.visits >= 2, f"the gateway has come twice to one who {conduct.__name__}", 30)
            assert unit.echo() == 0
    assert len(gateway.owed("waiting")) == 2 * len(conducts)
    gateway.restart()
    with web_app(relay.connection("events")) as listener:
        for index in range(len(conducts)):
            events = listener.until_told(f"RUDE{index}", *BOTH, seconds=30)
            assert events[0]["attempt"] > 1
        gateway.until_settled()
    gateway.assert_sound()


def test_a_web_app_that_never_answers_one_event_hears_of_all_other_items(
    gateway: GatewayProcess, relay: LocalRelay, unit: Unit
) -> None:
    heard: list[tuple[str, str]] = []

    async def answers_others(websocket: ClientConnection) -> None:
        event = json.loads(await websocket.recv())
        heard.append((event["data"]["accession_number"], event["data"]["status"]))
        if event["data"]["accession_number"] == "SILENCE":
            await websocket.wait_closed()
        await websocket.send(json.dumps(settled(event)))
        await websocket.wait_closed()

    gateway.ask(create_item("SILENCE"))
    with rude_web_app(relay.connection("events"), answers_others):
        unit.perform("SILENCE")
        for index in range(5):
            gateway.ask(create_item(f"OTHER{index}"))
            unit.perform(f"OTHER{index}")
        until(lambda: len(heard) == 11, "it has heard of the others")
        until(lambda: len(gateway.owed()) == 2, "the others are settled")
        assert gateway.owed() == [("SILENCE", 1, "waiting"), ("SILENCE", 2, "waiting")]
        assert heard.count(("SILENCE", "IN PROGRESS")) == 1
        answer = gateway.health()
        assert answer is not None
        assert answer[0] == 200
    with web_app(relay.connection("events")) as listener:
        [first, _] = listener.until_told("SILENCE", *BOTH, seconds=30)
        assert first["attempt"] == 2


def test_a_stop_while_an_event_is_under_way_loses_nothing_and_does_not_wait_for_ever(
    gateway: GatewayProcess, unit: Unit, listening: WebApp
) -> None:
    gateway.ask(create_item("ACC1"))
    unit.perform("ACC1")
    listening.until_told("ACC1", *BOTH)
    gateway.until_settled()
    gateway.ask(create_item("ACC2"))
    listening.answer = lambda _: ""
    uid = unit.start("ACC2")
    until(lambda: listening.of("ACC2"), "the event is under way")
    unit.finish(uid)
    assert gateway.stop() == 0
    assert [state for _, _, state in gateway.owed()] == ["waiting", "waiting"]
    before = len(listening.of("ACC2"))
    listening.answer = settled
    gateway.start()
    gateway.until_settled()
    assert set(listening.statuses("ACC2")[:before]) == {"IN PROGRESS"}
    assert listening.statuses("ACC2")[before:] == [*BOTH]


def test_an_action_sent_while_the_gateway_is_away_is_refused_by_the_relay_and_taken_afterwards(
    gateway: GatewayProcess, relay: LocalRelay
) -> None:
    from relay import RelayError

    gateway.stop()
    message = create_item("ACC1")
    with pytest.raises(RelayError) as refused:
        ask(relay.connection("actions"), message)
    assert refused.value.status == 404
    gateway.start()
    assert gateway.ask(message)["status"] == "created"
    assert "duplicate" not in gateway.ask(create_item("ACC2"))
