"""For any worklist and any query: what the store leaves out, the criteria would have left out as well."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from dicom_samples import query, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

import projections.worklist
from bench.synthetic import RECEIVED, appointment
from gateway.dicom import identifier, matching
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.domain import values
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import InvalidValue
from gateway.eventstore.projection import RecordedEvent
from projections.worklist import WorklistFilter, WorklistRow

LETTERS = "AaK\u212a\xa0zé\u0301øßÅ山やｶ*?[]-%_;`.(' ^=\ud7ff\ue000\U0010ffff\U0001f600"
"""Whatever a comparison may stumble over: two ways to write a letter, other languages' wildcards, ends of ranges."""
ID_LETTERS = "AaKzé\u0301*?[]-% 山\U0010ffff"


def valid(kept: Callable[[str], str], letters: str, size: int) -> st.SearchStrategy[str]:
    """Texts as the domain lets them in, many of them alike."""

    def let_in(text: str) -> str:
        try:
            return kept(text)
        except InvalidValue:
            return "A"

    return st.text(letters, min_size=1, max_size=size).map(let_in)


NAMES = st.one_of(
    st.sampled_from(
        ["SMITH^JANE", "Smythe^Zoë", "Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田", "MÜLLER", "SMITH^^ANN"]
    ),
    valid(values.person_name, LETTERS, 8),
)
NUMBERS = st.one_of(st.sampled_from(["ACC001", "ACC01", "KENT1"]), valid(values.accession_number, ID_LETTERS, 5))
PATIENT_IDS = st.one_of(st.sampled_from(["9990000018", "9990000026"]), valid(values.patient_id, ID_LETTERS, 5))
TEXTS = st.one_of(
    st.sampled_from(["Bilateral Mammography", "Kidney"]), valid(lambda t: values.long_string(t, "x"), LETTERS, 6)
)
PLACES = valid(lambda t: values.short_string(t, "x"), LETTERS, 4)
DAYS = ["20260630", "20260704", "20260705", "20261231"]
TIMES = ["000000", "095959", "100000", "100030", "235959"]
MODALITIES = ["MG", "US", "M G"]

ITEMS = st.fixed_dictionaries(
    {
        "patient_id": PATIENT_IDS,
        "patient_name": NAMES,
        "patient_birth_date": st.sampled_from(["19650315", "19700101"]),
        "patient_sex": st.sampled_from(["F", "M", None]),
        "scheduled_date": st.sampled_from(DAYS),
        "scheduled_time": st.sampled_from(TIMES),
        "modality": st.sampled_from(MODALITIES),
        "study_description": st.one_of(st.none(), TEXTS),
        "location": st.one_of(st.none(), PLACES),
        "performing_physician": st.one_of(st.none(), NAMES),
        "station_ae_titles": st.sampled_from([(), ("MAMMO1",), ("MAMMO1", "MAMMO2")]),
    }
)

WAYS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: text[:2] + "*",
    lambda text: text[:3] + "*",
    lambda text: f"*{text[1:]}",
    lambda text: f"*{text[1:3]}*",
    lambda text: text[:1] + "?" + text[2:],
    lambda text: text[:1] + "*" + text[-1:],
    lambda text: f" {text}  ",
    lambda text: text + "^^",
    lambda text: text + "*^*",
    lambda text: text + "^*",
    lambda text: text.replace("\u212a", "K"),
    lambda text: text.strip(),
    lambda text: f"{text.partition('=')[0]}=*",
    str.lower,
    str.upper,
    lambda text: unicodedata.normalize("NFC", text),
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: f"{text}\\\\ZZZ*",
)


def ranged(ends: list[str]) -> st.SearchStrategy[str]:
    end = st.sampled_from(ends)
    return st.one_of(end, end.map("{}-".format), end.map("-{}".format), st.builds("{}-{}".format, end, end))


FIELDS = {
    "Modality": "modality",
    "ScheduledStationAETitle": "station_ae_titles",
    "ScheduledProcedureStepStartDate": "scheduled_date",
    "ScheduledProcedureStepStartTime": "scheduled_time",
    "ScheduledProcedureStepID": "accession_number",
    "ScheduledProcedureStepDescription": "study_description",
    "ScheduledProcedureStepLocation": "location",
    "ScheduledPerformingPhysicianName": "performing_physician",
    "ScheduledProcedureStepStatus": "status",
    "AccessionNumber": "accession_number",
    "RequestedProcedureID": "accession_number",
    "PatientID": "patient_id",
    "PatientName": "patient_name",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "RequestedProcedureDescription": "study_description",
    "StudyInstanceUID": "study_instance_uid",
}
IN_STEP = tuple(FIELDS)[:9]
NOT_TYPED = {
    "ScheduledProcedureStepStartDate": ranged(DAYS),
    "ScheduledProcedureStepStartTime": ranged(["10", "1000", "095959", "235960", "100000.5"]),
    "ScheduledProcedureStepStatus": st.sampled_from(["SCHEDULED", "STARTED", "SCHED*", "COMPLETED"]),
    "ScheduledStationAETitle": st.sampled_from(["MAMMO1", "MAMMO*", "MAMMO9"]),
    "PatientBirthDate": ranged(["19650315", "19700101"]),
    "StudyInstanceUID": st.sampled_from(["1.2.0", "1.2.1\\1.2.3", "1.2.9"]),
}
WAY = st.sampled_from(WAYS)
PERIOD = ["ScheduledProcedureStepStartDate", "ScheduledProcedureStepStartTime"]
TELLING = (
    ["PatientName"],
    ["PatientID"],
    ["RequestedProcedureDescription"],
    PERIOD,
)
"""Keys whose ways to match are many."""


