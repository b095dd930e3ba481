"""One MPPS instance: kept whole, updated until it is final, linked or not."""

from __future__ import annotations

import pytest

from bench.synthetic import completed, discontinued, naming, progressing, report, step_uid, wrong_entry
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import PerformedProcedureStep, StepChange, StepFinal, StepReport

UID = step_uid(1)
NOW = "2026-11-23T09:00:00+00:00"


def started(reported: StepReport | None = None, linked: tuple[str, ...] = ("ACC001",)) -> PerformedProcedureStep:
    return PerformedProcedureStep.start(
        reported or report(UID, naming("ACC001")), accession_numbers=[*linked], unmatched=[], received_at=NOW
    )


def test_the_attribute_list_is_kept_whole_as_received() -> None:
    reported = report(UID, naming(), attribute_list=bytes(range(256)), transfer_syntax="1.2.840.10008.1.2")
    [event] = started(reported).collect_events()
    assert (event.attribute_list, event.transfer_syntax) == (bytes(range(256)), "1.2.840.10008.1.2")


def test_a_step_concerns_what_it_was_linked_to_and_what_it_named_each_once() -> None:
    reported = report(UID, naming("ACC002"), naming("ACC001"), naming("ACC002"), naming(""))
    [event] = started(reported, linked=("ACC001",)).collect_events()
    assert event.concerned == ["ACC001", "ACC002"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (progressing(UID), StepStatus.IN_PROGRESS),
        (StepChange(sop_instance_uid=UID, status=StepStatus.IN_PROGRESS), StepStatus.IN_PROGRESS),
        (completed(UID), StepStatus.COMPLETED),
        (discontinued(UID), StepStatus.DISCONTINUED),
        (discontinued(UID, "110513"), StepStatus.DISCONTINUED),
        (wrong_entry(UID), StepStatus.WITHDRAWN),
    ],
)
def test_an_n_set_gives_the_step_its_status(change: StepChange, status: StepStatus) -> None:
    step = started()
    step.change(change, NOW)
    assert step.status is status


@pytest.mark.parametrize("end", [completed(UID), discontinued(UID), wrong_entry(UID)])
@pytest.mark.parametrize("more", [progressing(UID), completed(UID), discontinued(UID)])
def test_a_final_step_may_no_longer_be_updated(end: StepChange, more: StepChange) -> None:
    """PS3.4 F.7.2.2.2."""
    step = started()
    step.change(end, NOW)
    with pytest.raises(StepFinal):
        step.change(more, NOW)


def test_each_n_set_is_kept_whole_with_the_items_it_concerns() -> None:
    step = started()
    step.change(progressing(UID), NOW)
    step.change(completed(UID), NOW)
    _, updated, ended = step.collect_events()
    assert (type(updated), type(ended)) == (PerformedProcedureStep.Updated, PerformedProcedureStep.Completed)
    assert updated.attribute_list == progressing(UID).attribute_list
    assert ended.attribute_list == completed(UID).attribute_list
    assert ended.accession_numbers == ended.concerned == ["ACC001"]
