"""Why an item was or was not on the list: explained is what is answered, and each reason names its key and clause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dicom_samples import InMemory, query, row, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.explain import Explanation, ItemExplained, Site, explain, explain_query, identifies
from gateway.dicom.profiles import Profile, Profiles
from gateway.dicom.record import Query, QueryRecord, Record, RefusedAssociation
from gateway.dicom.responder import Responder
from gateway.dicom.status import PENDING
from gateway.errors import NotFound
from projections.worklist import WorklistRow

TODAY = "20261123"
SITE = Site(zone=ZoneInfo("Europe/London"))
CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
SITE_WIDE = query({"ScheduledProcedureStepStartDate": TODAY}, AccessionNumber="")


class Book:
    """What a responder recorded."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, record: Record) -> None:
        self.records.append(replace(record, last_at=record.at))

    @property
    def query(self) -> Query:
        (record,) = self.records
        assert isinstance(record, Query)
        return record


def asked(
    items: list[WorklistRow],
    request: Dataset | bytes,
    *,
    caller: Caller = CALLER,
    listed_statuses: tuple[str, ...] = ("SCHEDULED",),
    take: int | None = None,
) -> Query:
    """The record of a query that a real responder answered; a unit that takes so many answers only."""
    book, taken = Book(), 0
    responder = Responder(InMemory(items), listed_statuses=listed_statuses, record=book)  # type: ignore[arg-type]
    data = request if isinstance(request, bytes) else to_bytes(request)

    def is_cancelled() -> bool:
        return taken == take

    for response in responder.find(caller, data, IMPLICIT, is_cancelled):
        taken += response.status == PENDING
    return book.query


def explained(items: list[WorklistRow], request: Dataset | bytes, site: Site = SITE, **options: Any) -> Explanation:
    return explain_query(InMemory(items), asked(items, request), site, today=TODAY, **options)


def item(explanation: Explanation, accession_number: str = "ACC001") -> ItemExplained:
    (found,) = [item for item in explanation.items if item.accession_number == accession_number]
    return found


def why(explanation: Explanation, accession_number: str = "ACC001") -> list[str]:
    return [reason.text() for reason in item(explanation, accession_number).reasons]


# --- the calls that support gets


def test_what_every_key_matches_is_listed_for_no_reason() -> None:
    found = item(explained([row()], SITE_WIDE))
    assert (found.listed, found.answered, found.reasons, found.since_then) == (True, True, (), "")


def test_a_wrong_station_k_6_1_2_2() -> None:
    request = query({"ScheduledStationAETitle": "MAMMO1"}, AccessionNumber="")
    assert why(explained([row(station_ae_titles=("MAMMO2", "MAMMO3"))], request)) == [
        "ScheduledStationAETitle (0040,0001): asked MAMMO1, the item has MAMMO2\\MAMMO3 (PS3.4 C.2.2.2.1 and K.6.1.2.2)"
    ]


def test_a_wrong_date_c_2_2_2_5() -> None:
    request = query({"ScheduledProcedureStepStartDate": "20261124"}, AccessionNumber="")
    assert why(explained([row()], request, accession_number="ACC001")) == [
        "ScheduledProcedureStepStartDate (0040,0002): asked 20261124, the item has 20261123 (PS3.4 C.2.2.2.5, dates)"
    ]


@pytest.mark.parametrize("status", ["IN PROGRESS", "COMPLETED", "CANCELLED", "EXPIRED"])
def test_a_step_that_is_started_over_or_withdrawn(status: str) -> None:
    assert why(explained([row(status=status)], SITE_WIDE)) == [
        f"ScheduledProcedureStepStatus (0040,0020): listed: SCHEDULED, the item has {status} (GATEWAY_LISTED_STATUSES)"
    ]


def test_a_name_with_another_spelling_c_2_2_2_1() -> None:
    (reason,) = why(explained([row()], query({}, PatientName="SMYTH^JANE")))
    assert reason == (
        "PatientName (0010,0010): asked SMYTH^JANE, the item has SMITH^JANE"
        " (PS3.4 C.2.2.2.1 and C.2.2.2.4, person names)"
    )


