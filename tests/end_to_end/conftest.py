"""A relay emulator, a gateway process, a listening web app and a modality, for every test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import GatewayProcess, LocalRelay, RelayProcess, running
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp, web_app
from tests.interop.hyco.clients import hyco

__all__ = ["hyco"]


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    """A running emulator in the test's own process."""
    emulator = LocalRelay().start()
    yield emulator
    emulator.close()


@pytest.fixture
def relay_process(tmp_path: Path) -> Iterator[RelayProcess]:
    """A running `gateway relay emulate`."""
    process = RelayProcess(tmp_path / "relay")
    with running(process):
        yield process.start()


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay) -> Iterator[GatewayProcess]:
    """A running gateway that hears the relay."""
    process = GatewayProcess(tmp_path / "gateway", relay)
    with running(process):
        yield process.start()


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway without relay, not started."""
    process = GatewayProcess(tmp_path / "lonely")
    with running(process):
        yield process


@pytest.fixture
def listening(relay: LocalRelay) -> Iterator[WebApp]:
    """A web app that listens for events and settles them."""
    with web_app(relay.connection("events")) as listener:
        yield listener


@pytest.fixture
def unit(gateway: GatewayProcess) -> Unit:
    """A modality at that gateway."""
    return Unit(gateway.dicom_port)
