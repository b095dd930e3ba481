"""Anchors leave the machine: in the service's log, in every health reply, in a file; at start, each day, at stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ops_support import asynchronous, fetch, running

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.eventstore import anchors, chain
from gateway.ops import anchoring
from gateway.ops.anchoring import Anchoring
from gateway.service import Service
from gateway.settings import Settings
from relay import Sender
from relay.emulator import Emulator

Make = Callable[..., Settings]
SITE = ZoneInfo("Europe/London")


class Log:
    """What was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **keys: Any) -> None:
        self.said.append((event, keys))

    error = info

    @property
    def occasions(self) -> list[tuple[str, int]]:
        return [(keys["occasion"], keys["position"]) for event, keys in self.said if event == "anchor"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(anchoring, "log", log)
    return log


def head(gateway: Gateway) -> chain.Anchor:
    with gateway.reading() as connection:
        newest = chain.newest(connection)
    assert newest is not None
    return newest


def test_an_empty_log_has_no_anchor(gateway: Gateway, tmp_path: Path, said: Log) -> None:
    anchored = Anchoring(gateway, tmp_path / "anchors")
    anchored.take("start")
    assert (anchored.present(), said.said, (tmp_path / "anchors").exists()) == (None, [], False)


def test_an_anchor_goes_into_the_log_each_time_and_into_the_file_once(
    gateway: Gateway, tmp_path: Path, said: Log
) -> None:
    schedule(gateway)
    anchored, file = Anchoring(gateway, tmp_path / "anchors"), tmp_path / "anchors"
    anchored.take("start")
    anchored.take("day")
    newest = head(gateway)
    expected = {"position": 2, "hash": newest.link.hex(), "committed_at": newest.committed_at}
    assert said.said == [("anchor", {"occasion": "start", **expected}), ("anchor", {"occasion": "day", **expected})]
    assert anchored.present() == expected
    assert anchors.read(file).anchors == (newest,)
    schedule(gateway, "ACC002")
    anchored.take("stop")
    assert [kept.position for kept in anchors.read(file).anchors] == [2, 4]


def test_a_file_that_can_not_be_written_is_told_and_warned_of_until_it_can(
    gateway: Gateway, tmp_path: Path, said: Log
) -> None:
    schedule(gateway)
    folder = tmp_path / "gone"
    anchored = Anchoring(gateway, folder / "anchors")
    anchored.take("start")
    assert [event for event, _ in said.said] == ["anchor", "anchor_not_kept"]
    assert said.said[1][1]["code"] == "anchors_unusable"
    [warning] = anchored.warnings()
    assert "GATEWAY_ANCHORS_FILE" in warning
    folder.mkdir()
    anchored.take("day")
    assert anchored.warnings() == []
    assert anchors.read(folder / "anchors").anchors == (head(gateway),)


# --- the whole service


@asynchronous
async def test_the_service_takes_one_at_start_and_after_its_last_save(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, database: Path, said: Log
) -> None:
    with opened(database) as before:
        schedule(before)
    async with running(own_settings(), monkeypatch) as (service, _):
        while not said.occasions:
            await asyncio.sleep(0)
        await asyncio.to_thread(schedule, service.gateway, "ACC002")
    assert said.occasions == [("start", 2), ("stop", 4)]
    with opened(database) as after:
        assert after.verify_chain(anchors=anchors.read(Path(f"{database}.anchors")).anchors).intact
        assert anchors.read(Path(f"{database}.anchors")).anchors[-1] == head(after)


@asynchronous
async def test_the_service_takes_one_whenever_a_day_of_the_site_has_ended(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, database: Path, said: Log
) -> None:
    with opened(database) as before:
        schedule(before)
    moments: list[datetime] = []
    ended = asyncio.Event()

    async def until_midnight(_: Service, moment: datetime) -> None:
        if moment.time() == time(0):
            moments.append(moment)
            await ended.wait()
            ended.clear()
        else:
            await asyncio.Event().wait()

    monkeypatch.setattr(Service, "_sleep_until", until_midnight)
    async with running(own_settings(), monkeypatch) as (_, _port):
        for count in (1, 2):
            while len(moments) < count:
                await asyncio.sleep(0)
            ended.set()
        while len(said.occasions) < 3:
            await asyncio.sleep(0)
        assert [occasion for occasion, _ in said.occasions] == ["start", "day", "day"]
    assert moments[0].tzinfo == SITE
    assert timedelta(0) < moments[0] - datetime.now(SITE) <= timedelta(hours=25)


@asynchronous
async def test_every_health_reply_holds_the_head_of_the_log(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the ops port and to the web app: who keeps replies keeps anchors."""
    emulator = Emulator(hybrid_connections=["actions", "events"], keys={"key": "bm90LWEtcmVhbC1rZXk="})
    async with emulator as relay:
        connection = {
            "azure_relay_connection_string": relay.connection_string("key"),
            "azure_relay_hybrid_connection": "actions",
            "azure_relay_events_hybrid_connection": "events",
        }
        async with running(own_settings(**connection), monkeypatch) as (service, port):
            await service.hearing.wait()
            sender = Sender(relay.hybrid_connection("actions", "key"))
            asked = json.dumps({"action_type": "health"})
            assert json.loads(await sender.send(asked))["health"]["anchor"] is None
            await asyncio.to_thread(schedule, service.gateway)
            reply = json.loads(await sender.send(asked))["health"]["anchor"]
            shown = (await fetch(port)).json["anchor"]
            newest = await asyncio.to_thread(head, service.gateway)
    assert reply == shown == anchoring.shown(newest)
    assert anchors.parse(f"{reply['position']}:{reply['hash']}").link == newest.link


@asynchronous
async def test_a_file_that_can_not_be_written_is_a_warning_of_health_and_no_failure(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, database: Path, tmp_path: Path, said: Log
) -> None:
    with opened(database) as before:
        schedule(before)
    settings = own_settings(gateway_anchors_file=tmp_path / "gone" / "anchors")
    async with running(settings, monkeypatch) as (_, port):
        while len(said.said) < 2:
            await asyncio.sleep(0)
        answer = await fetch(port)
    assert answer.status == 200
    assert [warning for warning in answer.json["warnings"] if warning.startswith("anchors: ")]
