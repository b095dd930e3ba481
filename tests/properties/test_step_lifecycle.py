"""Performed steps in any order, repeated, grouped and wrong: each status answered and kept is as PS3.4 F.7.2.

The model is a page long and knows nothing of ours: what a create or a set may be answered with, and what all the steps
performed for an appointment amount to.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydicom import config
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from bench.synthetic import appointment
from gateway.application import Gateway
from gateway.dicom.caller import Caller
from gateway.dicom.find import FindResponse
from gateway.dicom.responder import Responder
from gateway.dicom.step_scp import NResponse
from gateway.errors import Refusal
from projections.worklist import WorklistFilter
from tests.properties.plain_reader import EXPLICIT, IMPLICIT, Reader

config.settings.reading_validation_mode = config.IGNORE  # what units send is not always valid

MPPS = "1.2.840.10008.3.1.2.3.3"
CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
NUMBERS = ["ACC001", "ACC002", "ACC003"]
UIDS = [f"1.2.826.0.1.3680043.9.{number}" for number in range(1, 10)]

SUCCESS, INVALID_VALUE, FAILURE, DUPLICATE, UNKNOWN, MISSING, EMPTY = (
    0x0000, 0x0106, 0x0110, 0x0111, 0x0112, 0x0120, 0x0121,
)  # fmt: skip
NO_LONGER = 0xA710


# --- the model


@dataclass
class Item:
    """An appointment; `before` is its status before anybody began."""

    patient_id: str
    study_instance_uid: str
    status: str = "SCHEDULED"
    before: str = "SCHEDULED"
    steps: dict[str, str] = field(default_factory=dict)

    def performed(self, uid: str, outcome: str) -> None:
        """Completed if any step is; discontinued only if all are; what was chosen by mistake never was (2.3)."""
        if self.status in ("SCHEDULED", "CANCELLED", "EXPIRED"):
            self.before = self.status
        self.steps[uid] = outcome
        counted = [step for step in self.steps.values() if step != "MISTAKEN"]
        if self.status == "COMPLETED":
            return
        if "COMPLETED" in counted:
            self.status = "COMPLETED"
        elif "IN PROGRESS" in counted:
            self.status = "IN PROGRESS"
        elif counted:
            self.status = "DISCONTINUED"
        elif self.status == "IN PROGRESS":
            self.status = self.before


@dataclass
class Step:
    items: list[Item]
    status: str = "IN PROGRESS"


# --- what modalities send


def reference(study_instance_uid: str = "", accession_number: str = "", step_id: str = "") -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study_instance_uid
    item.AccessionNumber = accession_number
    item.RequestedProcedureID = accession_number
    item.ScheduledProcedureStepID = step_id
    return item


def created(references: list[Dataset], patient_id: str) -> Dataset:
    attributes = Dataset()
    attributes.ScheduledStepAttributesSequence = references
    attributes.PatientName, attributes.PatientID = "SMITH^JANE", patient_id
    attributes.PerformedProcedureStepID = "PPS1"
    attributes.PerformedStationAETitle = "MAMMO1"
    attributes.PerformedProcedureStepStartDate = "20261123"
    attributes.PerformedProcedureStepStartTime = "100500"
    attributes.PerformedProcedureStepStatus = "IN PROGRESS"
    attributes.Modality = "MG"
    return attributes


def modified(status: str | None, *, reason: str = "", ended: bool = True) -> Dataset:
    attributes = Dataset()
    if status is not None:
        attributes.PerformedProcedureStepStatus = status
    if ended:
        attributes.PerformedProcedureStepEndDate = "20261123"
        attributes.PerformedProcedureStepEndTime = "101500"
    if reason:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = reason, "DCM", "why"
        attributes.PerformedProcedureStepDiscontinuationReasonCodeSequence = [code]
    attributes.PerformedProcedureStepDescription = "two views"
    return attributes


uids = st.sampled_from(UIDS)
steps = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.steps) or UIDS))
"""A step that exists, as far as any does."""
open_steps = st.runner().flatmap(lambda machine: st.sampled_from(machine.still_open() or UIDS))
"""One that can still be updated, as far as any can."""
numbers = st.sampled_from(NUMBERS)
syntaxes = st.sampled_from([IMPLICIT, EXPLICIT])
ways = st.sampled_from(["whole", "whole", "by study", "by number", "another's step", "another's study", "unknown"])
patients = st.sampled_from(["the item's", "the item's", "nobody's", "another's"])


class StepLifecycle(RuleBasedStateMachine):
    """The real application behind the real responder, beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="step-lifecycle-"))
        self.gateway = Gateway(self.folder / "gateway.db")
        self.items: dict[str, Item] = {}
        self.steps: dict[str, Step] = {}

    def still_open(self) -> list[str]:
        return sorted(uid for uid, step in self.steps.items() if step.status == "IN PROGRESS")

    def teardown(self) -> None:
        self.gateway.close()
        shutil.rmtree(self.folder)

    @initialize()
    def appointments_are_there(self) -> None:
        for place, number in enumerate(NUMBERS):
            patient_id = ["9990000018", "9990000018", "9990000026"][place]
            self.gateway.schedule(appointment(number, patient_id=patient_id, scheduled_time=f"10{place}000"))
            (row,) = self.gateway.find_items(WorklistFilter(accession_number=number))
            assert row.study_instance_uid
            self.items[number] = Item(patient_id, row.study_instance_uid)

    # --- N-CREATE

    @rule(uid=uids, number=numbers, way=ways, patient=patients, syntax=syntaxes)
    def a_step_is_created(self, uid: str, number: str, way: str, patient: str, syntax: str) -> None:
        item, other = self.items[number], self.items[NUMBERS[NUMBERS.index(number) - 1]]
        named = {
            "whole": reference(item.study_instance_uid, number, number),
            "by study": reference(item.study_instance_uid),
            "by number": reference("", number),
            "another's step": reference(item.study_instance_uid, "", NUMBERS[NUMBERS.index(number) - 1]),
            "another's study": reference(other.study_instance_uid, number, number),
            "unknown": reference("1.2.3.4.5", "ACC999", "ACC999"),
        }[way]
        patient_id = {"the item's": item.patient_id, "nobody's": "", "another's": "9990000999"}[patient]
        found = way in ("whole", "by study", "by number") and patient != "another's"
        self.create(uid, created([named], patient_id), [item] if found else [], syntax)

    @rule(uid=uids, named=st.lists(numbers, min_size=2, max_size=4), patient_id=st.sampled_from(["", "9990000018"]))
    def a_group_of_steps_is_created(self, uid: str, named: list[str], patient_id: str) -> None:
        """Each item of the sequence is looked at by itself: one of another patient is left alone."""
        references = [reference(self.items[number].study_instance_uid, number, number) for number in named]
        linked = [self.items[n] for n in dict.fromkeys(named) if patient_id in ("", self.items[n].patient_id)]
        self.create(uid, created(references, patient_id), linked, IMPLICIT)

    @rule(uid=uids, syntax=syntaxes)
    def an_unscheduled_step_is_created(self, uid: str, syntax: str) -> None:
        self.create(uid, created([reference("1.2.826.0.1.9999")], "9990000018"), [], syntax)

    @rule(uid=uids)
    def a_step_that_names_nothing_is_created(self, uid: str) -> None:
        self.create(uid, created([], "9990000018"), [], IMPLICIT)

    @rule(number=numbers)
    def a_step_is_created_without_an_instance_uid(self, number: str) -> None:
        item = self.items[number]
        attributes = created([reference(item.study_instance_uid, number, number)], item.patient_id)
        response = self.n_create(None, attributes, EXPLICIT)
        assert response.status == SUCCESS
        assert response.sop_instance_uid not in self.steps
        self.started(response.sop_instance_uid, [item])

    @rule(uid=uids, number=numbers, what=st.sampled_from(["Modality", "PerformedProcedureStepID"]), empty=st.booleans())
    def a_step_without_a_type_1_attribute_is_refused(self, uid: str, number: str, what: str, empty: bool) -> None:
        attributes = created([reference(self.items[number].study_instance_uid, number, number)], "")
        if empty:
            setattr(attributes, what, "")
        else:
            delattr(attributes, what)
        response = self.n_create(uid, attributes, IMPLICIT)
        if uid in self.steps:
            assert response.status == DUPLICATE  # whatever it holds
            return
        assert response.status == (EMPTY if empty else MISSING)
        assert len(response.attribute_identifier_list) == 1

    @rule(uid=uids, number=numbers, status=st.sampled_from(["COMPLETED", "DISCONTINUED", "IN_PROGRESS", "STARTED"]))
    def a_step_that_is_not_in_progress_is_refused(self, uid: str, number: str, status: str) -> None:
        attributes = created([reference(self.items[number].study_instance_uid, number, number)], "")
        attributes.PerformedProcedureStepStatus = status
        response = self.n_create(uid, attributes, EXPLICIT)
        if uid in self.steps:
            assert response.status == DUPLICATE
            return
        assert response.status == INVALID_VALUE
        self.holds_the_bad_status(response, status, EXPLICIT)

    def create(self, uid: str, attributes: Dataset, linked: list[Item], syntax: str) -> None:
        response = self.n_create(uid, attributes, syntax)
        if uid in self.steps:
            assert response.status == DUPLICATE
            return
        assert (response.status, response.error_comment) == (SUCCESS, "")
        self.started(uid, linked)

    def started(self, uid: str, linked: list[Item]) -> None:
        self.steps[uid] = Step(linked)
        for item in linked:
            item.performed(uid, "IN PROGRESS")

    # --- N-SET

    @rule(uid=open_steps, status=st.sampled_from([None, "IN PROGRESS"]), syntax=syntaxes)
    def a_step_goes_on(self, uid: str, status: str | None, syntax: str) -> None:
        self.modify(uid, modified(status, ended=False), "IN PROGRESS", syntax)

    @rule(uid=open_steps, ended=st.booleans(), syntax=syntaxes)
    def a_step_is_completed(self, uid: str, ended: bool, syntax: str) -> None:
        """Without its type 1 attributes too: a refusal would only make the unit repeat (2.1)."""
        self.modify(uid, modified("COMPLETED", ended=ended), "COMPLETED", syntax)

    @rule(uid=open_steps, reason=st.sampled_from(["", "110513", "110515"]), syntax=syntaxes)
    def a_step_is_discontinued(self, uid: str, reason: str, syntax: str) -> None:
        self.modify(uid, modified("DISCONTINUED", reason=reason), "DISCONTINUED", syntax)

    @rule(uid=open_steps, syntax=syntaxes)
    def the_wrong_entry_was_chosen(self, uid: str, syntax: str) -> None:
        self.modify(uid, modified("DISCONTINUED", reason="110514"), "MISTAKEN", syntax)

    @rule(uid=steps, status=st.sampled_from(["COMPLETED", "DISCONTINUED", "IN PROGRESS", None]), syntax=syntaxes)
    def any_step_is_set(self, uid: str, status: str | None, syntax: str) -> None:
        """The same final status again, too."""
        self.modify(uid, modified(status), status or "IN PROGRESS", syntax)

    @rule(uid=uids)
    def a_step_is_completed_that_may_not_exist(self, uid: str) -> None:
        self.modify(uid, modified("COMPLETED"), "COMPLETED", IMPLICIT)

    @rule(uid=open_steps, status=st.sampled_from(["COMPLETE", "IN_PROGRESS", "completed", "SCHEDULED"]))
    def a_status_that_is_none_is_refused(self, uid: str, status: str) -> None:
        if uid not in self.steps or self.steps[uid].status != "IN PROGRESS":
            return
        response = self.n_set(uid, modified(status), IMPLICIT)
        assert response.status == INVALID_VALUE
        self.holds_the_bad_status(response, status, IMPLICIT)

    def modify(self, uid: str, attributes: Dataset, outcome: str, syntax: str) -> None:
        response = self.n_set(uid, attributes, syntax)
        step = self.steps.get(uid)
        if step is None:
            assert (response.status, response.error_id) == (UNKNOWN, None)
        elif step.status != "IN PROGRESS":
            assert (response.status, response.error_id) == (FAILURE, NO_LONGER)
        else:
            assert (response.status, response.error_comment) == (SUCCESS, "")
            step.status = outcome
            if outcome != "IN PROGRESS":
                for item in step.items:
                    item.performed(uid, outcome)

    # --- what else happens

    @rule(number=numbers)
    def an_appointment_is_withdrawn(self, number: str) -> None:
        if self.items[number].status == "SCHEDULED":
            self.gateway.cancel(number, "did not attend")
            self.items[number].status = "CANCELLED"
        else:
            with pytest.raises(Refusal):
                self.gateway.cancel(number, "did not attend")

    @rule()
    def the_day_passes(self) -> None:
        self.gateway.expire(date(2026, 12, 1), after_days=1)
        for item in self.items.values():
            if item.status == "SCHEDULED":
                item.status = "EXPIRED"

    @rule()
    def the_service_starts_anew(self) -> None:
        self.gateway.close()
        self.gateway = Gateway(self.folder / "gateway.db")

    # --- the responder

    def n_create(self, uid: str | None, attributes: Dataset, syntax: str) -> NResponse:
        response = Responder(self.gateway).n_create(CALLER, MPPS, uid, encoded(attributes, syntax), syntax)
        assert uid in (None, response.sop_instance_uid)
        return response

    def n_set(self, uid: str, attributes: Dataset, syntax: str) -> NResponse:
        response = Responder(self.gateway).n_set(CALLER, MPPS, uid, encoded(attributes, syntax), syntax)
        assert response.sop_instance_uid == uid
        return response

    def holds_the_bad_status(self, response: NResponse, status: str, syntax: str) -> None:
        data = response.attribute_list or b""
        elements = Reader(data, syntax == EXPLICIT).elements(len(data))
        assert list(elements) == ["00400252"]
        assert bytes(elements["00400252"]).strip() == status.encode()  # type: ignore[arg-type]

    @invariant()
    def every_item_has_the_status_of_the_model(self) -> None:
        rows = {row.accession_number: row.status for row in self.gateway.find_items(WorklistFilter())}
        assert rows == {number: item.status for number, item in self.items.items()}

    @invariant()
    def a_query_lists_what_is_scheduled(self) -> None:
        asked = Dataset()
        asked.AccessionNumber = ""
        responses = list(Responder(self.gateway).find(CALLER, encoded(asked, IMPLICIT), IMPLICIT, lambda: False))
        listed = [number_of(response) for response in responses[:-1]]
        assert listed == [number for number, item in self.items.items() if item.status == "SCHEDULED"]
        assert responses[-1].status == SUCCESS


def encoded(attributes: Dataset, syntax: str) -> bytes:
    data = encode(attributes, syntax == IMPLICIT, True)
    assert data is not None
    return data


def number_of(response: FindResponse) -> str:
    data = response.identifier or b""
    value: Any = Reader(data, explicit=False).elements(len(data))["00080050"]
    return str(value, "ascii").strip()


StepLifecycle.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStepLifecycle = pytest.mark.slow(StepLifecycle.TestCase)
