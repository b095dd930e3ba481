"""`GET /health`: 503 only where a restart or a call can help, with the same JSON as the `health` action."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ops_support import asynchronous, fetch, running, serving

from bench.synthetic import naming, schedule, start, step_uid
from gateway import __version__
from gateway.application import Gateway
from gateway.errors import StoreUnusable
from gateway.ops import health
from gateway.ops.health import Check, disk_check, outbox_check, store_check
from gateway.settings import Settings
from relay import Sender
from relay.emulator import AccessKey, Emulator, Right
from tests.eventstore.everything import restored

CONTRACT = Path(__file__).parents[2] / "gateway" / "contract" / "samples"
WELL: dict[str, Callable[[], Check]] = {"store": lambda: {"ok": True}, "dicom": lambda: {"ok": True}}

Make = Callable[..., Settings]


def unwell() -> Check:
    return {"ok": False, "error": "the DICOM server does not listen: restart the service"}


def broken() -> Check:
    raise StoreUnusable("the last save failed: disk full", remedy="look at the disk")


def unexpected() -> Check:
    raise RuntimeError("SMITH^JANE")


@asynchronous
async def test_all_well_is_200() -> None:
    async with serving(WELL) as port:
        answer = await fetch(port)
    assert (answer.status, answer.json["healthy"], answer.json["version"]) == (200, True, __version__)


@asynchronous
async def test_a_part_that_is_not_well_is_503_with_the_same_json() -> None:
    async with serving(WELL | {"dicom": unwell}) as port:
        answer = await fetch(port)
    assert (answer.status, answer.json["healthy"]) == (503, False)
    assert answer.json["checks"] == {"store": {"ok": True}, "dicom": unwell()}


@asynchronous
async def test_a_check_that_fails_by_an_error_of_ours_says_it_with_its_code() -> None:
    async with serving(WELL | {"store": broken}) as port:
        answer = await fetch(port)
    assert answer.status == 503
    assert answer.json["checks"]["store"] == {
        "ok": False,
        "error": "the last save failed: disk full → look at the disk",
        "code": "store_unusable",
    }


@asynchronous
async def test_a_check_that_fails_unexpectedly_is_503_and_its_words_stay_inside() -> None:
    async with serving(WELL | {"store": unexpected}) as port:
        answer = await fetch(port)
    assert (answer.status, answer.json["checks"]["store"]["ok"]) == (503, False)
    assert answer.json["checks"]["dicom"] == {"ok": True}
    assert b"SMITH" not in answer.body


@asynchronous
async def test_a_warning_is_200_and_told_with_the_part_it_comes_from() -> None:
    async with serving(WELL | {"outbox": lambda: {"ok": True, "warning": "3 wait"}}, ["set it"]) as port:
        answer = await fetch(port)
    assert (answer.status, answer.json["warnings"]) == (200, ["outbox: 3 wait", "set it"])


@asynchronous
async def test_any_other_path_is_404_and_says_where_to_look(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        for path in ("/healthz", "/health/x", "/../etc/passwd", "/%00", "/HEALTH", "/static/../app.py", "/clinic/"):
            answer = await fetch(port, path)
            assert (answer.status, answer.json["code"]) == (404, "not_found"), path
            assert "/health" in answer.json["remedy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@asynchronous
async def test_health_can_only_be_asked(method: str) -> None:
    async with serving(WELL) as port:
        answer = await fetch(port, "/health", method, b"SMITH^JANE")
    assert answer.status == 405
    assert b"SMITH" not in answer.body


@asynchronous
async def test_head_is_answered_like_get_without_a_body() -> None:
    async with serving(WELL) as port:
        answer = await fetch(port, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@asynchronous
async def test_answers_are_not_to_be_kept_or_guessed_at_and_name_no_server() -> None:
    async with serving(WELL) as port:
        for path in ("/health", "/nothing"):
            headers = (await fetch(port, path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            assert "server" not in headers


@asynchronous
async def test_bytes_that_are_no_http_are_refused_and_the_next_is_answered() -> None:
    async with serving(WELL) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x02\x00\x00\x00SMITH^JANE\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert b" 400 " in answer
        assert b"SMITH" not in answer
        assert (await fetch(port)).status == 200


# --- each check


def test_the_store_tells_the_position_of_its_newest_event(gateway: Gateway) -> None:
    assert store_check(gateway) == {"ok": True, "position": 0}
    schedule(gateway)
    assert store_check(gateway) == {"ok": True, "position": 2}


def owed(gateway: Gateway, number: int = 1) -> str:
    schedule(gateway, f"ACC{number:03d}")
    start(gateway, step_uid(number), naming(f"ACC{number:03d}"))
    return gateway.find_updates(state="waiting")[-1].event_id


def test_an_empty_outbox_is_well(gateway: Gateway) -> None:
    assert outbox_check(gateway, delivers=True) == {"ok": True, "waiting": 0, "parked": 0}


def test_what_waits_is_counted_with_the_age_of_the_oldest_and_no_warning_at_first(gateway: Gateway) -> None:
    owed(gateway)
    check = outbox_check(gateway, delivers=True)
    assert (check["ok"], check["waiting"], "warning" in check) == (True, 1, False)
    assert 0 <= check["oldest_seconds"] < 60


def test_a_backlog_is_a_warning_and_no_failure(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    owed(gateway)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(UTC) + timedelta(minutes=10)

    monkeypatch.setattr(health, "datetime", Later)
    check = outbox_check(gateway, delivers=True)
    assert check["ok"] is True
    assert check["warning"].startswith("1 status updates wait, the oldest for 6")


def test_without_a_way_to_the_web_app_whatever_waits_is_a_warning(gateway: Gateway) -> None:
    owed(gateway)
    assert "no events hybrid connection" in outbox_check(gateway, delivers=False)["warning"]


def test_parked_updates_are_a_warning_that_says_where_to_look(gateway: Gateway) -> None:
    gateway.park_update(owed(gateway), reason="unknown_status", attempts=1)
    check = outbox_check(gateway, delivers=True)
    assert (check["waiting"], check["parked"]) == (0, 1)
    assert "gateway outbox list" in check["warning"]


def test_both_warnings_are_told(gateway: Gateway) -> None:
    gateway.park_update(owed(gateway), reason="unknown_status", attempts=1)
    owed(gateway, 2)
    warning = outbox_check(gateway, delivers=False)["warning"]
    assert "wait" in warning
    assert "refused" in warning


def test_the_disk_tells_what_is_free(tmp_path: Path) -> None:
    check = disk_check(tmp_path / "gateway.db")
    assert check["ok"] is True
    assert check["free_bytes"] > 0
    assert 0 <= check["free_percent"] <= 100


def test_a_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_DISK_PERCENT", 100.1)
    assert disk_check(tmp_path / "gateway.db")["warning"].endswith("% of the disk is free")


def test_a_disk_that_can_not_be_asked_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    check = disk_check(tmp_path / "gone" / "gateway.db")
    assert check["ok"] is True
    assert "free_bytes" not in check
    assert "warning" in check


# --- the whole service


@asynchronous
async def test_without_relay_settings_the_service_is_well_and_says_that_none_is_configured(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        answer = await fetch(port)
    assert answer.status == 200
    assert answer.json["checks"]["relay"] == {"ok": True, "state": "not configured"}
    assert answer.json["checks"].keys() == {"store", "dicom", "relay", "outbox", "steps", "disk", "test_items"}


def relay_settings(relay: Emulator) -> dict[str, Any]:
    return {
        "azure_relay_connection_string": relay.connection_string("key"),
        "azure_relay_hybrid_connection": "actions",
        "azure_relay_events_hybrid_connection": "events",
    }


def emulator() -> Emulator:
    return Emulator(hybrid_connections=["actions", "events"], keys={"key": "bm90LWEtcmVhbC1rZXk="})


def shape(value: Any) -> Any:
    """The keys of a JSON value, all the way down."""
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def holds(larger: Any, smaller: Any) -> bool:
    return smaller is None or all(name in larger and holds(larger[name], inner) for name, inner in smaller.items())


@asynchronous
async def test_the_health_action_holds_every_key_of_the_contract_and_says_what_the_port_says(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = json.loads((CONTRACT / "replies" / "health.json").read_text())
    async with (
        emulator() as relay,
        running(own_settings(**relay_settings(relay)), monkeypatch) as (service, port),
    ):
        await service.hearing.wait()
        action = (CONTRACT / "actions" / "health.json").read_text()
        reply = json.loads(await Sender(relay.hybrid_connection("actions", "key")).send(action))
        answer = await fetch(port)
    assert holds(reply, shape(sample))
    assert (reply["status"], reply["action_id"]) == ("ok", sample["action_id"])
    assert reply["health"]["checks"]["relay"]["state"] == "hearing"
    assert (answer.status, shape(answer.json)) == (200, shape(reply["health"]))


@asynchronous
async def test_a_key_that_may_not_send_is_a_warning_that_deafness_goes_unnoticed(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen_only = {"key": AccessKey("bm90LWEtcmVhbC1rZXk=", frozenset({Right.LISTEN}))}
    async with (
        Emulator(hybrid_connections=["actions", "events"], keys=listen_only) as relay,
        running(own_settings(**relay_settings(relay)), monkeypatch) as (service, port),
    ):
        await service.hearing.wait()
        answer = await fetch(port)
    relay_check = answer.json["checks"]["relay"]
    assert (answer.status, relay_check["state"], relay_check["proven_by"]) == (200, "hearing", "pings")
    assert relay_check["last_proof"] is None
    assert any("Send beside Listen" in warning for warning in answer.json["warnings"])


@asynchronous
async def test_a_configured_relay_that_is_not_heard_is_503(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with emulator() as relay:
        settings = own_settings(**relay_settings(relay))
    async with running(settings, monkeypatch) as (_, port):
        answer = await fetch(port)
    assert (answer.status, answer.json["healthy"]) == (503, False)
    assert answer.json["checks"]["relay"]["ok"] is False
    assert answer.json["checks"]["relay"]["error"]
    assert b"bm90LWEtcmVhbC1rZXk" not in answer.body


@asynchronous
async def test_a_dicom_server_that_does_not_listen_is_503(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asyncio.to_thread(service.dicom.stop, 1)
        answer = await fetch(port)
    assert (answer.status, answer.json["checks"]["dicom"]["ok"]) == (503, False)


@asynchronous
async def test_a_database_that_became_unreadable_is_503_with_json_that_says_what_to_do(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        service.gateway.close()
        for part in database.parent.glob("gateway.db*"):
            part.write_bytes(b"SMITH^JANE" * 1000)
        answer = await fetch(port)
    assert (answer.status, answer.json["checks"]["store"]["ok"]) == (503, False)
    assert answer.json["checks"]["store"]["error"]
    assert b"SMITH" not in answer.body


@asynchronous
async def test_a_database_that_is_gone_is_503(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        service.gateway.close()
        shutil.move(database, database.with_suffix(".away"))
        answer = await fetch(port)
    assert (answer.status, answer.json["checks"]["store"]["ok"]) == (503, False)


@asynchronous
async def test_the_doubtful_reading_of_times_is_warned_of_with_a_real_relay_only(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {
        "azure_relay_namespace": "127.0.0.1",
        "azure_relay_key_name": "key",
        "azure_relay_shared_access_key": "bm90LWEtcmVhbC1rZXk=",
        "azure_relay_hybrid_connection": "actions",
    }
    async with running(own_settings(**real), monkeypatch) as (_, port):
        warnings = (await fetch(port)).json["warnings"]
        assert any("GATEWAY_SCHEDULED_TIMES" in warning for warning in warnings)
    async with running(own_settings(**real, gateway_scheduled_times="utc"), monkeypatch) as (_, port):
        assert (await fetch(port)).json["warnings"] == []


@asynchronous
async def test_a_database_that_was_never_restored_says_so(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        assert (await fetch(port)).json["restored_from"] is None


@asynchronous
async def test_after_a_restore_health_warns_until_somebody_lets_the_outbox_go_on(
    own_settings: Make, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule(gateway)
    restored(gateway)
    start(gateway, step_uid(1), naming())
    async with running(own_settings(), monkeypatch) as (_, port):
        report = (await fetch(port)).json
        assert report["healthy"]
        told = report["restored_from"]
        assert (told["backup"], told["epoch"], told["resumed_at"]) == ("gateway-20261123T030000Z-40.db", 2, None)
        assert told["possibly_lost"] == {
            "known": True,
            "actions": 1,
            "items": 1,
            "performed_steps": 0,
            "status_events": 0,
        }
        [warning] = [line for line in report["warnings"] if line.startswith("restored: ")]
        assert "possibly lost: 1 actions" in warning
        assert "1 status updates wait for gateway outbox resume --after-restore" in warning
        gateway.resume_delivery(operator="day shift")
        report = (await fetch(port)).json
        assert report["restored_from"]["resumed_at"]
        assert not any(line.startswith("restored: ") for line in report["warnings"])


@asynchronous
async def test_backups_are_asked_about_only_where_the_service_takes_them(
    own_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = own_settings(gateway_backup_at="03:00", gateway_backup_folder=tmp_path / "backups")
    async with running(settings, monkeypatch) as (_, port):
        while not (check := (await fetch(port)).json["checks"]["backup"])["last"]:
            assert check["warning"] == "there is no backup yet"
        assert "warning" not in check
    async with running(own_settings(), monkeypatch) as (_, port):
        assert "backup" not in (await fetch(port)).json["checks"]
