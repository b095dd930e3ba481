"""`gateway doctor` beside a running service, with a real relay's faults: what fails is named, with what to do; the exit
code tells, and `--clinic` ends in GO or NO-GO."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import schedule
from gateway.application import opened
from tests.end_to_end.harness import GATEWAY, GatewayProcess, LocalRelay, create_item, environment, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp

pytestmark = pytest.mark.slow

CHECKS = [
    "service", "relay", "clock", "dicom", "worklist", "store", "projections", "outbox", "modalities", "orthanc", "disk",
    "backup", "certificates", "telemetry", "settings",
]  # fmt: skip
OF_THE_CLINIC = ["list", "items", "units", "steps", "rehearsal"]


def examined(gateway: GatewayProcess, *options: str, code: int = 0, **settings: object) -> dict[str, dict[str, Any]]:
    """What the doctor found, by name."""
    report = json.loads(gateway.command("doctor", *options, "--json", code=code, **settings).stdout)
    assert report["well"] is (code == 0)
    return {finding["name"]: finding for finding in report["findings"]}


def failures(found: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, finding in found.items() if finding["outcome"] == "failed"]


def test_a_service_that_is_well_is_proven_line_by_line(gateway: GatewayProcess, listening: WebApp) -> None:
    assert listening.hearing
    found = examined(gateway)
    assert list(found) == CHECKS
    assert failures(found) == []
    for name in ("service", "relay", "dicom", "worklist", "store"):
        assert (found[name]["outcome"], found[name]["seconds"] > 0) == ("ok", True)
    told = gateway.command("doctor")
    assert told.stderr == ""
    assert [line[3:].split("  ")[0] for line in told.stdout.splitlines() if line[1] in "✓!✗–"] == CHECKS


def test_it_writes_nothing_that_stays(gateway: GatewayProcess) -> None:
    with gateway.store() as store:
        before = store.check_store()
    examined(gateway)
    with gateway.store() as store:
        assert store.check_store() == before
    gateway.assert_sound()


def test_the_morning_checklist_ends_in_go(gateway: GatewayProcess, listening: WebApp, unit: Unit) -> None:
    listening.answer = lambda event: {"status": "action_not_found", "action_id": event["data"]["action_id"]}
    gateway.ask(create_item("ACC1", scheduled={"time": "100000"}))
    assert unit.numbers() == ["ACC1"]
    until(lambda: gateway.look("worklist", "queries")["queries"], "the query is recorded")
    found = examined(gateway, "--clinic")
    assert [name for name in found if name in OF_THE_CLINIC] == OF_THE_CLINIC
    assert found["list"]["proven"].startswith("1 appointment today, 10:00 to 10:00")
    assert found["units"]["proven"] == "asked today: MAMMO1"
    assert found["rehearsal"]["proven"] == "the whole way is clear, and the web app heard both statuses"
    told = gateway.command("doctor", "--clinic", "--no-rehearse").stdout
    assert told.splitlines()[-1].startswith("GO: ORTHANC_MWL is ready for the clinic")
    assert "rehearsal" not in told


def test_with_a_web_app_that_is_down_it_is_no_go_and_says_whose_move_it_is(gateway: GatewayProcess, unit: Unit) -> None:
    gateway.ask(create_item("ACC1"))
    unit.start("ACC1")  # its event probes the connection for all others
    told = gateway.command("doctor", "--clinic", code=1).stdout
    assert told.splitlines()[-1] == "NO-GO: rehearsal"
    assert "→ the web app: does the web app listen at the events hybrid connection, and answer?" in told


def test_a_deaf_gateway_is_found_by_the_echo_and_by_nothing_else(gateway: GatewayProcess, relay: LocalRelay) -> None:
    relay.begin("deaf", path="actions")
    found = examined(gateway, code=1)
    assert failures(found) == ["relay"]
    assert (found["relay"]["fault"], "deaf" in found["relay"]["remedy"]) == ("the gateway", True)


def test_a_relay_that_is_gone_is_not_the_gateways_fault(gateway: GatewayProcess, relay: LocalRelay) -> None:
    relay.stop()
    found = examined(gateway, code=1)
    assert "relay" in failures(found)
    assert (found["relay"]["proven"].startswith("tcp: "), found["relay"]["fault"]) == (
        True,
        "the relay, or the way to it",
    )
    assert found["clock"]["outcome"] == "skipped"


def test_a_key_that_the_relay_does_not_take_is_a_matter_of_settings(gateway: GatewayProcess, relay: LocalRelay) -> None:
    wrong = relay.connection_string.replace("SharedAccessKey=", "SharedAccessKey=AAAA")
    found = examined(gateway, code=1, azure_relay_connection_string=wrong)
    assert (failures(found), found["relay"]["fault"]) == (["relay"], "these settings")


@pytest.mark.parametrize(("seconds", "outcome"), [(10, "warning"), (600, "failed")])
def test_a_wrong_clock_is_told_by_the_relays_date(
    gateway: GatewayProcess, relay: LocalRelay, seconds: int, outcome: str
) -> None:
    relay.begin("skewed-clock", seconds=seconds)
    clock = examined(gateway, code=0 if outcome == "warning" else 1)["clock"]
    assert (clock["outcome"], clock["remedy"].startswith("have the machine's time server")) == (outcome, True)
    assert clock["proven"].startswith("this machine is -")


class Late(BaseHTTPRequestHandler):
    """A web server whose clock is five minutes behind."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(int(timestamp or time.time()) - 300)

    def log_message(self, *_: object) -> None:
        pass


