"""The same items and queries for two providers: ours and DCMTK's `wlmscpfs` list the same, or a table says why not.

Queries are drawn at random over the keys that Table K.6-1 (PS3.4) and IHE RAD-5 require. Each deliberate difference is
a row of `DIFFERENCES` with its clause and an example; what no row explains fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pynetdicom.sop_class import ModalityWorklistInformationFind

from bench.synthetic import appointment
from gateway.application import opened
from gateway.dicom.responder import Responder
from projections.worklist import WorklistFilter, WorklistRow
from tests.interop.dcmtk.wlmscpfs import PROGRAM, association, wlmscpfs
from tests.properties.matching_oracle import IN_STEP, folded, time_of, wild
from tests.serving import serving

config.settings.reading_validation_mode = config.IGNORE  # what people type is not always valid
config.settings.writing_validation_mode = config.IGNORE

pytestmark = pytest.mark.slow

Query = dict[str, str]
"""Keywords and values; the keys of the scheduled procedure step are put into its sequence."""

DATE, TIME, STATION = (
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledStationAETitle",
)
PHYSICIAN = "ScheduledPerformingPhysicianName"

NAMES = [
    "SMITH^JANE",
    "SMITH^JOHN",
    "SMYTHE^JANE",
    "JONES^MARY^ANN",
    "O'BRIEN^AOIFE",
    "Smith^Jane",
    "MÜLLER^ZOË",
    "DOE",
]
PATIENT_IDS = ["9990000018", "9990000026", "9990000034", "9990000042", "999%_"]
DAYS = ["20261121", "20261122", "20261123", "20261124", "20261125"]
TIMES = ["000000", "093000", "100000", "100030", "103000", "180000", "235959"]
STATIONS = [("MAMMO1",), ("MAMMO2",), ("MAMMO1", "MAMMO2"), ("UNIT 7",), ()]
PHYSICIANS = [None, "DOE^JOHN", "ROE^RICHARD", "Doe^Jane"]
COUNT = 36


@dataclass(frozen=True)
class Both:
    """An association with each provider, and the items that both hold."""

    ours: Any
    theirs: Any
    rows: dict[str, WorklistRow]

    def ask(self, query: Query) -> tuple[set[str], set[str]]:
        """The accession numbers that ours and theirs list; both must end in success."""
        (ours, our_end), (theirs, their_end) = answers(self.ours, query), answers(self.theirs, query)
        assert (our_end[-1], their_end[-1]) == (0x0000, 0x0000)
        return set(ours), set(theirs)


def answers(peer: Any, query: Query) -> tuple[list[str], list[int]]:
    """Accession numbers and statuses in the order in which they come."""
    responses = list(peer.send_c_find(identifier(query), ModalityWorklistInformationFind))
    numbers = [answer.AccessionNumber for _, answer in responses if answer is not None]
    return numbers, [status.Status for status, _ in responses]


def identifier(query: Query) -> Dataset:
    """As LO, in implicit VR, the keys go out as they are written."""
    root, step = Dataset(), Dataset()
    root.AccessionNumber = ""
    for keyword, value in query.items():
        tag = tag_for_keyword(keyword)
        assert tag
        (step if keyword in IN_STEP else root).add_new(tag, "LO", value)
    root.ScheduledProcedureStepSequence = [step]
    return root


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    if not PROGRAM.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{PROGRAM} is missing (Debian package dcmtk)")
    folder = tmp_path_factory.mktemp("wlmscpfs")
    with opened(folder / "gateway.db") as gateway:
        for number in range(COUNT):
            gateway.schedule(_appointment(number))
        rows = gateway.find_items(WorklistFilter())
        with (
            serving(Responder(gateway)) as server,
            wlmscpfs(folder, rows) as port,
            association(server.port) as ours,
            association(port) as theirs,
        ):
            yield Both(ours, theirs, {row.accession_number: row for row in rows})


def _appointment(number: int) -> Any:
    return appointment(
        f"ACC{number:03}",
        patient_id=PATIENT_IDS[number % len(PATIENT_IDS)],
        patient_name=NAMES[number % len(NAMES)],
        patient_birth_date=["19650315", "19700101"][number % 2],
        patient_sex=["F", "M", None][number % 3],
        scheduled_date=DAYS[number % len(DAYS)],
        scheduled_time=TIMES[number % len(TIMES)],
        modality=["MG", "MG", "US"][number % 3],
        station_ae_titles=STATIONS[number // 2 % len(STATIONS)],
        performing_physician=PHYSICIANS[number // 3 % len(PHYSICIANS)],
    )


# --- where the two differ, and why


def only_when_folded(keyword: str, value: Callable[[WorklistRow], str | None]) -> Callable[[Query, WorklistRow], bool]:
    """The name matches the key only when case, accents and empty ends do not count."""

    def explains(query: Query, row: WorklistRow) -> bool:
        asked, name = query.get(keyword, ""), value(row) or ""
        padded = folded(name) + "^" * max(0, folded(asked).count("^") - folded(name).count("^"))
        return bool(asked) and not wild(asked, name) and wild(folded(asked), padded)

    return explains


def without_a_station(query: Query, row: WorklistRow) -> bool:
    return query.get(STATION, "").strip("*") != "" and not row.station_ae_titles


def a_wildcard_in(
    keyword: str, values: Callable[[WorklistRow], tuple[str, ...]]
) -> Callable[[Query, WorklistRow], bool]:
    def explains(query: Query, row: WorklistRow) -> bool:
        asked = query.get(keyword, "").strip()
        return bool({"*", "?"} & set(asked)) and any(wild(asked, value) for value in values(row))

    return explains


def within_a_short_time(query: Query, row: WorklistRow) -> bool:
    """The time is in the hour or the minute at which the key, or the end of its range, stops."""
    last = query.get(TIME, "").rpartition("-")[2].strip()
    if not last or len(last) >= len("HHMMSS"):
        return False
    first, end = time_of(last)
    return first < time_of(row.scheduled_time)[0] <= end


def a_period_that_is_open(query: Query, row: WorklistRow) -> bool:
    ends = [part for key in (DATE, TIME) for part in query.get(key, "").split("-")]
    return len(ends) == 4 and "" in ends


@dataclass(frozen=True)
class Difference:
    """`ours` and `theirs` are what only the one or only the other lists for the example."""

    name: str
    clause: str
    explains: Callable[[Query, WorklistRow], bool]
    example: Query
    ours: set[str]
    theirs: frozenset[str] = frozenset()


def numbered(*numbers: int) -> set[str]:
    return {f"ACC{number:03}" for number in numbers}


def where(test: Callable[[int], bool]) -> set[str]:
    return numbered(*(number for number in range(COUNT) if test(number)))


DIFFERENCES = [
    Difference(
        "an item without a station is for every station",
        "design §3.15",
        without_a_station,
        {STATION: "MAMMO1", "Modality": "US"},
        ours=where(lambda n: n // 2 % 5 == 4 and n % 3 == 2),
    ),
    Difference(
        "case of a patient's name",
        "PS3.4 C.2.2.2.1: case may be left out of account in names",
        only_when_folded("PatientName", lambda row: row.patient_name),
        {"PatientName": "smith^jane"},
        ours=where(lambda n: n % 8 in (0, 5)),
    ),
    Difference(
        "accents of a patient's name",
        "PS3.4 C.2.2.2.1: accents may be left out of account in names",
        only_when_folded("PatientName", lambda row: row.patient_name),
        {"PatientName": "MULLER*"},
        ours=where(lambda n: n % 8 == 6),
    ),
    Difference(
        "empty components at the end of a name",
        "PS3.5 6.2.1: trailing empty components may be left out",
        only_when_folded("PatientName", lambda row: row.patient_name),
        {"PatientName": "SMITH^JOHN^^^"},
        ours=where(lambda n: n % 8 == 1),
    ),
    Difference(
        "case of a physician's name",
        "PS3.4 C.2.2.2.1",
        only_when_folded(PHYSICIAN, lambda row: row.performing_physician),
        {PHYSICIAN: "doe*"},
        ours=where(lambda n: n // 3 % 4 in (1, 3)),
    ),
    Difference(
        "wildcards in a station's AE title",
        "PS3.4 C.2.2.2.4 leaves no VR of text out; Table K.6-1 asks for single values only",
        a_wildcard_in(STATION, lambda row: row.station_ae_titles),
        {STATION: "UNIT*"},
        ours=where(lambda n: n // 2 % 5 in (3, 4)),
    ),
    Difference(
        "wildcards in the modality",
        "as for stations",
        a_wildcard_in("Modality", lambda row: (row.modality,)),
        {"Modality": "U?"},
        ours=where(lambda n: n % 3 == 2),
    ),
    Difference(
        "wildcards in a Patient ID",
        "as for stations",
        a_wildcard_in("PatientID", lambda row: (row.patient_id,)),
        {"PatientID": "999%*"},
        ours=where(lambda n: n % 5 == 4),
    ),
    Difference(
        "a time that stops at the hour or the minute is all of it",
        "PS3.5 6.2, TM: an omitted component is any; PS3.4 C.2.2.2.5",
        within_a_short_time,
        {TIME: "10"},
        ours=where(lambda n: n % 7 in (3, 4)),
    ),
    Difference(
        "a date range and a time range are one period when an end is open, too",
        "PS3.4 Table K.6-1, Start Time; theirs tests date and time each by itself, or ends the last day at 00:00",
        a_period_that_is_open,
        {DATE: "20261124-", TIME: "100000-180000"},
        ours=where(lambda n: (n % 5 == 3 and n % 7 == 6) or (n % 5 == 4 and n % 7 in (0, 1, 6))),
    ),
]


# --- at random

NAME_KEYS = [
    "SMITH*", "SMITH^JANE", "SM?TH^J*", "*JANE*", "S*^JANE", "*", "smith*", "SMITH^JOHN^^", "MÜLLER*", "muller^zoe",
    "DOE^", "O'BRIEN^AOIFE", "J*S^M*", "NOBODY", "%", "SMITH_JANE", "[A-Z]*",
]  # fmt: skip
TIME_VALUES = ["09", "10", "1000", "100000", "100030", "1030", "103000.000000", "180000", "235959"]


def ranged(values: list[str]) -> st.SearchStrategy[str]:
    end = st.sampled_from(values)
    return st.one_of(
        end,
        end,
        end.map(lambda value: f"{value}-"),
        end.map(lambda value: f"-{value}"),
        st.builds("{}-{}".format, end, end),
    )


def padded(values: list[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda value, pad: pad.format(value), st.sampled_from(values), st.sampled_from(["{}", "{} ", " {}"])
    )


KEYS = {
    STATION: padded(["MAMMO1", "MAMMO2", "UNIT 7", "MAMMO9", "*", "", "MAMMO?", "mammo1"]),
    DATE: ranged(DAYS),
    TIME: ranged(TIME_VALUES),
    "Modality": padded(["MG", "US", "CT", "*", "", "M?"]),
    PHYSICIAN: st.sampled_from(["DOE*", "DOE^JOHN", "doe^*", "*", "", "?OE^*", "ROE^RICHARD", "*JANE"]),
    "PatientName": st.sampled_from(NAME_KEYS),
    "PatientID": padded([*PATIENT_IDS, "999", "*", "", "999*", "999000001?"]),
    "AccessionNumber": padded(["ACC000", "ACC007", "ACC*", "ACC?1?", "*5", "acc000", "", "*", "%"]),
    "RequestedProcedureID": padded(["ACC000", "ACC012", "ACC00?", "*", ""]),
    "PatientSex": st.sampled_from(["F", "M", "O", ""]),
    "PatientBirthDate": st.sampled_from(["19650315", "19700101", "19000101", ""]),
}
QUERIES = st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda keywords: st.fixed_dictionaries(
        {"SpecificCharacterSet": st.just("ISO_IR 192"), **{keyword: KEYS[keyword] for keyword in keywords}}
    )
)


def test_any_query_over_the_required_keys_lists_the_same_items_or_the_table_says_why(both: Both) -> None:
    sizes: list[int] = []

    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(query=QUERIES)
    def compare(query: Query) -> None:
        ours, theirs = both.ask(query)
        sizes.append(len(ours & theirs))
        for number in ours - theirs:
            assert any(d.explains(query, both.rows[number]) for d in DIFFERENCES if d.ours), f"only ours: {number}"
        for number in theirs - ours:
            assert any(d.explains(query, both.rows[number]) for d in DIFFERENCES if d.theirs), f"only theirs: {number}"

    compare()
    telling = sum(0 < size < COUNT for size in sizes)
    assert telling > len(sizes) // 4, "the queries tell nothing apart"


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_a_deliberate_difference_is_what_the_table_says(both: Both, difference: Difference) -> None:
    ours, theirs = both.ask({"SpecificCharacterSet": "ISO_IR 192", **difference.example})
    assert (ours - theirs, theirs - ours) == (difference.ours, difference.theirs)
    assert difference.ours or difference.theirs


# --- keys that the required ones leave open, and values that are none

SUCCESS, REFUSED, EVERY = 0x0000, 0xA900, COUNT


@dataclass(frozen=True)
class Answer:
    """How many items are listed, the final status, and the status that each of them comes with."""

    items: int
    final: int = SUCCESS
    pending: int = 0xFF00


NOBODYS = {"ReferringPhysicianName": "NOBODY"}

OPEN: list[tuple[str, Query, Answer, Answer]] = [
    ("K.2.2.1.1.2: an optional key that is not held is not matched; a unit's issuer hides nothing",
     {"IssuerOfPatientID": "NHS"}, Answer(EVERY), Answer(0)),
    ("K.2.2.1.1.2, a physician that nobody recorded", NOBODYS, Answer(EVERY), Answer(0)),
    ("Table K.6-1, optional: ours matches the step's ID",
     {"ScheduledProcedureStepID": "ACC001"}, Answer(1), Answer(EVERY)),
    ("Table K.6-1, optional: ours matches the Study Instance UID",
     {"StudyInstanceUID": "1.2.3"}, Answer(0), Answer(EVERY)),
    ("Table K.6-1, optional: ours matches descriptions",
     {"RequestedProcedureDescription": "Ultrasound"}, Answer(0), Answer(EVERY)),
    ("design §3.17: ours lists another status when asked for it",
     {"ScheduledProcedureStepStatus": "COMPLETED"}, Answer(0), Answer(EVERY)),
    ("K.4.1.1.4: 0xFF01 confuses units; ours returns an unsupported key empty with 0xFF00",
     {"StudyID": ""}, Answer(EVERY), Answer(EVERY, pending=0xFF01)),
    ("K.4.1.2.2: ours ignores a Query/Retrieve Level", {"QueryRetrieveLevel": "WORKLIST"},
     Answer(EVERY), Answer(EVERY, pending=0xFF01)),
    ("a date that does not exist is told, not answered with nothing",
     {DATE: "20260230"}, Answer(0, REFUSED), Answer(0)),
    ("C.2.2.2.5: a range without ends is none, never everything", {DATE: "-"}, Answer(0, REFUSED), Answer(EVERY)),
    ("the same of times", {TIME: "-"}, Answer(0, REFUSED), Answer(EVERY)),
    ("C.2.2.2.4: no wildcards in dates", {DATE: "*"}, Answer(0, REFUSED), Answer(0, REFUSED)),
    ("PS3.5 6.2: ours reads the dates of ACR-NEMA", {DATE: "2026.11.23"}, Answer(7), Answer(0, REFUSED)),
    ("C.2.2.2.8 leaves several values open: ours lists those of any", {"Modality": "MG\\US"},
     Answer(EVERY), Answer(0, REFUSED)),
    ("CS has no lower case: it matches nothing, which is no error", {"Modality": "mg"}, Answer(0), Answer(0, REFUSED)),
    ("both list several accession numbers", {"AccessionNumber": "ACC001\\ACC002"}, Answer(2), Answer(2)),
    ("PS3.5 6.1: ours compares characters, theirs the bytes of two sets",
     {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "MÜLLER*"}, Answer(4), Answer(0)),
    ("C.2.2.2.4: a question mark is one character", {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "M?LLER*"},
     Answer(4), Answer(0)),
    ("C.2.2.2.4: and not two", {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "M??LLER*"}, Answer(0), Answer(4)),
    ("PS3.5 6.2.1: empty groups at a name's end do not count", {"PatientName": "SMITH^JOHN="}, Answer(5), Answer(0)),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "query", "ours", "theirs"), OPEN, ids=[clause for clause, *_ in OPEN])
def test_what_is_left_open_is_answered_as_the_table_says(
    both: Both, clause: str, query: Query, ours: Answer, theirs: Answer
) -> None:
    for peer, expected in ((both.ours, ours), (both.theirs, theirs)):
        numbers, statuses = answers(peer, query)
        assert (len(numbers), statuses[-1]) == (expected.items, expected.final)
        assert set(statuses[:-1]) <= {expected.pending}


def test_both_list_everything_ours_in_the_order_of_date_and_time(both: Both) -> None:
    ours, _ = answers(both.ours, {})
    theirs, _ = answers(both.theirs, {})
    assert set(ours) == set(theirs) == set(both.rows)
    when = [(both.rows[number].scheduled_date, both.rows[number].scheduled_time, number) for number in ours]
    assert when == sorted(when)
