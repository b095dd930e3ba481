"""Prepared bytes: what is joined is what pydicom would encode, what is kept is bounded and outlives no change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dicom_samples import AE_TITLE, SYNTAXES, from_bytes, query, row, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from bench.synthetic import PERSON, participant, schedule
from gateway.application import Gateway, opened
from gateway.audit import erasure
from gateway.dicom import find, identifier, known_queries, prepared
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.find import FindResponse, Writing
from gateway.dicom.known_queries import KnownQuery
from gateway.dicom.prepared import Form, PreparedItem, PreparedItems
from gateway.dicom.profiles import Profile
from gateway.dicom.responder import Responder
from projections.worklist import WorklistRow

CALLER = Caller("MAMMO1", AE_TITLE, "192.0.2.7", 50000)

# --- the bytes

NAMES = {
    "": ["SMITH^JANE"],
    "ISO_IR 100": ["SMITH^JANE", "MÜLLER^ZOË"],
    "ISO_IR 144": ["Люкceмбypг^Анна", "SMITH^JANE"],
    "ISO_IR 192": ["山田^太郎", "Ærø^Øl", "SMITH^JANE"],
    "GB18030": ["王^小东", "SMITH^JANE"],
    "\\ISO 2022 IR 87": ["Yamada^Tarou=山田^太郎=やまだ^たろう", "SMITH^JANE"],
    "ISO 2022 IR 13\\ISO 2022 IR 87": ["ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "SMITH^JANE"],
    "\\ISO 2022 IR 149": ["Hong^Gildong=洪^吉洞=홍^길동", "SMITH^JANE"],
}
"""Character sets with names in them, the standard's own examples among them (PS3.5 H to K)."""

ROOT_KEYS = [
    "AccessionNumber",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "PatientWeight",
    "ReferringPhysicianName",
    "ReferencedStudySequence",
    "RequestedProcedureCodeSequence",
    "PatientComments",
]
STEP_KEYS = [
    "Modality",
    "ScheduledStationAETitle",
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledPerformingPhysicianName",
    "ScheduledProcedureStepDescription",
    "ScheduledProtocolCodeSequence",
    "ScheduledProcedureStepID",
    "ScheduledProcedureStepLocation",
    "ScheduledProcedureStepStatus",
    "PreMedication",
]


@st.composite
def queries_and_rows(draw: st.DrawFn) -> tuple[str, list[str], list[str] | None, list[WorklistRow]]:
    """A character set, root keys, step keys (None: no step; none of them: all of it), and items to answer."""
    character_set = draw(st.sampled_from(sorted(NAMES)))
    root = ["PatientID", *draw(st.lists(st.sampled_from(ROOT_KEYS), unique=True))]
    step = draw(st.none() | st.lists(st.sampled_from(STEP_KEYS), unique=True))
    code = {"procedure_code": "MAMMO", "procedure_code_scheme": "99LOCAL", "procedure_code_meaning": "Mammography"}
    items = [
        row(
            patient_name=draw(st.sampled_from(NAMES[character_set])),
            performing_physician=draw(st.sampled_from([None, "JONES^A", *NAMES[character_set]])),
            study_description=draw(st.sampled_from([None, "odd", "even", "x" * 65])),
            station_ae_titles=draw(st.sampled_from([(), ("MAMMO1",), ("MAMMO1", "M2")])),
            **draw(st.sampled_from([{}, code])),
        )
        for _ in range(2)
    ]
    return character_set, root, step, items


def request_of(character_set: str, root: list[str], step: list[str] | None) -> Dataset:
    empty = {keyword: [] if keyword.endswith("Sequence") else "" for keyword in (*root, *(step or ()))}
    asked = query(None if step is None else {keyword: empty[keyword] for keyword in step})
    for keyword in root:
        setattr(asked, keyword, empty[keyword])
    if character_set:
        asked.SpecificCharacterSet = character_set.split("\\")
    return asked


