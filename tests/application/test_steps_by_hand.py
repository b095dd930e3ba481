"""Steps that nobody's item explains wait for a person, who links or dismisses them; counts and dose travel along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bench.synthetic import (
    RECEIVED,
    change,
    completed,
    discontinued,
    naming,
    progressing,
    schedule,
    start,
    step_uid,
    wrong_entry,
)
from gateway.application import Gateway
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import StepChange
from gateway.errors import IllegalTransition, NotFound, OtherPatient
from projections.outbox import OutboxRow
from projections.worklist import WorklistFilter

ONE, TWO = step_uid(1), step_uid(2)
STRANGER = "9990000026"


def status_of(gateway: Gateway, accession_number: str = "ACC001") -> str:
    [row] = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return row.status


def owed(gateway: Gateway) -> list[OutboxRow]:
    return gateway.find_updates(state="waiting")


def link(gateway: Gateway, accession_number: str = "ACC001", uid: str = ONE, **options: bool) -> Status:
    return gateway.link_step(uid, accession_number, reason="typed wrongly", operator="night shift", **options)


def test_an_unmatched_step_waits_for_a_person_with_what_it_named_and_why(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    start(gateway, TWO, naming("ACC001"))
    [row] = gateway.unmatched_steps()
    assert (row.sop_instance_uid, row.accession_numbers, row.named) == (ONE, (), ("ACC009",))
    assert row.unmatched == ("no item has the accession number or the Study Instance UID of the step",)
    assert (row.patient_id, row.patient_name, row.ae_title) == ("9990000018", "SMITH^JANE", "MAMMO1")


@pytest.mark.parametrize(
    ("reports", "status", "told"),
    [
        ([], "IN PROGRESS", ["IN PROGRESS"]),
        ([progressing], "IN PROGRESS", ["IN PROGRESS"]),
        ([completed], "COMPLETED", ["IN PROGRESS", "COMPLETED"]),
        ([discontinued], "DISCONTINUED", ["IN PROGRESS", "DISCONTINUED"]),
    ],
)
def test_the_item_follows_a_linked_step_as_if_the_unit_had_named_it(
    gateway: Gateway, reports: list[Callable[[str], StepChange]], status: str, told: list[str]
) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    for report in reports:
        change(gateway, report(ONE))
    assert owed(gateway) == []
    assert link(gateway) == status
    assert status_of(gateway) == status
    rows = owed(gateway)
    assert [row.status for row in rows] == told
    assert [row.sequence for row in rows] == list(range(1, len(told) + 1))
    assert {row.mpps_instance_uid for row in rows} == {ONE}
    assert {row.occurred_at for row in rows} == {RECEIVED.isoformat()}
    assert gateway.unmatched_steps() == []
    assert gateway.verify_projections() == []


def test_what_the_unit_reports_after_the_link_reaches_the_item(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    link(gateway)
    change(gateway, completed(ONE))
    assert status_of(gateway) == "COMPLETED"


def test_a_link_is_told_in_both_timelines_with_its_reason_and_who_said_so(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    link(gateway)
    for accession_number in ("ACC001", "ACC009"):
        [row] = [r for r in gateway.timeline(accession_number) if r.kind == "PerformedProcedureStep.Linked"]
        assert row.details == {"mpps_instance_uid": ONE, "linked_to": "ACC001", "reason": "typed wrongly"}
        assert row.source == "operator"


def test_a_step_of_another_patient_is_linked_only_when_the_operator_insists(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"), patient_id=STRANGER)
    with pytest.raises(OtherPatient) as refused:
        link(gateway)
    assert STRANGER not in str(refused.value)
    assert status_of(gateway) == "SCHEDULED"
    assert link(gateway, despite_other_patient=True) == "IN PROGRESS"


def test_a_step_is_linked_to_an_item_once(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    with pytest.raises(IllegalTransition, match="linked to ACC001 already"):
        link(gateway)


def test_a_step_of_two_examinations_is_linked_to_both(gateway: Gateway) -> None:
    schedule(gateway)
    schedule(gateway, "ACC002")
    start(gateway, ONE, naming("ACC009"))
    link(gateway, "ACC001")
    link(gateway, "ACC002")
    change(gateway, completed(ONE))
    assert (status_of(gateway, "ACC001"), status_of(gateway, "ACC002")) == ("COMPLETED", "COMPLETED")


def test_a_withdrawn_step_is_nobody_s(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    change(gateway, wrong_entry(ONE))
    with pytest.raises(IllegalTransition, match="wrong worklist entry"):
        link(gateway)


def test_what_is_not_there_can_t_be_linked(gateway: Gateway) -> None:
    schedule(gateway)
    with pytest.raises(NotFound):
        link(gateway)
    start(gateway, ONE, naming("ACC009"))
    with pytest.raises(NotFound):
        link(gateway, "ACC009")


def test_a_dismissed_step_is_kept_and_leaves_the_list(gateway: Gateway) -> None:
    start(gateway, ONE)
    gateway.dismiss_step(ONE, reason="a phantom", operator="night shift")
    assert gateway.unmatched_steps() == []
    assert gateway.performed_step(ONE) is not None
    with pytest.raises(IllegalTransition):
        gateway.dismiss_step(ONE, reason="again", operator="night shift")
    assert gateway.verify_projections() == []


def test_a_dismissed_step_can_still_be_linked(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    gateway.dismiss_step(ONE, reason="a phantom", operator="night shift")
    assert link(gateway) == "IN PROGRESS"


def test_of_a_partly_matched_step_the_rest_can_be_dismissed_and_its_item_stays_in_progress(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"), naming("ACC009"))
    assert len(gateway.unmatched_steps()) == 1
    gateway.dismiss_step(ONE, reason="typed wrongly", operator="night shift")
    assert gateway.unmatched_steps() == []
    assert unfinished(gateway) == [ONE]
    change(gateway, completed(ONE))
    assert status_of(gateway) == "COMPLETED"
    assert gateway.verify_projections() == []


def test_a_dismissed_step_that_is_linked_after_all_is_told_when_it_is_never_finished(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"))
    gateway.dismiss_step(ONE, reason="a phantom", operator="night shift")
    assert unfinished(gateway) == []
    link(gateway)
    assert unfinished(gateway) == [ONE]


def test_a_step_that_names_no_patient_is_linked_without_more_ado(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC009"), patient_id="")
    assert link(gateway) == "IN PROGRESS"


def test_a_step_that_has_its_item_can_t_be_dismissed(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    with pytest.raises(IllegalTransition):
        gateway.dismiss_step(ONE, reason="a phantom", operator="night shift")


# --- steps that are never finished


def unfinished(gateway: Gateway) -> list[str]:
    return [row.sop_instance_uid for row in gateway.unfinished_steps(RECEIVED + timedelta(hours=4))]


def test_a_step_that_is_not_finished_in_time_is_told_of_and_changes_nothing(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    assert gateway.unfinished_steps(RECEIVED - timedelta(seconds=1)) == []
    assert unfinished(gateway) == [ONE]
    assert status_of(gateway) == "IN PROGRESS"


@pytest.mark.parametrize("end", [completed, discontinued, wrong_entry])
def test_a_finished_step_is_not_told_of(gateway: Gateway, end: Callable[[str], StepChange]) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    change(gateway, end(ONE))
    assert unfinished(gateway) == []


def test_a_person_who_sets_the_item_by_hand_settles_its_step(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    gateway.correct_status("ACC001", Status.COMPLETED, reason="the unit was switched off", operator="night shift")
    assert unfinished(gateway) == []


def test_an_unmatched_step_that_is_not_finished_is_told_of_until_it_is_dismissed(gateway: Gateway) -> None:
    start(gateway, ONE)
    assert unfinished(gateway) == [ONE]
    gateway.dismiss_step(ONE, reason="a phantom", operator="night shift")
    assert unfinished(gateway) == []


# --- counts and dose

FIRST = {"series_count": 1, "image_count": 2, "exposure_count": 2}
LAST = {"image_count": 4, "entrance_dose_mgy": 5.8}


def test_counts_and_dose_of_a_step_add_up_key_by_key_and_travel_with_the_status(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    change(gateway, replace(progressing(ONE), performed=FIRST))
    change(gateway, replace(completed(ONE), performed=LAST))
    started, done = owed(gateway)
    assert started.performed == {}
    assert done.performed == {**FIRST, **LAST}
    with gateway.reading() as connection:
        kept = connection.execute("SELECT performed, status FROM performed_steps").fetchone()
    assert tuple(kept) == (
        '{"series_count": 1, "image_count": 4, "exposure_count": 2, "entrance_dose_mgy": 5.8}',
        "COMPLETED",
    )
    assert gateway.verify_projections() == []


def test_the_record_of_a_step_holds_every_data_set_as_it_came(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    change(gateway, progressing(ONE))
    change(gateway, completed(ONE))
    record = gateway.performed_step(ONE)
    assert record is not None
    assert [data for data, _ in record.data_sets] == [
        bytes(range(256)) * 3,
        progressing(ONE).attribute_list,
        completed(ONE).attribute_list,
    ]
    assert (record.status, record.accession_numbers) == ("COMPLETED", ("ACC001",))
    assert gateway.performed_step(TWO) is None


def test_moments_are_compared_whatever_their_zone(gateway: Gateway) -> None:
    start(gateway, ONE)
    summer = datetime.fromisoformat("2026-11-23T10:00:01+01:00")
    assert summer.astimezone(UTC) == RECEIVED + timedelta(seconds=1)
    assert [row.sop_instance_uid for row in gateway.unfinished_steps(summer)] == [ONE]