def test_dates_and_times_that_are_one_period_are_one_reason_k_6_1_2_2() -> None:
    step = {"ScheduledProcedureStepStartDate": "20261123-20261124", "ScheduledProcedureStepStartTime": "1100-1200"}
    (reason,) = why(explained([row()], query(step)))
    assert reason.startswith(
        "ScheduledProcedureStepStartDate (0040,0002) and ScheduledProcedureStepStartTime (0040,0003):"
        " asked 20261123-20261124 1100-1200, the item has 20261123 100000 (PS3.4 K.6.1.2.2"
    )


def test_all_reasons_are_told_not_only_the_first() -> None:
    request = query({"Modality": "CT", "ScheduledProcedureStepStartDate": TODAY}, PatientID="1")
    assert len(why(explained([row(status="CANCELLED")], request))) == 3


def test_test_items_are_looked_at_too() -> None:
    assert why(explained([row(is_test=True)], SITE_WIDE)) == ["no test items (GATEWAY_TEST_AE_TITLES)"]


def test_an_item_that_lacks_a_value_of_type_1_is_not_answered_k_6_1() -> None:
    found = explained([row(study_instance_uid=None)], SITE_WIDE)
    assert why(found) == [
        "StudyInstanceUID (0020,000D): the item has none (PS3.4 Table K.6-1, type 1: no answer without it)"
    ]
    assert not item(found).listed


def test_rules_of_a_profile_are_named() -> None:
    site = replace(SITE, profiles=Profiles(Profile(items_without_station=False, answer_limit=1)))
    items = [row("A", station_ae_titles=("X",)), row("B", station_ae_titles=("X",)), row("C")]
    found = explained(items, SITE_WIDE, site)
    assert why(found, "A") == []
    assert why(found, "B") == ["only the first 1 are answered (profile: answer_limit)"]
    assert why(found, "C") == [
        "ScheduledStationAETitle (0040,0001): listed: a station, the item has none (profile: items_without_station)"
    ]


def test_the_profile_is_the_caller_s() -> None:
    strict = Profile(ae_title="MAMMO1", items_without_station=False)
    assert why(explained([row()], SITE_WIDE, replace(SITE, profiles=Profiles(modalities=(strict,))))) != []
    other = replace(strict, ae_title="MAMMO2")
    assert why(explained([row()], SITE_WIDE, replace(SITE, profiles=Profiles(modalities=(other,))))) == []


# --- which items


def test_the_days_are_those_that_the_query_asks_for_if_they_are_few_else_today() -> None:
    for dates, days in {
        "20261120": ("20261120", "20261120"),
        "20261120-20261122": ("20261120", "20261122"),
        "20261101-20261231": (TODAY, TODAY),
        "20261120-": (TODAY, TODAY),
        "20261125-20261120": (TODAY, TODAY),
        "": (TODAY, TODAY),
    }.items():
        request = query({"ScheduledProcedureStepStartDate": dates}, AccessionNumber="")
        assert explained([], request).days == days, dates


def test_a_day_and_an_accession_number_choose_the_items() -> None:
    items = [row("A"), row("B", scheduled_date="20261130")]
    assert [one.accession_number for one in explained(items, SITE_WIDE, day="20261130").items] == ["B"]
    assert [one.accession_number for one in explained(items, SITE_WIDE, accession_number="B").items] == ["B"]
    with pytest.raises(NotFound, match="no item C"):
        explained(items, SITE_WIDE, accession_number="C")


@pytest.mark.parametrize(
    "keys",
    [
        {"AccessionNumber": "FAR"},
        {"PatientID": "9990000069"},
        {"PatientName": "patel*"},
        {"StudyInstanceUID": "1.2.999"},
        {"RequestedProcedureID": "FAR"},
    ],
    ids=str,
)
def test_what_a_key_of_one_patient_or_one_item_names_is_looked_at_whatever_its_day(keys: dict[str, str]) -> None:
    far = row(
        "FAR",
        scheduled_date="20270101",
        patient_id="9990000069",
        patient_name="PATEL^ASHA",
        study_instance_uid="1.2.999",
        status="CANCELLED",
        is_test=True,
    )
    found = explained([far], query({"ScheduledProcedureStepStartDate": TODAY}, **keys))
    assert len(item(found, "FAR").reasons) == 3