def expected(item: WorklistRow, root: list[str], step: list[str] | None, character_set: Any) -> Dataset:
    """What the answer is to hold, by pydicom's own hand."""
    values = {
        "AccessionNumber": item.accession_number,
        "PatientName": item.patient_name,
        "PatientID": item.patient_id,
        "PatientBirthDate": item.patient_birth_date,
        "PatientSex": item.patient_sex,
        "StudyInstanceUID": item.study_instance_uid,
        "RequestedProcedureDescription": (item.study_description or "")[:64],
        "RequestedProcedureID": item.accession_number,
        "Modality": item.modality,
        "ScheduledStationAETitle": list(item.station_ae_titles) or "MAMMO1",
        "ScheduledProcedureStepStartDate": item.scheduled_date,
        "ScheduledProcedureStepStartTime": item.scheduled_time,
        "ScheduledPerformingPhysicianName": item.performing_physician or "",
        "ScheduledProcedureStepDescription": (item.study_description or "")[:64],
        "ScheduledProcedureStepID": item.accession_number,
        "ScheduledProcedureStepStatus": item.status,
    }
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = item.procedure_code, item.procedure_code_scheme
    code.CodeMeaning = item.procedure_code_meaning

    def filled(keywords: list[str]) -> Dataset:
        data_set = Dataset()
        for keyword in keywords:
            codes = [code] if "CodeSequence" in keyword and item.procedure_code else []
            setattr(data_set, keyword, codes if keyword.endswith("Sequence") else values.get(keyword, ""))
        return data_set

    whole = filled(root)
    if step is not None:
        every = (*STEP_KEYS, "RequestedContrastAgent", "ScheduledStationName")
        whole.ScheduledProcedureStepSequence = [filled(step or list(every))]
    if character_set is not None:
        whole.SpecificCharacterSet = character_set
    return whole


@settings(max_examples=80, deadline=None)
@given(drawn=queries_and_rows())
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_is_joined_is_byte_for_byte_what_pydicom_encodes(
    syntax: str, drawn: tuple[str, list[str], list[str] | None, list[WorklistRow]]
) -> None:
    """Keys, nested ones, whole and code sequences; both transfer syntaxes; character sets with and without ISO 2022."""
    character_set, root, step, items = drawn
    asked = identifier.read(to_bytes(request_of(character_set, root, step), syntax), syntax)
    form = Form.of(asked, syntax, Profile(ae_title="MAMMO1"))
    for item in items:
        kept = PreparedItem(item)
        first, again = find.pending(kept, form), find.pending(kept, form)
        assert first == again
        assert (first.writing, first.identifier is None) == (Writing.WHOLE, False)
        declared = from_bytes(first.identifier or b"", syntax).get("SpecificCharacterSet")
        assert first.identifier == to_bytes(expected(item, root, step, declared), syntax)


def test_an_item_whose_text_was_not_in_one_set_is_written_in_it_once_that_text_is_not_asked_for() -> None:
    kept = PreparedItem(row(patient_name="MÜLLER"))
    both, one = (identifier.read(to_bytes(asked), IMPLICIT) for asked in (query(PatientName=""), query(PatientID="")))
    for _ in range(2):
        assert find.pending(kept, Form.of(both, IMPLICIT, Profile())).writing is Writing.TRANSLITERATED
        assert find.pending(kept, Form.of(one, IMPLICIT, Profile())).writing is Writing.WHOLE


# --- what is kept of it


def test_an_item_keeps_no_more_elements_and_character_sets_than_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_MOST_FIELDS", 3)
    monkeypatch.setattr(prepared, "_MOST_WAYS", 2)
    kept = PreparedItem(row(patient_name="Ä"))
    for character_set in ("ISO_IR 100", "ISO_IR 192", "ISO_IR 148", "GB18030"):
        for keyword in ("PatientName", "PatientID", "PatientSex", "AccessionNumber", "RequestedProcedureID"):
            asked = query(**{keyword: ""}, SpecificCharacterSet=character_set)
            find.pending(kept, Form.of(identifier.read(to_bytes(asked), IMPLICIT), IMPLICIT, Profile()))
    assert len(kept._encoded) <= 2
    assert all(len(encoded) <= 3 for encoded in kept._encoded.values())


def test_items_are_kept_up_to_a_bound_the_latest_used_of_them_one_version_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_MOST_ITEMS", 2)
    items = PreparedItems(None)
    for number in ("A", "B"):
        items.of(row(number, row_version=1), kept=True)
    assert items.get(("A", 1))
    items.of(row("C", row_version=1), kept=True)
    items.of(row("A", row_version=2), kept=True)
    assert [items.get(version) is not None for version in (("A", 2), ("A", 1), ("B", 1), ("C", 1))] == [1, 0, 0, 1]
    items.of(row("D", row_version=0), kept=True)
    items.of(row("E", row_version=1), kept=False)
    assert (items.get(("D", 0)), items.get(("E", 1))) == (None, None)


