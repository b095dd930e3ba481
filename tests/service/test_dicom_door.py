"""The modalities' door as the settings want it: what contradicts is refused, and health tells how it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.application import Gateway
from gateway.dicom.responder import Responder
from gateway.dicom.server_asyncio import AsyncioServer
from gateway.dicom_door import dicom_door, within_tls
from gateway.errors import SettingsInvalid
from gateway.settings import load
from tests.dicom import raw_peer
from tests.dicom.tls_certificates import Hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def files(hospital: Hospital) -> dict[str, Any]:
    return {"gateway_dicom_tls_cert": hospital.gateway.certificate, "gateway_dicom_tls_key": hospital.gateway.key}


def test_without_settings_there_is_no_tls() -> None:
    assert within_tls(load()) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gateway_dicom_tls_port": 2762}, "GATEWAY_DICOM_TLS_CERT"),
        ({"gateway_dicom_tls_cert": "cert.pem"}, "GATEWAY_DICOM_TLS_PORT is not set, but GATEWAY_DICOM_TLS_CERT"),
        ({"gateway_dicom_tls_ca": "ca.pem"}, "GATEWAY_DICOM_TLS_PORT is not set, but GATEWAY_DICOM_TLS_CA"),
        ({"gateway_dicom_tls_port": 4243, "gateway_dicom_tls_cert": "cert.pem"}, "is GATEWAY_DICOM_PORT"),
    ],
)
def test_tls_that_is_half_set_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsInvalid, match=named):
        within_tls(load(**settings))


def test_that_callers_are_not_authenticated_is_said(hospital: Hospital, caplog: pytest.LogCaptureFixture) -> None:
    settings = load(gateway_dicom_tls_port=0, **files(hospital))
    within_tls(settings.model_copy(update={"gateway_dicom_tls_ca": hospital.authority}))
    assert caplog.records == []
    within_tls(settings)
    assert ["tls_callers_not_authenticated" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("engine", ["asyncio", "pynetdicom"])
def test_health_tells_engine_ports_and_associations(hospital: Hospital, gateway: Gateway, engine: str) -> None:
    settings = load(
        gateway_dicom_engine=engine,
        gateway_dicom_host="127.0.0.1",
        gateway_dicom_port=0,
        gateway_dicom_tls_port=0,
        **files(hospital),
    )
    door = dicom_door(settings, Responder(gateway), within_tls(settings))
    assert not door.check()["ok"]
    door.server.start()
    try:
        check = door.check()
    finally:
        door.server.stop()
    assert check.pop("port") != check.pop("tls_port") != 0
    assert datetime.fromisoformat(check.pop("certificate_ends_at")) > datetime.now(UTC)
    assert check == {"ok": True, "ae_title": "ORTHANC_MWL", "engine": engine, "open_associations": 0}


def test_limits_are_as_set(gateway: Gateway) -> None:
    settings = load(
        gateway_dicom_host="127.0.0.1",
        gateway_dicom_port=0,
        gateway_dicom_max_associations_per_address=1,
        gateway_dicom_idle_seconds=123,
    )
    server = dicom_door(settings, Responder(gateway), None).server
    server.start()
    try:
        assert isinstance(server, AsyncioServer)
        assert server.times.idle == 123
        with raw_peer.associated(server.port):
            assert raw_peer.rejection(server.port) == (2, 3, 2)
    finally:
        server.stop()


@pytest.mark.parametrize(("days", "word"), [(31, ""), (29, "ends on"), (-1, "ended on")])
def test_health_warns_of_a_certificate_that_ends_within_30_days(
    hospital: Hospital, gateway: Gateway, days: int, word: str
) -> None:
    until = datetime.now(UTC) + timedelta(days=days)
    pair = hospital.signed("ending", until=until)
    settings = load(
        gateway_dicom_host="127.0.0.1",
        gateway_dicom_port=0,
        gateway_dicom_tls_port=0,
        gateway_dicom_tls_cert=pair.certificate,
        gateway_dicom_tls_key=pair.key,
    )
    door = dicom_door(settings, Responder(gateway), within_tls(settings))
    door.server.start()
    try:
        check = door.check()
    finally:
        door.server.stop()
    assert check["ok"]
    assert f"{word} {until:%Y-%m-%d}" in check["warning"] if word else "warning" not in check