# --- then and now


def test_an_item_that_came_in_after_the_query_says_so() -> None:
    before = asked([], SITE_WIDE)
    later = row(created_at="2999-01-01T10:00:00.000000+00:00", updated_at="2999-01-01T10:00:00.000000+00:00")
    found = item(explain_query(InMemory([later]), before, SITE, today=TODAY))
    assert (found.listed, found.answered) == (True, False)
    assert found.since_then == "it came in after that query, at 2999-01-01 10:00:00"


def test_an_item_that_was_answered_and_is_no_more_says_since_when() -> None:
    before = asked([row()], SITE_WIDE)
    started = row(status="IN PROGRESS", updated_at="2999-07-01T10:00:00.000000+00:00")
    found = item(explain_query(InMemory([started]), before, SITE, today=TODAY))
    assert (found.listed, found.answered) == (False, True)
    assert found.since_then == "it was changed after that query, at 2999-07-01 11:00:00"
    assert "IN PROGRESS" in found.reasons[0].text()


def test_an_item_that_was_answered_and_moved_to_another_day_is_looked_at() -> None:
    before = asked([row()], SITE_WIDE)
    moved = row(scheduled_date="20270101", updated_at="2999-07-01T10:00:00.000000+00:00")
    assert item(explain_query(InMemory([moved]), before, SITE, today=TODAY)).answered


def test_a_unit_that_cancelled_is_told_for_what_it_did_not_take() -> None:
    items = [row("A", scheduled_time="090000"), row("B")]
    before = asked(items, SITE_WIDE, take=1)
    found = item(explain_query(InMemory(items), before, SITE, today=TODAY), "B")
    assert (found.listed, found.answered) == (True, False)
    assert found.since_then == "the answer ended after 1: 0xFE00 cancelled by the unit"


def test_a_setting_that_was_changed_since_is_the_remaining_cause() -> None:
    items = [row(status="COMPLETED")]
    before = asked(items, SITE_WIDE, listed_statuses=("COMPLETED",))
    found = item(explain_query(InMemory(items), before, SITE, today=TODAY))
    assert found.since_then == "the item is as it was: a setting or a profile was changed since"


def test_of_an_answer_whose_numbers_were_not_all_kept_the_past_is_not_told() -> None:
    before = replace(asked([row("A"), row("B")], SITE_WIDE), accession_numbers=("A",))
    found = explain_query(InMemory([row("A"), row("B")]), before, SITE, today=TODAY)
    assert [(one.answered, one.since_then) for one in found.items] == [(True, ""), (None, "")]


# --- queries that list nothing


@pytest.mark.parametrize(
    ("data", "refusal", "keys"),
    [
        (b"", "the identifier is absent", 0),
        (b"\x10\x00\x20\x00\x04\0\0\0ab", "identifier: an element is longer than the data (0010,0020)", 0),
        (
            to_bytes(query({"ScheduledProcedureStepStartDate": "20260230"})),
            "(0040,0002) is no date and no range of them",
            1,
        ),
    ],
)
def test_a_refused_query_is_explained_by_its_reason_and_the_offending_element(
    data: bytes, refusal: str, keys: int
) -> None:
    found = explained([row()], data)
    assert (found.refusal, len(found.keys), found.items) == (refusal, keys, ())


def test_an_identifier_that_was_too_long_to_be_kept_is_not_made_up_nor_called_refused() -> None:
    found = explain_query(InMemory([row()]), replace(asked([row()], SITE_WIDE), identifier=None), SITE, today=TODAY)
    assert (found.refusal, found.items) == ("", ())
    assert "16384 bytes" in found.not_kept


def test_a_key_that_stands_where_nothing_is_matched_by_it_is_named_k_2_2_1_1_2() -> None:
    found = explained([row()], query(Modality="US", AccessionNumber="", ReferringPhysicianName="A^B"))
    assert found.ignored == ("Modality (0008,0060)", "ReferringPhysicianName (0008,0090)")
    assert item(found).listed


