"""Anchors that a real service gave away prove its log: over stops, kills, an old backup put back."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.eventstore import anchors
from tests.end_to_end.harness import GatewayProcess, create_item, until

pytestmark = pytest.mark.slow


def anchors_file(gateway: GatewayProcess) -> Path:
    return gateway.database.with_name(gateway.database.name + ".anchors")


def test_what_leaves_the_machine_proves_the_log_and_finds_an_old_backup(gateway: GatewayProcess) -> None:
    for number in range(5):
        gateway.ask(create_item(f"ACC{number}"))
    health = gateway.health()
    assert health is not None
    shown = health[1]["anchor"]
    told = gateway.ask({"action_type": "health"})["health"]["anchor"]
    assert told == shown
    with (
        closing(sqlite3.connect(gateway.database)) as log,
        closing(sqlite3.connect(f"{gateway.database}.backup")) as copy,
    ):
        log.backup(copy)
    gateway.ask(create_item("ACC9"))
    assert gateway.stop() == 0
    line = gateway.said("anchor", occasion="stop")
    assert line is not None
    assert line["position"] == shown["position"] + 2
    [kept] = anchors.read(anchors_file(gateway)).anchors
    assert (kept.position, kept.link.hex()) == (line["position"], line["hash"])
    assert anchors_file(gateway).stat().st_mode & 0o777 == 0o600
    from_health = f"{shown['position']}:{shown['hash']}"
    from_log = f"{line['position']}:{line['hash']}"
    found = gateway.look("events", "verify", "--anchor", from_health, "--anchor", from_log)
    assert (found["intact"], [each["verdict"] for each in found["anchors"]]) == (True, ["holds"] * 3)
    shutil.copy(f"{gateway.database}.backup", gateway.database)
    for side in ("-wal", "-shm"):
        gateway.database.with_name(gateway.database.name + side).unlink(missing_ok=True)
    assert "beyond" in gateway.command("events", "verify", "--anchor", from_log, code=1).stdout
    gateway.start()
    until(lambda: gateway.said("anchor", occasion="start", position=shown["position"]), "the anchor is told")


def told(gateway: GatewayProcess) -> list[str]:
    return [line["occasion"] for line in gateway.lines() if line["event"] == "anchor"]


def test_after_a_kill_the_next_start_takes_the_anchor_and_none_is_written_twice(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("ACC1"))
    gateway.restart()
    until(lambda: gateway.said("anchor", occasion="start"), "the anchor is told")
    gateway.restart()
    until(lambda: gateway.output().count('"event": "anchor"') == 2, "the anchor is told again")
    gateway.stop()
    assert told(gateway) == ["start", "start", "stop"]
    assert len(anchors_file(gateway).read_text().splitlines()) == 1
    assert "anchors that hold: 1" in gateway.command("events", "verify").stdout


def test_verifying_beside_the_service_is_gentle_and_finds_it_intact(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("ACC1"))
    done = gateway.command("events", "verify")
    assert done.stdout.startswith("intact: ")
    assert done.stderr.startswith("a service runs on this database: verifying gently")
