"""While a service runs, no command of another version touches its tables (upgrade: stop, install, start)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.synthetic import examine, schedule
from gateway.application import opened
from gateway.errors import StoreUnusable
from projections.worklist import WorklistFilter

HOLD = (
    "import sys; from pathlib import Path; from gateway.eventstore.ownership import Ownership; "
    "held = Ownership(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


@contextmanager
def served(path: Path) -> Iterator[None]:
    """Another process holds the database, as `gateway serve` does."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()
            holder.wait()


def at_the_prompt(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        for statement in statements:
            prompt.execute(statement)


def everything(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as prompt:
        return [*prompt.iterdump()]


@pytest.fixture
def history(path: Path) -> Path:
    with opened(path) as gateway:
        examine(gateway, 1)
    return path


def newer(path: Path) -> None:
    """The service keeps a later version of a table."""
    at_the_prompt(
        path,
        "UPDATE projection_positions SET version = 99 WHERE name = 'worklist'",
        "ALTER TABLE worklist_items ADD COLUMN of_that_version TEXT",
    )


def without_a_table_of_ours(path: Path) -> None:
    """The service is older than one of our tables."""
    at_the_prompt(path, "DELETE FROM projection_positions WHERE name = 'performed_steps'", "DROP TABLE performed_steps")


def with_a_table_unknown_to_us(path: Path) -> None:
    """The service is newer: a save of ours would be missing in that table."""
    at_the_prompt(path, "INSERT INTO projection_positions VALUES ('of_a_later_release', 1, 10)")


@pytest.mark.parametrize("differ", [newer, without_a_table_of_ours, with_a_table_unknown_to_us])
def test_a_command_of_another_version_than_the_running_service_is_refused_and_changes_nothing(
    history: Path, differ: Callable[[Path], None]
) -> None:
    differ(history)
    before = everything(history)
    with (
        served(history),
        pytest.raises(StoreUnusable, match=r"running service is another version.*restart it") as refused,
        opened(history),
    ):
        pass
    assert "stop, install, start" in refused.value.remedy
    assert everything(history) == before


@pytest.mark.parametrize("differ", [newer, without_a_table_of_ours, with_a_table_unknown_to_us])
def test_once_that_service_has_stopped_the_tables_become_this_versions(
    history: Path, differ: Callable[[Path], None]
) -> None:
    with opened(history) as gateway:
        before = gateway.find_items(WorklistFilter())
    differ(history)
    with served(history):
        pass
    with opened(history) as gateway:
        assert gateway.find_items(WorklistFilter()) == before
        assert gateway.verify_projections() == []
    with served(history), opened(history):
        pass


def test_a_command_of_the_same_version_reads_and_writes_beside_the_service(history: Path) -> None:
    with served(history), opened(history) as gateway:
        schedule(gateway, "ACC900")
        assert gateway.rebuild_projections() == 12
