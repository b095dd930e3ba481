"""A rebuild writes what differs and nothing else, in one transaction; whatever happens, tables are whole."""

from __future__ import annotations

import os
import select
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.synthetic import examine, participant, schedule
from gateway.application import PROJECTIONS, Gateway, opened
from gateway.audit import erasure
from gateway.errors import Contention, EventUnreadable, StoreUnusable
from gateway.eventstore import rebuilding, replay, shares
from projections.worklist import WorklistFilter
from tests.eventstore.everything import everything_happened

TABLES = [table for projection in PROJECTIONS for table in projection.TABLES]


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as prompt:
        return {table: sorted(prompt.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}


def at_the_prompt(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        for statement in statements:
            prompt.execute(statement)


def written(path: Path) -> int:
    """How many rows of the projections were written since `watch`."""
    with closing(sqlite3.connect(path)) as prompt:
        count: int = prompt.execute("SELECT COUNT(*) FROM watched").fetchone()[0]
        return count


def watch(path: Path) -> None:
    """Note each row that is inserted, changed or deleted from now on."""
    doings = ("INSERT", "UPDATE", "DELETE")
    at_the_prompt(
        path,
        "CREATE TABLE watched (row TEXT)",
        *(
            f"CREATE TRIGGER watch_{table}_{doing} AFTER {doing} ON {table}"
            f" BEGIN INSERT INTO watched VALUES ('{table} {doing}'); END"
            for table in TABLES
            for doing in doings
        ),
    )


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"], autouse=True)
def processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """By how many it is built, however short the log is."""
    count: int = request.param
    if count > 1:
        monkeypatch.setattr(shares, "_LONG", 1)
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return count


@pytest.fixture
def history(gateway: Gateway) -> Gateway:
    everything_happened(gateway)
    return gateway


def test_where_nothing_differs_nothing_is_written(history: Gateway, path: Path) -> None:
    with closing(sqlite3.connect(path)) as prompt:
        before = prompt.execute("PRAGMA data_version").fetchone()
        history.rebuild_projections()
        assert prompt.execute("PRAGMA data_version").fetchone() == before


def test_where_rows_differ_they_alone_are_written(history: Gateway, path: Path) -> None:
    """One row changed by hand, one deleted, one invented: each is put right by one doing, a change by two."""
    before = rows(path)
    at_the_prompt(
        path,
        "UPDATE worklist_items SET status = 'EXPIRED' WHERE accession_number = 'ACC001'",
        "DELETE FROM timeline WHERE position = 1",
        "INSERT INTO outbox VALUES ('0', 'ACC001', 9, 'COMPLETED', NULL, NULL, '', '{}', '', 'waiting', NULL, NULL, 0)",
    )
    watch(path)
    history.rebuild_projections()
    assert rows(path) == before
    assert written(path) == 4


DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "DELETE FROM {table} WHERE rowid_ = {n}",
                "UPDATE {table} SET {column} = {value} WHERE rowid_ = {n}",
                "DELETE FROM {table}",
            ]
        ),
        st.sampled_from(TABLES),
        st.integers(0, 30),
        st.integers(0, 20),
        st.sampled_from(["''", "'x'", "0", "x'00'", "NULL", "'SCHEDULED'", "'waiting'"]),
    ),
    min_size=1,
    max_size=6,
)


def damage(path: Path, template: str, table: str, n: int, column: int, value: str) -> None:
    """A direct write to the n-th row; what SQLite itself refuses is not written."""
    with closing(sqlite3.connect(path)) as prompt, prompt:
        described = prompt.execute(f"PRAGMA table_info({table})").fetchall()
        key = [name for _, name, _, _, _, is_key in described if is_key]
        found = prompt.execute(f"SELECT {', '.join(key)} FROM {table} LIMIT 1 OFFSET {n}").fetchone()
        where = " AND ".join(f"{name} = ?" for name in key)
        statement = template.replace("rowid_ = {n}", where).format(
            table=table, column=described[column % len(described)][1], value=value
        )
        if "WHERE" in statement and found is None:
            return
        try:
            prompt.execute(statement, found if "WHERE" in statement else ())
        except sqlite3.IntegrityError:
            return


@pytest.mark.parametrize("processes", [1], indirect=True)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(damages=DAMAGES)
def test_whatever_was_written_by_hand_is_found_and_gone_after_a_rebuild(
    whole: tuple[Gateway, dict[str, list[tuple[object, ...]]]],
    damages: list[tuple[str, str, int, int, str]],
) -> None:
    gateway, before = whole
    for one in damages:
        damage(gateway.path, *one)
    differs = rows(gateway.path) != before
    assert bool(gateway.verify_projections()) == differs
    gateway.rebuild_projections()
    assert rows(gateway.path) == before


@pytest.fixture
def whole(history: Gateway, path: Path) -> tuple[Gateway, dict[str, list[tuple[object, ...]]]]:
    return history, rows(path)


