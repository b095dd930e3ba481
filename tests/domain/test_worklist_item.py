"""A worklist item under anything that modalities, the web app and operators may say of it."""

from __future__ import annotations

from typing import Any

import pytest
from eventsourcing.domain import datetime_now_with_tzinfo
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from bench.synthetic import appointment
from gateway.domain import lifecycle
from gateway.domain.lifecycle import Command, Status, StepStatus
from gateway.domain.worklist_item import Appointment, WorklistItem
from gateway.errors import AccessionConflict, IllegalTransition


def item(**changes: Any) -> WorklistItem:
    wanted = appointment(**changes)
    return WorklistItem(
        accession_number=wanted.accession_number,
        person=wanted.person(),
        step=wanted.step(),
        study_instance_uid="2.25.1",
        is_test=False,
        action_id="action-1",
        received_at=datetime_now_with_tzinfo().isoformat(),
    )


def in_status(status: Status) -> WorklistItem:
    made = item()
    if status is not Status.SCHEDULED:
        made.correct_status(status, "test")
    made.collect_events()
    return made


def withdraw(of: WorklistItem, uid: str, *, report: bool = False) -> None:
    of.discontinue_step(uid, reason="110514", wrong_entry=True, report_wrong_entry=report)


def give_up(of: WorklistItem, uid: str) -> None:
    of.discontinue_step(uid, reason=None, wrong_entry=False)


def statuses_owed(of: WorklistItem) -> list[str]:
    events = of.collect_events()
    return [e.status for e in events if getattr(e, "update_sequence", None)]


def test_an_examination_owes_in_progress_and_then_completed() -> None:
    examined = item()
    examined.start_step("1.1")
    examined.complete_step("1.1")
    assert statuses_owed(examined) == ["IN PROGRESS", "COMPLETED"]


def test_a_second_step_on_a_completed_item_is_remembered_and_owes_nothing() -> None:
    examined = in_status(Status.COMPLETED)
    examined.start_step("1.1")
    give_up(examined, "1.1")
    assert examined.status is Status.COMPLETED
    assert examined.steps == {"1.1": StepStatus.DISCONTINUED}
    assert statuses_owed(examined) == []


def test_an_item_is_discontinued_only_when_all_its_steps_are() -> None:
    examined = item()
    examined.start_step("1.1")
    examined.start_step("1.2")
    give_up(examined, "1.1")
    assert examined.status is Status.IN_PROGRESS
    give_up(examined, "1.2")
    assert examined.status is Status.DISCONTINUED


def test_a_wrong_worklist_entry_puts_the_item_back_and_owes_nothing() -> None:
    examined = item()
    examined.start_step("1.1")
    withdraw(examined, "1.1")
    assert examined.status is Status.SCHEDULED
    assert statuses_owed(examined) == ["IN PROGRESS"]


def test_a_wrong_worklist_entry_is_owed_to_the_web_app_where_the_site_wants_it() -> None:
    examined = item()
    examined.start_step("1.1")
    withdraw(examined, "1.1", report=True)
    assert statuses_owed(examined) == ["IN PROGRESS", "SCHEDULED"]


@pytest.mark.parametrize("over", [Status.CANCELLED, Status.EXPIRED])
def test_a_wrong_worklist_entry_gives_an_item_that_was_over_that_status_back(over: Status) -> None:
    examined = in_status(over)
    examined.start_step("1.1")
    withdraw(examined, "1.1")
    assert examined.status is over


def test_an_item_cancelled_after_one_wrong_entry_is_cancelled_again_after_the_next() -> None:
    examined = item()
    examined.start_step("1.1")
    withdraw(examined, "1.1")
    examined.cancel(None)
    examined.start_step("1.2")
    withdraw(examined, "1.2")
    assert examined.status is Status.CANCELLED


def test_a_wrong_entry_does_not_take_back_an_operator_s_correction() -> None:
    examined = in_status(Status.CANCELLED)
    examined.start_step("1.1")
    examined.correct_status(Status.SCHEDULED, "she came after all")
    withdraw(examined, "1.1")
    assert examined.status is Status.SCHEDULED


def test_a_wrong_entry_after_something_else_was_performed_changes_the_status_and_is_owed() -> None:
    examined = item()
    examined.start_step("1.1")
    give_up(examined, "1.1")
    examined.start_step("1.2")
    withdraw(examined, "1.2")
    assert statuses_owed(examined) == ["IN PROGRESS", "DISCONTINUED", "IN PROGRESS", "DISCONTINUED"]


