"""The relay misbehaves and the real service mends itself: nothing is lost, nobody restarts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import RelayError
from tests.end_to_end.harness import GatewayProcess, LocalRelay, ask, create_item, impatient, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp

pytestmark = pytest.mark.slow

SCALED: dict[str, object] = {
    "gateway_relay_echo_seconds": 0.4,
    "gateway_relay_echo_timeout_seconds": 0.8,
    "gateway_relay_first_retry_seconds": 0.1,
}
"""An echo a hundred times as often as by default; deafness is noticed within 2 s instead of 90."""


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay) -> Iterator[GatewayProcess]:
    """A running gateway that proves often that it hears."""
    process = GatewayProcess(tmp_path / "gateway", relay, **SCALED)
    with running(process):
        yield process.start()


class Scheduling:
    """A web app that goes on scheduling and says each action again until it is answered."""

    def __init__(self, relay: LocalRelay) -> None:
        self.relay = relay
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
                    reply = ask(self.relay.connection("actions"), message, impatient(1))
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
    gateway = GatewayProcess(tmp_path / "gateway", relay, **SCALED, gateway_relay_token_seconds=2)
    with running(gateway):
        gateway.start()
        with Scheduling(relay) as web:
            until(lambda: relay.emulator.log.count("renew", 200) >= 3, "the token is renewed three times", 20)
            web.until_more()
        assert relay_check(gateway)["reconnects"] == 0
        assert web.tries == len(web.answered)
        assert relay.emulator.log.count("connect", 404) == 0
        assert relay.emulator.log.outages("actions") == []
        assert_nothing_lost(gateway, web)
