"""The hash chain: whoever alters history is named by position (design §3.6)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.synthetic import examine, schedule
from gateway.application import Gateway, opened
from gateway.eventstore import chain


@pytest.fixture
def history(path: Path) -> Path:
    """Three examinations: thirty events."""
    with opened(path) as gateway:
        for number in (1, 2, 3):
            examine(gateway, number)
    return path


@contextmanager
def tampering(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        yield prompt


def verified(path: Path) -> chain.Verification:
    with opened(path) as gateway:
        return gateway.verify_chain()


def test_an_untouched_log_is_intact_and_its_head_is_the_newest_link(history: Path) -> None:
    found = verified(history)
    with tampering(history) as prompt:
        head = prompt.execute("SELECT link FROM event_chain WHERE position = 30").fetchone()[0]
    assert (found.intact, found.events, found.head) == (True, 30, head)


def test_an_empty_log_is_intact(gateway: Gateway) -> None:
    assert gateway.verify_chain() == chain.Verification(0, chain.GENESIS)


ALTERATIONS = {
    "state": "UPDATE stored_events SET state = CAST(replace(state, 'SMITH', 'JONES') AS BLOB) WHERE rowid = 11",
    "type of the state": "UPDATE stored_events SET state = CAST(state AS TEXT) WHERE rowid = 11",
    "state set to nothing": "UPDATE stored_events SET state = 0 WHERE rowid = 11",
    "topic": "UPDATE stored_events SET topic = 'WorklistItem.Expired' WHERE rowid = 11",
    "stream": "UPDATE stored_events SET originator_id = hex(randomblob(16)) WHERE rowid = 11",
    "version": "UPDATE stored_events SET originator_version = 99 WHERE rowid = 11",
    "time": "UPDATE event_chain SET committed_at = '2020-01-01T00:00:00.000000+00:00' WHERE position = 11",
    "link": "UPDATE event_chain SET link = zeroblob(32) WHERE position = 11",
}


@pytest.mark.parametrize("statement", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_event_is_named(history: Path, statement: str) -> None:
    with tampering(history) as prompt:
        assert prompt.execute(statement).rowcount == 1
    found = verified(history)
    assert (found.position, found.events) == (11, 10)
    assert "altered" in found.finding


DELETIONS = {
    "the event": ["DELETE FROM stored_events WHERE rowid = 11"],
    "the event and its link": [
        "DELETE FROM stored_events WHERE rowid = 11",
        "DELETE FROM event_chain WHERE position = 11",
    ],
    "a range": ["DELETE FROM stored_events WHERE rowid BETWEEN 11 AND 20"],
}


@pytest.mark.parametrize("statements", DELETIONS.values(), ids=DELETIONS)
def test_a_deleted_event_is_named(history: Path, statements: list[str]) -> None:
    with tampering(history) as prompt:
        for statement in statements:
            prompt.execute(statement)
    found = verified(history)
    assert (found.position, found.finding) == (11, "the event is missing")


def test_a_removed_link_is_named(history: Path) -> None:
    with tampering(history) as prompt:
        prompt.execute("DELETE FROM event_chain WHERE position = 11")
    found = verified(history)
    assert (found.position, found.finding) == (11, "the event was inserted, or its link removed")


def test_two_swapped_events_are_named_at_the_first_of_them(history: Path) -> None:
    with tampering(history) as prompt:
        for old, new in ((11, 1000), (13, 11), (1000, 13)):
            prompt.execute("UPDATE stored_events SET rowid = ? WHERE rowid = ?", (new, old))
    assert verified(history).position == 11


@pytest.mark.parametrize(("position", "named"), [(31, 31), (500, 31), (0, 0), (-7, -7)])
def test_an_inserted_event_is_named(history: Path, position: int, named: int) -> None:
    """Also before the first one: an item would take it for its own."""
    with tampering(history) as prompt:
        prompt.execute(
            "INSERT INTO stored_events SELECT ?, originator_id, 99, topic, state FROM stored_events WHERE rowid = 1",
            (position,),
        )
    assert verified(history).position == named


BEFORE_THE_FIRST = {
    "an event": "INSERT INTO stored_events SELECT {}, originator_id, 99, topic, state FROM stored_events LIMIT 1",
    "a link": "INSERT INTO event_chain SELECT {}, committed_at, link FROM event_chain LIMIT 1",
}


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("inserted", [["an event"], ["a link"], ["an event", "a link"]], ids=" and ".join)
def test_what_was_put_before_the_first_event_is_named(history: Path, inserted: list[str], position: int) -> None:
    with tampering(history) as prompt:
        for what in inserted:
            prompt.execute(BEFORE_THE_FIRST[what].format(position))
    found = verified(history)
    assert (found.position, found.events, found.head) == (position, 0, chain.GENESIS)
    assert found.finding == "the event was inserted, or its link removed"


@pytest.mark.parametrize("with_links", [True, False])
def test_a_cut_tail_is_named(history: Path, with_links: bool) -> None:
    with tampering(history) as prompt:
        prompt.execute("DELETE FROM stored_events WHERE rowid > 25")
        if with_links:
            prompt.execute("DELETE FROM event_chain WHERE position > 25")
    found = verified(history)
    assert (found.position, found.events) == (26, 25)


def test_an_event_moved_within_the_length_of_its_parts_is_not_the_same_link() -> None:
    one = chain.link(chain.GENESIS, 1, "ab", 1, "c", "t", b"d")
    two = chain.link(chain.GENESIS, 1, "a", 1, "bc", "t", b"d")
    assert one != two


def test_verifying_goes_on_page_by_page_and_says_how_far_it_is(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "_PAGE", 7)
    told: list[int] = []
    with opened(history) as gateway:
        assert gateway.verify_chain(told.append).events == 30
    assert told == [7, 14, 21, 28, 30]


def test_verifying_while_the_service_goes_on_finds_nothing(
    history: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that is appended after the last page was read is not one that is missing."""
    monkeypatch.setattr(chain, "_PAGE", 40)
    appended = threading.Event()

    def append_once(_: int) -> None:
        if not appended.is_set():
            appended.set()
            schedule(gateway, "ACC900")

    assert gateway.verify_chain(append_once).intact
