"""GET /metrics of a real service: what is told, in Prometheus's words, and that no one is named."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ops_support import asynchronous, fetch, running
from prometheus_client.parser import text_string_to_metric_families
from window_support import Browser

from bench.synthetic import appointment, schedule
from gateway.application import Gateway
from gateway.dicom.record import Query, QueryRecord, RefusedAssociation, now
from gateway.domain.lifecycle import Status
from gateway.eventstore.backup import take
from gateway.ops.metrics import MOST_TITLES, PREFIX, Counters, Metrics, exposition
from gateway.rehearsal.modality import Modality
from gateway.settings import Settings
from relay import ConnectionString, ListenerState, Sender
from relay.emulator import Emulator
from tests.actions.actions_support import create

Make = Callable[..., Settings]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LONDON = ZoneInfo("Europe/London")
WELL = {"healthy": True, "version": "0", "listener_uptime_seconds": 0, "checks": {"store": {"ok": True}}}


def read(body: bytes) -> Samples:
    """Samples by name and labels."""
    families = text_string_to_metric_families(body.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((PREFIX + name, tuple(sorted(labels.items()))))


def made(gateway: Gateway, report: dict[str, Any] | None = None, **options: Any) -> Metrics:
    given: dict[str, Any] = {"counters": Counters(), "zone": LONDON, "last_backup": lambda: None} | options
    return Metrics(gateway=gateway, health=lambda: report or WELL, **given)


def scraped(gateway: Gateway, report: dict[str, Any] | None = None, **options: Any) -> Samples:
    return read(exposition(made(gateway, report, **options))[0])


async def asked(port: int) -> Samples:
    answer = await fetch(port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return read(answer.body)


def status_of(port: int, headers: dict[str, str]) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


# --- the whole service


@asynchronous
async def test_a_running_service_tells_of_itself_and_of_what_came_in(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator(hybrid_connections=["actions", "events"], keys={"k": "secret"}) as emulator:
        string = emulator.connection_string("k")
        settings = own_settings(
            azure_relay_connection_string=string,
            azure_relay_hybrid_connection="actions",
            azure_relay_events_hybrid_connection="events",
        )
        async with running(settings, monkeypatch) as (service, port):
            await service.hearing.wait()
            sender = Sender(ConnectionString.parse(string).hybrid_connection("actions"))
            date = datetime.now(LONDON).strftime("%Y%m%d")
            for action in (create(scheduled={"date": date}), create("a2", "A" * 17), {"action_type": "nonsense"}):
                await sender.send(json.dumps(action))
            unit = Modality("127.0.0.1", service.dicom.port, "ORTHANC_MWL", "MAMMO1")
            await asyncio.to_thread(unit.perform, "ACC001")
            samples = await asked(port)
            report = await asyncio.to_thread(service.health.report)
    assert value(samples, "healthy") == 1
    assert value(samples, "build_info", version=report["version"]) == 1
    assert [value(samples, "check_ok", check=name) for name in report["checks"]] == [1.0] * len(report["checks"])
    assert value(samples, "items", status="COMPLETED") == 1
    assert value(samples, "actions_total", action="worklist.create_item", outcome="created") == 1
    assert value(samples, "actions_total", action="worklist.create_item", outcome="validation") == 1
    assert value(samples, "actions_total", action="other", outcome="validation") == 1
    assert value(samples, "queries_total", status="0x0000") == 1
    assert value(samples, "mpps_messages_total", operation="N-CREATE", status="0x0000") == 1
    assert value(samples, "mpps_messages_total", operation="N-SET", status="0x0000") == 1
    assert value(samples, "relay_state", state="hearing") == 1
    assert value(samples, "relay_state", state="deaf") == 0
    assert value(samples, "relay_reconnects_total") == 0
    assert 0 <= (value(samples, "relay_proof_age_seconds") or 0) < 30
    assert 3000 < (value(samples, "relay_token_remaining_seconds") or 0) <= 3600
    assert abs(value(samples, "relay_clock_skew_seconds") or 0) < 5
    assert value(samples, "outbox_waiting") == 2
    assert (value(samples, "outbox_oldest_age_seconds") or 0) >= 0
    assert (value(samples, "event_position") or 0) > 3
    assert 0 < (value(samples, "disk_free_ratio") or 0) < 1
    assert samples["process_start_time_seconds", ()] > 0


@asynchronous
async def test_a_service_without_relay_tells_nothing_that_it_does_not_know(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        samples = await asked(port)
    assert value(samples, "relay_configured") == 0
    for name in ("relay_proof_age_seconds", "relay_token_remaining_seconds"):
        assert value(samples, name) is None
    assert value(samples, "outbox_waiting") == 0
    assert value(samples, "associations_refused_total") == 0


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
@asynchronous
async def test_a_stranger_on_the_network_needs_a_token(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    token = "a-viewer-s-token-of-some-length"
    async with running(own_settings(gateway_ops_viewer_token=token), monkeypatch) as (_, port):
        proxied = {header: "192.0.2.1"}
        strange = await asyncio.to_thread(status_of, port, proxied)
        known = await asyncio.to_thread(status_of, port, proxied | {"Authorization": f"Bearer {token}"})
    assert (strange, known) == (401, 200)


@asynchronous
async def test_who_leads_a_browser_here_by_the_name_of_another_site_is_a_stranger_dns_rebinding(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        hosts = {name: {"Host": f"{name}:{port}"} for name in ("evil.example", "localhost", "127.0.0.1", "[::1]")}
        scrapes = {name: await asyncio.to_thread(status_of, port, host) for name, host in hosts.items()}
        healths = {name: (await Browser(port, **host).get("/health.json")).json for name, host in hosts.items()}
    assert scrapes == {"evil.example": 401, "localhost": 200, "127.0.0.1": 200, "[::1]": 200}
    assert healths.pop("evil.example").keys() == {"healthy", "version"}
    assert all("checks" in told for told in healths.values())


@asynchronous
async def test_a_scraper_that_asks_for_openmetrics_gets_it(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, _):
        body, kind = await asyncio.to_thread(exposition, service.metrics, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


# --- the rules of the names


def test_names_follow_prometheus_s_convention_and_each_is_explained(gateway: Gateway) -> None:
    metrics = made(gateway)
    families = metrics.families()
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"worklist_gateway_[a-z_]+", family.name)
        assert family.name.endswith("_total") is family.is_counter
        assert not re.search(r"_(ms|milliseconds|minutes|hours|days|percent|kb|mb)(_|$)", family.name)
        assert family.help
        assert not family.help.endswith(".")


def test_each_state_that_a_listener_can_have_is_told(gateway: Gateway) -> None:
    states = {dict(labels)["state"] for name, labels in scraped(gateway) if name == f"{PREFIX}relay_state"}
    assert states == {state.value for state in ListenerState}


def test_nobody_is_named_by_any_metric(gateway: Gateway) -> None:
    schedule(gateway)
    recorded = QueryRecord(gateway)
    recorded.start()
    recorded.add(query("MAMMO1"))
    recorded.close()
    metrics = made(gateway)
    text = exposition(metrics)[0].decode()
    assert "MAMMO1" in text
    for word in ("SMITH", "JANE", "9990000018", "19650315", "ACC001"):
        assert word not in text


# --- single figures


def query(ae_title: str, at: str = "", status: int = 0) -> Query:
    return Query(
        at=at or now(),
        calling_ae_title=ae_title,
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.7",
        keys=(),
        identifier=None,
        transfer_syntax="1.2.840.10008.1.2",
        status=status,
        error_comment="",
        answers=0,
        accession_numbers=(),
        milliseconds=1.0,
    )


def test_test_items_are_not_among_the_items(gateway: Gateway) -> None:
    schedule(gateway)
    gateway.schedule(appointment("TEST001"), is_test=True)
    samples = scraped(gateway)
    assert value(samples, "items", status="SCHEDULED") == 1
    assert [value(samples, "items", status=status) for status in Status if status != Status.SCHEDULED] == [0.0] * 5


def test_a_silent_modality_is_told_by_its_title_and_test_callers_are_not(gateway: Gateway) -> None:
    recorded = QueryRecord(gateway)
    recorded.start()
    ago = (datetime.now(UTC) - timedelta(minutes=10)).isoformat(timespec="milliseconds")
    recorded.add(query("MAMMO1", ago))
    recorded.add(query("REHEARSAL", ago))
    recorded.close()
    samples = scraped(gateway, test_ae_titles=("REHEARSAL",))
    assert 590 < (value(samples, "modality_silence_seconds", ae_title="MAMMO1") or 0) < 660
    assert value(samples, "modality_silence_seconds", ae_title="REHEARSAL") is None
    assert value(samples, "modality_overdue_seconds", ae_title="MAMMO1") == 0


def test_whoever_invents_titles_makes_no_more_than_so_many_labels(gateway: Gateway) -> None:
    recorded = QueryRecord(gateway)
    recorded.start()
    for number in range(MOST_TITLES + 20):
        recorded.add(query(f"AE{number}"))
    recorded.close()
    titles = [labels for name, labels in scraped(gateway) if name == f"{PREFIX}modality_silence_seconds"]
    assert len(titles) == MOST_TITLES


def test_queries_and_refusals_are_counted_when_they_are_recorded(gateway: Gateway) -> None:
    recorded = QueryRecord(gateway)
    for record in (query("A"), query("B"), query("B", status=0xA900)):
        recorded.add(record)
    refused = RefusedAssociation(at=now(), calling_ae_title="X", called_ae_title="Y", address="192.0.2.7", reason="?")
    recorded.add(refused)
    assert recorded.queries.counted() == {("0x0000",): 2, ("0xA900",): 1}
    assert recorded.refused_associations.counted() == {(): 1}


def test_a_backup_that_there_is_not_yet_is_infinitely_old(gateway: Gateway) -> None:
    assert value(scraped(gateway), "backup_age_seconds") == float("inf")
    taken = datetime.now(UTC) - timedelta(hours=2)
    assert 7199 < (value(scraped(gateway, last_backup=lambda: taken), "backup_age_seconds") or 0) < 7300


@asynchronous
async def test_where_the_service_takes_no_backups_the_age_is_that_of_the_last_good_one_by_whomever(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the alert for a backup that is missing would be silent where none was ever set up."""
    settings = own_settings(gateway_backup_folder=tmp_path / "backups")
    async with running(settings, monkeypatch) as (service, port):
        schedule(service.gateway)
        never = await asked(port)
        await asyncio.to_thread(take, settings.worklist_db_path, settings.backup_folder)
        [good] = settings.backup_folder.glob("*.db")
        taken = await asked(port)
        good.rename(good.with_name(good.name.replace(".db", ".unsound.db")))
        unsound = await asked(port)
    assert value(never, "backup_age_seconds") == float("inf")
    assert 0 <= (value(taken, "backup_age_seconds") or 0) < 60
    assert value(unsound, "backup_age_seconds") == float("inf")


def test_a_projection_that_stands_still_is_behind(gateway: Gateway) -> None:
    schedule(gateway)
    assert value(scraped(gateway), "projection_lag_events", projection="worklist") == 0
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("UPDATE projection_positions SET position = 0 WHERE name = 'worklist'")
    assert (value(scraped(gateway), "projection_lag_events", projection="worklist") or 0) >= 1


def test_a_check_that_fails_is_told_and_the_rest_is_still_scraped(gateway: Gateway) -> None:
    checks = {"disk": {"ok": True, "warning": "full"}, "dicom": {"ok": False, "error": "?"}}
    samples = scraped(gateway, WELL | {"healthy": False, "checks": checks})
    assert value(samples, "healthy") == 0
    assert (value(samples, "check_ok", check="disk"), value(samples, "check_warning", check="disk")) == (1, 1)
    assert (value(samples, "check_ok", check="dicom"), value(samples, "check_warning", check="dicom")) == (0, 1)
    assert value(samples, "event_position") == 0
