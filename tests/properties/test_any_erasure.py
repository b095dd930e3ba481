"""Any history, sealed, with erasures in between: the tables are what the events say, and show no erased person."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

import projections.worklist
from bench.synthetic import PERSON, participant
from gateway.application import Gateway
from gateway.audit import erasure, export
from gateway.audit.as_of import standing_after, worklist_as_of
from gateway.audit.erasure import NotOver
from gateway.audit.event_log import Wanted
from gateway.audit.replay import replay as elsewhere
from gateway.domain.lifecycle import Status
from gateway.errors import NotFound, Refusal
from gateway.eventstore import replay
from projections.worklist import WorklistFilter
from tests.properties.test_any_history import AnyHistory
from tests.properties.test_any_moment import LOOKS, empty

patients = st.sampled_from([PERSON["patient_id"], participant(1)["patient_id"], participant(2)["patient_id"]])


class AnyErasure(AnyHistory):
    """Each event is sealed; now and then a person is erased, sometimes because everything of hers was ended first."""

    def opened(self) -> Gateway:
        return Gateway(self.path, sealing=True)

    def teardown(self) -> None:
        try:
            self.every_position_is_what_a_replay_says()
            self.an_export_builds_the_same_tables()
        finally:
            super().teardown()

    def every_position_is_what_a_replay_says(self) -> None:
        """A look back at any place: before an erasure too it shows nobody who was erased since."""
        with closing(empty()) as table, self.gateway.reading() as connection:
            for event in replay.read(connection, self.gateway.mapper):
                projections.worklist.apply(table.cursor(), event)
                with worklist_as_of(self.gateway, standing_after(self.gateway, event.position)) as worklist:
                    for wanted in LOOKS:
                        assert worklist.find_items(wanted) == list(projections.worklist.find(table, wanted))

    def an_export_builds_the_same_tables(self) -> None:
        """In plain text, so without tables of keys."""
        built = elsewhere(export.lines(self.gateway, Wanted()), self.folder / "whole")
        with closing(sqlite3.connect(built.database)) as there, closing(sqlite3.connect(self.path)) as here:
            for name in ("worklist_items", "outbox", "timeline", "performed_steps", "received_studies", "study_routes"):
                rows = [sorted(one.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for one in (there, here)]
                assert rows[0] == rows[1], name

    @rule(patient_id=patients, in_earnest=st.booleans())
    def a_person_is_erased(self, patient_id: str, in_earnest: bool) -> None:
        before = self.states()
        try:
            found = erasure.find(self.gateway, patient_id)
            if in_earnest:
                self.end_everything(found)
                found = erasure.find(self.gateway, patient_id)
            before = self.states()
            erasure.erase(self.gateway, patient_id, found, reason="request 114", operator="dpo")
        except NotFound:
            return
        except NotOver:
            assert self.states() == before
            assert not in_earnest
            return
        assert self.states()[: len(before)] == before
        assert erasure.find(self.gateway, patient_id).events == 0
        assert self.gateway.find_items(WorklistFilter(patient_id=patient_id)) == []
        tables = self.tables()
        assert patient_id not in str(tables)
        self.gateway.rebuild_projections()
        assert self.tables() == tables

    def end_everything(self, found: erasure.Found) -> None:
        for number in found.items:
            for item in self.gateway.find_items(WorklistFilter(accession_number=number)):
                if item.status in ("SCHEDULED", "IN PROGRESS"):
                    self.gateway.correct_status(number, Status.CANCELLED, reason="ended", operator="dpo")
        for step in self.gateway.unmatched_steps():
            if step.sop_instance_uid in found.steps:
                self.gateway.dismiss_step(step.sop_instance_uid, reason="ended", operator="dpo")

    @rule(which=st.integers(0, 3), number=st.sampled_from(["ACC001", "ACC002", "ACC003"]))
    def a_person_links_a_step(self, which: int, number: str) -> None:
        waiting = self.gateway.unmatched_steps()
        if waiting:
            uid = waiting[which % len(waiting)].sop_instance_uid
            try:
                self.gateway.link_step(uid, number, reason="hers", operator="night", despite_other_patient=True)
            except Refusal:
                return

    def states(self) -> list[Any]:
        with self.gateway.reading() as connection:
            return [tuple(row) for row in connection.execute("SELECT rowid, state FROM stored_events ORDER BY rowid")]


AnyErasure.TestCase.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyErasure = pytest.mark.slow(AnyErasure.TestCase)