def test_names_ids_and_birth_dates_identify_and_nothing_else_does() -> None:
    identifying = {"PatientName", "PatientID", "PatientBirthDate", "ScheduledPerformingPhysicianName"}
    found = explained(
        [],
        query(
            {"Modality": "MG", "ScheduledPerformingPhysicianName": "A"},
            PatientName="A",
            PatientID="B",
            PatientBirthDate="19650315",
            AccessionNumber="ACC001",
        ),
    )
    assert {key.keyword for key in found.keys if identifies(key.tag)} == identifying


def test_what_was_looked_at_is_days_only_where_days_were_looked_at() -> None:
    items = [row(), row("ACC002", scheduled_date="20270101")]
    assert explained(items, query(AccessionNumber="ACC001")).days == (TODAY, TODAY)
    assert explained(items, query(AccessionNumber="ACC002")).days is None
    assert explained(items, SITE_WIDE, accession_number="ACC001").days is None


def test_of_a_list_that_a_profile_cut_in_silence_the_rest_is_not_blamed_on_a_setting() -> None:
    """limit_status = "success" leaves no trace in the status."""
    limited = Site(zone=SITE.zone, profiles=Profiles(default=Profile(answer_limit=1, limit_status="success")))
    before = replace(asked([row("A", scheduled_time="090000")], SITE_WIDE), answers=1)
    found = item(explain_query(InMemory([row("B")]), before, limited, today=TODAY), "B")
    assert (found.listed, found.answered) == (True, False)
    assert found.since_then.startswith("the answer ended after 1")


def test_the_head_tells_keys_and_character_set() -> None:
    request = query({"Modality": "MG"}, SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER*")
    found = explained([], request)
    assert found.character_set == "ISO_IR 100"
    assert {(key.keyword, key.value) for key in found.keys} == {("Modality", "MG"), ("PatientName", "MÜLLER*")}


# --- it is what the responder does

ITEMS = st.builds(
    row,
    st.uuids().map(lambda uid: f"A{uid.int % 10**9}"),
    patient_id=st.sampled_from(["9990000018", "9990000026"]),
    patient_name=st.sampled_from(["SMITH^JANE", "SMYTH^JANE", "O'BRIEN^SIÂN", ""]),
    scheduled_date=st.sampled_from(["20261122", "20261123", "20261124", "20270101"]),
    scheduled_time=st.sampled_from(["090000", "100000", "115959"]),
    modality=st.sampled_from(["MG", "US"]),
    status=st.sampled_from(["SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELLED"]),
    study_instance_uid=st.sampled_from(["1.2.3", "1.2.4", None]),
    station_ae_titles=st.sampled_from([(), ("MAMMO1",), ("MAMMO2", "MAMMO3")]),
    is_test=st.booleans(),
)
STEPS = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["MG", "US", "*", "M?"]),
        "ScheduledStationAETitle": st.sampled_from(["MAMMO1", "MAMMO9", ""]),
        "ScheduledProcedureStepStartDate": st.sampled_from(["20261123", "20261122-", "20261123-20261124", "20260230"]),
        "ScheduledProcedureStepStartTime": st.sampled_from(["0900-1000", "1000", ""]),
        "ScheduledProcedureStepStatus": st.sampled_from(["COMPLETED", "STARTED", "*"]),
    },
)
ROOTS = st.fixed_dictionaries(
    {"AccessionNumber": st.just("")},
    optional={
        "PatientID": st.sampled_from(["9990000018", "999*"]),
        "PatientName": st.sampled_from(["smith*", "SMYTH^JANE", "o'brien^sian"]),
        "StudyInstanceUID": st.sampled_from(["1.2.3", "1.2.3\\1.2.4"]),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    items=st.lists(ITEMS, max_size=8, unique_by=lambda item: item.accession_number),
    step=STEPS,
    root=ROOTS,
    title=st.sampled_from(["MAMMO1", "REHEARSAL"]),
)
def test_what_is_explained_as_listed_is_exactly_what_the_responder_answers(
    items: list[WorklistRow], step: dict[str, str], root: dict[str, str], title: str
) -> None:
    recorded = asked(items, query(step, **root), caller=replace(CALLER, ae_title=title))
    found = explain_query(InMemory(items), recorded, SITE, today=TODAY)
    assert tuple(one.accession_number for one in found.items if one.listed) == recorded.accession_numbers
    assert all(bool(one.reasons) is not one.listed for one in found.items)
    assert all(one.answered is one.listed and not one.since_then for one in found.items)
    assert bool(found.refusal) is (recorded.status == 0xA900)
    if not found.refusal:
        first, last = found.days or ("9", "")
        today = {one.accession_number for one in items if first <= one.scheduled_date <= last}
        assert today <= {one.accession_number for one in found.items}
    for one in items:
        if not found.refusal:
            alone = explain_query(InMemory(items), recorded, SITE, accession_number=one.accession_number)
            assert alone.items[0].listed is (one.accession_number in recorded.accession_numbers)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_explained_as_they_were_answered(data: bytes) -> None:
    recorded = asked([row()], data)
    found = explain_query(InMemory([row()]), recorded, SITE, today=TODAY)
    assert bool(found.refusal) is (recorded.status == 0xA900)
    assert tuple(one.accession_number for one in found.items if one.listed) == recorded.accession_numbers


# --- from the record


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "gateway.db") as gateway:
        schedule(gateway, "ACC001")
        yield gateway


