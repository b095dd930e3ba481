"""A backup beside the running service, a restore, and what the web app and health see of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.eventstore.backup import check, listed
from tests.end_to_end.harness import SITE, GatewayProcess, LocalRelay, create_item, running, until
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import WebApp

pytestmark = pytest.mark.slow


def test_a_backup_is_taken_beside_the_running_service_while_actions_come_in(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as asking:
        asked = [asking.submit(gateway.ask, create_item(f"ACC{number}")) for number in range(30)]
        taken = json.loads(gateway.command("backup", "now", "--into", str(tmp_path / "away"), "--json").stdout)
        assert [reply.result()["status"] for reply in asked] == ["created"] * 30
    assert taken["sound"]
    assert gateway.look("backup", "verify", taken["file"])["position"] == taken["position"]
    assert gateway.item_count() == 30
    gateway.assert_sound()


def test_after_a_restore_the_outbox_waits_and_then_the_web_app_hears_only_sequences_above_what_it_saw(
    gateway: GatewayProcess, unit: Unit, listening: WebApp
) -> None:
    gateway.ask(create_item("ACC1"))
    gateway.ask(create_item("ACC2"))
    file = gateway.look("backup", "now")["file"]

    unit.perform("ACC1")
    assert gateway.ask(create_item("ACC3", "lost-action"))["status"] == "created"
    unit.perform("ACC3")
    listening.until_told("ACC1", "IN PROGRESS", "COMPLETED")
    listening.until_told("ACC3", "IN PROGRESS", "COMPLETED")
    gateway.until_settled()

    refused = gateway.command("backup", "restore", file, "--yes", code=1)
    assert "stop the service" in refused.stderr
    assert gateway.stop() == 0
    plan = json.loads(gateway.command("backup", "restore", file, "--yes", "--json").stdout)
    assert [lost["action_id"] for lost in plan["lost"]["actions"]] == ["lost-action"]
    assert plan["lost"]["accession_numbers"] == ["ACC1", "ACC3"]
    gateway.start()

    report = gateway.until_health(lambda found: found["restored_from"], "health tells of the restore")
    assert report["healthy"]
    assert report["restored_from"]["backup"] == Path(file).name
    assert any("possibly lost: 1 actions, 2 performed steps" in told for told in report["warnings"])
    gateway.until_said("outbox_waits_after_restore")
    heard = len(listening.arrived)
    anchors = gateway.database.with_name("gateway.db.anchors")
    assert f"# restored to {plan['position']} {report['restored_from']['restored_at']}" in anchors.read_text()
    gateway.command("events", "verify", "--anchors", str(anchors))

    assert gateway.ask(create_item("ACC3", "lost-action"))["status"] == "created"
    unit = Unit(gateway.dicom_port)
    unit.perform("ACC3")
    unit.perform("ACC1")
    assert sorted(number for number, _, _ in gateway.owed("waiting")) == ["ACC1", "ACC1", "ACC3", "ACC3"]
    again = gateway.health()
    assert again is not None
    assert any("4 status updates wait for gateway outbox resume" in told for told in again[1]["warnings"])
    assert len(listening.arrived) == heard

    assert gateway.look("outbox", "resume", "--after-restore") == {"resumed": True, "waiting": 4, "parked": 0}
    for number in ("ACC1", "ACC3"):
        told = listening.until_told(number, *("IN PROGRESS", "COMPLETED") * 2)
        sequences = [event["sequence"] for event in told]
        assert sequences == sorted(set(sequences))
        assert sequences[2] > plan["sequence_floor"] > sequences[1]
        assert len({event["event_id"] for event in told}) == 4
    gateway.until_settled()
    report = gateway.until_health(lambda found: found["restored_from"]["resumed_at"], "it was resumed")
    assert not any("restored" in told for told in report["warnings"])
    gateway.assert_sound()


def test_nothing_is_sent_in_a_hurry_before_somebody_resumes(
    gateway: GatewayProcess, relay: LocalRelay, unit: Unit, listening: WebApp
) -> None:
    """What waited in the backup waits too, over restarts."""
    listening.answer = lambda _: {"status": "later"}
    gateway.ask(create_item("ACC1"))
    unit.start("ACC1")
    until(lambda: listening.arrived, "the event is tried")
    file = gateway.look("backup", "now")["file"]
    gateway.kill()
    gateway.command("backup", "restore", file, "--yes")
    listening.answer = lambda event: {"status": "updated", "event_id": event["event_id"]}
    heard = len(listening.arrived)
    gateway.start()
    gateway.restart()
    gateway.command("projections", "rebuild")
    assert gateway.owed() == [("ACC1", 1, "waiting")]
    assert len(listening.arrived) == heard
    gateway.command("outbox", "resume", "--after-restore")
    gateway.until_settled()


def test_the_service_takes_a_backup_that_is_due_and_health_knows(lonely: GatewayProcess, tmp_path: Path) -> None:
    past = (datetime.now(SITE) - timedelta(minutes=2)).strftime("%H:%M")
    lonely.settings |= {"gateway_backup_at": past, "gateway_backup_folder": tmp_path / "away"}
    with running(lonely):
        lonely.start()
        assert lonely.database.with_name("gateway.db.sequence").exists()
        taken = lonely.until_said("backup_taken")
        assert not check(Path(taken["file"])).finding
        report = lonely.until_health(lambda found: found["checks"]["backup"]["last"], "health tells of the backup")
        assert "warning" not in report["checks"]["backup"]
        assert lonely.restart()
        assert len(listed(tmp_path / "away", "gateway")) == 1, "not due again after a restart"
        assert lonely.stop() == 0
    assert datetime.fromisoformat(report["checks"]["backup"]["last"]) <= datetime.now(UTC)
