"""Another process holds the database: the service says so, still hears, and stops in time."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from relay import RelayError
from tests.end_to_end.harness import GatewayProcess, LocalRelay, ask, create_item, impatient, running, until
from tests.end_to_end.unit import Unit

pytestmark = pytest.mark.slow


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As a `sqlite3` prompt that began to write and was left alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay) -> Iterator[GatewayProcess]:
    """A running gateway that proves often that it hears."""
    process = GatewayProcess(tmp_path / "gateway", relay, gateway_relay_echo_seconds=0.5)
    with running(process):
        yield process.start()


@contextmanager
def scheduling(relay: LocalRelay, many: int) -> Iterator[None]:
    """A web app that asks for so many appointments at once and waits."""

    def schedule(number: int) -> None:
        with suppress(RelayError):
            ask(relay.connection("actions"), create_item(f"ACC{number}"), impatient(30))

    web_app = [threading.Thread(target=schedule, args=(number,)) for number in range(many)]
    for each in web_app:
        each.start()
    yield
    for each in web_app:
        each.join(60)


def test_while_saves_wait_echo_health_and_the_worklist_answer_and_health_says_what_holds_them_up(
    gateway: GatewayProcess, relay: LocalRelay
) -> None:
    with scheduling(relay, 20):
        with held(gateway.database):
            until(lambda: relay.emulator.log.count("accept", 101) > 20, "the actions are taken in")
            assert ask(relay.connection("actions"), {"action_type": "echo"}, impatient(2))["status"] == "echo"
            report = gateway.until_health(lambda report: not report["healthy"], "health says it", 15)
            assert "held by another process" in report["checks"]["store"]["error"]
            proven = report["checks"]["relay"]["last_proof"]
            gateway.until_health(lambda report: report["checks"]["relay"]["last_proof"] > proven, "it still hears")
            assert Unit(gateway.dicom_port).echo() == 0
        gateway.until_health(lambda report: report["healthy"], "it is well again")
    assert gateway.item_count() == 20
    gateway.assert_sound()


def test_looks_wait_for_nobody_and_the_doctor_says_who_keeps_the_store_from_saving(gateway: GatewayProcess) -> None:
    with held(gateway.database):
        began = time.monotonic()
        assert json.loads(gateway.command("worklist", "list", "--json").stdout) == []
        assert time.monotonic() - began < 15, "a save would wait for 20 s"
        found = {one["name"]: one for one in json.loads(gateway.command("doctor", "--json", code=1).stdout)["findings"]}
    assert [name for name, one in found.items() if one["outcome"] == "failed"] == ["store"]
    assert "held by another process" in found["store"]["proven"]
    assert "sqlite3 prompt" in found["store"]["remedy"]


def test_a_stop_waits_neither_for_the_one_who_holds_the_file_nor_for_those_who_wait_for_him(
    gateway: GatewayProcess, relay: LocalRelay
) -> None:
    with scheduling(relay, 20), held(gateway.database):
        until(lambda: relay.emulator.log.count("accept", 101) > 20, "the actions are taken in")
        began = time.monotonic()
        assert gateway.stop(seconds=20) == 0
        assert time.monotonic() - began < 15
        relay.begin("cut")
    gateway.start()
    gateway.assert_sound()
