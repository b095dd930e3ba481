"""The worklist as it stood: which place of the record is taken for a moment, and what is read for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.synthetic import examine, schedule
from gateway.application import Gateway, opened
from gateway.audit.as_of import Standing, WorklistAsOf, standing_after, standing_at, worklist_as_of
from gateway.domain.lifecycle import Status
from gateway.domain.moments import Moment
from gateway.errors import EventUnreadable
from gateway.eventstore import as_of, recorder
from projections.worklist import WorklistFilter

NINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
DAY = WorklistFilter(dates=("20261123", "20261123"))
Clock = Callable[[datetime], None]


def at(hour: int, minute: int = 0) -> datetime:
    return NINE.replace(hour=hour, minute=minute)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the store's clock shows from now on."""

    def is_at(now: datetime) -> None:
        monkeypatch.setattr(recorder, "datetime", SimpleNamespace(now=lambda _zone: now))

    is_at(NINE)
    return is_at


@pytest.fixture
def morning(gateway: Gateway, clock: Clock) -> Gateway:
    """09:00 ACC001 and ACC002 come in; 10:00 ACC001 moves to the next day; 11:00 ACC002 is withdrawn."""
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002", scheduled_time="113000")
    clock(at(10))
    gateway.amend("ACC001", lambda _: {"scheduled_date": "20261124"})
    clock(at(11))
    gateway.correct_status("ACC002", Status.CANCELLED, reason="withdrawn", operator="night shift")
    return gateway


def listed(gateway: Gateway, standing: Standing, wanted: WorklistFilter = DAY) -> list[tuple[str, str]]:
    with worklist_as_of(gateway, standing) as worklist:
        return [(row.accession_number, row.status) for row in worklist.find_items(wanted)]


def test_an_item_that_moved_is_on_each_day_while_it_was(morning: Gateway) -> None:
    both = [("ACC001", "SCHEDULED"), ("ACC002", "SCHEDULED")]
    next_day = WorklistFilter(dates=("20261124", "20261124"))
    assert listed(morning, standing_at(morning, Moment(at(9, 59)))) == both
    assert listed(morning, standing_at(morning, Moment(at(10)))) == [("ACC002", "SCHEDULED")]
    assert listed(morning, standing_at(morning, Moment(at(11)))) == [("ACC002", "CANCELLED")]
    assert listed(morning, standing_at(morning, Moment(at(9, 59))), next_day) == []
    assert listed(morning, standing_at(morning, Moment(at(10))), next_day) == [("ACC001", "SCHEDULED")]


def test_what_is_committed_at_a_moment_counts_and_a_moment_cuts_no_commit(morning: Gateway) -> None:
    """A schedule and its receipt are two events of one commit: positions 1 and 2, then 3 and 4, all at 09:00."""
    assert standing_at(morning, Moment(NINE)).position == 4
    assert standing_at(morning, Moment(at(10) - timedelta(microseconds=1))).position == 4
    assert standing_at(morning, Moment(at(10))).position == 5


def test_a_moment_before_the_first_event_is_an_empty_list_and_that_is_said(morning: Gateway) -> None:
    standing = standing_at(morning, Moment(at(8)))
    assert (standing.position, standing.committed_at) == (0, "")
    assert standing.notes == (
        "that is before the first event: the list was empty; the first event is of 2026-11-23T09:00:00.000000+00:00",
    )
    assert listed(morning, standing) == []


def test_a_moment_to_come_is_what_stands_now_and_that_is_said(morning: Gateway) -> None:
    before = datetime.now(UTC).isoformat(timespec="microseconds")
    standing = standing_at(morning, Moment(datetime(2999, 1, 1, tzinfo=UTC)))
    assert before <= standing.instant < "2999"
    assert standing.position == morning.check_store()
    assert standing.notes == ("that moment is still to come: taken is what stands now",)


def test_a_position_that_is_not_reached_is_the_end_and_that_is_said(morning: Gateway) -> None:
    head = morning.check_store()
    assert standing_after(morning, head).notes == ()
    beyond = standing_after(morning, head + 10)
    assert (beyond.position, beyond.notes) == (head, (f"the record ends at position {head}: taken is that",))
    assert "before the first event" in standing_after(morning, 0).notes[0]


def test_an_empty_record_says_so(gateway: Gateway) -> None:
    for standing in (standing_at(gateway, Moment(NINE)), standing_after(gateway, 3)):
        assert (standing.position, standing.notes) == (0, ("nothing was ever recorded here",))
        assert listed(gateway, standing, WorklistFilter()) == []


def test_what_had_to_be_decided_about_the_moment_is_said_first(morning: Gateway) -> None:
    standing = standing_at(morning, Moment(at(8), "01:30 came twice that day"))
    assert standing.notes[0] == "01:30 came twice that day"
    assert len(standing.notes) == 2


