"""The real service with a managed identity in place of a key: azure-identity asks an endpoint of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.tokens import claims
from tests.end_to_end.harness import GatewayProcess, LocalRelay, create_item, running, until
from tests.end_to_end.test_relay_faults import SCALED, Scheduling, assert_nothing_lost, relay_check
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import web_app
from tests.relay.entra_support import Endpoint, identity_endpoint

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Gives tokens that live for 4 s."""
    with identity_endpoint(life=4) as served:
        yield served


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    """An emulator that takes bearer tokens, and drops a channel as soon as its token has expired."""
    emulator = LocalRelay(accepts_bearer=lambda token: claims(token) is not None, token_grace=0).start()
    yield emulator
    emulator.close()


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay, endpoint: Endpoint) -> Iterator[GatewayProcess]:
    """A gateway that knows no key; not started."""
    string = f"Endpoint=sb://127.0.0.1:{relay.port}/;Authentication=Managed Identity;UseDevelopmentEmulator=true"
    settings = SCALED | endpoint.environment | {"azure_relay_connection_string": string}
    process = GatewayProcess(tmp_path / "gateway", relay, **settings)
    with running(process):
        yield process


def test_actions_arrive_statuses_leave_and_a_renewed_token_costs_no_sender_a_404(
    gateway: GatewayProcess, relay: LocalRelay, endpoint: Endpoint
) -> None:
    endpoint.life = 8
    gateway.start()
    with Scheduling(relay, patience=30) as web, web_app(relay.connection("events")) as listener:
        web.until_more()
        Unit(gateway.dicom_port).perform("ACC0")
        listener.until_told("ACC0", "IN PROGRESS", "COMPLETED")
        until(lambda: relay.emulator.log.count("renew", 200) >= 2, "the gateway's token is renewed twice", 60)
        web.until_more()
    assert relay_check(gateway)["reconnects"] == 0
    assert web.tries == len(web.answered)
    assert relay.emulator.log.count("connect", 404) == 0
    assert_nothing_lost(gateway, web)
    assert gateway.stop() == 0
    assert "eyJ" not in gateway.output()


def test_an_issuer_that_is_away_is_named_with_what_to_do_and_is_asked_until_it_is_back(
    gateway: GatewayProcess, endpoint: Endpoint
) -> None:
    gateway.start()
    endpoint.fault = 500
    report = gateway.until_health(lambda report: report["checks"]["relay"].get("warning"), "it warns beforehand")
    assert "the managed identity has no token to give" in report["checks"]["relay"]["warning"]
    gateway.until_health(
        lambda report: "Assign this machine a managed identity" in report["checks"]["relay"].get("error", ""),
        "the last token has expired, and health says what to do",
    )
    shown = " ".join(gateway.command("relay", "status", code=1).stdout.split())
    assert "has no token to give" in shown
    endpoint.fault = 0
    gateway.until_health(lambda report: report["healthy"], "the issuer is back", 30)
    assert gateway.ask(create_item("ACC1"))["status"] == "created"
    assert "eyJ" not in gateway.output()


def test_a_key_beside_an_identity_stops_the_start_and_names_both(gateway: GatewayProcess) -> None:
    gateway.settings["azure_relay_shared_access_key"] = "c2VjcmV0"
    gateway.launch()
    assert gateway.wait_for_exit() != 0
    assert "AZURE_RELAY_SHARED_ACCESS_KEY" in gateway.output()
    assert "AZURE_RELAY_AUTHENTICATION" in gateway.output()
    assert "c2VjcmV0" not in gateway.output()
