"""What forgers do to the log, what the chain shows of it by itself, and what it takes an anchor for (design §3.6)."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.synthetic import examine
from gateway.application import opened
from gateway.eventstore import chain
from gateway.eventstore.chain import Anchor, Verdict, Verification

EVENTS = 30
TEN, TWENTY, NEWEST = 10, 20, 30


@dataclass(frozen=True)
class History:
    """Three examinations, an old backup of it after two of them, and the anchors that were noted meanwhile."""

    path: Path
    backup: Path
    anchors: dict[int, Anchor]

    def copy(self) -> sqlite3.Connection:
        """A copy to be altered, in memory."""
        return in_memory(self.path)

    def noted(self, *positions: int) -> list[Anchor]:
        return [self.anchors[position] for position in positions]


def in_memory(path: Path) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(sqlite3.connect(path)) as original:
        original.backup(copy)
    return copy


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    path, backup = folder / "gateway.db", folder / "backup.db"
    anchors = {}
    with opened(path) as gateway:
        for number in (1, 2, 3):
            examine(gateway, number)
            with gateway.reading() as connection:
                anchor = chain.newest(connection)
            assert anchor is not None
            anchors[anchor.position] = anchor
            if number == 2:
                with closing(sqlite3.connect(backup)) as target, gateway.reading() as connection:
                    connection.backup(target)
    assert list(anchors) == [TEN, TWENTY, NEWEST]
    return History(path, backup, anchors)


def rechain(log: sqlite3.Connection, first: int) -> None:
    """What an informed forger does in the end: all links from a position on, computed anew."""
    before = log.execute("SELECT link FROM event_chain WHERE position < ? ORDER BY position DESC", (first,)).fetchone()
    previous = before[0] if before else chain.GENESIS
    rows = log.execute(
        "SELECT e.rowid, originator_id, originator_version, topic, committed_at, state FROM stored_events e"
        " LEFT JOIN event_chain c ON c.position = e.rowid WHERE e.rowid >= ? ORDER BY e.rowid",
        (first,),
    ).fetchall()
    for position, stream, version, topic, committed_at, state in rows:
        at = committed_at or "2026-11-23T09:00:00.000000+00:00"
        previous = chain.link(previous, position, stream, version, topic, at, state)
        log.execute("INSERT OR REPLACE INTO event_chain VALUES (?, ?, ?)", (position, at, previous))


def alter(log: sqlite3.Connection, position: int) -> None:
    changed = "UPDATE stored_events SET state = CAST(replace(state, '\"', '\"' || char(9)) AS BLOB) WHERE rowid = ?"
    assert log.execute(changed, (position,)).rowcount == 1


def delete(log: sqlite3.Connection, position: int) -> None:
    """Every trace of it, and the later ones moved up, as if it had never been."""
    log.execute("DELETE FROM stored_events WHERE rowid = ?", (position,))
    log.execute("DELETE FROM event_chain WHERE position = ?", (position,))
    for later in range(position + 1, EVENTS + 1):
        log.execute("UPDATE stored_events SET rowid = rowid - 1 WHERE rowid = ?", (later,))
        log.execute("UPDATE event_chain SET position = position - 1 WHERE position = ?", (later,))
    log.execute("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'stored_events'")


def insert(log: sqlite3.Connection, position: int) -> None:
    """An event between two, and the later ones moved down."""
    for later in range(EVENTS, position - 1, -1):
        log.execute("UPDATE stored_events SET rowid = rowid + 1 WHERE rowid = ?", (later,))
        log.execute("UPDATE event_chain SET position = position + 1 WHERE position = ?", (later,))
    log.execute(
        "INSERT INTO stored_events SELECT ?, originator_id, 99, topic, state FROM stored_events WHERE rowid = ?",
        (position, EVENTS + 1),
    )
    log.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'stored_events'")


def swap(log: sqlite3.Connection, position: int) -> None:
    """With the next but one: two of them may be alike but for their stream."""
    other = position + 2 if position + 2 <= EVENTS else position - 2
    for old, new in ((position, 1000), (other, position), (1000, other)):
        log.execute("UPDATE stored_events SET rowid = ? WHERE rowid = ?", (new, old))
    log.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'stored_events'", (EVENTS,))


def cut(log: sqlite3.Connection, position: int) -> None:
    log.execute("DELETE FROM stored_events WHERE rowid >= ?", (position,))
    log.execute("DELETE FROM event_chain WHERE position >= ?", (position,))


def cut_informed(log: sqlite3.Connection, position: int) -> None:
    cut(log, position)
    log.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'stored_events'", (position - 1,))


def restore(log: sqlite3.Connection, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as source:
        source.backup(log)


Forgery = Callable[[sqlite3.Connection, int], None]


# --- without an anchor


@pytest.mark.parametrize("forgery", [alter, delete, insert, swap, cut])
@pytest.mark.parametrize("position", [1, 11, 29])
def test_a_naive_forgery_is_named_by_its_position(history: History, forgery: Forgery, position: int) -> None:
    with closing(history.copy()) as log:
        forgery(log, position)
        found = chain.verify(log)
    first = position if forgery is not swap or position <= 28 else 27
    assert (found.intact, found.position, found.events) == (False, first, first - 1)


def test_a_naively_cut_tail_is_told_from_one_event_that_is_missing(history: History) -> None:
    with closing(history.copy()) as log:
        cut(log, 26)
        assert "the end of the log was cut off" in chain.verify(log).finding
    with closing(history.copy()) as log:
        log.execute("DELETE FROM stored_events WHERE rowid = 26")
        assert chain.verify(log).finding == "the event is missing"


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM sqlite_sequence WHERE name = 'stored_events'",
        "UPDATE sqlite_sequence SET seq = 12 WHERE name = 'stored_events'",
        "UPDATE sqlite_sequence SET seq = 'SMITH' WHERE name = 'stored_events'",
        "UPDATE sqlite_sequence SET seq = x'00' WHERE name = 'stored_events'",
        "UPDATE sqlite_sequence SET seq = NULL WHERE name = 'stored_events'",
        "UPDATE sqlite_sequence SET seq = 29.5 WHERE name = 'stored_events'",
    ],
)
def test_an_edited_count_is_named_at_the_position_from_which_on_it_proves_nothing(history: History, edit: str) -> None:
    with closing(history.copy()) as log:
        log.execute(edit)
        found = chain.verify(log)
    assert (found.position, found.events) == (31, 30)
    assert "count of events" in found.finding


INVISIBLE: dict[str, Callable[[History, sqlite3.Connection], None]] = {
    "a tail cut together with the count": lambda _, log: cut_informed(log, 26),
    "an old backup": lambda history, log: restore(log, history.backup),
    "everything from the change on rewritten": lambda _, log: (alter(log, 15), rechain(log, 15))[-1],
    "everything rewritten": lambda _, log: (alter(log, 1), rechain(log, 1))[-1],
    "an event taken out and everything after it rewritten": lambda _, log: (delete(log, 15), rechain(log, 15))[-1],
    "an event put in and everything after it rewritten": lambda _, log: (insert(log, 15), rechain(log, 15))[-1],
}


@pytest.mark.parametrize("forgery", INVISIBLE.values(), ids=INVISIBLE)
def test_what_a_chain_alone_can_not_show(
    history: History, forgery: Callable[[History, sqlite3.Connection], None]
) -> None:
    """It is no finding; `gateway events verify` says so (`tests/cli/test_cli_verify.py`)."""
    with closing(history.copy()) as log:
        forgery(history, log)
        assert chain.verify(log).intact


def test_a_gap_in_the_positions_is_named_even_where_the_links_lead_over_it(history: History) -> None:
    with closing(history.copy()) as log:
        log.execute("DELETE FROM stored_events WHERE rowid = 11")
        log.execute("DELETE FROM event_chain WHERE position = 11")
        rechain(log, 12)
        found = chain.verify(log)
    assert (found.position, found.finding) == (11, "the event is missing")


# --- with anchors


def test_anchors_of_an_untouched_log_hold(history: History) -> None:
    with closing(history.copy()) as log:
        found = chain.verify(log, anchors=history.noted(NEWEST, TEN, TWENTY))
    assert found.intact
    assert [(each.anchor.position, each.verdict) for each in found.anchors] == [
        (TEN, Verdict.HOLDS),
        (TWENTY, Verdict.HOLDS),
        (NEWEST, Verdict.HOLDS),
    ]


def verdicts(found: Verification) -> list[Verdict]:
    return [each.verdict for each in found.anchors]


def test_a_tail_that_an_informed_forger_cut_is_named_at_its_first_missing_event(history: History) -> None:
    with closing(history.copy()) as log:
        cut_informed(log, 26)
        found = chain.verify(log, anchors=history.noted(TEN, NEWEST))
    assert (found.intact, found.position, found.events) == (False, 26, 25)
    assert "that those from position 11 on were not rewritten, only the chain says" in found.finding
    assert verdicts(found) == [Verdict.HOLDS, Verdict.BEYOND]
    assert found.anchors[1].meaning == (
        "the log ends at position 25: its end was cut off, or an old backup is in place"
    )


def test_an_old_backup_is_named_at_the_first_event_that_it_lacks(history: History) -> None:
    with closing(history.copy()) as log:
        restore(log, history.backup)
        found = chain.verify(log, anchors=history.noted(TEN, TWENTY, NEWEST))
    assert (found.position, found.events) == (21, 20)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.HOLDS, Verdict.BEYOND]
    assert "only the chain says" not in found.finding  # an anchor says it


def test_an_old_backup_that_went_on_is_named_at_the_earliest_event_that_may_be_another(
    history: History, tmp_path: Path
) -> None:
    again = shutil.copy(history.backup, tmp_path / "again.db")
    with opened(again) as gateway:
        examine(gateway, 4)
        examine(gateway, 5)
    with closing(in_memory(again)) as log:
        found = chain.verify(log, anchors=history.noted(TEN, TWENTY, NEWEST))
    assert (found.position, found.events) == (21, 20)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.HOLDS, Verdict.DIFFERS]
    assert "an older copy of the file was put back" in found.anchors[2].meaning
    assert "is at 30 at the latest" in found.finding


@pytest.mark.parametrize(
    ("change", "noted", "first"), [(15, (TEN, TWENTY), 11), (5, (TEN,), 1), (21, (TWENTY, NEWEST), 21)]
)
def test_a_rewritten_history_is_named_between_the_anchor_that_holds_and_the_one_that_does_not(
    history: History, change: int, noted: Sequence[int], first: int
) -> None:
    with closing(history.copy()) as log:
        alter(log, change)
        rechain(log, change)
        found = chain.verify(log, anchors=history.noted(*noted))
        assert (found.intact, found.position) == (False, first)
        assert found.position <= change <= noted[-1]
        assert f"is at {noted[-1]} at the latest" in found.finding
        assert verdicts(found)[-1] is Verdict.DIFFERS
        kept = log.execute("SELECT link FROM event_chain WHERE position = ?", (first - 1,)).fetchone()
        assert found.head == (kept[0] if kept else chain.GENESIS)


def test_links_rewritten_up_to_some_event_only_are_named_by_an_anchor_earlier_than_by_the_chain(
    history: History,
) -> None:
    with closing(history.copy()) as log:
        later = log.execute("SELECT * FROM event_chain WHERE position > 25").fetchall()
        alter(log, 15)
        rechain(log, 15)
        log.executemany("INSERT OR REPLACE INTO event_chain VALUES (?, ?, ?)", later)
        assert chain.verify(log).position == 26
        found = chain.verify(log, anchors=history.noted(TEN, TWENTY, NEWEST))
    assert (found.position, found.events) == (11, 10)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.DIFFERS, Verdict.NOT_REACHED]


def test_an_anchor_behind_the_first_bad_event_says_nothing_and_one_before_it_holds(history: History) -> None:
    with closing(history.copy()) as log:
        alter(log, 15)
        found = chain.verify(log, anchors=history.noted(TEN, TWENTY))
    assert (found.position, found.events) == (15, 14)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.NOT_REACHED]
    assert "(15)" in found.anchors[1].meaning


def test_an_anchor_of_another_log_is_no_comfort_even_where_a_later_one_holds(history: History) -> None:
    """The later one may be the forger's: the file beside the database is within reach, a paper is not."""
    with closing(history.copy()) as log:
        found = chain.verify(log, anchors=[Anchor(TWENTY, bytes(32)), *history.noted(TEN, NEWEST)])
    assert (found.intact, found.position) == (False, 11)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.DIFFERS, Verdict.HOLDS]
    assert "believe the one that was out of reach" in found.anchors[1].meaning


