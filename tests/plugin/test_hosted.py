"""A gateway inside another program: what its host is told, and what becomes of a service that can't serve."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.application import opened
from gateway.errors import SettingsInvalid
from gateway.eventstore.ownership import Ownership, is_served
from gateway.hosted import HostedGateway, settings_of
from gateway.settings import Settings, load
from tests.end_to_end.harness import free_port, until

SOON = 0.05
"""Seconds before the next try."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(
        None,
        worklist_db_path=tmp_path / "gateway.db",
        gateway_dicom_host="127.0.0.1",
        gateway_dicom_port=free_port(),
        gateway_ops_port=0,
    )


@contextmanager
def hosted(settings: Callable[[], Settings]) -> Iterator[HostedGateway]:
    gateway = HostedGateway(settings, first_wait=SOON)
    gateway.start()
    try:
        yield gateway
    finally:
        assert gateway.stop()


def until_it_says(gateway: HostedGateway, status: int, **values: object) -> dict[str, Any]:
    def holds() -> dict[str, Any] | None:
        told, body = gateway.health()
        return body if told == status and values.items() <= body.items() else None

    return until(holds, f"health says {status} {values or ''}")


def test_it_is_healthy_as_soon_as_its_doors_are_open(settings: Settings) -> None:
    with hosted(lambda: settings) as gateway:
        assert until_it_says(gateway, 200)["checks"]["store"]["ok"]
    assert gateway.health()[1]["state"] == "stopping"
    assert not is_served(settings.worklist_db_path)


def test_it_can_be_stopped_before_it_was_started_and_while_it_starts(settings: Settings) -> None:
    assert HostedGateway(lambda: settings).stop()
    reading, go_on = threading.Event(), threading.Event()

    def slowly() -> Settings:
        reading.set()
        go_on.wait(10)
        return settings

    gateway = HostedGateway(slowly)
    gateway.start()
    assert reading.wait(10)
    assert gateway.health()[1]["state"] == "starting"
    assert not gateway.stop(seconds=0.01)
    go_on.set()
    assert gateway.stop()
    assert not is_served(settings.worklist_db_path)


def test_settings_that_cannot_be_used_are_read_again_until_they_can(settings: Settings) -> None:
    read: list[Callable[[], Settings]] = [_unusable]
    with hosted(lambda: read[0]()) as gateway:
        report = until_it_says(gateway, 503, state="failed")
        assert (report["code"], report["error"], report["remedy"]) == ("settings_invalid", "X: must be Y", "correct X")
        assert not report["healthy"]
        assert gateway.worklist({}) == (503, report)
        read[0] = lambda: settings
        until_it_says(gateway, 200)
        assert gateway.worklist({})[0] == 200


def _unusable() -> Settings:
    raise SettingsInvalid("X: must be Y", remedy="correct X")


def test_what_nobody_foresaw_is_told_by_its_kind_only_and_tried_again(settings: Settings) -> None:
    read: list[Callable[[], Settings]] = [lambda: int("SMITH^JANE")]  # type: ignore[list-item,return-value]  the bug
    with hosted(lambda: read[0]()) as gateway:
        report = until_it_says(gateway, 503, state="failed")
        assert report["code"] == "internal"
        assert "ValueError" in report["error"]
        assert "JANE" not in str(report)
        read[0] = lambda: settings
        until_it_says(gateway, 200)


def test_a_port_that_another_holds_leaves_the_database_to_whoever_can_serve_it(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.gateway_dicom_port)), hosted(lambda: settings) as gateway:
        until_it_says(gateway, 503, code="port_unusable")
    assert not is_served(settings.worklist_db_path)
    Ownership(settings.worklist_db_path).release()


def test_a_service_that_fails_while_it_is_put_together_lets_the_database_go(settings: Settings) -> None:
    unkept = settings.worklist_db_path.with_name(settings.worklist_db_path.name + ".ops-token")
    unkept.mkdir()
    elsewhere = settings.model_copy(update={"gateway_ops_host": "0.0.0.0"})
    with hosted(lambda: elsewhere) as gateway:
        assert str(unkept) in until_it_says(gateway, 503, code="settings_invalid")["error"]
        unkept.rmdir()
        until_it_says(gateway, 200)


def test_a_database_that_another_serves_is_served_once_that_has_ended(settings: Settings) -> None:
    with opened(settings.worklist_db_path):
        other = Ownership(settings.worklist_db_path)
    with hosted(lambda: settings) as gateway:
        report = until_it_says(gateway, 503, code="store_unusable")
        assert "another gateway serves" in report["error"]
        other.release()
        until_it_says(gateway, 200)


def test_a_status_that_there_is_not_is_refused_and_not_answered_with_nothing(settings: Settings) -> None:
    with hosted(lambda: settings) as gateway:
        until_it_says(gateway, 200)
        status, told = gateway.worklist({"status": "zzz"})
    assert (status, told["field"]) == (400, "status")


# --- settings from Orthanc's configuration


def test_orthanc_s_configuration_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_AE_TITLE", "FROM_ENV")
    monkeypatch.setenv("GATEWAY_TIME_ZONE", "Europe/Dublin")
    assert settings_of({}).gateway_ae_title == "FROM_ENV"
    settings = settings_of(
        {
            "MPPSAet": "FROM_ORTHANC",
            "DicomPortMPPS": 11_112,
            "WorklistGateway": {"WORKLIST_DB_PATH": "/var/x.db", "GATEWAY_SEALING": True, "VirtualEnvironment": "/opt"},
        }
    )
    assert (settings.gateway_ae_title, settings.gateway_dicom_port) == ("FROM_ORTHANC", 11_112)
    assert (settings.worklist_db_path, settings.gateway_sealing) == (Path("/var/x.db"), True)
    assert settings.gateway_time_zone == "Europe/Dublin"


def test_the_section_wins_over_the_proof_of_concept_s_words() -> None:
    written = {"MPPSAet": "A", "WorklistGateway": {"GATEWAY_AE_TITLE": "B"}}
    assert settings_of(written).gateway_ae_title == "B"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"DicomPortMPPS": 70_000}, "GATEWAY_DICOM_PORT: "),
        ({"MPPSAet": "MORE_THAN_SIXTEEN_CHARACTERS"}, "GATEWAY_AE_TITLE: "),
        ({"MPPSAet": 4243}, "GATEWAY_AE_TITLE: "),
        ({"WorklistGateway": {"GATEWAY_DICOMPORT": 1}}, "GATEWAY_DICOMPORT: there is no such setting"),
        ({"WorklistGateway": {"virtualenvironment": "/opt"}}, "VIRTUALENVIRONMENT: there is no such setting"),
        ({"WorklistGateway": []}, "WorklistGateway: must be an object"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(written: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said) as refused:
        settings_of(written)
    assert "correct Orthanc's configuration" in refused.value.remedy
