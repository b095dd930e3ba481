"""An MPPS finds its item, or nobody's item is touched (design §3.16)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.synthetic import (
    MODALITY,
    PERSON,
    RECEIVED,
    change,
    completed,
    discontinued,
    naming,
    participant,
    progressing,
    report,
    schedule,
    start,
    step_uid,
    wrong_entry,
)
from gateway.application import Gateway, StepOutcome
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import Reference, StepChange, StepExists, StepFinal, StepUnknown
from projections.worklist import WorklistFilter

ONE, TWO, THREE = step_uid(1), step_uid(2), step_uid(3)


def study_of(gateway: Gateway, accession_number: str) -> str:
    [row] = gateway.find_items(WorklistFilter(accession_number=accession_number))
    assert row.study_instance_uid
    return row.study_instance_uid


def status_of(gateway: Gateway, accession_number: str = "ACC001") -> str:
    [row] = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return row.status


KEYS: dict[str, Callable[[str], Reference]] = {
    "study and step": lambda study: Reference(study_instance_uid=study, scheduled_procedure_step_id="ACC001"),
    "study alone": lambda study: Reference(study_instance_uid=study),
    "study and a step id that names nothing": lambda study: Reference(
        study_instance_uid=study, scheduled_procedure_step_id="SPS1"
    ),
    "accession number alone": lambda _: Reference(accession_number="ACC001"),
    "accession number and a study of the unit's own": lambda _: Reference(
        accession_number="ACC001", study_instance_uid="1.2.3"
    ),
    "all of them": lambda study: Reference(
        study_instance_uid=study, accession_number="ACC001", scheduled_procedure_step_id="ACC001"
    ),
}


@pytest.mark.parametrize("patient_id", [PERSON["patient_id"], ""], ids=["same patient", "no patient id"])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_step_finds_its_item_by_study_or_accession_number(
    gateway: Gateway, key: Callable[[str], Reference], patient_id: str
) -> None:
    schedule(gateway)
    schedule(gateway, "ACC002")
    outcome = start(gateway, ONE, key(study_of(gateway, "ACC001")), patient_id=patient_id)
    assert outcome == StepOutcome(("ACC001",))
    assert (status_of(gateway, "ACC001"), status_of(gateway, "ACC002")) == ("IN PROGRESS", "SCHEDULED")
    [row] = gateway.find_items(WorklistFilter(accession_number="ACC001"))
    assert row.mpps_instance_uid == ONE


NO_ITEM = "no item has the accession number or the Study Instance UID"

UNMATCHED: dict[str, tuple[Callable[[str, str], Reference], str]] = {
    "unknown accession number": (lambda *_: naming("ACC999"), NO_ITEM),
    "unknown study": (lambda *_: Reference(study_instance_uid="1.2.3"), NO_ITEM),
    "a step id alone": (lambda *_: Reference(scheduled_procedure_step_id="ACC001"), NO_ITEM),
    "nothing": (lambda *_: Reference(), NO_ITEM),
    "study of one, number of another": (
        lambda one, _: Reference(study_instance_uid=one, accession_number="ACC002"),
        "two items",
    ),
    "number of one, step id of another": (
        lambda *_: Reference(accession_number="ACC001", scheduled_procedure_step_id="ACC002"),
        "two items",
    ),
    "study of one, step id of another": (
        lambda _, two: Reference(study_instance_uid=two, scheduled_procedure_step_id="ACC001"),
        "two items",
    ),
}


@pytest.mark.parametrize(("key", "why"), UNMATCHED.values(), ids=UNMATCHED)
def test_a_step_that_names_no_item_or_two_is_kept_and_alerted_and_touches_nobody_s(
    gateway: Gateway, key: Callable[[str, str], Reference], why: str
) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    outcome = start(gateway, ONE, key(study_of(gateway, "ACC001"), study_of(gateway, "ACC002")))
    assert outcome.accession_numbers == ()
    assert outcome.unmatched == outcome.alerts
    assert why in outcome.alerts[0]
    assert gateway.count_by_status() == {"SCHEDULED": 2}
    assert gateway.due_updates() == []


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_step_of_another_patient_touches_nobody_s_item(gateway: Gateway, key: Callable[[str], Reference]) -> None:
    schedule(gateway)
    outcome = start(gateway, ONE, key(study_of(gateway, "ACC001")), patient_id=participant(2)["patient_id"])
    assert outcome.accession_numbers == ()
    assert outcome.alerts == ("the step is of another patient than item ACC001",)
    assert status_of(gateway) == "SCHEDULED"


def test_an_unscheduled_step_is_kept_and_alerted_and_ends_without_touching_anybody(gateway: Gateway) -> None:
    assert start(gateway, ONE).alerts == ("the step names no scheduled step",)
    assert change(gateway, completed(ONE)) == StepOutcome(())
    assert [row.kind for row in gateway.timeline("")] == [
        "PerformedProcedureStep.Started",
        "PerformedProcedureStep.Completed",
    ]
    assert gateway.due_updates() == []


def test_an_unmatched_step_stands_in_the_story_of_the_accession_number_it_named(gateway: Gateway) -> None:
    start(gateway, ONE, naming("ACC999"))
    change(gateway, completed(ONE))
    assert len(gateway.timeline("ACC999")) == 2


def test_a_group_case_moves_both_of_its_items(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    outcome = start(gateway, ONE, naming("ACC001"), naming("ACC002"))
    assert outcome == StepOutcome(("ACC001", "ACC002"))
    change(gateway, completed(ONE))
    assert gateway.count_by_status() == {"COMPLETED": 2}
    assert len(gateway.find_updates()) == 4


def test_a_group_case_links_what_it_can_and_alerts_the_rest(gateway: Gateway) -> None:
    schedule(gateway)
    outcome = start(gateway, ONE, naming("ACC001"), naming("ACC999"))
    assert outcome.accession_numbers == ("ACC001",)
    assert len(outcome.unmatched) == 1


def test_two_references_to_one_item_are_one_link(gateway: Gateway) -> None:
    schedule(gateway)
    study = study_of(gateway, "ACC001")
    outcome = start(gateway, ONE, naming("ACC001"), Reference(study_instance_uid=study))
    assert outcome == StepOutcome(("ACC001",))
    assert len(gateway.find_updates()) == 1


@pytest.mark.parametrize("over", [Status.CANCELLED, Status.EXPIRED])
def test_a_cancelled_or_expired_item_links_becomes_in_progress_and_is_alerted(gateway: Gateway, over: Status) -> None:
    schedule(gateway)
    gateway.correct_status("ACC001", over, reason="test", operator="test")
    outcome = start(gateway, ONE, naming())
    assert outcome == StepOutcome(("ACC001",), (), (f"item ACC001 is performed although it is {over}",))
    assert status_of(gateway) == "IN PROGRESS"


def test_a_wrong_worklist_entry_puts_the_item_back_for_the_right_woman(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    change(gateway, wrong_entry(ONE))
    assert status_of(gateway) == "SCHEDULED"
    start(gateway, TWO, naming())
    change(gateway, completed(TWO))
    assert status_of(gateway) == "COMPLETED"


def test_an_item_with_several_steps_is_discontinued_only_when_all_are(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    start(gateway, TWO, naming())
    change(gateway, discontinued(ONE))
    assert status_of(gateway) == "IN PROGRESS"
    change(gateway, discontinued(TWO))
    assert status_of(gateway) == "DISCONTINUED"


def test_one_completed_step_completes_the_item_whatever_the_others_do(gateway: Gateway) -> None:
    schedule(gateway)
    for uid in (ONE, TWO, THREE):
        start(gateway, uid, naming())
    change(gateway, completed(TWO))
    change(gateway, discontinued(ONE))
    change(gateway, wrong_entry(THREE))
    assert status_of(gateway) == "COMPLETED"


def test_a_discontinued_item_may_be_examined_again(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    change(gateway, discontinued(ONE))
    start(gateway, TWO, naming())
    assert status_of(gateway) == "IN PROGRESS"


def test_an_n_set_without_a_status_is_kept_and_moves_nothing(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, ONE, naming())
    before = gateway.check_store()
    change(gateway, progressing(ONE))
    assert gateway.check_store() == before + 1
    assert status_of(gateway) == "IN PROGRESS"


def test_a_second_n_create_of_one_uid_is_refused(gateway: Gateway) -> None:
    """PS3.7 10.1.5.1.6: duplicate SOP Instance."""
    schedule(gateway)
    start(gateway, ONE, naming())
    before = gateway.check_store()
    with pytest.raises(StepExists):
        start(gateway, ONE, naming())
    assert gateway.check_store() == before


def test_an_n_set_of_an_unknown_uid_is_refused(gateway: Gateway) -> None:
    """PS3.7 10.1.3.1.9: no such SOP Instance."""
    with pytest.raises(StepUnknown):
        change(gateway, completed(ONE))


@pytest.mark.parametrize("late", [progressing(ONE), completed(ONE), discontinued(ONE)])
def test_an_n_set_of_a_final_step_is_refused_and_changes_nothing(gateway: Gateway, late: StepChange) -> None:
    """PS3.4 F.7.2.2.2."""
    schedule(gateway)
    start(gateway, ONE, naming())
    change(gateway, completed(ONE))
    before = gateway.check_store()
    with pytest.raises(StepFinal):
        change(gateway, late)
    assert gateway.check_store() == before


def test_the_same_n_create_from_eight_threads_is_taken_once(gateway: Gateway) -> None:
    schedule(gateway)

    def create(_: int) -> str:
        try:
            gateway.start_step(report(ONE, naming()), calling_ae_title=MODALITY, received_at=RECEIVED)
        except StepExists:
            return "exists"
        return "taken"

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(create, range(8))) == ["exists"] * 7 + ["taken"]
    assert len(gateway.find_updates()) == 1


def test_eight_units_on_one_item_all_leave_their_step_with_it(gateway: Gateway) -> None:
    schedule(gateway)
    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda n: start(gateway, step_uid(n), naming()), range(8)))
    assert {outcome.accession_numbers for outcome in outcomes} == {("ACC001",)}
    [update] = gateway.find_updates()
    assert update.status == "IN PROGRESS"


def test_an_item_that_only_a_hand_wrote_is_not_touched(gateway: Gateway) -> None:
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute(
            "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date,"
            " scheduled_date, scheduled_time, modality)"
            " VALUES ('ACC123', '9990000018', 'SMITH^JANE', '19800101', '20261123', '143000', 'MG')"
        )
    outcome = start(gateway, ONE, naming("ACC123"))
    assert outcome.unmatched == ("no event explains item ACC123",)


@pytest.mark.parametrize("over", [Status.CANCELLED, Status.EXPIRED])
def test_an_item_that_is_over_by_the_time_its_step_ends_is_completed_and_alerted(
    gateway: Gateway, over: Status
) -> None:
    schedule(gateway)
    start(gateway, ONE, naming("ACC001"))
    gateway.correct_status("ACC001", over, reason="withdrawn", operator="ward")
    assert change(gateway, completed(ONE)).alerts == (f"item ACC001 is performed although it is {over}",)
    assert status_of(gateway, "ACC001") == "COMPLETED"
