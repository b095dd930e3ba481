"""DCMTK within TLS: its client of PS3.15's profiles against our second door."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from tests.dicom.tls_certificates import Hospital, Pair
from tests.serving import serving

ECHOSCU, FINDSCU = Path("/usr/bin/echoscu"), Path("/usr/bin/findscu")


@pytest.fixture(autouse=True)
def _dcmtk() -> None:
    for tool in (ECHOSCU, FINDSCU):
        if not tool.exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{tool} is missing (Debian package dcmtk)")


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


@pytest.fixture
def server(gateway: Gateway, hospital: Hospital) -> Iterator[AssociationServer]:
    with serving(Responder(gateway), tls=hospital.door(callers=hospital)) as server:
        yield server


def run(tool: Path, server: AssociationServer, hospital: Hospital, shown: Pair | None, *arguments: str) -> str:
    tls = ["+tls", str(shown.key), str(shown.certificate)] if shown else ["+tla"]
    trusting = ["+cf", str(hospital.authority)]
    command = [str(tool), "-v", *tls, *trusting, *arguments, "-aec", "ORTHANC_MWL", "127.0.0.1", str(server.tls_port)]
    result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return result.stdout.decode("latin-1") + result.stderr.decode("latin-1")


@pytest.mark.parametrize("profile", ["--profile-bcp195-nd", "--profile-bcp195", "--profile-bcp195-ex"])
def test_echoscu_by_each_profile_that_is_not_retired(
    server: AssociationServer, hospital: Hospital, profile: str
) -> None:
    assert "Received Echo Response (Success)" in run(ECHOSCU, server, hospital, hospital.modality, profile)


def test_findscu_is_answered(server: AssociationServer, hospital: Hospital, gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    output = run(FINDSCU, server, hospital, hospital.modality, "-W", "-k", "AccessionNumber")
    assert "Find Response: 2 (Pending)" in output
    assert "Received Final Find Response (Success)" in output


def test_a_unit_without_a_certificate_or_with_a_stranger_s_is_not_let_in(
    server: AssociationServer, hospital: Hospital, tmp_path: Path
) -> None:
    for shown in (None, Hospital(tmp_path, "stranger").modality):
        output = run(ECHOSCU, server, hospital, shown)
        assert "Received Echo Response" not in output
        assert "Association Request Failed" in output