def test_saves_go_through_while_it_is_built_and_are_in_it(history: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another process too: this one would refuse a save inside a save, and says nothing of the file's lock."""
    monkeypatch.setattr(replay, "PAGE", 4)
    said: list[int] = []

    def save(done: int, _all: int) -> None:
        with opened(history.path) as another:
            schedule(another, f"DURING{done}")
        said.append(done)

    taken = history.rebuild_projections(save)
    assert len(said) > 10
    assert taken == history.check_store()
    assert history.verify_projections() == []
    assert len([row for row in history.find_items(WorklistFilter()) if row.accession_number[:2] == "DU"]) == len(said)


def test_what_is_written_by_hand_while_it_runs_is_gone_too(history: Gateway, path: Path) -> None:
    before = rows(path)
    history.rebuild_projections(lambda _done, _all: at_the_prompt(path, "UPDATE worklist_items SET location = 'HERE'"))
    assert rows(path) == before


def test_what_was_appended_since_the_comparison_is_in_the_rows_that_are_replaced(
    gateway: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees the item scheduled again after it was cancelled, not even between two commits."""
    schedule(gateway, "ACC001")
    at_the_prompt(path, "UPDATE worklist_items SET location = 'BY HAND'")
    compared, replaced = rebuilding._differing, rebuilding._put_right
    seen: list[tuple[str, str | None]] = []

    def differing(*arguments: Any) -> Any:
        found = compared(*arguments)
        if found:
            with opened(path) as another:
                another.cancel("ACC001", "did not attend")
        return found

    def put_right(*arguments: Any) -> None:
        replaced(*arguments)
        [row] = gateway.find_items(WorklistFilter(accession_number="ACC001"))
        seen.append((row.status, row.location))

    monkeypatch.setattr(rebuilding, "_differing", differing)
    monkeypatch.setattr(rebuilding, "_put_right", put_right)
    gateway.rebuild_projections()
    assert seen == [("CANCELLED", None)]
    assert gateway.verify_projections() == []


def test_who_writes_by_hand_without_end_is_told_of(
    history: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rebuilding._put_right

    def put_right(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        at_the_prompt(path, "UPDATE worklist_items SET location = 'AGAIN'")

    monkeypatch.setattr(rebuilding, "_put_right", put_right)
    at_the_prompt(path, "UPDATE worklist_items SET location = 'FIRST'")
    with pytest.raises(Contention, match="changed by hand"):
        history.rebuild_projections()


def test_nobody_sees_a_half_of_it(history: Gateway, path: Path) -> None:
    """Rows of all tables were lost; readers see all of them lost or all of them back."""
    before = {table: len(found) for table, found in rows(path).items()}
    nothing = dict.fromkeys(before, 0)
    seen: list[dict[str, int]] = []
    counting = "SELECT " + ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in TABLES)
    done = threading.Event()

    def look() -> None:
        with closing(sqlite3.connect(path)) as prompt:
            while not done.is_set():
                seen.append(dict(zip(TABLES, prompt.execute(counting).fetchone(), strict=True)))

    for _ in range(5):
        at_the_prompt(path, *(f"DELETE FROM {table}" for table in TABLES))
        done.clear()
        looking = threading.Thread(target=look)
        looking.start()
        history.rebuild_projections()
        done.set()
        looking.join()
    assert before in seen
    assert [state for state in seen if state not in (before, nothing)] == []


def test_a_second_rebuild_is_refused_while_one_runs(history: Gateway, path: Path) -> None:
    refused: list[str] = []

    def again(_done: int, _all: int) -> None:
        with opened(path) as another, pytest.raises(Contention, match="another rebuild") as told:
            another.rebuild_projections()
        refused.append(told.value.remedy)

    history.rebuild_projections(again)
    assert refused == ["wait for it to end"]
    history.rebuild_projections()


# --- kills: a real process, stopped at a place of its own, then SIGKILL

STOPPED = """
import os, sys
from pathlib import Path
from gateway.application import opened
from gateway.eventstore import aside, shares

if sys.argv[3] == "2":
    shares._LONG, os.cpu_count = 1, lambda: 2

def stop(*_):
    print("here", flush=True)
    sys.stdin.read()

place = sys.argv[2]
if place == "while it is built":
    progress = stop
else:
    progress = lambda done, all: None
    real = aside.Aside.corrections
    def corrections(self, table):
        yield from real(self, table)
        if table == "timeline":
            stop()
    aside.Aside.corrections = corrections
with opened(Path(sys.argv[1])) as gateway:
    gateway.rebuild_projections(progress)
"""


@pytest.mark.parametrize("place", ["while it is built", "while rows are replaced"])
def test_a_kill_in_the_middle_leaves_the_old_tables_whole(
    history: Gateway, path: Path, place: str, processes: int
) -> None:
    """And no second process."""
    right = rows(path)
    at_the_prompt(path, "UPDATE worklist_items SET location = 'BY HAND'", "DELETE FROM timeline WHERE position < 9")
    before = rows(path)
    command = [sys.executable, "-c", STOPPED, str(path), place, str(processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rebuilding:
        assert rebuilding.stdout is not None
        assert rebuilding.stdout.readline() == "here\n"
        assert rows(path) == before
        children = Path(f"/proc/{rebuilding.pid}/task/{rebuilding.pid}/children").read_text().split()
        assert len(children) == processes - 1
        watched = [os.pidfd_open(int(child)) for child in children]
        rebuilding.kill()
        rebuilding.wait()
        for ended in watched:
            assert select.select([ended], [], [], 30)[0]
            os.close(ended)
    assert rows(path) == before
    with opened(path) as another:
        assert another.caught_up == {}
        another.rebuild_projections()
    assert rows(path) == right


# --- damaged events

DAMAGED: dict[str, Callable[[Path], None]] = {
    "no JSON": lambda path: at_the_prompt(path, "UPDATE stored_events SET state = x'00' WHERE rowid = 4"),
    "text, not bytes": lambda path: at_the_prompt(path, "UPDATE stored_events SET state = '{}' WHERE rowid = 4"),
    "a topic that is none": lambda path: at_the_prompt(path, "UPDATE stored_events SET topic = 'x' WHERE rowid = 4"),
    "a stream that is none": lambda path: at_the_prompt(
        path, "UPDATE stored_events SET originator_id = 'x' WHERE rowid = 4"
    ),
    "a field that is missing": lambda path: altered(path, "$.mpps_instance_uid", None),
    "a list for a text": lambda path: altered(path, "$.status", "[1]"),
    "a word that is no status": lambda path: altered(path, "$.status", '"LATER"'),
    "a number too large": lambda path: altered(path, "$.mpps_instance_uid", str(2**70)),
}


def altered(path: Path, field: str, value: str | None) -> None:
    change = f"json_remove(state, '{field}')" if value is None else f"json_set(state, '{field}', json('{value}'))"
    at_the_prompt(path, f"UPDATE stored_events SET state = CAST({change} AS BLOB) WHERE rowid = 4")


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_event_is_named_by_its_position_and_nothing_is_changed(
    gateway: Gateway, path: Path, what: str
) -> None:
    """The fourth event of an examination: its step has started."""
    examine(gateway, 1)
    before = rows(path)
    DAMAGED[what](path)
    with pytest.raises(EventUnreadable, match="the event at position 4 "):
        gateway.rebuild_projections()
    with pytest.raises(EventUnreadable, match="the event at position 4 "):
        gateway.verify_projections()
    assert rows(path) == before


# --- the second process


def test_two_processes_build_a_sealed_history_with_an_erasure(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "sealed.db"
    with opened(path, sealing=True) as gateway:
        everything_happened(gateway)
        examine(gateway, 77)
        patient_id = participant(77)["patient_id"]
        found = erasure.find(gateway, patient_id)
        erasure.erase(gateway, patient_id, found, reason="asked for", operator="test")
        examine(gateway, 78)
        assert gateway.verify_projections() == []
        before = rows(path)
        assert all(before[table] for table in ("patient_keys", "erased_keys", "stream_keys"))
        at_the_prompt(path, *(f"DELETE FROM {table}" for table in TABLES))
        assert {found.projection for found in gateway.verify_projections()} >= {"worklist", "timeline", "patient_keys"}
        gateway.rebuild_projections()
        assert rows(path) == before


def test_an_altered_table_comes_back_from_either_process(history: Gateway, path: Path) -> None:
    before = rows(path)
    at_the_prompt(path, "ALTER TABLE timeline ADD COLUMN hand", "DROP TABLE worklist_items")
    history.rebuild_projections()
    assert rows(path) == before
    with closing(sqlite3.connect(path)) as prompt:
        assert prompt.execute("SELECT 1 FROM sqlite_master WHERE name = 'idx_worklist_status'").fetchone()


def test_a_second_process_that_ends_too_early_is_told_of_and_nothing_is_changed(
    history: Gateway, path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real = subprocess.Popen

    def starting(*arguments: Any, **named: Any) -> Any:
        started.append(real(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", starting)
    at_the_prompt(path, "DELETE FROM timeline")
    before = rows(path)

    def kill(_done: int, _all: int) -> None:
        for process in started:
            process.kill()
            process.wait()

    if processes == 1:
        history.rebuild_projections(kill)
        assert started == []
    else:
        with pytest.raises(StoreUnusable, match="second process of the rebuild has ended"):
            history.rebuild_projections(kill)
        assert len(started) == 1
        assert rows(path) == before


def test_a_short_log_is_built_by_one_process(history: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "_LONG", history.check_store() + 1)
    monkeypatch.setattr(subprocess, "Popen", None)
    history.rebuild_projections()
