"""MPPS attribute rules (PS3.4 F.7.2.1, F.7.2.2, Table F.7.2-1): strict with type 1 of the create, lenient beyond."""

from __future__ import annotations

from typing import Any

import pytest
from dicom_samples import SYNTAXES, changed, created, from_bytes, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom import mpps
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.status import RequestRefused
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import StepReport

UID = "1.2.3.4.5"


def report(**changes: Any) -> StepReport:
    return mpps.read_create(UID, to_bytes(created(**changes)), IMPLICIT)


def refusal(**changes: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        report(**changes)
    return refused.value


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_create_is_reported_with_the_bytes_as_received(syntax: str) -> None:
    data = to_bytes(created(), syntax)
    read = mpps.read_create(UID, data, syntax)
    assert (read.attribute_list, read.transfer_syntax) == (data, syntax)
    assert (read.patient_id, read.patient_name) == ("9990000034", "SMITH^JANE")
    assert (read.started, read.modality, read.performed_station_ae_title) == ("20261123100500", "MG", "MAMMO1")
    (reference,) = read.references
    assert (reference.accession_number, reference.study_instance_uid) == ("ACC001", "1.2.826.0.1.344")
    assert (reference.scheduled_procedure_step_id, reference.requested_procedure_id) == ("ACC001", "ACC001")
    assert read.warnings == ()


TYPE_1 = {
    "Modality": 0x00080060,
    "PerformedStationAETitle": 0x00400241,
    "PerformedProcedureStepStartDate": 0x00400244,
    "PerformedProcedureStepStartTime": 0x00400245,
    "PerformedProcedureStepStatus": 0x00400252,
    "PerformedProcedureStepID": 0x00400253,
    "ScheduledStepAttributesSequence": 0x00400270,
}


@pytest.mark.parametrize(("keyword", "tag"), TYPE_1.items())
def test_a_missing_type_1_attribute_is_named_0120(keyword: str, tag: int) -> None:
    refused = refusal(**{keyword: None})
    assert (refused.status, refused.tags) == (0x0120, (tag,))


@pytest.mark.parametrize(("keyword", "tag"), list(TYPE_1.items())[:-1])
def test_an_empty_type_1_attribute_is_named_0121(keyword: str, tag: int) -> None:
    refused = refusal(**{keyword: ""})
    assert (refused.status, refused.tags) == (0x0121, (tag,))


def test_several_missing_attributes_are_all_named_0120() -> None:
    assert refusal(Modality=None, PerformedProcedureStepID=None).tags == (0x00080060, 0x00400253)


def test_no_attribute_list_at_all_is_all_of_them_missing_0120() -> None:
    with pytest.raises(RequestRefused) as refused:
        mpps.read_create(UID, b"", IMPLICIT)
    assert (refused.value.status, set(refused.value.tags)) == (0x0120, set(TYPE_1.values()))


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "WITHDRAWN", "in progress", "IN_PROGRESS"])
def test_a_step_is_created_in_progress_only_0106(status: str) -> None:
    refused = refusal(PerformedProcedureStepStatus=status)
    assert (refused.status, refused.tags) == (0x0106, (0x00400252,))
    assert refused.attribute_list is not None
    assert from_bytes(refused.attribute_list).PerformedProcedureStepStatus == status


def test_an_empty_scheduled_step_sequence_is_taken_with_a_warning_when_the_patient_is_known() -> None:
    read = report(ScheduledStepAttributesSequence=[])
    assert read.references == ()
    assert read.warnings == ("the Scheduled Step Attributes Sequence is empty",)
    assert refusal(ScheduledStepAttributesSequence=[], PatientID="").status == 0x0121


def step(**values: str) -> Dataset:
    data_set = Dataset()
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    return data_set


def test_an_accession_number_stands_in_for_a_missing_study_instance_uid() -> None:
    read = report(ScheduledStepAttributesSequence=[step(AccessionNumber="ACC001")])
    assert read.references[0].accession_number == "ACC001"
    assert read.warnings == ("a scheduled step has no Study Instance UID",)


@pytest.mark.parametrize(("item", "status"), [(step(), 0x0120), (step(StudyInstanceUID=""), 0x0121)])
def test_a_scheduled_step_that_names_nothing_is_refused(item: Dataset, status: int) -> None:
    refused = refusal(ScheduledStepAttributesSequence=[item])
    assert (refused.status, refused.tags) == (status, (0x0020000D,))


