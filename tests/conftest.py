"""What most tests of the doors stand on: the real application over a database of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gateway.application import Gateway, opened
from tests import known_differences, serving

SLOW = (
    "audit/",
    "cli/",
    "interop/",
    "delivery/test_delivery_courier.py",
    "dicom/test_association_server.py",
    "dicom/test_mpps_cases.py",
    "dicom/test_server_pynetdicom.py",
    "eventstore/test_backup.py",
    "eventstore/test_held_by_another.py",
    "eventstore/test_rebuild_beside_the_service.py",
    "ops/test_ops_health.py",
    "ops/test_window_",
    "projections/test_rebuild_and_verify.py",
    "relay/test_relay_emulator_faults.py",
    "relay/test_relay_failed_dials.py",
    "relay/test_relay_listener.py",
    "relay/test_relay_proof.py",
)
"""Small tests, but hundreds of them over sockets, commands and files: together they are most of the time."""

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how long an example takes says more of the machine than of us


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which engine answers the DICOM door of the tests; both must."""
    parser.addoption("--engine", choices=["asyncio", "pynetdicom"], default=serving.chosen)


def pytest_configure(config: pytest.Config) -> None:
    serving.chosen = config.getoption("--engine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make quick` leaves them out, as it does single tests that are slow; the second engine may fail where it must."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if config.getoption("--engine") == "pynetdicom" and (reason := known_differences.reason(item.nodeid)):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def gateway(database: Path) -> Iterator[Gateway]:
    with opened(database) as opened_gateway:
        yield opened_gateway
