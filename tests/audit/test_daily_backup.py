"""The service's own backup: when it is due, what it leaves, and what health says when it fails or grows old."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from datetime import time as wall_clock
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.audit.daily_backup import BackupPlan, DailyBackup
from gateway.eventstore.backup import listed, origin

ZONE = ZoneInfo("Europe/London")


def daily(database: Path, folder: Path, *, retry_seconds: float = 600.0) -> DailyBackup:
    """Due a minute ago, every day."""
    past = (datetime.now(ZONE) - timedelta(minutes=1)).time().replace(microsecond=0)
    at = wall_clock(0, 0) if past > datetime.now(ZONE).time() else past
    plan = BackupPlan(database=database, folder=folder, kept_days=30, at=at, zone=ZONE)
    return DailyBackup(plan, retry_seconds=retry_seconds)


async def until(condition: object, running: asyncio.Task[None]) -> None:
    async with asyncio.timeout(20):
        while not condition() and not running.done():  # type: ignore[operator]
            await asyncio.sleep(0.01)


def run_until(backups: DailyBackup, condition: object) -> None:
    async def run() -> None:
        running = asyncio.create_task(backups.run())
        await until(condition, running)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


NO_EVENT = "00000000"


def named(folder: Path, moment: datetime, suffix: str = "", *, of: str = NO_EVENT) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"gateway-{moment:%Y%m%dT%H%M%SZ}-1-{of}{suffix}.db"
    file.touch()
    return file


def test_at_start_an_overdue_backup_is_taken_and_old_ones_are_removed(
    gateway: Gateway, database: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    old = named(folder, datetime.now(UTC) - timedelta(days=40))
    backups = daily(database, folder)
    run_until(backups, lambda: not old.exists())
    [taken] = listed(folder, "gateway")
    assert taken.sound
    assert backups.check() == {"ok": True, "last": taken.taken_at.isoformat()}


def test_one_that_was_taken_since_it_was_due_is_enough(gateway: Gateway, database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    taken = named(folder, datetime.now(UTC))
    backups = daily(database, folder)
    ticks = iter(range(3))
    run_until(backups, lambda: next(ticks, None) is None)
    assert [*folder.iterdir()] == [taken]


def test_one_that_fails_is_tried_again_and_health_says_why(gateway: Gateway, database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.write_text("a file in the folder's place")
    backups = daily(database, folder, retry_seconds=0.05)
    told: list[str] = []

    def failed() -> bool:
        told.append(backups.check().get("warning", ""))
        if "failed" in told[-1] and folder.is_file():
            folder.unlink()
        return folder.is_dir() and bool(listed(folder, "gateway")) and "warning" not in backups.check()

    run_until(backups, failed)
    assert any("no backup can be put into" in line for line in told)
    assert len(listed(folder, "gateway")) == 1


def test_health_warns_of_none_of_an_old_one_and_of_one_that_is_not_sound(database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    backups = daily(database, folder)
    assert backups.check() == {"ok": True, "last": None, "warning": "there is no backup yet"}
    good = datetime.now(UTC) - timedelta(hours=30)
    named(folder, good)
    assert backups.check()["warning"] == "the last backup is 30 h old"
    named(folder, datetime.now(UTC), ".unsound")
    assert "not sound" in backups.check()["warning"]
    assert backups.check()["last"] == f"{good:%Y-%m-%dT%H:%M:%S}+00:00", "the last good one"
    assert backups.check()["ok"]


def test_an_unsound_one_is_not_taken_again_and_again(gateway: Gateway, database: Path, tmp_path: Path) -> None:
    schedule(gateway)
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("UPDATE stored_events SET topic = topic || ' '")
    folder = tmp_path / "backups"
    backups = daily(database, folder, retry_seconds=0.01)
    looks = iter(range(50))
    run_until(backups, lambda: bool(listed(folder, "gateway")) and next(looks, None) is None)
    assert [found.sound for found in listed(folder, "gateway")] == [False]
    assert "at position 1" in backups.check()["warning"]


def test_a_stop_gives_up_a_backup_under_way(
    gateway: Gateway, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a service would wait for it: with a rest of a minute after each step it would take very long."""
    monkeypatch.setattr("gateway.audit.daily_backup._REST", 0.05)
    for number in range(200):
        schedule(gateway, f"ACC{number}")
    folder = tmp_path / "backups"
    run_until(daily(database, folder), lambda: folder.is_dir() and any(folder.iterdir()))
    assert [*folder.iterdir()] == []


def test_two_gateways_in_one_folder_each_take_their_own_and_leave_the_other_s(tmp_path: Path) -> None:
    """Their databases have the same name, and one has taken its own just now."""
    folder = tmp_path / "shared"
    taken = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        with opened(tmp_path / str(number) / "gateway.db") as gateway:
            schedule(gateway, f"ACC{number}")
            backups = daily(gateway.path, folder)
            assert backups.check()["warning"] == "there is no backup yet"
            old = named(folder, datetime.now(UTC) - timedelta(days=40), of=origin(gateway.path))
            run_until(backups, lambda old=old: not old.exists())
            taken += listed(folder, "gateway", origin(gateway.path))
            left = named(folder, datetime.now(UTC) - timedelta(days=40), of=origin(gateway.path))
            assert backups.check() == {"ok": True, "last": taken[-1].taken_at.isoformat()}
            assert left.exists()
    assert len({backup.origin for backup in taken}) == len(taken) == 2
    assert len([*folder.iterdir()]) == 4


def test_a_backup_stamped_later_than_now_holds_up_none_and_health_warns_of_it(
    gateway: Gateway, database: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    future = named(folder, datetime.now(UTC) + timedelta(days=400))
    backups = daily(database, folder)
    assert backups.check()["last"] is None
    run_until(backups, lambda: len(listed(folder, "gateway")) == 2)
    found = backups.check()
    assert found["last"] == listed(folder, "gateway")[0].taken_at.isoformat()
    assert found["warning"].startswith(f"{future.name} is stamped later than now")