def test_every_scheduled_step_of_a_group_is_referenced() -> None:
    items = [step(StudyInstanceUID="1.2.1", AccessionNumber="A"), step(StudyInstanceUID="1.2.2", AccessionNumber="B")]
    assert [r.accession_number for r in report(ScheduledStepAttributesSequence=items).references] == ["A", "B"]


def test_absent_type_2_attributes_are_no_reason_to_refuse() -> None:
    read = report(PatientName=None, PatientBirthDate=None, PatientSex=None, PerformedSeriesSequence=None)
    assert read.patient_name == ""


def test_a_start_that_is_no_time_is_taken_with_a_warning() -> None:
    read = report(PerformedProcedureStepStartTime="late")
    assert read.started == ""
    assert len(read.warnings) == 1


def test_fractions_and_short_times_are_read() -> None:
    assert report(PerformedProcedureStepStartTime="100500.123").started == "20261123100500"
    assert report(PerformedProcedureStepStartTime="10").started == "20261123100000"


def test_text_outside_its_character_set_is_not_lost() -> None:
    data = to_bytes(created(PatientID="999000003?")).replace(b"999000003?", b"999000003\xdc")
    read = mpps.read_create(UID, data, IMPLICIT)
    assert read.patient_id == "999000003Ü"
    assert read.warnings == ("(0010,0020) is not in the declared character set",)


@pytest.mark.parametrize("uid", ["", "abc", "1.2.3 ", "1" * 65])
def test_an_instance_that_no_uid_names_0117(uid: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        mpps.require_uid(uid)
    assert refused.value.status == 0x0117


def test_a_uid_with_a_leading_zero_is_taken_with_a_warning() -> None:
    mpps.require_uid("1.2.03")
    assert mpps.read_create("1.2.03", to_bytes(created()), IMPLICIT).warnings


# --- N-SET


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("IN PROGRESS", StepStatus.IN_PROGRESS),
        ("COMPLETED", StepStatus.COMPLETED),
        ("DISCONTINUED", StepStatus.DISCONTINUED),
        (None, None),
    ],
)
def test_the_statuses_of_an_n_set(word: str | None, status: StepStatus | None) -> None:
    change = mpps.read_set(UID, to_bytes(changed(word)), IMPLICIT)
    assert (change.status, change.ended, change.warnings) == (status, "20261123101500", ())


def test_an_empty_modification_list_goes_on() -> None:
    assert mpps.read_set(UID, b"", IMPLICIT).status is None


@pytest.mark.parametrize("word", ["WITHDRAWN", "DONE", "completed"])
def test_an_unknown_status_is_refused_with_its_value_0106(word: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        mpps.read_set(UID, to_bytes(changed(word)), IMPLICIT)
    assert refused.value.status == 0x0106
    assert from_bytes(refused.value.attribute_list or b"").PerformedProcedureStepStatus == word


def test_a_final_state_without_what_it_requires_is_taken_with_a_warning() -> None:
    change = mpps.read_set(
        UID, to_bytes(changed(PerformedSeriesSequence=[], PerformedProcedureStepEndTime=None)), IMPLICIT
    )
    assert change.status is StepStatus.COMPLETED
    assert change.warnings == ("final without: (0040,0251) (0040,0340)",)


def test_attributes_fixed_by_the_create_are_ignored_with_a_warning() -> None:
    change = mpps.read_set(UID, to_bytes(changed(PatientID="9990000018", Modality="US")), IMPLICIT)
    assert change.warnings == ("ignored, fixed by the create: (0008,0060) (0010,0020)",)


def test_an_empty_status_goes_on_with_a_warning() -> None:
    change = mpps.read_set(UID, to_bytes(changed("")), IMPLICIT)
    assert (change.status, change.warnings) == (None, ("the status is empty",))


def test_the_discontinuation_reason_is_the_code_value_cid_9300() -> None:
    code = step(CodeValue="110514", CodingSchemeDesignator="DCM", CodeMeaning="Incorrect worklist entry selected")
    data = to_bytes(
        changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[code]),
    )
    assert mpps.read_set(UID, data, IMPLICIT).discontinuation_reason == "110514"


@settings(deadline=None)
@given(st.binary(max_size=300))
@pytest.mark.parametrize("read", [mpps.read_create, mpps.read_set])
def test_any_bytes_are_read_or_refused_with_a_documented_status(read: Any, data: bytes) -> None:
    try:
        read(UID, data, IMPLICIT)
    except RequestRefused as refused:
        assert refused.status in (0x0106, 0x0110, 0x0120, 0x0121)  # noqa: PT017
