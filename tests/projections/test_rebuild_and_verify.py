"""Dropped and rebuilt, the tables are the same, row by row; and what no event explains is found."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bench.synthetic import appointment, examine, schedule
from gateway.application import PROJECTIONS, Gateway, opened
from gateway.domain.events import Stream
from gateway.errors import StoreUnusable
from gateway.eventstore import replay
from gateway.eventstore.projection import Projection
from gateway.eventstore.rebuilding import Difference
from projections import patient_keys
from projections.worklist import WorklistFilter
from tests.eventstore.everything import every_event, everything_happened

TABLES = [table for projection in PROJECTIONS for table in projection.TABLES]


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as prompt:
        return {table: sorted(prompt.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}


def at_the_prompt(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        assert prompt.execute(statement).rowcount != 0


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    """Sealing, so that the tables of keys have rows."""
    with opened(path, sealing=True) as opened_gateway:
        yield opened_gateway


@pytest.fixture
def history(gateway: Gateway) -> Gateway:
    everything_happened(gateway)
    gateway.schedule(appointment("TEST"), is_test=True)
    return gateway


def test_what_is_served_is_what_the_events_say(history: Gateway) -> None:
    assert history.verify_projections() == []


def test_a_rebuild_gives_the_same_rows(history: Gateway, path: Path) -> None:
    before = rows(path)
    assert history.rebuild_projections() == history.check_store()
    assert rows(path) == before


@pytest.mark.parametrize("table", TABLES)
def test_a_rebuild_brings_back_what_was_lost(history: Gateway, path: Path, table: str) -> None:
    before = rows(path)
    at_the_prompt(path, f"DELETE FROM {table}")
    history.rebuild_projections()
    assert rows(path) == before


def test_a_rebuild_takes_away_what_no_event_explains(history: Gateway, path: Path) -> None:
    before = rows(path)
    at_the_prompt(path, EXTRA["worklist_items"])
    history.rebuild_projections()
    assert rows(path) == before


def test_a_rebuild_leaves_no_file_behind(history: Gateway, path: Path) -> None:
    before = {file.name for file in path.parent.iterdir()}
    history.rebuild_projections()
    assert {file.name for file in path.parent.iterdir()} == before


KEYS = {
    "worklist_items": "accession_number",
    "worklist_days": "scheduled_date || stream",
    "outbox": "event_id",
    "timeline": "position",
    "performed_steps": "sop_instance_uid",
    "patient_keys": "(key_id || patient)",
    "outbox_test_items": "accession_number",
    "stream_keys": "stream",
    "erased_keys": "key_id",
    "epochs": "number",
}
EXTRA = {
    "worklist_days": "INSERT INTO worklist_days VALUES ('20261123', '0', 1)",
    "worklist_items": "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date,"
    " scheduled_date, scheduled_time, modality)"
    " VALUES ('ACC000', '9990000018', 'SMITH^JANE', '19800101', '20261123', '143000', 'MG')",
    "outbox": "INSERT INTO outbox VALUES ('0', 'ACC001', 9, 'COMPLETED', NULL, NULL, '', '{}', '', 'waiting',"
    " NULL, NULL, 0)",
    "outbox_test_items": "INSERT INTO outbox_test_items VALUES ('ACC000', '')",
    "timeline": "INSERT INTO timeline VALUES ('ACC000', 1, NULL, '', 'WorklistItem.Scheduled', NULL, NULL, '{}')",
    "performed_steps": "INSERT INTO performed_steps VALUES ('0', 'COMPLETED', NULL, '', 'MG', '', '', '', '', NULL,"
    " '[]', '[]', '[]', 0, 0, '{}', '', '')",
    "patient_keys": "INSERT INTO patient_keys VALUES ('0', '0', 0)",
    "stream_keys": "INSERT INTO stream_keys VALUES ('0', '0', 0)",
    "erased_keys": "INSERT INTO erased_keys VALUES ('', '')",
    "epochs": "INSERT INTO epochs VALUES (9, '', 1, '', '', '', '', 0, NULL, NULL, '{}', NULL)",
}


@pytest.mark.parametrize("table", TABLES)
def test_an_extra_row_is_found(history: Gateway, path: Path, table: str) -> None:
    at_the_prompt(path, EXTRA[table])
    [found] = history.verify_projections()
    assert (found.table, found.finding) == (table, "the row is served, but no event explains it")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("which", ["MIN", "MAX"])
def test_a_missing_row_is_found(history: Gateway, path: Path, table: str, which: str) -> None:
    """The first one and the last one of a table."""
    key = KEYS[table]
    at_the_prompt(path, f"DELETE FROM {table} WHERE {key} = (SELECT {which}({key}) FROM {table})")
    [found] = history.verify_projections()
    assert (found.table, found.finding) == (table, "the row is missing from what is served")


CHANGES = {
    "epochs": ("UPDATE epochs SET sequence_floor = 0", "sequence_floor"),
    "worklist_days": ("UPDATE worklist_days SET position = 0", "position"),
    "performed_steps": ("UPDATE performed_steps SET performed = '{\"image_count\": 9}'", "performed"),
    "worklist_items": (
        "UPDATE worklist_items SET status = 'EXPIRED' WHERE accession_number = 'ACC001'",
        "status, row_version",
    ),
    "outbox": ("UPDATE outbox SET state = 'parked', answer = 'x' WHERE state = 'acknowledged'", "state, answer"),
    "outbox_test_items": ("UPDATE outbox_test_items SET scheduled_at = 'x'", "scheduled_at"),
    "timeline": ("UPDATE timeline SET details = '{}' WHERE position = 1", "details"),
    "patient_keys": ("UPDATE patient_keys SET is_apart = 2", "is_apart"),
    "stream_keys": ("UPDATE stream_keys SET key_id = 'x'", "key_id"),
    "erased_keys": ("UPDATE erased_keys SET erased_at = 'x'", "erased_at"),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_changed_column_is_found_and_named(history: Gateway, path: Path, table: str) -> None:
    statement, columns = CHANGES[table]
    at_the_prompt(path, statement)
    [found] = history.verify_projections()
    assert (found.table, found.finding) == (table, f"the row differs from its events in {columns}")


def test_the_first_difference_of_each_projection_is_named_with_its_key(history: Gateway, path: Path) -> None:
    at_the_prompt(path, "UPDATE worklist_items SET location = 'ROOM 9' WHERE accession_number IN ('ACC002', 'ACC004')")
    at_the_prompt(path, "DELETE FROM timeline WHERE accession_number = 'ACC005' AND position = 9")
    assert history.verify_projections() == [
        Difference("worklist", "worklist_items", "ACC002", "the row differs from its events in location, row_version"),
        Difference("timeline", "timeline", "ACC005/9", "the row is missing from what is served"),
    ]


def test_a_row_without_a_key_is_found(history: Gateway, path: Path) -> None:
    """SQLite lets a hand leave a TEXT primary key empty."""
    at_the_prompt(path, EXTRA["worklist_items"].replace("'ACC000'", "NULL"))
    [found] = history.verify_projections()
    assert (found.table, found.finding) == ("worklist_items", "the row is served, but no event explains it")


def test_a_row_whose_key_is_bytes_is_found(history: Gateway, path: Path) -> None:
    at_the_prompt(path, EXTRA["worklist_items"].replace("'ACC000'", "x'00'"))
    [found] = history.verify_projections()
    assert found.finding == "the row is served, but no event explains it"


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.NAME)
def test_a_replay_keeps_no_event_from_a_projection_that_does_something_about_it(
    history: Gateway, projection: Projection
) -> None:
    with history.reading() as connection:
        events = list(replay.read(connection, history.mapper))
    for event in events:
        if type(event.domain_event) not in projection.CONCERNED:
            projection.apply(None, event)  # type: ignore[arg-type]  no cursor: it would have to ask for one


def test_a_replay_keeps_no_sealed_event_from_the_index_of_keys_and_opens_those_that_name_a_patient() -> None:
    for event in every_event():
        assert not event.IDENTIFYING or event in patient_keys.CONCERNED
        assert event.subject is Stream.Event.subject or event in patient_keys.OPENED


def test_both_say_how_far_they_are(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 4)
    examine(gateway, 1)
    told: list[tuple[int, int]] = []
    gateway.verify_projections(lambda done, all_: told.append((done, all_)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_a_rebuild_while_others_append_loses_nothing_of_theirs(gateway: Gateway) -> None:
    """Four threads append until three rebuilds are done; each finds its items at once, all the time."""
    for number in range(20):
        examine(gateway, number)
    done = threading.Event()

    def append(thread: int) -> int:
        count = 0
        while not done.is_set():
            schedule(gateway, f"T{thread}-{count}")
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        appended = [threads.submit(append, thread) for thread in range(4)]
        try:
            for _ in range(3):
                gateway.rebuild_projections()
        finally:
            done.set()
        counts = [future.result() for future in appended]
    assert min(counts) > 0
    assert gateway.count_by_status() == {"COMPLETED": 20, "SCHEDULED": sum(counts)}
    assert gateway.verify_projections() == []
    assert gateway.verify_chain().intact


def test_verifying_while_others_append_finds_nothing(gateway: Gateway) -> None:
    for number in range(20):
        examine(gateway, number)
    done = threading.Event()

    def append() -> None:
        number = 1000
        while not done.is_set():
            examine(gateway, number)
            number += 1

    with ThreadPoolExecutor(1) as threads:
        appending = threads.submit(append)
        found = [difference for _ in range(5) for difference in gateway.verify_projections()]
        done.set()
        appending.result()
    assert found == []


@pytest.mark.parametrize("table", ["worklist_items", "outbox", "timeline"])
def test_a_dropped_table_is_built_anew_at_start_and_by_a_rebuild(gateway: Gateway, path: Path, table: str) -> None:
    """Projections are dropped and rebuilt, and they are the same (design §1)."""
    examine(gateway, 1)
    before = gateway.find_items(WorklistFilter())
    with sqlite3.connect(path) as prompt:
        prompt.execute(f"DROP TABLE {table}")
    assert [found.finding for found in gateway.verify_projections()] == ["the table itself is missing or altered"]
    gateway.rebuild_projections()
    assert gateway.verify_projections() == []
    with sqlite3.connect(path) as prompt:
        prompt.execute(f"DROP TABLE {table}")
    gateway.close()
    with opened(path) as reopened:
        assert reopened.verify_projections() == []
        assert reopened.find_items(WorklistFilter()) == before


def test_a_table_with_a_foreign_column_is_found_and_put_right(gateway: Gateway, path: Path) -> None:
    examine(gateway, 1)
    with sqlite3.connect(path) as prompt:
        prompt.execute("ALTER TABLE worklist_items ADD COLUMN foreign_to_us TEXT")
    assert [found.table for found in gateway.verify_projections()] == ["worklist_items"]
    gateway.rebuild_projections()
    assert gateway.verify_projections() == []


EPOCHS_BY_HAND = {
    "no JSON": "lost = '{'",
    "JSON of another kind": "lost = '[]'",
    "counts that are missing": """lost = '{"actions": 1}'""",
    "nothing where there was text": "lost = 0",
    "text in place of a number": "sequence_floor = 'many'",
    "bytes in place of text": "backed_up_to = x'00'",
}


@pytest.mark.parametrize("alteration", EPOCHS_BY_HAND.values(), ids=EPOCHS_BY_HAND)
def test_a_hand_altered_epoch_is_said_with_the_remedy_and_a_rebuild_opens_and_mends_it(
    history: Gateway, path: Path, alteration: str
) -> None:
    """What can not be read must not keep the rebuild from opening the database."""
    before = rows(path)
    history.close()
    at_the_prompt(path, f"UPDATE epochs SET {alteration}")
    with opened(path, sealing=True) as gateway:
        for ask in (gateway.restored, gateway.keep_sequence_mark, gateway.check_store, gateway.due_updates):
            with pytest.raises(StoreUnusable, match="the table epochs was altered by hand") as unusable:
                ask()
            assert "gateway projections rebuild" in unusable.value.remedy
        [difference] = gateway.verify_projections()
        assert (difference.table, difference.key) == ("epochs", "2")
        gateway.rebuild_projections()
        assert gateway.verify_projections() == []
        gateway.keep_sequence_mark()
        assert gateway.restored()
    assert rows(path) == before