def test_two_anchors_of_one_position_that_contradict_each_other_are_not_well(history: History) -> None:
    with closing(history.copy()) as log:
        found = chain.verify(log, anchors=[*history.noted(TEN), Anchor(TEN, bytes(32))])
    assert (found.intact, found.position) == (False, 1)


def test_an_anchor_to_an_empty_log_says_that_all_is_gone(history: History, tmp_path: Path) -> None:
    with opened(tmp_path / "new.db") as gateway:
        found = gateway.verify_chain(anchors=history.noted(TEN))
    assert (found.intact, found.position, verdicts(found)) == (False, 1, [Verdict.BEYOND])


def proven(found: Verification) -> int:
    """The newest anchor that holds."""
    return max([each.anchor.position for each in found.anchors if each.verdict is Verdict.HOLDS], default=0)


FORGERIES: dict[str, Forgery] = {
    "alter": alter, "delete": delete, "insert": insert, "swap": swap, "cut": cut, "cut informed": cut_informed,
}  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(FORGERIES)),
    st.integers(1, EVENTS - 1),
    st.booleans(),
    st.sets(st.sampled_from([TEN, TWENTY, NEWEST])),
)
def test_no_forgery_before_an_anchor_goes_unseen_however_well_its_links_were_computed(
    history: History, name: str, position: int, informed: bool, noted: set[int]
) -> None:
    with closing(history.copy()) as log:
        FORGERIES[name](log, position)
        if informed:
            rechain(log, min(position, 27))
            top = log.execute("SELECT MAX(rowid) FROM stored_events").fetchone()[0] or 0
            log.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'stored_events'", (top,))
        found = chain.verify(log, anchors=history.noted(*sorted(noted)))
    if not informed and name != "cut informed":
        assert not found.intact
    first = 27 if name == "swap" and position > 28 else position
    if any(anchor >= first for anchor in noted):
        assert found.position is not None
        assert found.position <= first or f"those from position {proven(found) + 1} on" in found.finding
    if not found.intact:
        assert found.events == (found.position or 0) - 1
        assert all(each.verdict is Verdict.HOLDS for each in found.anchors if each.anchor.position <= found.events)