def test_without_a_relay_a_web_server_may_tell_the_time(lonely: GatewayProcess) -> None:
    with running(lonely), HTTPServer(("127.0.0.1", 0), Late) as peer:
        threading.Thread(target=peer.serve_forever, daemon=True).start()
        lonely.start()
        address = f"http://127.0.0.1:{peer.server_address[1]}"
        clock = examined(lonely, "--clock-peer", address, code=1)["clock"]
        assert (clock["outcome"], clock["proven"].startswith("this machine is +")) == ("failed", True)
        silent = examined(lonely, "--clock-peer", f"http://127.0.0.1:{lonely.dicom_port}")["clock"]
        assert silent["outcome"] == "skipped"
        lonely.command("doctor", "--clock-peer", "time", code=2)
        peer.shutdown()


def test_where_nothing_runs_the_exit_code_is_3_and_what_can_be_asked_is(gateway: GatewayProcess) -> None:
    gateway.stop()
    found = examined(gateway, code=3)
    assert failures(found) == ["service", "relay", "dicom", "worklist"]
    assert found["store"]["outcome"] == "ok"


def test_where_there_is_no_database_the_rest_is_asked_all_the_same(lonely: GatewayProcess) -> None:
    found = examined(lonely, code=3)
    assert failures(found) == ["service", "dicom", "store"]
    assert found["store"]["remedy"] == "gateway serve creates it; or set WORKLIST_DB_PATH"
    assert (found["relay"]["outcome"], found["clock"]["outcome"]) == ("skipped", "skipped")


def test_a_database_that_is_not_the_services_is_no_proof_of_anything(gateway: GatewayProcess, tmp_path: Path) -> None:
    """As a command in another folder has it, where an old file lies."""
    gateway.ask(create_item("ACC001"))
    another = tmp_path / "another.db"
    with opened(another) as store:
        schedule(store, "ACC002", scheduled_date="20200101")
    found = examined(gateway, code=1, worklist_db_path=another)
    assert failures(found) == ["service", "worklist"]
    assert found["service"]["proven"] == f"it keeps another log than {another}"
    assert "ACC001" in found["worklist"]["proven"]
    assert all("settings" in found[name]["remedy"] for name in ("service", "worklist"))


def test_settings_that_contradict_each_other_are_exit_code_2(gateway: GatewayProcess) -> None:
    done = gateway.command("doctor", code=2, azure_relay_events_hybrid_connection="actions")
    assert done.stderr.startswith("gateway: settings_invalid: AZURE_RELAY_EVENTS_HYBRID_CONNECTION")


def test_a_disk_that_takes_no_more_is_found_by_writing(gateway: GatewayProcess) -> None:
    """No file of the doctor's own process may grow beyond 300 KiB: to it the disk is full."""
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 300; trap "" XFSZ; exec "$0" doctor --json', str(GATEWAY)],
        cwd=gateway.folder,
        env=environment(**gateway.settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    [store] = [one for one in json.loads(done.stdout)["findings"] if one["name"] == "store"]
    assert (store["outcome"], store["remedy"]) == ("failed", "look at the disk: room, rights, health")


def test_a_database_that_nobody_may_open_is_a_failed_store(gateway: GatewayProcess, tmp_path: Path) -> None:
    stranger = tmp_path / "notes.db"
    stranger.write_bytes(os.urandom(4096))
    found = examined(gateway, code=1, worklist_db_path=stranger)
    assert failures(found) == ["store"]


def test_a_service_without_relay_is_examined_too(lonely: GatewayProcess) -> None:
    with running(lonely):
        lonely.start()
        found = examined(lonely)
    assert (found["relay"]["outcome"], found["outbox"]["outcome"]) == ("skipped", "skipped")