def test_what_the_web_app_says_itself_is_not_owed_to_it() -> None:
    reported = item()
    reported.report_status(Status.IN_PROGRESS)
    reported.report_status(Status.COMPLETED)
    assert reported.status is Status.COMPLETED
    assert statuses_owed(reported) == []


def test_an_operator_s_correction_is_owed_to_the_web_app() -> None:
    corrected = item()
    corrected.correct_status(Status.COMPLETED, "examined on paper")
    assert statuses_owed(corrected) == ["COMPLETED"]


def test_an_amendment_holds_only_what_changed() -> None:
    amended = item()
    amended.collect_events()
    amended.amend({"patient_name": "SMITH^JANE^MARY", "patient_sex": "F", "location": "ROOM 2"})
    [event] = amended.collect_events()
    assert (event.person, event.step) == ({"patient_name": "SMITH^JANE^MARY"}, {"location": "ROOM 2"})
    assert amended.appointment == appointment(patient_name="SMITH^JANE^MARY", location="ROOM 2")


def test_a_new_time_is_a_rescheduling_that_names_both_date_and_time() -> None:
    moved = item()
    moved.collect_events()
    moved.amend({"scheduled_time": "143000"})
    [event] = moved.collect_events()
    assert (event.scheduled_date, event.scheduled_time) == ("20261123", "143000")


def test_an_amendment_that_changes_nothing_is_no_event() -> None:
    unchanged = item()
    unchanged.collect_events()
    unchanged.amend({"patient_name": "SMITH^JANE", "scheduled_time": "100000", "station_ae_titles": ()})
    assert unchanged.collect_events() == []


def test_stations_survive_an_amendment_as_they_were_given() -> None:
    amended = item()
    amended.amend({"station_ae_titles": ("MAMMO1", "MAMMO2")})
    assert amended.appointment.station_ae_titles == ("MAMMO1", "MAMMO2")


def test_an_optional_field_may_be_cleared() -> None:
    amended = item()
    amended.amend({"study_description": None})
    assert amended.appointment.study_description is None


