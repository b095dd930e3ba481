"""A data set without what identifies a person: read by pydicom, which knows nothing of our codec."""

from __future__ import annotations

from typing import Any

import pytest
from dicom_samples import SYNTAXES, created, from_bytes, scheduled_step, series, to_bytes
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.dicom.redaction import redacted
from gateway.domain import values
from gateway.domain.pseudonyms import Pseudonyms

both_syntaxes = pytest.mark.parametrize("syntax", SYNTAXES)


def redaction(data_set: Dataset, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN, by: Pseudonyms | None = None) -> Dataset:
    return from_bytes(redacted(to_bytes(data_set, syntax), syntax, by or Pseudonyms()), syntax)


def patient(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@both_syntaxes
def test_what_identifies_becomes_pseudonyms_and_all_else_stays(syntax: str) -> None:
    data_set = created(
        PatientBirthDate="19650315",
        PerformedSeriesSequence=[series(2, OperatorsName="JONES^MARY", SeriesDescription="R CC")],
        CommentsOnThePerformedProcedureStep="Mrs Smith felt unwell",
    )
    told = redaction(data_set, syntax)
    changed = {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "CommentsOnThePerformedProcedureStep",
        "PerformedSeriesSequence",
    }
    assert [element.tag for element in told] == [element.tag for element in data_set]
    assert {element.keyword for element in data_set if told[element.tag] != element} == changed
    assert values.date_of(told.PatientBirthDate, "date") != "19650315"
    assert told.CommentsOnThePerformedProcedureStep == "Xxx Xxxxx xxxx xxxxxx"
    [one] = told.PerformedSeriesSequence
    assert str(one.OperatorsName) not in ("JONES^MARY", "")
    del one.OperatorsName, data_set.PerformedSeriesSequence[0].OperatorsName
    assert one == data_set.PerformedSeriesSequence[0]


def test_the_person_is_the_one_that_the_worklist_s_pseudonyms_name() -> None:
    by = Pseudonyms()
    told = redaction(created(), by=by)
    assert (told.PatientID, str(told.PatientName)) == (by.patient_id("9990000034"), by.name("SMITH^JANE"))
    assert told.PatientBirthDate == by.birth_date("19650315")


def test_the_patient_s_sex_is_no_identity() -> None:
    assert redaction(created()).PatientSex == "F"


def test_what_is_nested_is_found() -> None:
    reference = patient(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.1.1", ReferencedSOPInstanceUID="1.2.3.99", PatientID="9990000034"
    )
    deep = scheduled_step(RequestedProcedureDescription="MG")
    deep.ReferencedPatientSequence = [reference]
    deep.ReferringPhysicianName = "BROWN^ANN"
    other = patient(PatientID="9990000034", TypeOfPatientID="TEXT", IssuerOfPatientID="Trust of Somewhere")
    by = Pseudonyms()
    told = redaction(created(ScheduledStepAttributesSequence=[deep], OtherPatientIDsSequence=[other]), by=by)
    [step], [hidden] = told.ScheduledStepAttributesSequence, told.OtherPatientIDsSequence
    assert step.AccessionNumber == "ACC001"
    assert str(step.ReferringPhysicianName) != "BROWN^ANN"
    assert step.ReferencedPatientSequence[0].PatientID == hidden.PatientID == by.patient_id("9990000034")
    assert (hidden.TypeOfPatientID, hidden.IssuerOfPatientID) == ("XXXX", "Xxxxx xx Xxxxxxxxx")


def test_a_uid_inside_what_identifies_is_another_one_but_a_class_stays() -> None:
    about = patient(ReferencedSOPClassUID="1.2.840.10008.3.1.2.1.1", ReferencedSOPInstanceUID="1.2.3.99")
    told = redaction(created(PatientSpeciesCodeSequence=[about]))
    [hidden] = told.PatientSpeciesCodeSequence
    assert hidden.ReferencedSOPClassUID == about.ReferencedSOPClassUID
    assert values.is_uid(hidden.ReferencedSOPInstanceUID)
    assert hidden.ReferencedSOPInstanceUID != about.ReferencedSOPInstanceUID


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "MÜLLER^ÜTE"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_names_stay_in_their_character_set(character_set: Any, name: str) -> None:
    data_set = created()
    data_set.SpecificCharacterSet = character_set
    data_set.PatientName = name
    by = Pseudonyms()
    told = redaction(data_set, by=by)
    assert str(told.PatientName) == by.name(name) != name
    assert told.SpecificCharacterSet == data_set.SpecificCharacterSet


def test_what_is_not_in_its_character_set_is_replaced_too() -> None:
    data = to_bytes(created(PatientName="SMITH^JANE"), EXPLICIT_VR_LITTLE_ENDIAN).replace(
        b"SMITH^JANE", b"M\xdcLLER^UTE"
    )
    told = redacted(data, EXPLICIT_VR_LITTLE_ENDIAN, Pseudonyms())
    assert len(told) == len(data)
    assert b"LLER" not in told


@both_syntaxes
def test_private_elements_and_what_nobody_knows_are_hidden(syntax: str) -> None:
    data_set = created()
    block = data_set.private_block(0x0011, "SOMEBODY", create=True)
    block.add_new(1, "LO", "SMITH JANE")
    block.add_new(2, "OB", b"SMITH JANE")
    told = redacted(to_bytes(data_set, syntax), syntax, Pseudonyms())
    assert b"SMITH" not in told
    assert len(told) == len(to_bytes(data_set, syntax))


def test_bytes_that_are_no_data_set_become_zeros() -> None:
    assert redacted(b"SMITH^JANE", IMPLICIT_VR_LITTLE_ENDIAN, Pseudonyms()) == bytes(10)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_redacted(data: bytes) -> None:
    for syntax in SYNTAXES:
        redacted(data, syntax, Pseudonyms())
