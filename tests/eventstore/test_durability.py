"""WAL, synchronous=FULL, positions that are never used twice, and a time that never goes back (design §3.1, §3.3)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.eventstore import recorder
from gateway.eventstore.connections import connect


def pragma(connection: sqlite3.Connection | sqlite3.Cursor, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_the_writer_is_in_wal_mode_and_synchronises_each_commit(gateway: Gateway) -> None:
    with gateway.datastore.writer.transaction() as cursor:
        assert (pragma(cursor, "journal_mode"), pragma(cursor, "synchronous")) == ("wal", 2)


def test_so_is_the_writer_that_replaces_one_that_failed(gateway: Gateway) -> None:
    gateway.datastore.writer._drop()
    with gateway.datastore.writer.transaction() as cursor:
        assert (pragma(cursor, "journal_mode"), pragma(cursor, "synchronous")) == ("wal", 2)


def test_readers_are_too_and_can_not_write(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        assert (pragma(connection, "journal_mode"), pragma(connection, "synchronous")) == ("wal", 2)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM stored_events")


def test_what_is_saved_is_in_the_file_for_another_connection_at_once(gateway: Gateway, path: Path) -> None:
    schedule(gateway)
    assert connect(path, read_only=True).execute("SELECT COUNT(*) FROM stored_events").fetchone()[0] == 2


def positions(path: Path) -> list[int]:
    return [row[0] for row in sqlite3.connect(path).execute("SELECT rowid FROM stored_events ORDER BY rowid")]


def test_a_position_is_not_used_again_after_the_newest_event_was_deleted(path: Path) -> None:
    with opened(path) as gateway:
        schedule(gateway, "ACC001")
    with sqlite3.connect(path) as prompt:
        prompt.execute("DELETE FROM stored_events WHERE rowid = 2")
    with opened(path) as gateway:
        schedule(gateway, "ACC002")
    assert positions(path) == [1, 3, 4]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    """The recorder's clock: shows the last of these."""
    shown = [datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return shown[-1]

    monkeypatch.setattr(recorder, "datetime", Clock)
    return shown


def times(gateway: Gateway) -> list[str]:
    with gateway.reading() as connection:
        return [row[0] for row in connection.execute("SELECT committed_at FROM event_chain ORDER BY position")]


def test_all_events_of_one_save_carry_one_time(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    first, second = times(gateway)[:2], times(gateway)[2:]
    assert len(set(first)) == len(set(second)) == 1
    assert len(second) == 3


def test_the_time_of_a_commit_is_utc_to_the_microsecond(gateway: Gateway, clock: list[datetime]) -> None:
    schedule(gateway)
    assert times(gateway)[0] == "2026-11-23T09:00:00.000000+00:00"


def test_the_time_never_decreases_when_the_clock_steps_back(gateway: Gateway, clock: list[datetime]) -> None:
    schedule(gateway)
    clock.append(clock[0] - timedelta(hours=1))
    start(gateway, step_uid(1), naming())
    clock.append(clock[0] + timedelta(seconds=1))
    change(gateway, completed(step_uid(1)))
    before, after = clock[0].isoformat(timespec="microseconds"), clock[2].isoformat(timespec="microseconds")
    assert times(gateway) == [before] * 5 + [after] * 3


def test_a_save_of_nothing_takes_no_lock(gateway: Gateway, path: Path) -> None:
    other = connect(path)
    other.execute("BEGIN IMMEDIATE")
    assert gateway.save() == []


def test_a_projection_that_saves_is_stopped_before_it_waits_for_itself(gateway: Gateway) -> None:
    with (
        gateway.datastore.writer.transaction(),
        pytest.raises(RuntimeError, match="must not write"),
        gateway.datastore.writer.transaction(),
    ):
        pass


def test_a_reader_does_not_wait_for_the_writer(gateway: Gateway) -> None:
    schedule(gateway)
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("DELETE FROM worklist_items")
        assert gateway.count_by_status() == {"SCHEDULED": 1}


def test_a_snapshot_sees_one_commit_however_many_follow(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    with gateway.datastore.readers.snapshot() as connection:
        schedule(gateway, "ACC002")
        assert connection.execute("SELECT COUNT(*) FROM worklist_items").fetchone()[0] == 1


def test_nobody_else_on_the_machine_reads_the_database(tmp_path: Path) -> None:
    """It holds names and NHS numbers."""
    with opened(tmp_path / "gateway.db") as gateway:
        schedule(gateway)
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.db.use"], "0o600")