def test_an_appointment_is_itself_again_from_its_two_parts() -> None:
    wanted = appointment(station_ae_titles=("MAMMO1",), procedure_code="MAMMO")
    assert Appointment.of("ACC001", wanted.person(), {**wanted.step(), "of_a_later_version": 1}) == wanted


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"patient_id": "9990000026", "patient_name": "JONES^MARY"}, "patient_id"),
        ({"patient_name": "JONES^MARY", "scheduled_date": "20261124"}, "patient_name"),
        ({"scheduled_time": "110000"}, "scheduled_time"),
        ({"modality": "US"}, "modality"),
        ({"station_ae_titles": ("MAMMO1",)}, "station_ae_titles"),
    ],
)
def test_a_conflict_names_the_first_field_that_differs_the_patient_s_first(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(AccessionConflict) as conflict:
        item().require_same(appointment(**changes), is_test=False)
    assert conflict.value.field == field


@pytest.mark.parametrize("status", sorted(lifecycle.FINISHED))
def test_the_same_content_over_a_finished_item_conflicts_in_its_status(status: Status) -> None:
    with pytest.raises(AccessionConflict) as conflict:
        in_status(status).require_same(appointment(), is_test=False)
    assert conflict.value.field == "status"


@pytest.mark.parametrize("status", sorted(set(Status) - lifecycle.FINISHED))
def test_the_same_content_over_a_live_item_is_no_conflict(status: Status) -> None:
    in_status(status).require_same(appointment(), is_test=False)


def test_a_test_item_and_a_real_one_conflict() -> None:
    with pytest.raises(AccessionConflict) as conflict:
        item().require_same(appointment(), is_test=True)
    assert conflict.value.field == "action_type"


class LifeOfAnItem(RuleBasedStateMachine):
    """Any sequence of reports and commands. Kept beside the item: what each step became, and what it began on."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.item = item()
        self.events = list(self.item.collect_events())
        self.steps: dict[str, StepStatus] = {}
        self.began_on = Status.SCHEDULED

    def counted(self) -> set[StepStatus]:
        return set(self.steps.values()) - {StepStatus.WITHDRAWN}

    def report(self, uid: str, outcome: StepStatus) -> Status:
        before = self.item.status
        self.steps[uid] = outcome
        if before is not Status.IN_PROGRESS:
            self.began_on = before
        return before

    def take(self) -> Any:
        new = self.item.collect_events()
        self.events += new
        return new[-1]

    def expect(self, status: Status, *, owed: bool) -> None:
        event = self.take()
        assert self.item.status is status
        assert event.status == status
        assert (event.update_sequence is not None) == owed

    @rule(target=running)
    def a_modality_starts_a_step(self) -> str:
        uid = f"1.2.{len(self.steps)}"
        before = self.report(uid, StepStatus.IN_PROGRESS)
        self.item.start_step(uid)
        after = Status.COMPLETED if Status.COMPLETED in (before, *self.counted()) else Status.IN_PROGRESS
        self.expect(after, owed=after is not before)
        return uid

    @rule(uid=consumes(running))
    def a_modality_completes_a_step(self, uid: str) -> None:
        before = self.report(uid, StepStatus.COMPLETED)
        self.item.complete_step(uid)
        self.expect(Status.COMPLETED, owed=before is not Status.COMPLETED)

    @rule(uid=consumes(running))
    def a_modality_gives_a_step_up(self, uid: str) -> None:
        before = self.report(uid, StepStatus.DISCONTINUED)
        give_up(self.item, uid)
        after = self.after_an_end(before)
        self.expect(after, owed=after is not before)

    @rule(uid=consumes(running), report=st.booleans())
    def a_modality_finds_it_chose_the_wrong_item(self, uid: str, report: bool) -> None:
        before = self.report(uid, StepStatus.WITHDRAWN)
        withdraw(self.item, uid, report=report)
        after = self.after_an_end(before)
        self.expect(after, owed=after is not before and (report or bool(self.counted())))

    def after_an_end(self, before: Status) -> Status:
        counted = self.counted()
        if Status.COMPLETED in (before, *counted):
            return Status.COMPLETED
        if StepStatus.IN_PROGRESS in counted:
            return Status.IN_PROGRESS
        if counted:
            return Status.DISCONTINUED
        if before is not Status.IN_PROGRESS:
            return before
        return self.began_on if self.began_on in (Status.CANCELLED, Status.EXPIRED) else Status.SCHEDULED

    @precondition(lambda self: self.item.status is Status.SCHEDULED)
    @rule(expire=st.booleans())
    def the_appointment_is_withdrawn_or_its_day_passes(self, expire: bool) -> None:
        if expire:
            self.item.expire()
        else:
            self.item.cancel("did not attend")
        self.expect(Status.EXPIRED if expire else Status.CANCELLED, owed=False)

    @rule(status=st.sampled_from(Status))
    def the_web_app_reports_a_status(self, status: Status) -> None:
        assume(status in lifecycle.COMMANDS[Command.REPORT_STATUS].get(self.item.status, ()))
        self.item.report_status(status)
        self.expect(status, owed=False)

    @rule(status=st.sampled_from(Status))
    def an_operator_corrects_the_status(self, status: Status) -> None:
        assume(self.item.status not in (Status.COMPLETED, status))
        self.item.correct_status(status, "by hand")
        self.expect(status, owed=True)

    @precondition(lambda self: self.item.status is not Status.SCHEDULED)
    @rule(which=st.sampled_from(["amend", "cancel", "expire"]))
    def what_needs_a_scheduled_item_is_refused(self, which: str) -> None:
        commands = {
            "amend": lambda: self.item.amend({"location": "ROOM 2"}),
            "cancel": lambda: self.item.cancel(None),
            "expire": self.item.expire,
        }
        with pytest.raises(IllegalTransition):
            commands[which]()
        assert self.item.collect_events() == []

    @invariant()
    def completed_is_never_left(self) -> None:
        said = [e.status for e in self.events if hasattr(e, "status")]
        if "COMPLETED" in said:
            assert set(said[said.index("COMPLETED") :]) == {"COMPLETED"}

    @invariant()
    def updates_are_numbered_from_one_without_gaps(self) -> None:
        numbers = [e.update_sequence for e in self.events if getattr(e, "update_sequence", None) is not None]
        assert numbers == list(range(1, len(numbers) + 1))
        assert self.item.update_sequence == len(numbers)

    @invariant()
    def the_events_alone_make_the_same_item(self) -> None:
        copy: Any = None
        for event in self.events:
            copy = event.mutate(copy)
        for name in ("status", "steps", "update_sequence", "status_before_steps", "appointment"):
            assert getattr(copy, name) == getattr(self.item, name)


TestLifeOfAnItem = pytest.mark.slow(LifeOfAnItem.TestCase)