# --- whatever stands in the tables


ODD = [
    "NULL",
    "0",
    "-1.5",
    "'SMITH'",
    "x'ff00fe'",
    "CAST(x'ff00fe' AS TEXT)",
    "9223372036854775807",
    "zeroblob(100000)",
]
COLUMNS = ["originator_id", "originator_version", "topic", "state"]


@contextmanager
def loose(history: History) -> Iterator[sqlite3.Connection]:
    """A copy whose tables take anything, also NULL, as a hand may have made them."""
    log = history.copy()
    for table in ("stored_events", "event_chain"):
        rows = log.execute(f"SELECT * FROM {table}").fetchall()
        columns = [column[1] for column in log.execute(f"PRAGMA table_info({table})")]
        seq = log.execute("SELECT seq FROM sqlite_sequence").fetchone()[0]
        log.execute(f"DROP TABLE {table}")
        kind = "AUTOINCREMENT" if table == "stored_events" else ""
        log.execute(f"CREATE TABLE {table} ({columns[0]} INTEGER PRIMARY KEY {kind}, {', '.join(columns[1:])})")
        log.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
        log.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'stored_events'", (seq,))
    with closing(log):
        yield log


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("column", [*COLUMNS, "committed_at", "link"])
def test_a_value_of_any_type_is_a_finding_and_stops_no_verifier(history: History, column: str, value: str) -> None:
    table, key = ("stored_events", "rowid") if column in COLUMNS else ("event_chain", "position")
    with loose(history) as log:
        assert chain.verify(log).intact
        log.execute(f"UPDATE {table} SET {column} = {value} WHERE {key} = 11")
        found = chain.verify(log, anchors=history.noted(TEN, TWENTY))
    assert (found.position, found.events) == (11, 10)
    assert verdicts(found) == [Verdict.HOLDS, Verdict.NOT_REACHED]