def test_events_of_a_clock_that_was_set_back_count_as_of_the_newest_stamp(morning: Gateway, clock: Clock) -> None:
    clock(at(9, 30))
    schedule(morning, "ACC003")
    assert ("ACC003", "SCHEDULED") not in listed(morning, standing_at(morning, Moment(at(10, 59))))
    assert ("ACC003", "SCHEDULED") in listed(morning, standing_at(morning, Moment(at(11))))


def test_a_clock_that_is_behind_the_record_is_told(gateway: Gateway, clock: Clock) -> None:
    clock(datetime(2999, 1, 1, tzinfo=UTC))
    schedule(gateway, "ACC001")
    [before_all, set_back] = standing_at(gateway, Moment(NINE)).notes
    assert "before the first event" in before_all
    assert set_back.startswith("the newest event is stamped 2999-01-01T00:00:00.000000+00:00, which is still to come")


# --- what is read


def read_for(gateway: Gateway, wanted: WorklistFilter) -> list[tuple[int, int | None]]:
    told: list[tuple[int, int | None]] = []
    standing = standing_after(gateway, gateway.check_store())
    with worklist_as_of(gateway, standing, lambda done, all_: told.append((done, all_))) as worklist:
        worklist.find_items(wanted)
    return told


def test_of_a_day_or_a_number_only_their_items_are_read_and_of_all_the_whole_history(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(as_of, "_PAGE", 4)
    for number in range(3):
        examine(gateway, number)  # ten events each, three of them the item's
    schedule(gateway, "ACC001", scheduled_date="20261124")
    assert [done for done, _ in read_for(gateway, DAY)] == [3, 6, 9]
    assert read_for(gateway, WorklistFilter(dates=("20261124", "20261124"))) == [(1, None)]
    assert read_for(gateway, WorklistFilter(accession_number="ACC000000001")) == [(3, None)]
    told = read_for(gateway, WorklistFilter(patient_id="9990000018"))
    assert told[-1] == (32, 32)
    assert len(told) == 3


def test_the_whole_history_is_read_once(morning: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = standing_at(morning, Moment(at(9)))
    with worklist_as_of(morning, standing) as worklist:
        everything = worklist.find_items(WorklistFilter())
        monkeypatch.setattr(as_of, "of_kind", None)
        monkeypatch.setattr(as_of, "of_streams", None)
        assert worklist.find_items(DAY) == everything
        assert worklist.find_items(WorklistFilter(accession_number="ACC002")) == everything[1:]


def test_what_is_appended_meanwhile_is_not_seen(morning: Gateway, clock: Clock) -> None:
    standing = standing_at(morning, Moment(at(11)))
    with worklist_as_of(morning, standing) as worklist:
        schedule(morning, "ACC003")
        assert [row.accession_number for row in worklist.find_items(DAY)] == ["ACC002"]
        assert [row.accession_number for row in worklist.find_items(WorklistFilter())] == ["ACC002", "ACC001"]


def test_nothing_of_it_is_written_to_the_disk(morning: Gateway, tmp_path: Path) -> None:
    def files() -> dict[str, int]:
        return {file.name: file.stat().st_size for file in tmp_path.iterdir()}

    before = files()
    with worklist_as_of(morning, standing_after(morning, 3)) as worklist:
        worklist.find_items(DAY)
        worklist.find_items(WorklistFilter())
        assert files() == before


@pytest.fixture
def damaged(morning: Gateway, database: Path) -> Iterator[WorklistAsOf]:
    """The event that moved ACC001 was overwritten."""
    with closing(sqlite3.connect(database)) as prompt, prompt:
        prompt.execute("UPDATE stored_events SET state = x'7b' WHERE rowid = 5")
    with worklist_as_of(morning, standing_after(morning, 6)) as worklist:
        yield worklist


def test_an_event_that_was_damaged_is_told_and_hinders_no_look_at_others(damaged: WorklistAsOf) -> None:
    assert [row.status for row in damaged.find_items(WorklistFilter(accession_number="ACC002"))] == ["CANCELLED"]
    for wanted in (WorklistFilter(accession_number="ACC001"), DAY, WorklistFilter()):
        with pytest.raises(EventUnreadable):
            damaged.find_items(wanted)


def test_a_database_of_before_gets_its_index_of_days_at_start(morning: Gateway, database: Path) -> None:
    before = listed(morning, standing_at(morning, Moment(at(9))))
    morning.close()
    with closing(sqlite3.connect(database)) as prompt, prompt:
        prompt.execute("DROP TABLE worklist_days")
        prompt.execute("DELETE FROM projection_positions WHERE name = 'worklist_days'")
    with opened(database) as reopened:
        assert list(reopened.caught_up) == ["worklist_days"]
        assert listed(reopened, standing_at(reopened, Moment(at(9)))) == before
