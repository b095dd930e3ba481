"""Matching against the oracle: for any query and item the same verdict, in memory and through the store's indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from bench.synthetic import appointment
from gateway.application import Gateway, opened
from gateway.dicom import identifier, matching
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN
from gateway.dicom.matching import MatchingPlan
from gateway.dicom.status import RequestRefused
from gateway.domain.lifecycle import Status
from projections.worklist import WorklistFilter, WorklistRow
from tests.properties import matching_oracle
from tests.properties.matching_oracle import IN_STEP, Query, Unreadable

config.settings.reading_validation_mode = config.IGNORE  # what people type is not always valid

NAMES = [
    "SMITH^JANE",
    "Smith^Jane",
    "SMITH",
    "SMITH^JANE^MARY^DR",
    "SMYTHE^^JANE",
    "MÜLLER^ZOË",
    "Mu\u0308ller^Zoe",
    "O’BRIEN^AOIFE",
    "O'Brien^Aoife^",
    "Łukasz^Øst",
    "STRAẞE^ÞÓR",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "=山田^花子",
    "50%_[A]^X",
]
PATIENT_IDS = ["9990000018", "9990000026", "A%_[1]", "ümlaut"]
DAYS = [f"202607{day:02}" for day in range(4, 9)]
TIMES = ["000000", "095959", "100000", "100030", "103000", "115959", "180000", "235959"]
STATIONS = [(), ("MAMMO1",), ("MAMMO2",), ("MAMMO1", "MAMMO2"), ("UNIT 7",)]
NUMBERS = ["ACC001", "ACC002", "ACC010", "B*C?", "%"]
DESCRIPTIONS = [None, "Bilateral Mammography", "Grüße"]
UIDS = ["1.2.3", "1.2.3.4", "2.25.7"]


def row(**values: Any) -> WorklistRow:
    """A scheduled item; what no key is matched with is empty."""
    known: dict[str, Any] = dict.fromkeys(field.name for field in fields(WorklistRow))
    known |= vars(appointment()) | {"status": "SCHEDULED", "is_test": False, "row_version": 0}
    return WorklistRow(**known | values)


ITEMS = st.builds(
    row,
    accession_number=st.sampled_from(NUMBERS),
    study_instance_uid=st.sampled_from(UIDS),
    status=st.sampled_from([*[Status.SCHEDULED.value] * 5, *(status.value for status in Status)]),
    patient_id=st.sampled_from(PATIENT_IDS),
    patient_name=st.sampled_from(NAMES),
    patient_birth_date=st.sampled_from(["19650315", "19700101", ""]),
    patient_sex=st.sampled_from([None, "F", "M"]),
    scheduled_date=st.sampled_from(DAYS),
    scheduled_time=st.sampled_from(TIMES),
    modality=st.sampled_from(["MG", "US"]),
    study_description=st.sampled_from(DESCRIPTIONS),
    station_ae_titles=st.sampled_from(STATIONS),
    location=st.sampled_from([None, "VAN 1"]),
    performing_physician=st.sampled_from([None, "DOE^JOHN", "Müller^Zoë"]),
    is_test=st.sampled_from([False, False, False, True]),
)


# --- keys as people and units send them

WAYS = (
    lambda text: text,
    lambda text: text,
    str.lower,
    str.upper,
    lambda text: text[:3] + "*",
    lambda text: "*" + text[-2:],
    lambda text: text[:1] + "?" + text[2:],
    lambda text: text[:1] + "*" + text[2:4] + "*" + text[-1:],
    lambda text: " " + text + " ",
    lambda text: text + "^^",
    lambda text: text + "=",
    lambda text: text.replace("^", " ^ "),
    lambda text: text.split("^")[0],
    lambda text: text.split("=")[-1],
    lambda text: text.split("=")[-1] + "==",
    lambda text: text.split("=")[-1][:1] + "*=",
    lambda text: text + "\\" + "NOBODY",
    lambda _: "*",
    lambda _: "",
    lambda _: "**",
    lambda _: "?*",
)


def typed(values: Sequence[str | None]) -> st.SearchStrategy[str]:
    return st.builds(lambda text, way: way(text), st.sampled_from([v for v in values if v]), st.sampled_from(WAYS))


def ranged(values: Sequence[str], nonsense: Sequence[str]) -> st.SearchStrategy[str]:
    end = st.sampled_from(values)
    open_ends = (end.map(lambda value: f"{value}-"), end.map(lambda value: f"-{value}"))
    whole = st.builds("{}-{}".format, end, end)
    return st.one_of(
        end, *open_ends, whole, whole.map(lambda text: text.replace("-", " - ")), st.sampled_from(nonsense)
    )


DATES = ranged([*DAYS, "2026.07.06"], ["20260230", "2026-07-06", "202607", "*", "-", "", "today", "20260706-2026071"])
HOURS = ["10", "1000", "1030", "100000", "10:00", "115959", "1800", "235960", "100000.5", "095959.999999"]
KEYS: dict[str, st.SearchStrategy[str]] = {
    "AccessionNumber": typed(NUMBERS),
    "RequestedProcedureID": typed(NUMBERS),
    "ScheduledProcedureStepID": typed(NUMBERS),
    "PatientID": typed(PATIENT_IDS),
    "PatientName": typed(NAMES),
    "PatientSex": typed(["F", "M"]),
    "PatientBirthDate": ranged(["19650315", "19700101"], ["1965", ""]),
    "Modality": typed(["MG", "US", "MG\\US"]),
    "ScheduledStationAETitle": typed(["MAMMO1", "MAMMO2", "UNIT 7", "MAMMO9"]),
    "ScheduledProcedureStepStartDate": DATES,
    "ScheduledProcedureStepStartTime": ranged(HOURS, ["2400", "1", "noon", "*", "-", "", "1061"]),
    "ScheduledPerformingPhysicianName": typed(["DOE^JOHN", "MULLER^ZOE"]),
    "ScheduledProcedureStepDescription": typed(DESCRIPTIONS),
    "RequestedProcedureDescription": typed(DESCRIPTIONS),
    "ScheduledProcedureStepLocation": typed(["VAN 1"]),
    "ScheduledProcedureStepStatus": st.sampled_from(
        ["SCHEDULED", "IN PROGRESS", "IN_PROGRESS", "STARTED", "COMPLETED\\CANCELLED", "*", "", "C*", "ARRIVED"]
    ),
    "StudyInstanceUID": st.sampled_from(["1.2.3", "1.2.3\\2.25.7", "1.2", "", "1.2.*", "a"]),
    "IssuerOfPatientID": st.just("NHS"),
    "AdmissionID": st.just("7"),
}
QUERIES = st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda keywords: st.fixed_dictionaries({keyword: KEYS[keyword] for keyword in keywords})
)


def identifier_of(query: Query) -> bytes:
    """The query as pydicom encodes it; every key as LO, which it does not tidy up, in implicit VR."""
    root, step = Dataset(), Dataset()
    root.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in query.items():
        tag = tag_for_keyword(keyword)
        assert tag
        (step if keyword in IN_STEP else root).add_new(tag, "LO", value)
    root.ScheduledProcedureStepSequence = [step]
    encoded = encode(root, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


def plan_of(query: Query) -> MatchingPlan:
    asked = identifier.read(identifier_of(query), IMPLICIT_VR_LITTLE_ENDIAN)
    return matching.plan(asked, listed_statuses=("SCHEDULED",), test_items=False)


def agreed(query: Query, items: Sequence[WorklistRow]) -> tuple[MatchingPlan, list[WorklistRow]] | None:
    """The plan and what the oracle lists; None when both refuse the query."""
    try:
        wanted = [item for item in items if matching_oracle.lists(query, item)]
    except Unreadable:
        with pytest.raises(RequestRefused) as refused:
            plan_of(query)
        assert refused.value.status == 0xA900
        assert refused.value.tags
        return None
    return plan_of(query), wanted


@settings(max_examples=600, deadline=None)
@given(query=QUERIES, items=st.lists(ITEMS, min_size=8, max_size=16))
@pytest.mark.slow
def test_for_any_query_and_items_matching_agrees_with_the_oracle(query: Query, items: list[WorklistRow]) -> None:
    verdict = agreed(query, items)
    if verdict:
        plan, wanted = verdict
        assert [item for item in items if plan.matches(item)] == wanted


@pytest.mark.parametrize("typed_name", NAMES)
def test_every_way_to_type_a_name_finds_what_the_oracle_says(typed_name: str) -> None:
    items = [row(patient_name=name) for name in NAMES]
    for asked in {way(typed_name) for way in WAYS}:
        query = {"PatientName": asked}
        plan = plan_of(query)
        wanted = [item for item in items if matching_oracle.lists(query, item)]
        assert [item for item in items if plan.matches(item)] == wanted, asked


SPAN = ["20260705", "20260706", "20260707"]
MOMENTS = ["000000", "095959", "100000", "100059", "103000", "180000", "235959"]


def every_range(values: Sequence[str]) -> list[str]:
    whole = [f"{first}-{last}" for first in values for last in values]
    return ["", *values, *(f"{value}-" for value in values), *(f"-{value}" for value in values), *whole]


@pytest.mark.slow
@pytest.mark.parametrize("dates", every_range(SPAN))
def test_every_date_with_every_time_finds_what_the_oracle_says(dates: str) -> None:
    """One period when both are ranges, else each by itself (Table K.6-1, Start Time)."""
    items = [row(scheduled_date=day, scheduled_time=time) for day in DAYS for time in MOMENTS]
    for times in every_range(["10", "1000", "103000", "180000.0"]):
        query = {"ScheduledProcedureStepStartDate": dates, "ScheduledProcedureStepStartTime": times}
        plan = plan_of(query)
        wanted = [item for item in items if matching_oracle.lists(query, item)]
        assert [item for item in items if plan.matches(item)] == wanted, times


# --- through the store


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, list[WorklistRow]]]:
    """A store that holds items of every kind."""
    with opened(tmp_path_factory.mktemp("oracle") / "gateway.db") as gateway:
        for number in range(70):
            gateway.schedule(of_every_kind(number), is_test=number % 13 == 12)
        for number in range(0, 70, 7):
            status = list(Status)[number // 7 % len(Status)]
            if status is not Status.SCHEDULED:
                gateway.correct_status(f"ACC{number:03}", status, reason="for the test", operator="tester")
        yield gateway, gateway.find_items(WorklistFilter())


def of_every_kind(number: int) -> Any:
    def pick(values: Sequence[Any]) -> Any:
        return values[number % len(values)]

    return appointment(
        f"ACC{number:03}",
        patient_id=pick(PATIENT_IDS),
        patient_name=pick(NAMES),
        patient_birth_date=pick(["19650315", "19700101"]),
        patient_sex=pick([None, "F", "M"]),
        scheduled_date=pick(DAYS),
        scheduled_time=pick(TIMES),
        modality=pick(["MG", "MG", "US"]),
        study_description=pick(DESCRIPTIONS),
        station_ae_titles=pick(STATIONS),
        location=pick([None, "VAN 1"]),
        performing_physician=pick([None, "DOE^JOHN", "Müller^Zoë"]),
    )


@pytest.mark.slow
def test_what_spares_reading_spares_no_match(stocked: tuple[Gateway, list[WorklistRow]]) -> None:
    gateway, rows = stocked
    sizes: list[int] = []

    @settings(max_examples=500, deadline=None)
    @given(query=QUERIES)
    def compare(query: Query) -> None:
        verdict = agreed(query, rows)
        if verdict:
            plan, wanted = verdict
            assert [row for row in gateway.find_items(plan.wanted) if plan.matches(row)] == wanted
            sizes.append(len(wanted))

    compare()
    assert sum(1 for size in sizes if 0 < size < len(rows) // 2) > len(sizes) // 5, "the queries tell nothing apart"
