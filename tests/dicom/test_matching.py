"""Matching of keys against items (PS3.4 C.2.2.2 and K.2.2.1), rule by rule; `tests/properties` has the oracle."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dicom_samples import query, row, to_bytes
from pydicom.dataset import Dataset

from gateway.dicom import identifier, matching
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.matching import MatchingPlan
from gateway.dicom.status import RequestRefused
from projections.worklist import WorklistRow


def plan_of(request: Dataset, *, test_items: bool = False) -> MatchingPlan:
    asked = identifier.read(to_bytes(request), IMPLICIT)
    return matching.plan(asked, listed_statuses=("SCHEDULED",), test_items=test_items)


def found(step: dict[str, Any] | None, item: WorklistRow, **keys: Any) -> bool:
    return plan_of(query(step, **keys)).matches(item)


def refusal(step: dict[str, Any] | None, **keys: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        plan_of(query(step, **keys))
    assert refused.value.status == 0xA900
    return refused.value


# --- universal and unknown


@pytest.mark.parametrize("name", ["", "*", "**", "^^^", "*^*"])
def test_universal_matching_of_names_c_2_2_2_3(name: str) -> None:
    asked_by_it = [c for c in plan_of(query({}, PatientName=name)).criteria if 0x00100010 in c.tags]
    assert asked_by_it == []


@pytest.mark.parametrize("station", ["", "*"])
def test_universal_matching_of_a_station_c_2_2_2_3(station: str) -> None:
    assert found({"ScheduledStationAETitle": station}, row(station_ae_titles=("UNIT7",)))


@pytest.mark.parametrize("step", [None, {}])
def test_a_zero_length_sequence_and_an_empty_item_match_all_c_2_2_2_6(step: dict[str, Any] | None) -> None:
    request = query(step, PatientName="")
    if step is None:
        request.ScheduledProcedureStepSequence = []
    assert plan_of(request).matches(row())


def test_an_unknown_value_fails_what_is_not_universal_k_2_2_1_1_1() -> None:
    assert not found({"ScheduledPerformingPhysicianName": "A*"}, row(performing_physician=None))
    assert found({"ScheduledPerformingPhysicianName": "*"}, row(performing_physician=None))
    assert not found({}, row(patient_birth_date=""), PatientBirthDate="19650315")


# --- single values and wildcards


@pytest.mark.parametrize("padded", ["ACC001", " ACC001", "ACC001 ", "  ACC001  "])
def test_padding_does_not_count_c_2_2_2_1(padded: str) -> None:
    assert found({}, row("ACC001"), AccessionNumber=padded)


def test_single_values_are_whole_and_case_sensitive_c_2_2_2_1() -> None:
    assert not found({}, row("ACC001"), AccessionNumber="acc001")
    assert not found({}, row("ACC001"), AccessionNumber="ACC0")


@pytest.mark.parametrize("pattern", ["ACC*", "*001", "ACC00?", "A*0?1", "???001"])
def test_wildcards_c_2_2_2_4(pattern: str) -> None:
    assert found({}, row("ACC001"), AccessionNumber=pattern)
    assert not found({}, row("BCX01"), AccessionNumber=pattern)


@pytest.mark.parametrize("literal", ["50%", "A_B", "[AB]", "A.B", "(A)"])
def test_what_other_languages_make_special_is_plain_c_2_2_2_4(literal: str) -> None:
    assert found({}, row(study_description=literal), RequestedProcedureDescription=literal)
    assert not found({}, row(study_description="AxB"), RequestedProcedureDescription=literal)


def test_a_question_mark_is_one_character_not_one_byte_c_2_2_2_4() -> None:
    request = query({}, SpecificCharacterSet="ISO_IR 192", RequestedProcedureDescription="M?ller")
    assert plan_of(request).matches(row(study_description="Müller"))


def test_composed_and_decomposed_text_are_the_same() -> None:
    request = query({}, SpecificCharacterSet="ISO_IR 192", RequestedProcedureDescription="Mu\u0308ller")
    assert plan_of(request).matches(row(study_description="M\u00fcller"))


def test_several_values_mean_any_of_them_never_everything_c_2_2_2_8() -> None:
    assert found({"Modality": ["MG", "US"]}, row(modality="US"))
    assert not found({"Modality": ["MG", "US"]}, row(modality="CT"))
    assert not found({"Modality": ["", ""]}, row(modality="MG"))


def test_an_optional_key_that_we_do_not_hold_is_not_matched_k_2_2_1_1_2() -> None:
    assert found({}, row(), IssuerOfPatientID="NHS", ReferringPhysicianName="NOBODY", AdmissionID="4")


# --- names


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("smith^jane", "SMITH^JANE"),
        ("SMITH^JANE^^^", "SMITH^JANE"),
        ("SMITH^", "SMITH"),
        ("smith*", "SMITH^JANE"),
        ("S?ITH^*", "SMITH"),
        ("*^JANE", "Smith^Jane"),
        ("SMITH^JANE", "SMITH ^JANE "),
        ("MULLER^ZOE", "Müller^Zoë"),
        ("Müller*", "MULLER^ZOE"),
        ("LUKASZ*", "Łukasz^Ø"),
        ("STRASSE", "Straße"),
        ("O'BRIEN*", "O’Brien^Aoife"),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("yamada^tarou", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("Yamada*=山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("=山田^太郎", "Yamada^Tarou=山田^太郎"),
        ("SMITH^JANE==", "SMITH^JANE"),
    ],
)
def test_names_fold_case_accents_and_empty_ends_in_any_group_c_2_2_2_1(asked: str, name: str) -> None:
    request = query({}, SpecificCharacterSet="ISO_IR 192", PatientName=asked)
    assert plan_of(request).matches(row(patient_name=name))


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("SMITH", "SMITH^JANE"),
        ("SMITH^JANE", "SMITH^JANE^ANN"),
        ("SMITH^JAN", "SMITH^JANE"),
        ("Jones*=山田*", "Yamada^Tarou=山田^太郎"),
        ("Yamada*=山田*", "Yamada^Tarou"),
        ("か*", "が^"),
        ("*^JANE", "JANE"),
    ],
)
def test_other_names_do_not_match(asked: str, name: str) -> None:
    request = query({}, SpecificCharacterSet="ISO_IR 192", PatientName=asked)
    assert not plan_of(request).matches(row(patient_name=name))


# --- dates and times


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        ("20261123", True),
        ("20261122", False),
        ("2026.11.23", True),
        ("20261123-20261123", True),
        ("20261101-20261130", True),
        ("20261123-", True),
        ("-20261123", True),
        ("20261124-", False),
        ("-20261122", False),
        ("20261130-20261101", False),
    ],
)
def test_date_ranges_include_both_ends_c_2_2_2_5(asked: str, matches: bool) -> None:
    assert found({"ScheduledProcedureStepStartDate": asked}, row()) is matches


@pytest.mark.parametrize(
    ("asked", "time", "matches"),
    [
        ("093000", "093000", True),
        ("093000.000000", "093000", True),
        ("09:30:00", "093000", True),
        ("0930", "093059", True),
        ("0930", "093100", False),
        ("09", "095959", True),
        ("1000-1145", "114559", True),
        ("1000-1145", "114600", False),
        ("1000-", "100000", True),
        ("-1000", "100059", True),
        ("-095959", "100000", False),
        ("235960", "235959", True),
    ],
)
def test_times_are_compared_as_times_c_2_2_2_5(asked: str, time: str, matches: bool) -> None:
    assert found({"ScheduledProcedureStepStartTime": asked}, row(scheduled_time=time)) is matches


PERIOD = {"ScheduledProcedureStepStartDate": "20260705-20260707", "ScheduledProcedureStepStartTime": "1000-1800"}


@pytest.mark.parametrize(
    ("date", "time", "matches"),
    [
        ("20260706", "220000", True),
        ("20260706", "030000", True),
        ("20260705", "095959", False),
        ("20260705", "100000", True),
        ("20260707", "180059", True),
        ("20260707", "180100", False),
    ],
)
def test_a_date_range_and_a_time_range_are_one_period_k_6_1_2_2(date: str, time: str, matches: bool) -> None:
    assert found(PERIOD, row(scheduled_date=date, scheduled_time=time)) is matches


def test_one_date_with_a_time_range_is_that_days_window_k_6_1_2_2() -> None:
    step = {"ScheduledProcedureStepStartDate": "20260706", "ScheduledProcedureStepStartTime": "1000-"}
    assert found(step, row(scheduled_date="20260706", scheduled_time="220000"))
    assert not found(step, row(scheduled_date="20260706", scheduled_time="090000"))
    assert not found(step, row(scheduled_date="20260707", scheduled_time="220000"))


def test_a_period_with_open_ends_k_6_1_2_2() -> None:
    step = {"ScheduledProcedureStepStartDate": "20260705-", "ScheduledProcedureStepStartTime": "1000-1800"}
    assert found(step, row(scheduled_date="20260801", scheduled_time="230000"))
    assert not found(step, row(scheduled_date="20260705", scheduled_time="093000"))


@pytest.mark.parametrize("date", ["20260230", "today", "2026-11-23", "-", "*", "2026112", "20261123-20261199"])
def test_a_date_that_cannot_be_read_is_refused_never_universal(date: str) -> None:
    refused = refusal({"ScheduledProcedureStepStartDate": date})
    assert refused.tags == (0x00400002,)
    assert date not in refused.comment


@pytest.mark.parametrize("time", ["2400", "1", "10:", "*", "1000-2560", "noon"])
def test_a_time_that_cannot_be_read_is_refused_never_universal(time: str) -> None:
    assert refusal({"ScheduledProcedureStepStartTime": time}).tags == (0x00400003,)


def test_an_item_whose_own_date_cannot_be_read_matches_no_date() -> None:
    assert not found({"ScheduledProcedureStepStartDate": "-20261231"}, row(scheduled_date="soon"))
    assert not found(PERIOD, row(scheduled_date="20260706", scheduled_time=""))


# --- UIDs, stations, statuses


def test_a_list_of_uid_matches_any_of_them_c_2_2_2_2() -> None:
    assert found({}, row(study_instance_uid="1.2.4"), StudyInstanceUID=["1.2.3", "1.2.4"])
    assert not found({}, row(study_instance_uid="1.2.5"), StudyInstanceUID=["1.2.3", "1.2.4"])


def test_a_wildcard_is_no_uid_c_2_2_2_4() -> None:
    request = query({}, AccessionNumber="")
    request.add_new(0x0020000D, "LO", "1.2.*")
    with pytest.raises(RequestRefused):
        plan_of(request)


def test_any_of_an_items_stations_matches_table_k_6_1() -> None:
    item = row(station_ae_titles=("MAMMO1", "MAMMO2"))
    assert found({"ScheduledStationAETitle": "MAMMO2"}, item)
    assert not found({"ScheduledStationAETitle": "MAMMO3"}, item)


def test_an_item_without_a_station_matches_every_station() -> None:
    assert found({"ScheduledStationAETitle": "ANYONE"}, row(station_ae_titles=()))


def test_only_listed_statuses_are_read_unless_the_query_asks_by_status() -> None:
    assert plan_of(query({})).wanted.statuses == ("SCHEDULED",)
    asked = plan_of(query({"ScheduledProcedureStepStatus": "COMPLETED"}))
    assert asked.wanted.statuses == ("COMPLETED",)
    assert asked.matches(row(status="COMPLETED"))
    assert not asked.matches(row(status="SCHEDULED"))


@pytest.mark.parametrize("word", ["IN PROGRESS", "IN_PROGRESS", "STARTED"])
def test_words_for_a_step_in_progress(word: str) -> None:
    assert plan_of(query({"ScheduledProcedureStepStatus": word})).matches(row(status="IN PROGRESS"))


def test_test_items_are_read_only_for_those_who_may_see_them() -> None:
    assert plan_of(query({})).wanted.is_test is False
    assert plan_of(query({}), test_items=True).wanted.is_test is None


# --- identifiers


def test_a_second_item_in_a_key_sequence_is_refused_c_2_2_2_6() -> None:
    request = query({"Modality": "MG"})
    request.ScheduledProcedureStepSequence.append(Dataset())
    with pytest.raises(RequestRefused) as refused:
        plan_of(request)
    assert refused.value.tags == (0x00400100,)


def test_an_identifier_without_any_key_of_the_model_is_refused() -> None:
    request = Dataset()
    request.QueryRetrieveLevel = "WORKLIST"
    with pytest.raises(RequestRefused):
        plan_of(request)


def test_a_key_outside_its_character_set_is_refused() -> None:
    data = bytes.fromhex("10001000060000004dfc6c6c6572")
    with pytest.raises(RequestRefused) as refused:
        identifier.read(data, IMPLICIT)
    assert refused.value.tags == (0x00100010,)


@pytest.mark.parametrize("value", ["*A" * 513, "*A*\\" * 100])
def test_a_key_that_is_longer_than_anybody_asks_is_refused_before_each_item_is_held_against_it(value: str) -> None:
    assert refusal({}, PatientName=value).tags == (0x00100010,)


def test_an_identifier_of_megabytes_is_refused_unread_a_list_of_a_thousand_uids_is_not() -> None:
    with pytest.raises(RequestRefused) as refused:
        identifier.read(to_bytes(query({}, StudyInstanceUID=["1.2.3"] * 20_000)), IMPLICIT)
    assert refused.value.status == 0xA900
    many = [f"1.2.826.0.1.3680043.8.498.1{number:037}" for number in range(1000)]
    assert found({}, row(study_instance_uid=many[-1]), StudyInstanceUID=many)


def test_each_criterion_names_its_keys_and_its_clause_or_the_setting_that_demands_it() -> None:
    *of_keys, status, test = plan_of(query({**PERIOD, "Modality": "MG"}, PatientName="A*")).criteria
    for criterion in of_keys:
        assert criterion.tags
        assert criterion.asked
        assert criterion.clause.startswith("PS3.4")
    assert (status.clause, test.clause) == ("GATEWAY_LISTED_STATUSES", "GATEWAY_TEST_AE_TITLES")


def test_the_criteria_alone_decide_without_what_spares_reading() -> None:
    plan = plan_of(query({}))
    assert plan.matches(row())
    assert not plan.matches(row(status="COMPLETED"))
    assert not plan.matches(row(is_test=True))


def test_a_key_full_of_stars_is_matched_as_fast_as_any_other() -> None:
    """A wildcard key comes from the network: it must not be able to hold the service up (PS3.4 C.2.2.2.4)."""
    pattern = matching._pattern("*A*A*A*A*A*A*A*A*A*A*A*A*A*A*A*B")
    began = time.thread_time()
    assert not pattern.fullmatch("A" * 64)
    assert pattern.fullmatch("A" * 63 + "B")
    assert time.thread_time() - began < 0.5
