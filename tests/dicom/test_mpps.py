"""MPPS attribute rules (PS3.4 F.7.2.1, F.7.2.2, Table F.7.2-1): strict with type 1 of the create, lenient beyond."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from dicom_samples import SYNTAXES, changed, created, from_bytes, scheduled_step, series, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom import data_set, mpps
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.status import RequestRefused
from gateway.dicom.step_attributes import SET_NOT_ALLOWED, TABLE, of_type
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import StepChange, StepReport

UID = "1.2.3.4.5"


def report(**changes: Any) -> StepReport:
    return mpps.read_create(UID, to_bytes(created(**changes)), IMPLICIT)


def change(status: str | None = "COMPLETED", **changes: Any) -> StepChange:
    return mpps.read_set(UID, to_bytes(changed(status, **changes)), IMPLICIT)


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
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def test_an_accession_number_stands_in_for_a_missing_study_instance_uid() -> None:
    read = report(ScheduledStepAttributesSequence=[scheduled_step(StudyInstanceUID="")])
    assert read.references[0].accession_number == "ACC001"
    assert read.warnings == ("a scheduled step has no Study Instance UID",)


@pytest.mark.parametrize(("item", "status"), [(step(), 0x0120), (step(StudyInstanceUID=""), 0x0121)])
def test_a_scheduled_step_that_names_nothing_is_refused(item: Dataset, status: int) -> None:
    refused = refusal(ScheduledStepAttributesSequence=[item])
    assert (refused.status, refused.tags) == (status, (0x0020000D,))


def test_every_scheduled_step_of_a_group_is_referenced() -> None:
    items = [step(StudyInstanceUID="1.2.1", AccessionNumber="A"), step(StudyInstanceUID="1.2.2", AccessionNumber="B")]
    assert [r.accession_number for r in report(ScheduledStepAttributesSequence=items).references] == ["A", "B"]


def test_a_missing_type_1_of_a_scheduled_step_is_named_with_those_of_the_step_itself() -> None:
    refused = refusal(Modality=None, ScheduledStepAttributesSequence=[scheduled_step(), step()])
    assert (refused.status, refused.tags) == (0x0120, (0x00080060, 0x0020000D))


def test_so_many_scheduled_steps_that_no_clinic_has_them_are_kept_but_not_all_looked_up() -> None:
    read = report(ScheduledStepAttributesSequence=[scheduled_step()] * 101)
    assert len(read.references) == 100
    assert read.warnings == ("only the first 100 scheduled steps are looked up",)


def test_absent_type_2_attributes_are_no_reason_to_refuse_and_named() -> None:
    read = report(PatientName=None, PatientBirthDate=None, PatientSex=None, PerformedSeriesSequence=None)
    assert read.patient_name == ""
    assert read.warnings == ("missing (type 2): (0010,0010) (0010,0030) (0010,0040) (0040,0340)",)


@pytest.mark.parametrize("tag", [*of_type(TABLE, "2")], ids=data_set.tag_name)
def test_each_type_2_attribute_of_the_create_may_be_absent_table_f_7_2_1(tag: int) -> None:
    attributes = created()
    del attributes[tag]
    read = mpps.read_create(UID, to_bytes(attributes), IMPLICIT)
    assert f"missing (type 2): {data_set.tag_name(tag)}" in read.warnings


def test_absent_type_2_attributes_of_a_scheduled_step_are_named() -> None:
    read = report(ScheduledStepAttributesSequence=[scheduled_step(RequestedProcedureID=None)])
    assert read.warnings == ("missing (type 2) in a scheduled step: (0040,1001)",)


def test_a_missing_patient_id_is_accepted_and_flagged() -> None:
    assert report(PatientID="").warnings == ("the step names no Patient ID",)


def test_a_reason_to_discontinue_what_only_starts_is_taken_with_a_warning() -> None:
    read = report(PerformedProcedureStepDiscontinuationReasonCodeSequence=[step(CodeValue="110513")])
    assert read.warnings == ("filled although the step only starts: (0040,0281)",)


@pytest.mark.parametrize("sending", ["a create", "a set"])
def test_what_a_performed_series_lacks_is_named(sending: str) -> None:
    performed = [series(), series(SeriesInstanceUID="", ProtocolName=None, OperatorsName=None)]
    told = (report if sending == "a create" else change)(PerformedSeriesSequence=performed)
    assert told.warnings == (
        "missing or empty (type 1) in a series: (0018,1030) (0020,000E)",
        "missing (type 2) in a series: (0008,1070)",
    )


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("PerformedProcedureStepStartDate", "23 Nov 2026", "(0040,0244)"),
        ("PerformedProcedureStepStartDate", "20260230", "(0040,0244)"),
        ("PerformedProcedureStepStartTime", "10:05", "(0040,0245)"),
        ("PerformedProcedureStepStartTime", "2500", "(0040,0245)"),
        ("Modality", "mg", "(0008,0060)"),
        ("PatientBirthDate", "15.03.65", "(0010,0030)"),
    ],
)
def test_a_malformed_value_is_taken_with_a_warning_also_where_it_is_of_type_1(
    keyword: str, value: str, tag: str
) -> None:
    assert f"malformed: {tag}" in report(**{keyword: value}).warnings


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("PerformedStationAETitle", "A" * 17, "(0040,0241)"),
        ("PerformedProcedureStepID", "P" * 17, "(0040,0253)"),
        ("PatientID", "9" * 65, "(0010,0020)"),
        ("PatientName", "SMITH^" + "J" * 60, "(0010,0010)"),
    ],
)
def test_a_value_over_its_length_is_taken_whole_with_a_warning_ps3_5_table_6_2_1(
    keyword: str, value: str, tag: str
) -> None:
    read = report(**{keyword: value})
    assert read.warnings == (f"too long: {tag}",)
    assert value in (
        read.patient_id,
        read.patient_name,
        read.performed_station_ae_title,
        read.performed_procedure_step_id,
    )


def test_a_warning_names_a_dozen_tags_at_most_and_no_value() -> None:
    attributes = created()
    for number in range(40):
        attributes.add_new(0x00280010 + number, "CS", "lower case")
    (warning,) = mpps.read_create(UID, to_bytes(attributes, EXPLICIT), EXPLICIT).warnings
    assert warning.endswith(" and 28 more")
    assert "lower" not in warning


def test_a_start_that_is_no_time_is_taken_with_a_warning() -> None:
    read = report(PerformedProcedureStepStartTime="late")
    assert read.started == ""
    assert read.warnings == ("malformed: (0040,0245)",)


def test_fractions_and_short_times_are_read() -> None:
    assert report(PerformedProcedureStepStartTime="100500.123").started == "20261123100500"
    assert report(PerformedProcedureStepStartTime="10").started == "20261123100000"


def test_text_outside_its_character_set_is_not_lost() -> None:
    data = to_bytes(created(PatientID="999000003?")).replace(b"999000003?", b"999000003\xdc")
    read = mpps.read_create(UID, data, IMPLICIT)
    assert read.patient_id == "999000003Ü"
    assert read.warnings == ("not in the declared character set: (0010,0020)",)


def test_what_a_create_says_of_dose_is_told_but_no_counts_that_only_mean_not_yet() -> None:
    assert report(PerformedSeriesSequence=[], TotalNumberOfExposures=0).performed == {}
    assert report(EntranceDoseInmGy="5.8").performed == {"entrance_dose_mgy": 5.8}


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


def test_a_final_state_may_have_its_end_from_an_earlier_n_set() -> None:
    data = to_bytes(changed(PerformedSeriesSequence=None, PerformedProcedureStepEndTime=None))
    before = data_set.decode(to_bytes(changed(None)), IMPLICIT)
    assert mpps.read_set(UID, data, IMPLICIT, earlier=lambda: before).warnings == ()
    emptied = to_bytes(changed(PerformedSeriesSequence=[]))
    assert mpps.read_set(UID, emptied, IMPLICIT, earlier=lambda: before).warnings == ("final without: (0040,0340)",)


def test_a_series_without_an_image_is_a_series_table_f_7_2_1() -> None:
    told = change("DISCONTINUED", PerformedSeriesSequence=[series(images=0)])
    assert told.warnings == ()
    assert told.performed == {"series_count": 1, "image_count": 0, "non_image_count": 0}


@pytest.mark.parametrize("tag", sorted(SET_NOT_ALLOWED), ids=data_set.tag_name)
def test_each_attribute_fixed_by_the_create_is_named_when_an_n_set_holds_it(tag: int) -> None:
    attributes = changed()
    attributes[tag] = created()[tag]
    told = mpps.read_set(UID, to_bytes(attributes), IMPLICIT)
    assert told.warnings == (f"ignored, fixed by the create: {data_set.tag_name(tag)}",)


def test_an_end_that_is_no_date_is_taken_with_a_warning() -> None:
    told = change(PerformedProcedureStepEndDate="today")
    assert (told.ended, told.warnings) == ("", ("malformed: (0040,0250)",))


def test_attributes_fixed_by_the_create_are_ignored_with_a_warning() -> None:
    change = mpps.read_set(UID, to_bytes(changed(PatientID="9990000018", Modality="US")), IMPLICIT)
    assert change.warnings == ("ignored, fixed by the create: (0008,0060) (0010,0020)",)


def test_an_empty_status_goes_on_with_a_warning() -> None:
    change = mpps.read_set(UID, to_bytes(changed("")), IMPLICIT)
    assert (change.status, change.warnings) == (None, ("the status is empty",))


def reasons(*codes: tuple[str, str]) -> Dataset:
    items = [step(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning="why") for value, scheme in codes]
    return changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=items)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ([("110514", "DCM")], "110514"),
        ([("110514", "")], "110514"),
        ([("110514", "99LOCAL")], "110514 (99LOCAL)"),
        ([("110513", "DCM"), ("110514", "DCM")], "110514"),
        ([("110513", "DCM"), ("110515", "DCM")], "110513"),
        ([("", "DCM")], None),
        ([], None),
    ],
)
def test_the_discontinuation_reason_is_dcms_code_value_cid_9300(
    codes: list[tuple[str, str]], reason: str | None
) -> None:
    assert mpps.read_set(UID, to_bytes(reasons(*codes)), IMPLICIT).discontinuation_reason == reason


@pytest.mark.parametrize(
    ("final", "reason"),
    [(changed("DISCONTINUED"), "110514"), (reasons(), None), (changed("COMPLETED"), None)],
    ids=["says nothing of it", "takes it back", "completed"],
)
def test_a_reason_that_came_earlier_holds_until_it_is_replaced_f_7_2_2_2(final: Dataset, reason: str | None) -> None:
    earlier = data_set.decode(to_bytes(reasons(("110514", "DCM"))), IMPLICIT)
    told = mpps.read_set(UID, to_bytes(final), IMPLICIT, earlier=lambda: earlier)
    assert told.discontinuation_reason == reason


KNOWN = sorted({tag for row in TABLE for tag in (row.tag, *(nested.tag for nested in row.items))})


@st.composite
def attribute_lists(draw: st.DrawFn, depth: int = 2) -> bytes:
    """Bytes that are a data set in form: known and other tags with any bytes as value, sequences among them."""
    data = b""
    for tag in sorted(draw(st.sets(st.sampled_from(KNOWN) | st.integers(0x00080001, 0x0040FFFF), max_size=8))):
        value = draw(st.binary(max_size=24))
        if data_set.vr_of(tag) == "SQ" and depth:
            items = draw(st.lists(attribute_lists(depth - 1), max_size=2))
            value = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
        data += struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    return data


@settings(deadline=None)
@given(st.binary(max_size=300) | attribute_lists())
@pytest.mark.parametrize("read", [mpps.read_create, mpps.read_set])
def test_any_bytes_are_read_or_refused_with_a_documented_status(read: Any, data: bytes) -> None:
    try:
        told = read(UID, data, IMPLICIT)
        assert told.attribute_list == data
        json.dumps(told.performed, allow_nan=False)
    except RequestRefused as refused:
        assert refused.status in (0x0106, 0x0110, 0x0120, 0x0121)  # noqa: PT017
