"""A participant who does not exist goes the whole way through a running gateway, each hop is judged, and nothing of her
is left on any list; what goes wrong on the way is laid at somebody's door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.application import opened
from tests.end_to_end.harness import GatewayProcess, LocalRelay, create_item, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp, web_app

pytestmark = pytest.mark.slow

WAY = ["relay", "store", "worklist", "begun", "told begun", "completed", "told completed", "apart"]


def unknown(event: dict[str, Any]) -> dict[str, Any]:
    """The web app's answer about an item that it did not make."""
    return {"status": "action_not_found", "action_id": event["data"]["action_id"]}


def rehearsed(
    gateway: GatewayProcess, *, code: int = 0, patience: int = 30, **settings: object
) -> dict[str, dict[str, Any]]:
    """The hops of a rehearsal by their names; `patience` is short where there is nobody to answer."""
    asked = ("rehearse", "--json", "--patience", str(patience))
    report = json.loads(gateway.command(*asked, code=code, **settings).stdout)
    assert report["well"] is (code == 0)
    assert [hop["name"] for hop in report["hops"]] == WAY
    return {hop["name"]: hop for hop in report["hops"]}


def outcomes(hops: dict[str, dict[str, Any]]) -> list[str]:
    return [hop["outcome"] for hop in hops.values()]


def assert_nothing_is_left(gateway: GatewayProcess) -> None:
    """No list and no count of the clinic knows of a rehearsal, and none of its items or events waits for anybody."""
    statistics = gateway.look("worklist", "statistics")
    assert statistics["items"] == {}
    assert not {"SCHEDULED", "IN PROGRESS"} & statistics["test_items"].keys()
    for command in (("worklist", "list"), ("outbox", "list"), ("steps", "unmatched"), ("steps", "unfinished")):
        assert gateway.look(*command) == [], command
    assert gateway.look("outbox", "list", "--test", "--state", "waiting") == []
    report = gateway.health()
    assert report is not None
    checks = report[1]["checks"]
    assert (checks["outbox"]["waiting"], checks["outbox"]["parked"]) == (0, 0)
    assert checks["steps"] == {"ok": True, "unmatched": 0, "unfinished": 0}


def test_the_whole_way_is_proven_and_told_for_people(gateway: GatewayProcess, listening: WebApp) -> None:
    listening.answer = unknown
    told = gateway.command("rehearse").stdout
    assert [line[3:].split("  ")[0].strip() for line in told.splitlines()] == WAY
    assert "✗" not in told
    assert [event["data"]["test"] for event in listening.arrived] == [True, True]
    assert [event["data"]["status"] for event in listening.arrived] == ["IN PROGRESS", "COMPLETED"]
    assert_nothing_is_left(gateway)
    gateway.assert_sound()


def test_rehearsals_one_after_the_other_pile_up_nowhere(gateway: GatewayProcess, listening: WebApp) -> None:
    listening.answer = unknown
    for _ in range(3):
        assert set(outcomes(rehearsed(gateway))) == {"ok"}
    assert_nothing_is_left(gateway)
    assert gateway.look("worklist", "statistics")["test_items"] == {"COMPLETED": 3}