def keep(gateway: Gateway, *records: Record) -> None:
    book = QueryRecord(gateway)
    for one in records:
        book.add(one)
    book.start()
    book.close()


def refusal_of(ae_title: str, at: str) -> RefusedAssociation:
    return RefusedAssociation(
        at=at, calling_ae_title=ae_title, called_ae_title="X", address="192.0.2.7", reason="not recognised"
    )


def test_the_latest_query_of_an_ae_title_is_taken_or_the_one_with_an_id(gateway: Gateway) -> None:
    first = replace(asked([], SITE_WIDE), at="2026-11-23T09:00:00.000+00:00")
    second = replace(asked([], query({"Modality": "CT"})), at="2026-11-23T09:00:10.000+00:00")
    keep(gateway, first, second)
    assert explain(gateway, SITE, from_ae_title="MAMMO1").query.id == 2
    found = explain(gateway, SITE, query_id=1)
    assert item(found).listed
    with pytest.raises(NotFound, match="no query 7"):
        explain(gateway, SITE, query_id=7)


def test_refusals_after_the_query_are_told_and_no_earlier_ones_nor_others(gateway: Gateway) -> None:
    keep(
        gateway,
        refusal_of("MAMMO1", "2026-11-23T08:00:00.000+00:00"),
        replace(asked([], SITE_WIDE), at="2026-11-23T09:00:00.000+00:00"),
        refusal_of("MAMMO1", "2026-11-23T10:00:00.000+00:00"),
        refusal_of("MAMMO1", "2026-11-23T10:00:30.000+00:00"),
        refusal_of("MAMMO2", "2026-11-23T10:00:00.000+00:00"),
    )
    (since,) = explain(gateway, SITE, from_ae_title="MAMMO1").refused_since
    assert (since.calling_ae_title, since.times) == ("MAMMO1", 2)


def test_of_a_title_that_never_asked_those_that_did_are_told_and_that_it_was_refused(gateway: Gateway) -> None:
    keep(gateway, asked([], SITE_WIDE), refusal_of("MAMO1", "2026-11-23T10:00:00.000+00:00"))
    with pytest.raises(NotFound) as unknown:
        explain(gateway, SITE, from_ae_title="MAMO1")
    assert unknown.value.message == (
        "nobody has asked as MAMO1; it was refused once, at 2026-11-23 10:00:00 from 192.0.2.7, calling X:"
        " not recognised; these have: MAMMO1; these were refused: MAMO1"
    )


def test_a_row_of_polls_is_compared_with_its_last(gateway: Gateway) -> None:
    """An item that came in between the first and the last of equal polls was not in any of them."""
    recorded = asked([], SITE_WIDE)
    poll = replace(recorded, at="2020-11-23T09:00:00.000+00:00")
    keep(gateway, poll, replace(poll, at="2020-11-23T09:00:30.000+00:00"))
    found = explain(gateway, SITE, from_ae_title="MAMMO1")
    assert found.query.times == 2
    assert item(found).since_then.startswith("it came in after that query")