def test_queries_are_known_up_to_a_bound_and_with_what_they_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_queries, "_MOST", 3)
    monkeypatch.setattr(known_queries, "_MOST_BYTES", 2_500)
    queries = known_queries.KnownQueries()
    responder = Responder(None)  # type: ignore[arg-type]  it only reads

    def asked(patient_id: str, size: int = 0, **keys: str) -> known_queries.Question:
        data = to_bytes(query(PatientID=patient_id, **keys))
        question = (data, IMPLICIT, "MAMMO1")
        known = queries.of(question, lambda: responder._worklist._read(*question))
        queries.remember(question, known, {("A", 1): (("A", 1), FindResponse(0xFF00, bytes(size)))} if size else {})
        return question

    for number in range(5):
        asked(f"{number}")
    assert len(queries._queries) == 3
    again = asked("2")
    asked("5")
    asked("6")
    assert again in queries._queries, "the least recent one gives way"
    asked("9", 1_500)
    asked("8", 1_500)
    assert [query.weight for query in queries._queries.values()] == [2_000]
    asked("8", 100)
    assert queries._weight == 600
    asked("7", PatientComments="long" * 1_500)
    assert all(len(data) <= known_queries.LONGEST for data, _, _ in queries._queries)


# --- what a change makes of it: asked before and after, by a service that has it all prepared

EVERYTHING = to_bytes(query({}, AccessionNumber="", PatientName="", PatientID=""))
BY_NUMBER = to_bytes(query({}, AccessionNumber="ACC001", PatientName="", RequestedProcedureDescription=""))


def told(responder: Responder, data: bytes = BY_NUMBER) -> list[FindResponse]:
    return list(responder.find(CALLER, data, IMPLICIT, lambda: False))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    """The service; `elsewhere` is another process's."""
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
        schedule(gateway, "ACC002", **participant(2))
        yield gateway


@pytest.fixture
def elsewhere(gateway: Gateway, path: Path) -> Iterator[Gateway]:
    with opened(path, sealing=True) as other:
        yield other


@contextmanager
def reading_nothing_but_versions(gateway: Gateway) -> Iterator[None]:
    asked: list[str] = []
    with gateway.reading() as connection:
        connection.set_trace_callback(asked.append)
    yield
    with gateway.reading() as connection:
        connection.set_trace_callback(None)
    assert [statement.split(" FROM ")[0].count(",") for statement in asked] == [1]


def test_a_query_asked_again_reads_versions_alone_and_answers_the_same(gateway: Gateway) -> None:
    warm = Responder(gateway)
    first = told(warm)
    with reading_nothing_but_versions(gateway):
        assert told(warm) == first
    with reading_nothing_but_versions(gateway):
        assert len(told(warm, to_bytes(query({}, PatientID=PERSON["patient_id"])))) == 2


AT_THE_PROMPT = (
    "UPDATE worklist_items SET patient_name = 'JONES^MARY' WHERE accession_number = 'ACC001'",
    "UPDATE worklist_items SET accession_number = 'ACC001' || accession_number",
    "UPDATE worklist_items SET patient_id = '', patient_name = '', patient_birth_date = ''",
    "DELETE FROM worklist_items",
    """
    INSERT OR REPLACE INTO worklist_items
    (accession_number, patient_id, patient_name, patient_birth_date, scheduled_date, scheduled_time, modality,
    study_instance_uid) VALUES ('ACC001', '9990000026', 'JONES^MARY', '19700101', '20261123', '090000', 'MG', '1.2.3')
    """,
)


@pytest.mark.parametrize("statement", AT_THE_PROMPT)
def test_what_is_written_at_the_prompt_is_answered_and_what_a_rebuild_makes_of_it_too(
    gateway: Gateway, elsewhere: Gateway, path: Path, statement: str
) -> None:
    """Even when events follow that count the row's version on."""
    warm = Responder(gateway)
    for data in (BY_NUMBER, EVERYTHING):
        told(warm, data)
    with closing(sqlite3.connect(path)) as prompt, prompt:
        prompt.execute(statement)
    for change in (
        lambda: None,
        lambda: elsewhere.amend("ACC001", lambda _: {"location": "HALL 2"}),
        elsewhere.rebuild_projections,
    ):
        change()
        for data in (BY_NUMBER, EVERYTHING):
            assert told(warm, data) == told(Responder(gateway), data)


def test_an_erased_person_is_not_answered_from_that_moment_on(gateway: Gateway, elsewhere: Gateway) -> None:
    warm = Responder(gateway)
    assert b"SMITH^JANE" in b"".join(response.identifier or b"" for response in told(warm, EVERYTHING))
    elsewhere.cancel("ACC001")
    found = erasure.find(elsewhere, PERSON["patient_id"])
    erasure.erase(elsewhere, PERSON["patient_id"], found, reason="request 114", operator="dpo")
    assert told(warm) == [FindResponse(0x0000)]
    assert [response.accession_number for response in told(warm, EVERYTHING)] == ["ACC002", ""]


