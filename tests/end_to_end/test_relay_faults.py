"""The relay misbehaves and the real service mends itself: nothing is lost, nobody restarts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import RelayError
from relay.emulator import CATALOGUE
from tests.end_to_end.harness import GatewayProcess, LocalRelay, ask, create_item, impatient, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp
from tests.patient_loop import PatientClock

pytestmark = pytest.mark.slow

SCALED: dict[str, object] = {
    "gateway_relay_echo_seconds": 0.4,
    "gateway_relay_echo_timeout_seconds": 0.8,
    "gateway_relay_first_retry_seconds": 0.1,
    "gateway_relay_token_seconds": 4,
}
"""An echo a hundred times as often as by default; deafness is noticed within 2 s instead of 90."""


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    """An emulator that gives up on a rendezvous after a second instead of thirty."""
    emulator = LocalRelay(accept_window=1.0).start()
    yield emulator
    emulator.close()


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay) -> Iterator[GatewayProcess]:
    """A running gateway that proves often that it hears."""
    process = GatewayProcess(tmp_path / "gateway", relay, **SCALED)
    with running(process):
        yield process.start()


class Scheduling:
    """A web app that goes on scheduling and says each action again until it is answered.

    Where each must be answered at the first try, its `patience` has to be longer than a machine may stall.
    """

    def __init__(self, relay: LocalRelay, *, patience: float = 1) -> None:
        self.relay = relay
        self.patience = patience
        self.answered: dict[str, dict[str, Any]] = {}
        self.tries = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Scheduling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(30)

    def _work(self) -> None:
        while not self._enough.is_set():
            message = create_item(f"ACC{len(self.answered)}")
            while message["action_id"] not in self.answered:
                self.tries += 1
                try:
                    reply = ask(self.relay.connection("actions"), message, impatient(self.patience))
                except RelayError:
                    continue
                self.answered[message["action_id"]] = reply

    def until_more(self) -> None:
        """Wait until further actions were answered."""
        before = len(self.answered)
        until(lambda: len(self.answered) >= before + 5, "actions flow", 20)


def relay_check(gateway: GatewayProcess) -> dict[str, Any]:
    answer = gateway.health()
    assert answer is not None
    check: dict[str, Any] = answer[1]["checks"]["relay"]
    return check


def assert_nothing_lost(gateway: GatewayProcess, web: Scheduling) -> None:
    assert {reply["status"] for reply in web.answered.values()} == {"created"}
    assert gateway.item_count() == len(web.answered)
    gateway.assert_sound()


def test_a_deaf_control_channel_is_noticed_and_replaced_and_actions_flow_again_without_a_restart(
    gateway: GatewayProcess, relay: LocalRelay, listening: WebApp, unit: Unit
) -> None:
    first = relay_check(gateway)
    assert (first["state"], first["proven_by"], first["reconnects"]) == ("hearing", "echo", 0)
    with Scheduling(relay) as web:
        web.until_more()
        relay.begin("deaf", path="actions")
        gateway.until_said("listener_state", state="deaf")
        gateway.until_health(lambda report: report["checks"]["relay"]["reconnects"] == 1, "the channel is replaced")
        gateway.until_health(lambda report: report["healthy"], "it hears again")
        web.until_more()
    second = relay_check(gateway)
    assert second["last_proof"] > first["last_proof"]
    assert gateway.look("relay", "status")["state"] == "hearing"
    assert relay.emulator.log.outages("actions") == []
    assert web.tries > len(web.answered), "somebody asked while it was deaf"
    assert_nothing_lost(gateway, web)
    unit.perform("ACC0")
    listening.until_told("ACC0", "IN PROGRESS", "COMPLETED")
    assert gateway.kinds("ACC0")[:2] == ["WorklistItem.Scheduled", "RelayAction.Accepted"]


def test_while_it_is_deaf_health_is_503_and_says_so_and_so_does_the_command(
    gateway: GatewayProcess, relay: LocalRelay
) -> None:
    relay.begin("withhold")
    report = gateway.until_health(lambda report: report["checks"]["relay"]["state"] == "deaf", "it says it is deaf")
    assert not report["healthy"]
    assert "no echo came back" in report["checks"]["relay"]["error"]
    shown = gateway.command("relay", "status", code=1).stdout
    assert "deaf" in shown
    assert Unit(gateway.dicom_port).echo() == 0
    relay.end("withhold")
    gateway.until_health(lambda report: report["healthy"], "it hears again")
    gateway.command("relay", "status", code=0)
    assert gateway.stop() == 0
    assert "unreachable" in gateway.command("relay", "status", code=3).stderr


def test_a_silent_connection_is_left_and_actions_flow_again(gateway: GatewayProcess, relay: LocalRelay) -> None:
    with Scheduling(relay) as web:
        web.until_more()
        relay.begin("silent", path="actions")
        gateway.until_health(lambda report: report["checks"]["relay"]["reconnects"] == 1, "the channel is replaced")
        gateway.until_health(lambda report: report["healthy"], "it hears again")
        web.until_more()
    assert_nothing_lost(gateway, web)


def test_no_sender_ever_gets_a_404_because_a_token_was_renewed(tmp_path: Path, relay: LocalRelay) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", relay, **(SCALED | {"gateway_relay_token_seconds": 6}))
    with running(gateway):
        gateway.start()
        with Scheduling(relay, patience=30) as web:
            until(lambda: relay.emulator.log.count("renew", 200) >= 3, "the token is renewed three times", 60)
            web.until_more()
        assert relay_check(gateway)["reconnects"] == 0
        assert web.tries == len(web.answered)
        assert relay.emulator.log.count("connect", 404) == 0
        assert relay.emulator.log.outages("actions") == []
        assert_nothing_lost(gateway, web)


@pytest.mark.parametrize("fault", ["cut", "hang-up", "close"])
def test_by_default_a_cut_is_followed_by_a_dial_within_a_second_and_it_hears_within_five(
    tmp_path: Path, relay: LocalRelay, fault: str
) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", relay)
    with running(gateway):
        gateway.start()
        proven = relay_check(gateway)["last_proof"]
        dials = relay.emulator.log.count("listen")
        with PatientClock() as clock:
            cut_at = clock.time()
            relay.begin(fault, path="actions")
            until(lambda: relay.emulator.log.count("listen") > dials, "it is dialled again")
            assert clock.time() - cut_at < 1
            gateway.until_health(lambda report: report["checks"]["relay"]["last_proof"] > proven, "it is proven again")
            assert relay_check(gateway)["state"] == "hearing"
            assert clock.time() - cut_at < 5


# --- every fault of the catalogue, on either hybrid connection, while the web app schedules and a modality performs

Show = tuple[str, dict[str, Any]]

ON_ACTIONS: dict[str, list[Show]] = {
    "a deaf zombie": [("deaf", {})],
    "a listener that the relay has forgotten": [("deregister", {})],
    "a silent zombie": [("silent", {})],
    "a reset connection": [("cut", {})],
    "a connection closed without a word": [("hang-up", {})],
    "the recycling once a day": [("close", {"code": 1011})],
    "a hybrid connection that was disabled": [("close", {"code": 1001})],
    "an expired token": [("expire", {})],
    "garbage on the control channel": [("garbage", {}), ("garbage", {"frame": "\x00\xff", "binary": True})],
    "a relay that throttles": [("reject", {"status": 429, "retry_after": 1, "times": 2}), ("cut", {})],
    "a relay out of service": [("reject", {"status": 503, "times": 3}), ("cut", {})],
    "a name that is unknown for a while": [("reject", {"status": 404, "times": 2}), ("cut", {})],
    "a token that is refused": [("reject", {"status": 401, "times": 2}), ("cut", {})],
    "an upgrade that hangs": [("hang", {"lasting": 1.0}), ("cut", {})],
    "senders that are refused": [("reject", {"on": "connect", "status": 500, "lasting": 0.5})],
    "accept addresses that are refused": [("reject", {"on": "accept", "status": 403, "times": 2})],
    "accept addresses that hang": [("hang", {"on": "accept", "times": 2})],
    "accept addresses where nobody is": [("dead-address", {"times": 2})],
    "accept addresses that lead astray": [("stray-address", {"times": 2})],
    "a relay that is deaf for everybody": [("withhold", {"lasting": 1.5})],
    "accepts that come late": [("delay", {"seconds": 0.5, "lasting": 1.5})],
    "accepts that come twice": [("repeat-accept", {"times": 5})],
    "senders that have gone": [("gone-sender", {"times": 3})],
    "actions that come twice": [("duplicate", {"times": 5})],
    "replies that are lost": [("lost-reply", {"times": 3})],
    "replies that never come": [("lost-reply", {"cut": False, "times": 2})],
    "replies that come too late": [("late-reply", {"seconds": 1.5, "times": 2})],
    "web apps that open slowly": [("late-message", {"seconds": 0.5, "times": 5})],
    "renewals that are in vain": [("vain-renewal", {"times": 1})],
    "a clock that is wrong": [("skewed-clock", {"lasting": 1.5}), ("cut", {})],
}


class Shown:
    """Faults that were begun on a hybrid connection."""

    def __init__(self, relay: LocalRelay, path: str, faults: list[Show]) -> None:
        self._begun = [relay.begin(name, path=path, **details) for name, details in faults]

    def have_struck(self) -> bool:
        """Whether each has, as often as it should."""
        return all(fault.struck and not fault.left for fault in self._begun)


def most_dials(relay: LocalRelay, seconds: float) -> int:
    """The largest number of control channels that were dialled at `actions` within a window."""
    times = [entry.at for entry in relay.emulator.log.entries if entry.what == "listen" and entry.path == "actions"]
    return max(sum(1 for other in times if 0 <= other - start < seconds) for start in times)


@pytest.mark.parametrize("faults", ON_ACTIONS.values(), ids=ON_ACTIONS.keys())
def test_whatever_befalls_the_actions_each_is_answered_and_done_once_and_dials_are_few(
    gateway: GatewayProcess, relay: LocalRelay, faults: list[Show]
) -> None:
    with Scheduling(relay) as web:
        web.until_more()
        shown = Shown(relay, "actions", faults)
        web.until_more()
        until(lambda: not relay.emulator.faults.in_force, "the fault is over")
        until(lambda: shown.have_struck(), "the fault has struck")
        gateway.until_health(lambda report: report["healthy"], "it hears again")
        web.until_more()
    assert (most_dials(relay, 1.0) <= 3, most_dials(relay, 10.0) <= 8) == (True, True)
    assert_nothing_lost(gateway, web)


def test_every_fault_of_the_catalogue_befalls_the_actions() -> None:
    assert {name for faults in ON_ACTIONS.values() for name, _ in faults} == set(CATALOGUE)


ON_EVENTS: dict[str, list[Show]] = {
    "the web app is cut off": [("cut", {})],
    "the web app is deaf": [("withhold", {})],
    "the relay throttles": [("reject", {"on": "connect", "status": 429, "retry_after": 1, "times": 2})],
    "the relay is out of service": [("reject", {"on": "connect", "status": 503, "times": 2})],
    "the token is refused": [("reject", {"on": "connect", "status": 401, "times": 2})],
    "the web app does not come to the rendezvous": [("dead-address", {"times": 2})],
    "events come twice": [("duplicate", {"times": 3})],
    "acknowledgements are lost": [("lost-reply", {"times": 3})],
    "acknowledgements come late": [("late-reply", {"seconds": 0.5, "times": 3})],
    "a clock is wrong": [("skewed-clock", {})],
}


@pytest.mark.parametrize("faults", ON_EVENTS.values(), ids=ON_EVENTS.keys())
def test_whatever_befalls_the_events_each_arrives_in_order_until_it_is_acknowledged(
    gateway: GatewayProcess, relay: LocalRelay, listening: WebApp, unit: Unit, faults: list[Show]
) -> None:
    numbers = [f"ACC{number}" for number in range(3)]
    for number in numbers:
        assert ask(relay.connection("actions"), create_item(number))["status"] == "created"
    shown = Shown(relay, "events", faults)
    for number in numbers:
        unit.perform(number)
    until(lambda: shown.have_struck(), "the fault has struck")
    relay.end()
    gateway.until_settled(30)
    for number in numbers:
        sequences = [event["sequence"] for event in listening.of(number)]
        assert sequences == sorted(sequences)
        assert list(dict.fromkeys(listening.statuses(number))) == ["IN PROGRESS", "COMPLETED"]
        for sequence in (1, 2):
            events = [event for event in listening.of(number) if event["sequence"] == sequence]
            assert len({event["event_id"] for event in events}) == 1
    assert {row[2] for row in gateway.owed("acknowledged")} == {"acknowledged"}
    gateway.assert_sound()


def test_an_event_whose_acknowledgement_was_lost_comes_again_with_its_id_and_a_higher_attempt(
    gateway: GatewayProcess, relay: LocalRelay, listening: WebApp, unit: Unit
) -> None:
    ask(relay.connection("actions"), create_item("ACC1"))
    relay.begin("lost-reply", path="events", times=1)
    unit.perform("ACC1")
    gateway.until_settled(30)
    first, again, completed = listening.of("ACC1")
    assert (first["event_id"], first["sequence"]) == (again["event_id"], again["sequence"])
    assert (first["attempt"], again["attempt"], completed["attempt"]) == (1, 2, 1)
    assert first["data"]["occurred_at"] == again["data"]["occurred_at"]


def test_a_channel_whose_renewals_were_in_vain_is_opened_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    relay = LocalRelay(accept_window=1.0, token_grace=0.5).start()
    gateway = GatewayProcess(tmp_path / "gateway", relay, **(SCALED | {"gateway_relay_token_seconds": 2}))
    try:
        with running(gateway):
            gateway.start()
            relay.begin("vain-renewal", path="actions")
            with Scheduling(relay) as web:
                gateway.until_health(lambda report: report["checks"]["relay"]["reconnects"] >= 1, "it comes again")
                relay.end("vain-renewal")
                gateway.until_health(lambda report: report["healthy"], "it hears again")
                web.until_more()
            assert relay.emulator.log.count("renew", 200) >= 1
            assert relay.emulator.log.count("listener gone", 1008) >= 1
            assert_nothing_lost(gateway, web)
    finally:
        relay.close()
