"""The real service behind a hospital's proxy: the only way to the relay, with credentials and an authority of its own.

The relay's name is one that only the proxy can resolve: whatever the gateway sends there has gone through the proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay import DialOptions, RelayError, SenderOptions
from tests.end_to_end.harness import Background, GatewayProcess, LocalRelay, ask, create_item, free_port, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp, web_app
from tests.relay.certificates import Certificates, make_certificates
from tests.relay.proxy import ConnectProxy

pytestmark = pytest.mark.slow

NAME = "relay.invalid"
PASSWORD = "t0p/s3cret"
WRITTEN = "t0p%2Fs3cret"
SCALED: dict[str, object] = {
    "gateway_relay_echo_seconds": 0.6,
    "gateway_relay_echo_timeout_seconds": 1,
    "gateway_relay_first_retry_seconds": 0.1,
    "gateway_relay_longest_retry_seconds": 0.5,
    "gateway_relay_event_first_retry_seconds": 0.1,
    "gateway_relay_event_longest_retry_seconds": 0.5,
}


class SecuredRelay(LocalRelay):
    """A relay with TLS, which the gateway knows by a name that only the proxy can resolve."""

    host = NAME
    secure = True

    def __init__(self, certificates: Certificates) -> None:
        super().__init__(tls=certificates.serving())
        self.dialling = DialOptions(tls=certificates.trusting(), proxy=None)


class HospitalProxy:
    """The proxy, in a thread of the test; it may die and come back."""

    def __init__(self) -> None:
        self._background = Background()
        self.proxy = ConnectProxy(password=PASSWORD, port=free_port(), names={NAME: "127.0.0.1"})

    def start(self) -> None:
        self._background.start(self.proxy.start()).result(10)

    def die(self) -> None:
        self._background.start(self.proxy.stop()).result(10)

    def close(self) -> None:
        self.die()
        self._background.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), NAME)


@pytest.fixture
def relay(certificates: Certificates) -> Iterator[SecuredRelay]:
    secured = SecuredRelay(certificates)
    secured.start()
    yield secured
    secured.close()


@pytest.fixture
def hospital() -> Iterator[HospitalProxy]:
    proxy = HospitalProxy()
    proxy.start()
    yield proxy
    proxy.close()


@pytest.fixture
def gateway(
    tmp_path: Path, relay: SecuredRelay, hospital: HospitalProxy, certificates: Certificates
) -> Iterator[GatewayProcess]:
    """A gateway behind the proxy, not started."""
    way: dict[str, object] = {
        "gateway_relay_proxy": hospital.proxy.address(WRITTEN),
        "gateway_relay_ca_file": certificates.authority,
    }
    process = GatewayProcess(tmp_path / "gateway", relay, **SCALED, **way)
    with running(process):
        yield process


@pytest.fixture
def listening(relay: SecuredRelay) -> Iterator[WebApp]:
    with web_app(relay.connection("events"), dialling=relay.dialling) as listener:
        yield listener


def reply_to(relay: SecuredRelay, message: dict[str, Any]) -> dict[str, Any] | None:
    """The gateway's reply; None when it could not be reached."""
    try:
        return ask(relay.connection("actions"), message, SenderOptions(dial=relay.dialling, connect=2, ack=5))
    except RelayError:
        return None


def assert_discreet(gateway: GatewayProcess) -> None:
    shown = (
        gateway.output() + gateway.command("config", "show").stdout + gateway.command("config", "show", "--json").stdout
    )
    assert "s3cret" not in shown
    assert "http://***@127.0.0.1:" in shown


def test_an_action_comes_in_and_a_status_goes_out_through_the_proxy_and_through_its_death(
    gateway: GatewayProcess, relay: SecuredRelay, hospital: HospitalProxy, listening: WebApp
) -> None:
    gateway.start()
    unit = Unit(gateway.dicom_port)
    for number in ("ACC1", "ACC2"):
        assert gateway.ask(create_item(number))["status"] == "created"
    unit.perform("ACC1")
    listening.until_told("ACC1", "IN PROGRESS", "COMPLETED")
    assert set(hospital.proxy.targets) == {f"{NAME}:{relay.port}"}
    assert len(hospital.proxy.targets) >= 7, "control channel, both ends of an echo, two actions, two statuses"

    hospital.die()
    report = gateway.until_health(lambda report: "tcp: " in report["checks"]["relay"].get("error", ""), "it says why")
    assert f"by proxy 127.0.0.1:{hospital.proxy.port} [127.0.0.1]" in report["checks"]["relay"]["error"]
    assert "It is the proxy" in report["checks"]["relay"]["error"]
    unit.perform("ACC2")
    gateway.until_said("status_update_not_delivered", phase="tcp")
    message = create_item("ACC3")
    assert reply_to(relay, message) is None
    assert listening.statuses("ACC2") == []

    hospital.start()
    gateway.until_health(lambda report: report["healthy"], "it hears again")
    assert until(lambda: reply_to(relay, message), "the action is answered")["status"] == "created"
    listening.until_told("ACC2", "IN PROGRESS", "COMPLETED")
    unit.perform("ACC3", "DISCONTINUED")
    listening.until_told("ACC3", "IN PROGRESS", "DISCONTINUED")
    gateway.until_settled()
    assert listening.statuses("ACC1") == ["IN PROGRESS", "COMPLETED"]
    assert gateway.item_count() == 3
    assert set(hospital.proxy.targets) == {f"{NAME}:{relay.port}"}
    assert hospital.proxy.refused == 0
    gateway.assert_sound()
    assert_discreet(gateway)


def test_a_wrong_password_is_told_by_health_and_the_command_and_the_worklist_is_served_meanwhile(
    gateway: GatewayProcess, hospital: HospitalProxy
) -> None:
    gateway.settings["gateway_relay_proxy"] = hospital.proxy.address("wr0ng-s3cret")
    gateway.start(healthy=False)
    report = gateway.until_health(lambda report: "407" in report["checks"]["relay"].get("error", ""), "it says why")
    assert report["checks"]["relay"]["error"].startswith("proxy: ")
    assert "cntlm" in gateway.command("relay", "status", code=1).stdout.replace("\n", "")
    line = gateway.until_said("listener_cannot_connect", phase="proxy", status=407)
    assert "user and password" in line["remedy"]
    assert Unit(gateway.dicom_port).echo() == 0
    assert_discreet(gateway)


def test_without_the_authority_the_phase_is_tls_and_the_words_say_what_is_missing(gateway: GatewayProcess) -> None:
    del gateway.settings["gateway_relay_ca_file"]
    gateway.start(healthy=False)
    report = gateway.until_health(lambda report: "tls: " in report["checks"]["relay"].get("error", ""), "it says why")
    assert "certificate authority" in report["checks"]["relay"]["error"]


@pytest.mark.parametrize(
    ("setting", "value"), [("gateway_relay_ca_file", "/nowhere/ca.pem"), ("gateway_relay_proxy", "proxy:s3cret@host")]
)
def test_a_way_that_cannot_be_used_is_refused_at_start_by_its_variable(
    gateway: GatewayProcess, setting: str, value: str
) -> None:
    done = gateway.command("serve", code=2, **{setting: value})
    assert setting.upper() in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert not gateway.database.exists()