def test_a_row_without_a_patient_has_no_version_whatever_it_says(gateway: Gateway, path: Path) -> None:
    """As after a rebuild with a key file that has less keys: the same events, the same versions, nobody's name."""
    warm = Responder(gateway)
    told(warm, EVERYTHING)
    with closing(sqlite3.connect(path)) as prompt, prompt:
        prompt.execute("CREATE TEMP TABLE rows AS SELECT * FROM worklist_items")
        prompt.execute("UPDATE temp.rows SET patient_id = '', patient_name = '', patient_birth_date = ''")
        prompt.execute("DELETE FROM main.worklist_items")
        prompt.execute("INSERT INTO main.worklist_items SELECT * FROM temp.rows")
    assert told(warm, EVERYTHING) == [FindResponse(0x0000)]


def test_of_a_long_list_only_the_beginning_is_remembered(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dicom.worklist_scp.MOST_FOUND", 1)
    warm = Responder(gateway)
    assert len(told(warm, EVERYTHING)) == 3
    (known,) = warm._worklist.queries._queries.values()
    assert [*known.found] == [("ACC001", 1)]


def test_two_threads_that_read_a_query_at_once_share_what_one_of_them_keeps() -> None:
    queries = known_queries.KnownQueries()
    question = (b"", IMPLICIT, "MAMMO1")
    found = {("ACC001", 1): (("ACC001", 1), FindResponse(0xFF00, bytes(100)))}
    first, second = (KnownQuery(*[None] * 5) for _ in range(2))  # type: ignore[arg-type]  # none of it is looked at

    def read_slowly() -> KnownQuery:
        assert queries.of(question, lambda: first) is first
        queries.remember(question, first, found)  # type: ignore[arg-type]
        return second

    assert queries.of(question, read_slowly) is first
    queries.remember(question, second, found)  # type: ignore[arg-type]
    assert queries._weight == first.weight, "what is not kept has no weight"


# --- what is quick


BY_DATE = to_bytes(query({"ScheduledProcedureStepStartDate": "20261123"}, PatientName=""))


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the clock says little."""
    monkeypatch.setattr("gateway.dicom.worklist_scp._NO_TIME", 60.0)


@pytest.mark.usefixtures("unhurried")
def test_a_query_for_one_item_study_or_patient_is_quick_others_once_they_were(gateway: Gateway) -> None:
    warm = Responder(gateway)
    assert warm.is_quick(CALLER, BY_NUMBER, IMPLICIT)
    assert warm.is_quick(CALLER, to_bytes(query({}, PatientID="9990000018")), IMPLICIT)
    assert not warm.is_quick(CALLER, BY_DATE, IMPLICIT)
    told(warm, BY_DATE)
    assert warm.is_quick(CALLER, BY_DATE, IMPLICIT)
    assert not warm.is_quick(replace(CALLER, ae_title="MAMMO2"), BY_DATE, IMPLICIT)


@pytest.mark.usefixtures("unhurried")
def test_what_no_index_serves_or_takes_long_to_read_is_never_quick_a_refusal_is(gateway: Gateway) -> None:
    warm = Responder(gateway)
    for data in (EVERYTHING, to_bytes(query({}, PatientName="*SMITH*")), to_bytes(query(PatientID="1" * 5_000))):
        told(warm, data)
        assert not warm.is_quick(CALLER, data, IMPLICIT)
    assert warm.is_quick(CALLER, b"garbage, no data set", IMPLICIT)
    assert warm.is_quick(CALLER, None, IMPLICIT)


@pytest.mark.usefixtures("unhurried")
def test_a_list_that_has_grown_long_is_not_quick_any_more(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dicom.worklist_scp._FEW", 3)
    warm = Responder(gateway)
    told(warm, BY_DATE)
    assert warm.is_quick(CALLER, BY_DATE, IMPLICIT)
    schedule(gateway, "ACC003", **participant(3))
    told(warm, BY_DATE)
    assert not warm.is_quick(CALLER, BY_DATE, IMPLICIT)


def test_a_list_that_took_long_to_begin_is_not_quick(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dicom.worklist_scp._NO_TIME", 0.0)
    warm = Responder(gateway)
    for data in (BY_DATE, BY_NUMBER):
        told(warm, data)
        assert not warm.is_quick(CALLER, data, IMPLICIT)


@pytest.mark.usefixtures("unhurried")
def test_an_answer_that_was_left_says_nothing_of_how_long_it_would_have_been(gateway: Gateway) -> None:
    warm = Responder(gateway)
    left = warm.find(CALLER, BY_DATE, IMPLICIT, lambda: False)
    next(left)
    left.close()
    assert not warm.is_quick(CALLER, BY_DATE, IMPLICIT)