@st.composite
def worklists_and_queries(draw: st.DrawFn) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Some items, and one to three keys with the values of one of them as people type them."""
    items = draw(st.dictionaries(NUMBERS, ITEMS, min_size=1, max_size=5))
    number = draw(st.sampled_from(sorted(items)))
    item = {**items[number], "accession_number": number}
    some = st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3, unique=True)
    keywords = draw(st.one_of(some, st.sampled_from(TELLING)))
    return items, {keyword: draw(_typed(keyword, item.get(FIELDS[keyword]) or "")) for keyword in keywords}


def _typed(keyword: str, value: Any) -> st.SearchStrategy[str]:
    if keyword in NOT_TYPED:
        return NOT_TYPED[keyword]
    return st.builds(lambda one, two: two(one(value)), WAY, WAY)


def worklist(connection: sqlite3.Connection, items: dict[str, dict[str, Any]]) -> None:
    """The items, through the real projection."""
    for statement in projections.worklist.SCHEMA:
        connection.execute(statement)
    now = RECEIVED.isoformat()
    for number, (accession_number, item) in enumerate(items.items()):
        wanted = appointment(accession_number, **item)
        scheduled = WorklistItem(
            accession_number=accession_number,
            person=wanted.person(),
            step=wanted.step(),
            study_instance_uid=f"1.2.{number}",
            is_test=False,
            action_id=None,
            received_at=now,
        )
        for happened in scheduled.collect_events():
            projections.worklist.apply(connection.cursor(), RecordedEvent(number + 1, now, happened))


def numbers(rows: list[WorklistRow]) -> list[str]:
    return [row.accession_number for row in rows]


@settings(max_examples=500, deadline=None)
@given(worklists_and_queries())
@pytest.mark.slow
def test_the_store_leaves_out_no_match(drawn: tuple[dict[str, dict[str, Any]], dict[str, str]]) -> None:
    require_the_same(*drawn)


@pytest.mark.parametrize(
    ("item", "keys"),
    [
        ({"study_description": "\u212aidney"}, {"RequestedProcedureDescription": "Kidney"}),
        ({"patient_name": "A\U0010ffffB"}, {"PatientName": "A\U0010ffff*"}),
        ({"patient_birth_date": "19700101"}, {"PatientBirthDate": "19650315\\19700101"}),
        ({"patient_birth_date": "19700101"}, {"PatientBirthDate": "19650315-"}),
        ({"patient_birth_date": "19700101"}, {"PatientBirthDate": "19400102-19700101"}),
        ({"study_description": "Cafe\u0301"}, {"RequestedProcedureDescription": "Caf?"}),
        ({"patient_id": "E\u0301A"}, {"PatientID": "\u00c9A"}),
        ({"patient_name": "SMITH"}, {"PatientName": "SMITH^*"}),
        ({"patient_name": "=やまだ^たろう"}, {"PatientName": "やまだ^たろう=="}),
        ({"patient_name": "[SMITH]"}, {"PatientName": "*[SMITH]*"}),
        ({"scheduled_time": "220000"}, {PERIOD[0]: "20261122-20261124", PERIOD[1]: "1000-1800"}),
        ({"performing_physician": "PATEL^ANITA"}, {"ScheduledPerformingPhysicianName": "patel*"}),
    ],
)
def test_the_store_keeps_what_matches_only_once_it_is_compared(item: dict[str, Any], keys: dict[str, str]) -> None:
    other = {"scheduled_date": "20261201", "patient_name": "JONES^MARY", "patient_birth_date": "19400101"}
    everything = {"ACC001": {"scheduled_date": "20261123", **item}, "ACC002": other}
    assert require_the_same(everything, keys) == ["ACC001"]


def require_the_same(items: dict[str, dict[str, Any]], keys: dict[str, str]) -> list[str]:
    """The matches, with the filter and without it."""
    step = {keyword: value for keyword, value in keys.items() if keyword in IN_STEP}
    root = {keyword: value for keyword, value in keys.items() if keyword not in IN_STEP}
    asked = identifier.read(to_bytes(query(step, SpecificCharacterSet="ISO_IR 192", **root)), IMPLICIT)
    plan = matching.plan(asked, listed_statuses=("SCHEDULED",), test_items=False)
    with closing(sqlite3.connect(":memory:")) as connection:
        worklist(connection, items)
        kept = list(projections.worklist.find(connection, plan.wanted))
        everything = list(projections.worklist.find(connection, WorklistFilter()))
    matches = numbers([row for row in everything if plan.matches(row)])
    assert numbers([row for row in kept if plan.matches(row)]) == matches
    return matches


def test_a_range_of_birth_dates_is_left_to_the_store() -> None:
    asked = identifier.read(to_bytes(query(PatientBirthDate="-18501231")), IMPLICIT)
    plan = matching.plan(asked, listed_statuses=("SCHEDULED",), test_items=False)
    assert plan.wanted.birth_dates == ("", "18501231")
