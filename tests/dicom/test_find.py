"""What a C-FIND response holds (PS3.4 K.4.1.1.3, K.6.1.2.2): the requested keys, all of them, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dicom_samples import SYNTAXES, from_bytes, query, row, to_bytes
from pydicom.dataset import Dataset

from gateway.dicom import find, identifier, keys
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.prepared import Form, PreparedItem
from gateway.dicom.profiles import DEFAULT, Profile
from projections.worklist import WorklistRow

LONDON = ZoneInfo("Europe/London")


def answer(
    request: Dataset,
    item: WorklistRow,
    *,
    caller: str = "MAMMO1",
    syntax: str = IMPLICIT,
    profile: Profile = DEFAULT,
) -> Dataset:
    asked = identifier.read(to_bytes(request, syntax), syntax)
    profile = replace(profile, ae_title=caller)
    return from_bytes(find.answer(item, asked, syntax, profile=profile, zone=LONDON).identifier, syntax)


def pending(*items: WorklistRow) -> list[find.FindResponse]:
    form = Form.of(identifier.read(to_bytes(query(AccessionNumber="")), IMPLICIT), IMPLICIT, DEFAULT)
    return [find.pending(PreparedItem(item), form) for item in items]


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


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_is_no_key_is_tolerated_and_not_returned(syntax: str) -> None:
    request = query({"Modality": "MG"}, PatientID="")
    request.QueryRetrieveLevel = "WORKLIST"
    for data_set in (request, request.ScheduledProcedureStepSequence[0]):
        data_set.add_new(0x00090010, "LO", "A VENDOR")
        data_set.add_new(0x00091001, "LO", "x")
        data_set.add_new(0x00091002, "SQ", [query(PatientID="")])
    request.DataSetTrailingPadding = b"\0\0"
    answered = answer(request, row(), syntax=syntax)
    assert [e.keyword for e in answered] == ["PatientID", "ScheduledProcedureStepSequence"]
    assert [e.keyword for e in answered.ScheduledProcedureStepSequence[0]] == ["Modality"]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_keys_outside_the_model_retired_ones_too_come_back_empty_k_2_2_1_1_2(syntax: str) -> None:
    request = query(
        {}, PatientID="", EthnicGroup="", InstitutionName="CLINIC", OtherPatientIDs="1", PregnancyStatus=None
    )
    request.ReferencedStudySequence = [query(ReferencedSOPClassUID="")]
    answered = answer(request, row(), syntax=syntax)
    assert (answered.EthnicGroup, answered.InstitutionName, answered.OtherPatientIDs) == ("", "", "")
    assert (answered["PregnancyStatus"].VM, list(answered.ReferencedStudySequence)) == (0, [])


@pytest.mark.parametrize(
    ("date", "time", "offset"),
    [("20261123", "100000", "+0000"), ("20260723", "1000", "+0100"), ("20260329", "090000.5", "+0100")],
)
def test_the_time_zone_is_the_site_s_at_the_start_of_the_step_c_12_1_1_8(date: str, time: str, offset: str) -> None:
    request = query({"ScheduledProcedureStepStartTime": ""}, TimezoneOffsetFromUTC="+0500")
    answered = answer(request, row(scheduled_date=date, scheduled_time=time))
    assert answered.TimezoneOffsetFromUTC == offset
    assert answered.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime == time
    assert "TimezoneOffsetFromUTC" not in answer(query(PatientID=""), row())


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
        ("MAMMO1", ("ROOM4",), "MAMMO1"),
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


def test_of_a_code_just_the_parts_that_were_asked_for_are_answered_c_2_2_2_6() -> None:
    asked = Dataset()
    asked.CodeMeaning = ""
    (answered,) = answer(query(RequestedProcedureCodeSequence=[asked]), row(**CODE)).RequestedProcedureCodeSequence
    assert [e.keyword for e in answered] == ["CodeMeaning"]


@pytest.mark.parametrize("missing", ["procedure_code", "procedure_code_scheme", "study_description"])
def test_an_incomplete_code_is_no_code_8_8(missing: str) -> None:
    answered = answer(query(RequestedProcedureCodeSequence=[]), row(**{**CODE, missing: None}))
    assert len(answered.RequestedProcedureCodeSequence) == 0


def test_values_too_long_for_their_representation_never_go_out_6_2() -> None:
    stations = ("Z" * 17, "OK", "CAFÉ")
    item = row(study_description="x" * 80, location="y" * 20, patient_id="9" * 65, station_ae_titles=stations)
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


def test_a_name_may_have_64_characters_in_each_group_6_2() -> None:
    name = "=".join(letter * 60 for letter in "ABC")
    assert answer(query(PatientName=""), row(patient_name=name)).PatientName == name


def test_a_title_that_is_too_long_to_be_one_is_not_echoed_as_the_station_6_2() -> None:
    (step,) = answer(query({"ScheduledStationAETitle": "Z" * 17}), row()).ScheduledProcedureStepSequence
    assert "Z" not in step.ScheduledStationAETitle


def test_an_item_without_study_instance_uid_is_not_answerable_type_1() -> None:
    assert find.answerable(row())
    for lacking in ("study_instance_uid", "patient_id", "patient_name", "scheduled_date", "scheduled_time"):
        assert not find.answerable(row(**{lacking: ""})), lacking


def test_a_cancel_is_looked_for_before_each_response_ps3_7_9_1_2_1_7() -> None:
    for after in range(3):
        sent: list[find.FindResponse] = []
        for response in find.responses(
            pending(row(), row()),
            profile=DEFAULT,
            is_cancelled=lambda after=after, sent=sent: len(sent) >= after,  # type: ignore[misc]  bound early
        ):
            sent.append(response)
        assert [response.status for response in sent] == [0xFF00] * after + [0xFE00]


# --- what a profile says of answers


@pytest.mark.parametrize("limit_status", ["out-of-resources", "success"])
@pytest.mark.parametrize(("limit", "shown"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_list_is_cut_at_its_limit_and_says_so_but_not_when_exactly_so_many_match(
    limit: int, shown: int, limit_status: Any
) -> None:
    profile = Profile(answer_limit=limit, limit_status=limit_status)
    found = pending(row("A"), row("B"), row("C"))
    *sent, final = find.responses(found, profile=profile, is_cancelled=lambda: False)
    assert [response.accession_number for response in sent] == ["A", "B", "C"][:shown]
    assert final.is_cut == (shown < 3)
    if final.is_cut and limit_status == "out-of-resources":
        assert final.status == 0xA700
        assert final.error_comment == f"more items match: {limit} shown, narrow the query"
    else:
        assert (final.status, final.error_comment) == (0x0000, "")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_a_unit_can_t_stand_is_left_out_nested_too(syntax: str) -> None:
    request = query(
        {"Modality": "MG", "ScheduledProtocolCodeSequence": []}, PatientID="", RequestedProcedureCodeSequence=[]
    )
    profile = Profile(omit_keys=(0x00400008, 0x00100020, 0x00080104))
    answered = answer(request, row(**CODE), profile=profile, syntax=syntax)
    assert [e.keyword for e in answered] == ["RequestedProcedureCodeSequence", "ScheduledProcedureStepSequence"]
    assert [e.keyword for e in answered.ScheduledProcedureStepSequence[0]] == ["Modality"]
    assert "CodeMeaning" not in answered.RequestedProcedureCodeSequence[0]
    whole = answer(query({}), row(), profile=profile).ScheduledProcedureStepSequence[0]
    assert {e.tag for e in whole} == set(keys.STEP) - {0x00400008}
