"""The gateway inside Debian's Orthanc: it comes and goes with it, and never takes it down."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import opened
from gateway.eventstore.ownership import is_served
from projections.worklist import WorklistFilter
from tests.end_to_end.harness import LocalRelay, ask, create_item, running, today, tool, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import web_app
from tests.plugin.orthanc_server import PLUGIN, HostingOrthanc

pytestmark = pytest.mark.slow


@pytest.fixture
def hosting(tmp_path: Path) -> Iterator[HostingOrthanc]:
    """Orthanc with the gateway, not started."""
    process = HostingOrthanc(tmp_path / "orthanc")
    with running(process):
        yield process


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    emulator = LocalRelay().start()
    yield emulator
    emulator.close()


def found(hosting: HostingOrthanc) -> str:
    """What DCMTK is shown of the worklist."""
    keys = ("AccessionNumber", "PatientName", "ScheduledProcedureStepSequence[0].Modality=MG")
    command = [tool("findscu", "/usr/bin/findscu"), "-W", "-aec", "BREAST_MWL"]
    asked = [*command, *(word for key in keys for word in ("-k", key)), "127.0.0.1", str(hosting.mpps_port)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# --- it comes with Orthanc


def test_it_serves_at_the_title_and_the_port_of_orthanc_s_configuration(hosting: HostingOrthanc) -> None:
    hosting.start()
    report = hosting.until_health(200)
    assert (
        report["checks"]["dicom"] | {"ae_title": "BREAST_MWL", "port": hosting.mpps_port} == report["checks"]["dicom"]
    )
    command = [tool("echoscu", "/usr/bin/echoscu"), "127.0.0.1", str(hosting.mpps_port), "-aec"]
    assert subprocess.run([*command, "BREAST_MWL"], check=False).returncode == 0
    assert subprocess.run([*command, "ORTHANC_MWL"], check=False).returncode != 0


def test_an_appointment_travels_through_a_gateway_inside_orthanc(tmp_path: Path, relay: LocalRelay) -> None:
    hosting = HostingOrthanc(tmp_path / "orthanc", relay)
    with running(hosting), web_app(relay.connection("events")) as listening:
        hosting.start()
        until(lambda: hosting.until_health(200)["checks"]["relay"]["state"] == "hearing", "the relay is heard")
        assert ask(relay.connection("actions"), create_item("ACC1"))["status"] == "created"
        assert "SMITH^JANE" in found(hosting)
        assert hosting.get("/mwl/worklist") == (200, {"date": today(), "items": [_item("SCHEDULED", hosting)]})
        Unit(hosting.mpps_port, called="BREAST_MWL").perform("ACC1")
        listening.until_told("ACC1", "IN PROGRESS", "COMPLETED")
        assert hosting.get("/mwl/worklist") == (200, {"date": today(), "items": [_item("COMPLETED", hosting)]})
        assert "ACC1" not in found(hosting)
        assert "JANE" not in hosting.output(), "a name in Orthanc's log"
        assert hosting.stop(seconds=30) == 0


def _item(status: str, hosting: HostingOrthanc) -> dict[str, object]:
    """As REST shows it: who it is can be told apart, and not read."""
    with opened(hosting.database) as store:
        [row] = store.find_items(WorklistFilter(accession_number="ACC1"))
    return {
        "accession_number": "ACC1",
        "scheduled_date": today(),
        "scheduled_time": "100000",
        "modality": "MG",
        "status": status,
        "study_description": "Bilateral Mammography",
        "station_ae_titles": [],
        "study_instance_uid": row.study_instance_uid,
        "updated_at": row.updated_at,
        "patient_name": "S•••• J•••",
        "patient_id": "•••••••018",
    }


def test_rest_shows_nothing_to_whom_orthanc_does_not_know(tmp_path: Path) -> None:
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"clerk": "synthetic"}}
    hosting = HostingOrthanc(tmp_path / "orthanc", **users)
    with running(hosting):
        hosting.start()
        for page in ("/mwl/health", "/mwl/worklist"):
            answer = hosting.get(page)
            assert answer is not None
            assert answer[0] == 401
        hosting.user = ("clerk", "synthetic")
        hosting.until_health(200)


def test_rest_is_for_looking_only_and_says_what_it_does_not_understand(hosting: HostingOrthanc) -> None:
    hosting.start()
    hosting.until_health(200)
    assert hosting.get("/mwl/worklist", "POST") == (405, None)
    answer = hosting.get("/mwl/worklist?date=tomorrow")
    assert answer == (400, {"code": "validation", "error": "date: must be YYYYMMDD (DICOM DA)", "field": "date"})
    assert hosting.get("/mwl/worklist?date=2026-11-23&modality=mg&status=in_progress") == (
        200,
        {"date": "20261123", "items": []},
    )


# --- it goes with Orthanc


def test_it_stops_cleanly_with_orthanc_and_is_there_again_after_a_restart(tmp_path: Path, relay: LocalRelay) -> None:
    hosting = HostingOrthanc(tmp_path / "orthanc", relay)
    with running(hosting):
        hosting.start()
        until(lambda: hosting.until_health(200)["checks"]["relay"]["state"] == "hearing", "the relay is heard")
        ask(relay.connection("actions"), create_item("ACC1"))
        assert hosting.stop(seconds=30) == 0
        stopped = hosting.said("gateway_stopped")
        assert stopped is not None
        assert stopped["seconds"] < 5
        assert not is_served(hosting.database)
        hosting.start()
        hosting.until_health(200)
        assert "ACC1" in found(hosting)
        assert hosting.said("previous_ended_without_stop") is None


def test_a_unit_that_stays_connected_holds_up_orthanc_s_end_no_longer_than_the_gateway_s_own(
    hosting: HostingOrthanc,
) -> None:
    hosting.start()
    hosting.until_health(200)
    with Unit(hosting.mpps_port, called="BREAST_MWL").association():
        assert hosting.stop(seconds=30) == 0
    assert hosting.said("gateway_stopped")
    assert hosting.said("gateway_not_stopped") is None


# --- it never takes Orthanc down


def test_a_port_that_is_taken_is_told_by_503_and_served_once_it_is_free(hosting: HostingOrthanc) -> None:
    with socket.create_server(("127.0.0.1", hosting.mpps_port)):
        hosting.start()
        report = hosting.until_health(503, state="failed")
        assert report["code"] == "port_unusable"
        assert str(hosting.mpps_port) in report["error"]
        assert "GATEWAY_DICOM_PORT" in report["remedy"]
        assert hosting.get("/mwl/worklist") == (503, report)
        assert hosting.get("/system")
        told = hosting.said("gateway_failed", code="port_unusable")
        assert told is not None
        assert told["remedy"] == report["remedy"]
    hosting.until_health(200, healthy=True, seconds=30)
    assert hosting.stop(seconds=30) == 0


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    hosting = HostingOrthanc(tmp_path / "orthanc", DicomPortMPPS=70_000)
    with running(hosting):
        hosting.start()
        report = hosting.until_health(503, state="failed", code="settings_invalid")
        assert "GATEWAY_DICOM_PORT" in report["error"]
        assert report["remedy"]
        assert hosting.stop(seconds=30) == 0


def test_a_virtual_environment_of_another_python_is_told_with_what_to_do(tmp_path: Path) -> None:
    hosting = HostingOrthanc(tmp_path / "orthanc", WorklistGateway={"VirtualEnvironment": str(tmp_path / "elsewhere")})
    with running(hosting):
        hosting.start()
        report = hosting.until_health(503, code="gateway_not_importable")
        assert str(tmp_path / "elsewhere") in report["error"]
        assert "VirtualEnvironment" in report["remedy"]
        assert hosting.stop(seconds=30) == 0


def test_a_script_of_the_site_s_own_loads_it_and_runs_no_orthanc_where_python_is_meant(tmp_path: Path) -> None:
    """A long rebuild starts a second process of `sys.executable`, which within Orthanc is Orthanc."""
    script, told = tmp_path / "site_script.py", tmp_path / "told.json"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(PLUGIN.parent)!r})\n"
        "import json, orthanc_plugin\n"
        f"json.dump([sys.executable, sys.path], open({str(told)!r}, 'w'))\n"
    )
    hosting = HostingOrthanc(tmp_path / "orthanc", PythonScript=str(script))
    with running(hosting):
        hosting.start()
        hosting.until_health(200)
    executable, path = json.loads(told.read_text())
    done = subprocess.run([executable, "-c", "import gateway.eventstore.shares"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert str(PLUGIN.parent) not in path
    assert all(place.endswith("dist-packages") for place in path[path.index(str(PLUGIN.parents[1])) + 1 :])