@pytest.mark.parametrize("column", ["originator_id", "topic", "committed_at", "link", "state", "originator_version"])
def test_the_same_bytes_of_another_type_are_an_alteration_too(history: History, column: str) -> None:
    """A stream id as a blob is found by nobody who asks for its text."""
    table, key = ("stored_events", "rowid") if column in COLUMNS else ("event_chain", "position")
    other = "TEXT" if column in ("state", "link", "originator_version") else "BLOB"
    with loose(history) as log:
        log.execute(f"UPDATE {table} SET {column} = CAST({column} AS {other}) WHERE {key} = 11")
        assert chain.verify(log).position == 11


def test_a_topic_longer_than_any_of_ours_is_verified_like_any_other(history: History) -> None:
    with closing(history.copy()) as log:
        log.execute("UPDATE stored_events SET topic = ? WHERE rowid = 11", ("WorklistItem." + "X" * 300,))
        assert chain.verify(log).position == 11
        rechain(log, 11)
        assert chain.verify(log).intact


def test_a_damaged_page_is_named_by_the_first_event_that_can_not_be_read(history: History, tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    with closing(sqlite3.connect(path)) as copy, closing(sqlite3.connect(history.path)) as original:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        size = copy.execute("PRAGMA page_size").fetchone()[0]
        name, state = copy.execute("SELECT topic, state FROM stored_events WHERE rowid = 20").fetchone()
    data = bytearray(path.read_bytes())
    page = data.index(state[:200]) // size * size
    data[page : page + size] = b"\xff" * size
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as log:
        found = chain.verify(log, anchors=history.noted(TEN))
    assert name
    assert found.position is not None
    assert 1 <= found.position <= 20
    assert found.finding == "the event can't be read: the file is damaged there"


# --- beside others


def test_a_connection_is_given_back_as_it_was(history: History) -> None:
    with closing(history.copy()) as log:
        log.row_factory = sqlite3.Row
        chain.verify(log, anchors=history.noted(TEN))
        row = log.execute("SELECT topic FROM stored_events").fetchone()
        assert isinstance(row, sqlite3.Row)
        assert isinstance(row["topic"], str)


def test_gently_is_short_pages_with_rests_between_them_and_finds_the_same(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    told: list[int] = []
    monkeypatch.setattr(chain, "_GENTLE_PAGE", 7)
    monkeypatch.setattr(chain.time, "sleep", rests.append)
    with closing(history.copy()) as log:
        assert chain.verify(log, told.append, gently=True).intact
        assert (told, rests) == ([7, 14, 21, 28, 30], [0.005] * 4)
        alter(log, 16)
        assert chain.verify(log, gently=True).position == 16


def test_no_transaction_is_open_while_a_gentle_verifier_rests(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open one would keep the write-ahead log growing for as long as the verifying takes."""
    copy = shutil.copy(history.path, tmp_path / "copy.db")
    monkeypatch.setattr(chain, "_GENTLE_PAGE", 7)
    truncated = []
    with closing(sqlite3.connect(copy)) as log, closing(sqlite3.connect(copy, isolation_level=None)) as other:

        def rest(_: float) -> None:
            other.execute("CREATE TABLE IF NOT EXISTS elsewhere (x)")
            other.execute("INSERT INTO elsewhere VALUES (1)")
            busy, *_rest = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            truncated.append(busy == 0)

        monkeypatch.setattr(chain.time, "sleep", rest)
        assert chain.verify(log, gently=True).intact
    assert truncated == [True] * 4
