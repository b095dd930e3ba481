"""The life of a scheduled procedure step, cell by cell: these tables are the specification."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import lifecycle
from gateway.domain.lifecycle import Command, Status, StepStatus, Verdict
from gateway.errors import IllegalTransition, InvalidValue

SCHEDULED, IN_PROGRESS, COMPLETED = Status.SCHEDULED, Status.IN_PROGRESS, Status.COMPLETED
DISCONTINUED, CANCELLED, EXPIRED = Status.DISCONTINUED, Status.CANCELLED, Status.EXPIRED

AFTER_A_REPORT = {
    #              STARTED      COMPLETED  DISCONTINUED  WITHDRAWN
    SCHEDULED: (IN_PROGRESS, COMPLETED, DISCONTINUED, SCHEDULED),
    IN_PROGRESS: (IN_PROGRESS, COMPLETED, DISCONTINUED, SCHEDULED),
    DISCONTINUED: (IN_PROGRESS, COMPLETED, DISCONTINUED, DISCONTINUED),
    CANCELLED: (IN_PROGRESS, COMPLETED, DISCONTINUED, CANCELLED),
    EXPIRED: (IN_PROGRESS, COMPLETED, DISCONTINUED, EXPIRED),
    COMPLETED: (COMPLETED, COMPLETED, COMPLETED, COMPLETED),
}

ALLOWED = {
    Command.AMEND: {(SCHEDULED, SCHEDULED)},
    Command.CANCEL: {(SCHEDULED, CANCELLED)},
    Command.EXPIRE: {(SCHEDULED, EXPIRED)},
    Command.REPORT_STATUS: {(SCHEDULED, IN_PROGRESS), (IN_PROGRESS, COMPLETED), (IN_PROGRESS, DISCONTINUED)},
    Command.CORRECT_STATUS: {
        (status, target) for status in Status for target in Status if status != target and status is not COMPLETED
    },
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(("column", "verdict"), list(enumerate(Verdict)))
def test_a_modality_s_report_gives_the_status_in_the_table(status: Status, column: int, verdict: Verdict) -> None:
    assert lifecycle.performed(status, verdict, before=SCHEDULED) is AFTER_A_REPORT[status][column]


@pytest.mark.parametrize("before", [CANCELLED, EXPIRED])
def test_a_withdrawn_step_gives_an_item_that_was_over_its_status_back(before: Status) -> None:
    assert lifecycle.performed(IN_PROGRESS, Verdict.WITHDRAWN, before=before) is before


@pytest.mark.parametrize(("command", "status", "target"), list(itertools.product(Command, Status, Status)))
def test_a_command_is_allowed_exactly_where_the_table_says(command: Command, status: Status, target: Status) -> None:
    if (status, target) in ALLOWED[command]:
        lifecycle.require(command, status, target)
    else:
        with pytest.raises(IllegalTransition) as refusal:
            lifecycle.require(command, status, target)
        assert refusal.value.field == "status"
        assert status in str(refusal.value)


def test_nobody_may_change_a_completed_item() -> None:
    for command in Command:
        with pytest.raises(IllegalTransition):
            lifecycle.require(command, COMPLETED)


steps = st.lists(st.sampled_from(StepStatus))


@given(steps)
def test_the_verdict_is_completed_if_any_step_is(performed: list[StepStatus]) -> None:
    assert (lifecycle.verdict_of(performed) is Verdict.COMPLETED) == (StepStatus.COMPLETED in performed)


@given(steps)
def test_the_verdict_is_discontinued_only_if_all_steps_that_count_are(performed: list[StepStatus]) -> None:
    counted = {step for step in performed if step is not StepStatus.WITHDRAWN}
    assert (lifecycle.verdict_of(performed) is Verdict.DISCONTINUED) == (counted == {StepStatus.DISCONTINUED})


@given(st.lists(st.just(StepStatus.WITHDRAWN)))
def test_the_verdict_is_withdrawn_if_no_step_counts(performed: list[StepStatus]) -> None:
    assert lifecycle.verdict_of(performed) is Verdict.WITHDRAWN


def test_the_verdict_is_started_while_a_step_goes_on_and_none_is_completed() -> None:
    assert lifecycle.verdict_of([StepStatus.DISCONTINUED, StepStatus.IN_PROGRESS]) is Verdict.STARTED


@pytest.mark.parametrize(("step", "final"), [(s, s is not StepStatus.IN_PROGRESS) for s in StepStatus])
def test_a_step_that_ended_may_no_longer_be_updated(step: StepStatus, final: bool) -> None:
    assert lifecycle.is_final(step) is final


@pytest.mark.parametrize("word", ["IN PROGRESS", "in_progress", " In Progress ", "IN_PROGRESS"])
def test_a_status_word_may_have_any_case_and_an_underscore(word: str) -> None:
    assert lifecycle.status_of(word) is IN_PROGRESS


@pytest.mark.parametrize("word", ["", "DONE", "INPROGRESS", "SCHEDULED,COMPLETED"])
def test_another_status_word_is_refused_with_the_words_there_are(word: str) -> None:
    with pytest.raises(InvalidValue, match="SCHEDULED, IN PROGRESS, COMPLETED, DISCONTINUED, CANCELLED, EXPIRED"):
        lifecycle.status_of(word)


def test_an_accession_number_is_taken_for_ever_once_its_item_is_finished() -> None:
    assert set(Status) - {SCHEDULED, IN_PROGRESS} == lifecycle.FINISHED


def test_a_step_performed_for_a_cancelled_or_expired_item_is_alerted() -> None:
    assert {CANCELLED, EXPIRED} == lifecycle.OVER
