"""Rows are written in the append's transaction, and brought to the log's head at start (design §3.2)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import projections.worklist
from bench.synthetic import appointment, create_request, examine, schedule
from gateway.application import PROJECTIONS, Gateway, opened
from gateway.errors import GatewayError
from gateway.eventstore import replay
from gateway.eventstore.projection import RecordedEvent
from projections.worklist import WorklistFilter


@contextmanager
def at_the_prompt(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        yield prompt


def everything(path: Path) -> list[str]:
    with at_the_prompt(path) as prompt:
        return [*prompt.iterdump()]


@pytest.fixture
def history(path: Path) -> Path:
    """Two examinations, twenty events, read once."""
    with opened(path) as gateway:
        examine(gateway, 1)
        examine(gateway, 2)
    return path


class ProjectionFailed(Exception):
    pass


@pytest.mark.parametrize("error", [ProjectionFailed, sqlite3.IntegrityError, sqlite3.OperationalError, KeyError])
def test_a_projection_that_raises_refuses_the_save_and_leaves_nothing(
    history: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    before = everything(history)
    real = projections.worklist.apply

    def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
        real(cursor, event)
        raise error("it can't")

    with opened(history) as gateway:
        monkeypatch.setattr(projections.worklist, "apply", apply)
        with pytest.raises((error, GatewayError)):
            schedule(gateway, "ACC900")
        assert everything(history) == before
        monkeypatch.undo()
        schedule(gateway, "ACC900")
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []


def test_nothing_is_caught_up_where_nothing_is_behind(history: Path) -> None:
    with opened(history) as gateway:
        assert gateway.caught_up == {}


def test_rows_are_there_when_the_save_returns_for_whoever_reads_the_file(path: Path) -> None:
    with opened(path) as writing, opened(path) as reading:
        schedule(writing)
        assert [row.accession_number for row in reading.find_items(WorklistFilter())] == ["ACC001"]


def set_back(prompt: sqlite3.Connection) -> None:
    prompt.execute("UPDATE projection_positions SET position = 10 WHERE name = 'worklist'")
    prompt.execute("DELETE FROM worklist_items WHERE accession_number = 'ACC000000002'")


def never_built(prompt: sqlite3.Connection) -> None:
    prompt.execute("DELETE FROM projection_positions WHERE name = 'worklist'")
    prompt.execute("DROP TABLE worklist_items")


def of_another_version(prompt: sqlite3.Connection) -> None:
    prompt.execute("UPDATE projection_positions SET version = 99 WHERE name = 'worklist'")
    prompt.execute("ALTER TABLE worklist_items ADD COLUMN of_that_version TEXT")


def ahead(prompt: sqlite3.Connection) -> None:
    prompt.execute("UPDATE projection_positions SET position = 500 WHERE name = 'worklist'")
    prompt.execute("UPDATE worklist_items SET status = 'EXPIRED'")


@pytest.mark.parametrize(
    ("disturb", "taken"), [(set_back, 10), (never_built, 20), (of_another_version, 20), (ahead, 20)]
)
def test_a_projection_that_is_not_at_the_head_is_brought_there_at_start(
    history: Path, disturb: Callable[[sqlite3.Connection], None], taken: int
) -> None:
    before = everything(history)
    with at_the_prompt(history) as prompt:
        disturb(prompt)
    with opened(history) as gateway:
        assert gateway.caught_up == {"worklist": taken}
        assert gateway.verify_projections() == []
    assert sorted(everything(history)) == sorted(before)


def test_a_log_cut_by_hand_takes_its_rows_along(history: Path) -> None:
    """All projections are then ahead of the log."""
    with at_the_prompt(history) as prompt:
        prompt.execute("DELETE FROM stored_events WHERE rowid > 10")
        prompt.execute("DELETE FROM event_chain WHERE position > 10")
    with opened(history) as gateway:
        assert gateway.caught_up == {projection.NAME: 10 for projection in PROJECTIONS}
        assert gateway.count_by_status() == {"COMPLETED": 1}
        assert gateway.verify_projections() == []


def test_a_restored_backup_goes_on_from_where_it_was(history: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with at_the_prompt(history) as prompt, closing(sqlite3.connect(backup)) as copy:
        prompt.backup(copy)
    with opened(history) as gateway:
        examine(gateway, 3)
    for leftover in tmp_path.glob("gateway.db-*"):
        leftover.unlink()
    shutil.copy(backup, history)
    with opened(history) as gateway:
        assert gateway.caught_up == {}
        examine(gateway, 4)
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []
        assert gateway.check_store() == 30


def test_the_log_is_read_in_pages_without_losing_or_repeating_any(
    history: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAGE", 7)
    with gateway.reading() as connection:
        assert [e.position for e in replay.read(connection, gateway.mapper)] == [*range(1, 21)]
        assert [e.position for e in replay.read(connection, gateway.mapper, after=3, until=12)] == [*range(4, 13)]


def test_a_listener_is_woken_by_each_commit_and_by_nothing_else(gateway: Gateway) -> None:
    woken: list[int] = []
    gateway.on_commit(lambda: woken.append(gateway.check_store()))
    wanted = appointment()
    for _ in range(2):
        gateway.schedule(wanted, request=create_request("1", wanted))
    assert woken == [2]
