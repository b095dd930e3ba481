"""For any history: the tables are what the events say, the chain is intact, and reopening changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bench.synthetic import (
    PERSON,
    RECEIVED,
    appointment,
    change,
    completed,
    create_request,
    discontinued,
    orthanc_id,
    participant,
    place,
    progressing,
    request,
    start,
    step_uid,
    study,
    wrong_entry,
)
from gateway.application import PROJECTIONS, Gateway
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import Reference, StepExists, StepFinal, StepUnknown
from gateway.domain.received_study import Route
from gateway.domain.relay_action import ActionReply, ActionRequest
from gateway.errors import Refusal
from projections.worklist import WorklistFilter

accession_numbers = st.sampled_from(["ACC001", "ACC002", "ACC003"])
uids = st.sampled_from([step_uid(number) for number in range(1, 5)])
action_ids = st.sampled_from([f"action-{number}" for number in range(12)])
days = st.dates(date(2026, 11, 20), date(2026, 11, 26)).map(lambda day: day.strftime("%Y%m%d"))
changes = st.dictionaries(
    st.sampled_from(["patient_name", "location", "scheduled_date", "station_ae_titles", "patient_id"]), st.none()
)


class AnyHistory(RuleBasedStateMachine):
    """Whatever comes over the relay, from modalities and from people, in any order, repeats and nonsense included."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="any-history-"))
        self.path = self.folder / "gateway.db"
        self.gateway = self.opened()
        self.answers: dict[str, tuple[ActionRequest, ActionReply]] = {}
        self.positions = 0

    def opened(self) -> Gateway:
        return Gateway(self.path)

    def teardown(self) -> None:
        self.gateway.close()
        shutil.rmtree(self.folder)

    def answered(self, asked: ActionRequest, reply: ActionReply) -> None:
        """The first answer under an action_id is the answer."""
        if asked.action_id not in self.answers:
            self.answers[asked.action_id] = (asked, reply)
            assert not reply.duplicate
            return
        first, kept = self.answers[asked.action_id]
        if first.digest == asked.digest:
            assert (reply.status, reply.code, reply.duplicate) == (kept.status, kept.code, True)
        else:
            assert reply.code == "action_id_conflict"

    @initialize(number=accession_numbers)
    def something_is_scheduled(self, number: str) -> None:
        self.gateway.schedule(appointment(number))

    @rule(action_id=action_ids, number=accession_numbers, who=st.sampled_from([1, 2]), test=st.booleans())
    def the_web_app_schedules(self, action_id: str, number: str, who: int, test: bool) -> None:
        wanted = appointment(number, **participant(who))
        asked = create_request(action_id, wanted)
        self.answered(asked, self.gateway.schedule(wanted, is_test=test and who == 2, request=asked))

    @rule(action_id=action_ids, number=accession_numbers, what=changes, day=days, name=st.sampled_from(["A^B", "C^D"]))
    def the_web_app_amends(self, action_id: str, number: str, what: dict[str, None], day: str, name: str) -> None:
        values: dict[str, Any] = {
            "patient_name": name,
            "location": None if day < "20261123" else day,
            "scheduled_date": day,
            "station_ae_titles": (name[0], "MAMMO1"),
            "patient_id": PERSON["patient_id"],
        }
        asked_for = {key: values[key] for key in what}
        asked = request(action_id, "worklist.update_item", number=number, changes=asked_for)
        self.answered(asked, self.gateway.amend(number, lambda _: asked_for, request=asked))

    @rule(action_id=action_ids, number=accession_numbers)
    def the_web_app_cancels(self, action_id: str, number: str) -> None:
        asked = request(action_id, "worklist.cancel_item", number=number)
        self.answered(asked, self.gateway.cancel(number, "did not attend", request=asked))

    @rule(action_id=action_ids, number=accession_numbers, status=st.sampled_from(Status))
    def the_web_app_reports_a_status(self, action_id: str, number: str, status: Status) -> None:
        asked = request(action_id, "worklist.update_status", number=number, status=status)
        self.answered(asked, self.gateway.report_status(number, status, request=asked))

    @rule(
        uid=uids,
        named=st.lists(accession_numbers, max_size=3),
        by_study=st.booleans(),
        patient_id=st.sampled_from(["", PERSON["patient_id"], participant(1)["patient_id"]]),
    )
    def a_modality_starts(self, uid: str, named: list[str], by_study: bool, patient_id: str) -> None:
        references = [self.reference(number, by_study=by_study) for number in named]
        with suppress(StepExists):
            outcome = start(self.gateway, uid, *references, patient_id=patient_id)
            assert set(outcome.accession_numbers) <= set(named)

    def reference(self, number: str, *, by_study: bool) -> Reference:
        rows = self.gateway.find_items(WorklistFilter(accession_number=number))
        if by_study and rows:
            return Reference(study_instance_uid=rows[0].study_instance_uid or "")
        return Reference(accession_number=number)

    @rule(uid=uids, what=st.sampled_from([completed, discontinued, wrong_entry, progressing]))
    def a_modality_goes_on_or_ends(self, uid: str, what: Any) -> None:
        with suppress(StepUnknown, StepFinal):
            change(self.gateway, what(uid))

    @rule(number=accession_numbers, status=st.sampled_from(Status))
    def an_operator_corrects(self, number: str, status: Status) -> None:
        with suppress(Refusal):
            self.gateway.correct_status(number, status, reason="by hand", operator="night shift")

    @rule(day=st.dates(date(2026, 11, 20), date(2026, 11, 30)))
    def a_night_passes(self, day: date) -> None:
        self.gateway.expire(day, after_days=1)

    @rule(outcome=st.sampled_from(["acknowledge", "park", "requeue"]), which=st.integers(0, 5))
    def delivery_reports(self, outcome: str, which: int) -> None:
        known = [row for state in ("waiting", "parked") for row in self.gateway.find_updates(state=state)]
        if not known:
            return
        event_id = known[which % len(known)].event_id
        if outcome == "acknowledge":
            self.gateway.acknowledge_update(event_id, answer="updated", attempts=1)
        elif outcome == "park":
            self.gateway.park_update(event_id, reason="appointment_not_found", attempts=1)
        else:
            with suppress(Refusal):
                self.gateway.requeue_update(event_id, reason="again")

    @rule(
        number=accession_numbers,
        which=st.integers(1, 3),
        images=st.integers(1, 3),
        patient_id=st.sampled_from(["", PERSON["patient_id"], participant(1)["patient_id"]]),
        tell=st.booleans(),
        routed=st.booleans(),
    )
    def orthanc_tells_of_a_study(
        self, number: str, which: int, images: int, patient_id: str, tell: bool, routed: bool
    ) -> None:
        if self.gateway.image_feed() is None:
            self.gateway.begin_feed(reason="the first that is followed", database="")
        report = study(which, number, images=images, patient_id=patient_id)
        routes = [Route(rule="all", target="PACS")] if routed else []
        for told in (True, False):
            outcome = self.gateway.receive_study(
                report, place(), received_at=RECEIVED, routes=routes, tell_web_app=tell
            )
            assert told or not outcome.is_new
            assert outcome.accession_number in ("", number)

    @rule(which=st.integers(1, 3), outcome=st.sampled_from(["routed", "failed", "abandoned", "dismissed"]))
    def something_becomes_of_a_study(self, which: int, outcome: str) -> None:
        uid = orthanc_id(which)
        with suppress(Refusal):
            if outcome == "routed":
                self.gateway.route_succeeded(uid, "PACS", arrival=1, job="job", instances=1)
            elif outcome == "failed":
                self.gateway.route_failed(uid, "PACS", error="Connection refused")
            elif outcome == "abandoned":
                self.gateway.abandon_route(uid, "PACS", reason="sent by hand", operator="night shift")
            else:
                self.gateway.dismiss_study(uid, reason="a phantom", operator="night shift")

    @rule()
    def something_that_can_not_be_read_comes_in(self) -> None:
        self.gateway.reject_unidentified(request(""), Refusal("not JSON"))

    @rule(uid=uids)
    def an_n_create_comes_twice(self, uid: str) -> None:
        with suppress(StepExists):
            start(self.gateway, uid)
        with suppress(StepExists):
            start(self.gateway, uid, patient_id="")

    @rule()
    def it_is_reopened(self) -> None:
        before = self.tables()
        self.gateway.close()
        self.gateway = self.opened()
        assert self.gateway.caught_up == {}
        assert self.tables() == before

    @rule()
    def it_is_rebuilt(self) -> None:
        before = self.tables()
        self.gateway.rebuild_projections()
        assert self.tables() == before

    def tables(self) -> list[list[tuple[Any, ...]]]:
        names = [table for projection in PROJECTIONS for table in projection.TABLES]
        with closing(sqlite3.connect(self.path)) as connection:
            return [sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names]

    @invariant()
    def the_tables_are_what_the_events_say(self) -> None:
        assert self.gateway.verify_projections() == []

    @invariant()
    def the_chain_is_intact_and_grows(self) -> None:
        found = self.gateway.verify_chain()
        assert found.intact, found
        assert found.events >= self.positions
        self.positions = found.events

    @invariant()
    def updates_are_numbered_without_gaps_and_at_most_one_is_due_per_item(self) -> None:
        updates = [r for s in ("waiting", "parked", "acknowledged") for r in self.gateway.find_updates(state=s)]
        for number in {row.accession_number for row in updates}:
            sequences = sorted(row.sequence for row in updates if row.accession_number == number)
            assert sequences == list(range(1, len(sequences) + 1))
        due = [row.accession_number for row in self.gateway.due_updates()]
        assert len(due) == len(set(due))


AnyHistory.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyHistory = pytest.mark.slow(AnyHistory.TestCase)
