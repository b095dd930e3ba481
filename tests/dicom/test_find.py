"""What a C-FIND response holds (PS3.4 K.4.1.1.3, K.6.1.2.2): the requested keys, all of them, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from dicom_samples import SYNTAXES, from_bytes, query, row, to_bytes
from pydicom.dataset import Dataset

from gateway.dicom import find, identifier, keys
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from projections.worklist import WorklistRow


def answer(request: Dataset, item: WorklistRow, *, caller: str = "MAMMO1", syntax: str = IMPLICIT) -> Dataset:
    asked = identifier.read(to_bytes(request, syntax), syntax)
    pending, final = find.responses([item], asked, syntax, caller_ae_title=caller, is_cancelled=lambda: False)
    assert (pending.status, final.status, final.identifier) == (0xFF00, 0x0000, None)
    assert pending.identifier is not None
    return from_bytes(pending.identifier, syntax)


def step_of(request: dict[str, Any], item: WorklistRow, *, caller: str = "MAMMO1") -> Dataset:
    (step,) = answer(query(request), item, caller=caller).ScheduledProcedureStepSequence
    return step


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_exactly_the_requested_keys_come_back_nested_ones_too(syntax: str) -> None:
    request = query({"Modality": "MG", "ScheduledProcedureStepStartTime": ""}, PatientName="*", AccessionNumber="")
    answered = answer(request, row(), syntax=syntax)
    assert [e.keyword for e in answered] == ["AccessionNumber", "PatientName", "ScheduledProcedureStepSequence"]
    (step,) = answered.ScheduledProcedureStepSequence
    assert [e.keyword for e in step] == ["Modality", "ScheduledProcedureStepStartTime"]
    assert (answered.PatientName, step.ScheduledProcedureStepStartTime) == ("SMITH^JANE", "100000")


def test_every_key_of_table_k_6_1_comes_back_if_only_empty() -> None:
    request = Dataset()
    for attribute in keys.ROOT.values():
        request.add_new(attribute.tag, attribute.vr, [] if attribute.vr == "SQ" else None)
    step = Dataset()
    for attribute in keys.STEP.values():
        step.add_new(attribute.tag, attribute.vr, [] if attribute.vr == "SQ" else None)
    request.ScheduledProcedureStepSequence = [step]
    answered = answer(request, row())
    assert {e.tag for e in answered} == set(keys.ROOT)
    assert {e.tag for e in answered.ScheduledProcedureStepSequence[0]} == set(keys.STEP)
    for tag, attribute in keys.ROOT.items():
        assert attribute.returned != "1" or answered[tag].value, attribute.keyword


def test_the_tables_name_their_attributes_as_the_dictionary_does() -> None:
    from pydicom.datadict import keyword_for_tag

    for attribute in (*keys.ROOT.values(), *keys.STEP.values()):
        assert keyword_for_tag(attribute.tag) == attribute.keyword
        assert attribute.vr != "UN"


@pytest.mark.parametrize("step", [[], [Dataset()]])
def test_a_zero_length_sequence_is_answered_whole_c_2_2_2_6(step: list[Dataset]) -> None:
    request = Dataset()
    request.ScheduledProcedureStepSequence = step
    (answered,) = answer(request, row()).ScheduledProcedureStepSequence
    assert {e.tag for e in answered} == set(keys.STEP)
    assert answered.ScheduledProcedureStepID == "ACC001"


def test_without_a_step_sequence_no_step_is_returned() -> None:
    assert "ScheduledProcedureStepSequence" not in answer(query(PatientID=""), row())


def test_what_is_no_key_is_tolerated_and_not_returned() -> None:
    request = query({"Modality": "MG"}, PatientID="")
    request.QueryRetrieveLevel = "WORKLIST"
    request.add_new(0x00090010, "LO", "A VENDOR")
    request.add_new(0x00091001, "LO", "x")
    assert [e.keyword for e in answer(request, row())] == ["PatientID", "ScheduledProcedureStepSequence"]


def test_keys_outside_the_model_come_back_empty_k_2_2_1_1_2() -> None:
    answered = answer(query({}, PatientID="", EthnicGroup="", InstitutionName="CLINIC", PregnancyStatus=None), row())
    assert (answered.EthnicGroup, answered.InstitutionName) == ("", "")
    assert answered["PregnancyStatus"].VM == 0


def test_the_accession_number_is_the_id_of_procedure_and_step() -> None:
    answered = answer(query({"ScheduledProcedureStepID": ""}, RequestedProcedureID=""), row("ACC7"))
    assert answered.RequestedProcedureID == "ACC7"
    assert answered.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == "ACC7"


@pytest.mark.parametrize(
    ("asked", "stations", "answered"),
    [
        ("UNIT7", (), "UNIT7"),
        ("", (), "MAMMO1"),
        ("*", (), "MAMMO1"),
        ("UNIT?", (), "MAMMO1"),
        ("", ("MAMMO2",), "MAMMO2"),
        ("MAMMO3", ("MAMMO2", "MAMMO3"), ["MAMMO2", "MAMMO3"]),
    ],
)
def test_the_station_answered_design_3_15(asked: str, stations: tuple[str, ...], answered: object) -> None:
    step = step_of({"ScheduledStationAETitle": asked}, row(station_ae_titles=stations))
    assert step.ScheduledStationAETitle == answered


CODE = {"procedure_code": "MAMMO_SCREENING", "procedure_code_scheme": "99NHSBSP", "procedure_code_meaning": None}


def test_a_complete_code_is_answered_whole_8_8() -> None:
    request = query({"ScheduledProtocolCodeSequence": []})
    (code,) = answer(request, row(**CODE)).ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("MAMMO_SCREENING", "99NHSBSP")
    assert code.CodeMeaning == "Bilateral Mammography"


def test_an_item_of_four_empty_attributes_asks_for_the_code_8_8() -> None:
    code = Dataset()
    code.CodeValue = code.CodingSchemeDesignator = code.CodingSchemeVersion = code.CodeMeaning = ""
    (answered,) = answer(query(RequestedProcedureCodeSequence=[code]), row(**CODE)).RequestedProcedureCodeSequence
    assert [e.keyword for e in answered] == ["CodeValue", "CodingSchemeDesignator", "CodeMeaning"]


@pytest.mark.parametrize("missing", ["procedure_code", "procedure_code_scheme", "study_description"])
def test_an_incomplete_code_is_no_code_8_8(missing: str) -> None:
    answered = answer(query(RequestedProcedureCodeSequence=[]), row(**{**CODE, missing: None}))
    assert len(answered.RequestedProcedureCodeSequence) == 0


def test_values_too_long_for_their_representation_never_go_out_6_2() -> None:
    item = row(study_description="x" * 80, location="y" * 20, patient_id="9" * 65, station_ae_titles=("Z" * 17, "OK"))
    request = {
        "ScheduledProcedureStepDescription": "",
        "ScheduledProcedureStepLocation": "",
        "ScheduledStationAETitle": "",
    }
    answered = answer(query(request, PatientID=""), item)
    (step,) = answered.ScheduledProcedureStepSequence
    assert answered.PatientID == ""
    assert len(step.ScheduledProcedureStepDescription) == 64
    assert len(step.ScheduledProcedureStepLocation) == 16
    assert step.ScheduledStationAETitle == "OK"


def test_an_item_without_study_instance_uid_is_not_answerable_type_1() -> None:
    assert find.answerable(row())
    assert not find.answerable(row(study_instance_uid=None))


def test_a_cancel_is_looked_for_before_each_response_ps3_7_9_1_2_1_7() -> None:
    asked = identifier.read(to_bytes(query(PatientID="")), IMPLICIT)
    cancels = iter([False, True])
    responses = find.responses([row(), row()], asked, IMPLICIT, caller_ae_title="M", is_cancelled=lambda: next(cancels))
    assert [(r.status, r.identifier is None) for r in responses] == [(0xFF00, False), (0xFE00, True)]