def test_a_modality_of_the_clinic_never_sees_her(gateway: GatewayProcess, listening: WebApp, unit: Unit) -> None:
    seen: list[list[str]] = []

    def look(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(unit.numbers() + unit.numbers(AccessionNumber=event["data"]["accession_number"]))
        return unknown(event)

    gateway.ask(create_item("REAL"))
    listening.answer = look
    rehearsed(gateway)
    assert seen == [["REAL"], ["REAL"]]


def test_a_web_app_that_is_down_is_named_and_nothing_waits_for_its_return(gateway: GatewayProcess) -> None:
    hops = rehearsed(gateway, code=1, patience=2)
    assert outcomes(hops) == ["ok", "ok", "ok", "ok", "failed", "ok", "skipped", "ok"]
    assert hops["told begun"]["fault"] == "the web app"
    assert "nobody listens" in hops["told begun"]["proven"]
    assert_nothing_is_left(gateway)


def test_a_web_app_that_does_not_know_the_status_is_told_of(gateway: GatewayProcess, listening: WebApp) -> None:
    listening.answer = lambda _: {"status": "unknown_status"}
    hops = rehearsed(gateway, code=1)
    assert hops["told begun"]["proven"] == "the web app refused IN PROGRESS: unknown_status"
    assert_nothing_is_left(gateway)


def test_a_deaf_gateway_is_found_at_the_first_hop(tmp_path: Path, relay: LocalRelay) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", relay)
    with running(gateway):
        gateway.start()
        relay.begin("deaf", path="actions")
        hops = rehearsed(gateway, code=3, patience=2)
    assert hops["relay"]["fault"] == "the gateway"
    assert "deaf" in hops["relay"]["remedy"]
    assert set(outcomes(hops)[1:]) == {"skipped"}


def test_a_stopped_service_is_exit_code_3(gateway: GatewayProcess) -> None:
    gateway.stop()
    assert rehearsed(gateway, code=3)["relay"]["code"] == "unreachable"


def test_a_caller_that_is_shown_no_test_items_is_a_matter_of_settings(gateway: GatewayProcess) -> None:
    hops = rehearsed(gateway, code=1, gateway_test_ae_titles="MAMMO9")
    assert (hops["worklist"]["outcome"], hops["worklist"]["fault"]) == ("failed", "these settings")
    assert "GATEWAY_TEST_AE_TITLES" in hops["worklist"]["remedy"]
    assert_nothing_is_left(gateway)


def test_another_database_than_the_services_is_noticed(gateway: GatewayProcess, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.db"
    with opened(elsewhere):
        pass
    hops = rehearsed(gateway, code=1, worklist_db_path=elsewhere)
    assert hops["store"]["proven"] == "the item that was answered created is not in this database"


def test_without_a_relay_the_rest_is_rehearsed(lonely: GatewayProcess) -> None:
    lonely.start()
    hops = rehearsed(lonely)
    assert outcomes(hops) == ["skipped", "ok", "ok", "ok", "skipped", "ok", "skipped", "ok"]
    assert_nothing_is_left(lonely)


def test_a_test_item_of_the_web_app_is_performed_by_the_gateway_itself(
    gateway: GatewayProcess, listening: WebApp
) -> None:
    assert gateway.ask({**create_item("TEST"), "action_type": "worklist.create_test_item"})["status"] == "created"
    listening.until_told("TEST", "IN PROGRESS", "COMPLETED")
    gateway.until_said("test_item_performed", accession_number="TEST")
    report = gateway.until_health(lambda found: found["checks"]["test_items"]["performed"], "health tells of it")
    assert report["checks"]["test_items"] == {"ok": True, "performed": 1, "waiting": 0}
    assert gateway.ask(create_item("REAL"))["status"] == "created"
    assert gateway.status("REAL") == "SCHEDULED"


def test_a_test_item_that_cannot_be_performed_is_told_by_log_and_health(tmp_path: Path, relay: LocalRelay) -> None:
    modalities = tmp_path / "modalities.toml"
    modalities.write_text('[[modality]]\nae_title = "MAMMO1"\n')
    gateway = GatewayProcess(tmp_path / "gateway", relay, gateway_modalities_file=modalities)
    with running(gateway):
        gateway.start()
        gateway.ask({**create_item("TEST"), "action_type": "worklist.create_test_item"})
        said = gateway.until_said("test_item_not_performed", accession_number="TEST")
        report = gateway.until_health(lambda found: found["warnings"], "health warns")
    assert (said["hop"], report["healthy"]) == ("worklist", True)
    assert "association rejected" in report["checks"]["test_items"]["warning"]


def test_where_that_is_switched_off_a_test_item_waits_for_a_test_caller(tmp_path: Path, relay: LocalRelay) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", relay, gateway_perform_test_items="false")
    with running(gateway), web_app(relay.connection("events")) as listening:
        gateway.start()
        gateway.ask({**create_item("TEST"), "action_type": "worklist.create_test_item"})
        Unit(gateway.dicom_port, "REHEARSAL").perform("TEST")
        listening.until_told("TEST", "IN PROGRESS", "COMPLETED")
        until(lambda: not gateway.look("outbox", "list", "--test"), "both are settled")
        assert gateway.said("test_item_performed") is None
