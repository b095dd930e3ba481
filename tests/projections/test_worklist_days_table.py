"""The days that an item has ever been on: each once, by the event that first brought it there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

import projections.worklist_days
from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.projection import RecordedEvent


def days(gateway: Gateway) -> list[tuple[object, ...]]:
    with gateway.reading() as connection:
        return [tuple(row) for row in connection.execute("SELECT * FROM worklist_days ORDER BY position")]


def move(gateway: Gateway, day: str) -> None:
    gateway.amend("ACC001", lambda _: {"scheduled_date": day})


def test_each_day_is_kept_with_the_position_that_first_brought_the_item_there(gateway: Gateway) -> None:
    schedule(gateway)  # positions 1 and 2, the receipt's
    move(gateway, "20261124")
    move(gateway, "20261123")
    gateway.amend("ACC001", lambda _: {"scheduled_time": "120000"})
    stream = WorklistItem.create_id("ACC001").hex
    assert days(gateway) == [("20261123", stream, 1), ("20261124", stream, 3)]


@pytest.fixture
def cursor() -> Iterator[sqlite3.Cursor]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in projections.worklist_days.SCHEMA:
            connection.execute(statement)
        yield connection.cursor()


def test_an_amendment_that_carries_a_date_counts_as_well(cursor: sqlite3.Cursor) -> None:
    """The worklist's table takes it over, whoever may have written such an event."""
    stream = WorklistItem.create_id("ACC001")
    amended = object.__new__(WorklistItem.Amended)
    amended.__dict__.update(originator_id=stream, person={}, step={"scheduled_date": "20261130"})
    projections.worklist_days.apply(cursor, RecordedEvent(7, "", amended))
    assert cursor.execute("SELECT * FROM worklist_days").fetchall() == [("20261130", stream.hex, 7)]


@pytest.mark.parametrize(
    ("dates", "found"),
    [
        (("20261123", "20261123"), {"ACC001"}),
        (("20261124", ""), {"ACC002", "ACC003"}),
        (("", "20261124"), {"ACC001", "ACC002"}),
        (("", ""), {"ACC001", "ACC002", "ACC003"}),
        (("20261125", "20261123"), set()),
    ],
)
def test_either_end_of_the_dates_may_be_open(gateway: Gateway, dates: tuple[str, str], found: set[str]) -> None:
    for number in range(1, 4):
        schedule(gateway, f"ACC00{number}", scheduled_date=f"2026112{2 + number}")
    streams = {WorklistItem.create_id(number).hex for number in found}
    with gateway.reading() as connection:
        assert set(projections.worklist_days.streams(connection, dates, 6)) == streams
        assert projections.worklist_days.streams(connection, ("20261125", "20261125"), 4) == []


def test_it_holds_nothing_that_names_a_person(gateway: Gateway) -> None:
    schedule(gateway)
    assert "SMITH" not in str(days(gateway))
    assert "9990000018" not in str(days(gateway))
