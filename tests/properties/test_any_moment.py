"""For any history and any moment: the worklist as of it is what the table was then, and what a replay from zero says.

The clock goes as it likes, backwards too.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

import projections.worklist
from bench.synthetic import PERSON, participant
from gateway.audit.as_of import Standing, standing_after, standing_at, worklist_as_of
from gateway.domain.moments import Moment
from gateway.domain.names import folded
from gateway.errors import Refusal
from gateway.eventstore import recorder, replay
from projections.worklist import TextFilter, WorklistFilter, WorklistRow
from tests.properties.test_any_history import AnyHistory, accession_numbers, uids

DAYS = ["20261120", "20261122", "20261123", "20261124", "20261126"]
ends = st.sampled_from(["", *DAYS])
filters = st.builds(
    WorklistFilter,
    accession_number=st.sampled_from(["", "", "", "ACC001", "ACC002", "ACC009"]),
    dates=st.one_of(st.sampled_from(DAYS).map(lambda day: (day, day)), st.tuples(ends, ends)),
    patient_id=st.sampled_from(["", "", PERSON["patient_id"], participant(1)["patient_id"]]),
    names=st.sampled_from([(), ((folded("A^B")[0],),), (("smith*",),)]),
    texts=st.sampled_from([(), (TextFilter("accession_number", ("ACC00?",)),)]),
    statuses=st.sampled_from([(), ("SCHEDULED",), ("COMPLETED", "IN PROGRESS"), ("EXPIRED",)]),
    is_test=st.sampled_from([None, None, False, True]),
    limit=st.sampled_from([None, 1]),
)

LOOKS = [
    *(WorklistFilter(dates=(day, day)) for day in ("20261121", "20261123", "20261125")),
    WorklistFilter(dates=("20261124", "")),
    WorklistFilter(accession_number="ACC001"),
    WorklistFilter(),
]
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Stood:
    """The table as it was after a position: what was answered then, and its very rows."""

    position: int
    committed_at: str
    answered: list[WorklistRow]
    rows: list[tuple[Any, ...]]

    def find(self, wanted: WorklistFilter) -> list[WorklistRow]:
        with closing(empty()) as table:
            table.executemany(f"INSERT INTO worklist_items VALUES ({', '.join('?' * len(COLUMNS))})", self.rows)
            return list(projections.worklist.find(table, wanted))


def empty() -> sqlite3.Connection:
    table = sqlite3.connect(":memory:")
    for statement in projections.worklist.SCHEMA:
        table.execute(statement)
    return table


with closing(empty()) as _table:
    COLUMNS = [row[1] for row in _table.execute("PRAGMA table_info(worklist_items)")]


class AnyMoment(AnyHistory):
    """Any history, looked back at from any place in it."""

    the_chain_is_intact_and_grows = None  # `AnyHistory` checks these on its own
    updates_are_numbered_without_gaps_and_at_most_one_is_due_per_item = None

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        self.clock = mock.patch.object(recorder, "datetime", SimpleNamespace(now=lambda _zone: self.now))
        self.clock.start()
        self.stood = [Stood(0, "", [], [])]

    def teardown(self) -> None:
        """At the end all of it is looked back at."""
        try:
            self.every_position_is_as_it_was()
            self.every_moment_is_found()
        finally:
            self.clock.stop()
            super().teardown()

    def every_position_is_as_it_was(self) -> None:
        """Also in the midst of a commit, by a replay from zero; and the table was that, where it was looked at."""
        stood = {one.position: one for one in self.stood}
        with closing(empty()) as table, self.gateway.reading() as connection:
            self.looked_at_alike(0, table)
            for event in replay.read(connection, self.gateway.mapper):
                projections.worklist.apply(table.cursor(), event)
                self.looked_at_alike(event.position, table)
                if then := stood.get(event.position):
                    assert sorted(table.execute("SELECT * FROM worklist_items")) == sorted(then.rows)

    def looked_at_alike(self, position: int, table: sqlite3.Connection) -> None:
        with worklist_as_of(self.gateway, standing_after(self.gateway, position)) as worklist:
            for wanted in LOOKS:
                assert worklist.find_items(wanted) == list(projections.worklist.find(table, wanted))

    def every_moment_is_found(self) -> None:
        for near in self.stood[1:]:
            for beside in (-MICROSECOND, timedelta(0), MICROSECOND):
                moment = Moment(datetime.fromisoformat(near.committed_at) + beside)
                then = [stood for stood in self.stood if stood.committed_at <= moment.text][-1]
                assert standing_at(self.gateway, moment).position == then.position

    @rule(seconds=st.sampled_from([0.000001, 0.5, 60, 3600, -0.000001, -60, -7200]))
    def the_clock_goes_on_or_back(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(number=accession_numbers, day=st.sampled_from(["20261123", "20261125"]))
    def a_day_is_changed(self, number: str, day: str) -> None:
        with suppress(Refusal):
            self.gateway.amend(number, lambda _: {"scheduled_date": day})

    @rule(uid=uids, number=accession_numbers)
    def an_operator_links(self, uid: str, number: str) -> None:
        with suppress(Refusal):
            self.gateway.link_step(uid, number, reason="hers", operator="night shift", despite_other_patient=True)

    @invariant()
    def how_it_stands_is_kept(self) -> None:
        with self.gateway.reading() as connection:
            position = connection.execute("SELECT MAX(position) FROM event_chain").fetchone()[0] or 0
            if position == self.stood[-1].position:
                return
            [committed_at] = connection.execute(
                "SELECT committed_at FROM event_chain WHERE position = ?", (position,)
            ).fetchone()
            rows = [tuple(row) for row in connection.execute("SELECT * FROM worklist_items")]
        assert committed_at >= self.stood[-1].committed_at
        self.stood.append(Stood(position, committed_at, self.gateway.find_items(WorklistFilter()), rows))

    @rule(which=st.integers(0, 200), wanted=filters)
    def it_is_as_the_table_was_after_a_position(self, which: int, wanted: WorklistFilter) -> None:
        then = self.stood[which % len(self.stood)]
        self.is_as_it_stood(standing_after(self.gateway, then.position), then, wanted)

    @rule(
        which=st.integers(0, 200),
        beside=st.sampled_from([0, 0.000001, -0.000001, 30, -30, 5000, -5000]),
        wanted=filters,
    )
    def it_is_as_the_table_was_at_a_moment(self, which: int, beside: float, wanted: WorklistFilter) -> None:
        near = self.stood[which % len(self.stood)].committed_at or self.now.isoformat()
        moment = Moment(datetime.fromisoformat(near) + timedelta(seconds=beside))
        then = [stood for stood in self.stood if stood.committed_at <= moment.text][-1]
        self.is_as_it_stood(standing_at(self.gateway, moment), then, wanted)

    def is_as_it_stood(self, standing: Standing, then: Stood, wanted: WorklistFilter) -> None:
        assert (standing.position, standing.committed_at) == (then.position, then.committed_at)
        with worklist_as_of(self.gateway, standing) as worklist:
            assert worklist.find_items(wanted) == then.find(wanted)
            assert worklist.find_items(WorklistFilter()) == then.answered
            assert worklist.find_items(wanted) == then.find(wanted)


AnyMoment.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyMoment = pytest.mark.slow(AnyMoment.TestCase)
