"""Erasing a person: history keeps its shape and verifies, and nothing shows the person any more."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from eventsourcing.persistence import StoredEvent

from bench.synthetic import (
    PERSON,
    appointment,
    change,
    completed,
    create_request,
    naming,
    participant,
    progressing,
    request,
    schedule,
    start,
    step_uid,
)
from gateway.application import PROJECTIONS, Gateway, opened
from gateway.audit import erasure
from gateway.audit.erasure import Erased, Found, NotOver, NotSealed
from gateway.dicom import data_set, record
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN, Element
from gateway.dicom.record import Query, QueryRecord
from gateway.dicom.responder import Caller, Responder
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import PerformedProcedureStep, StepExists
from gateway.domain.relay_action import RelayAction
from gateway.domain.worklist_item import ERASED_PERSON, WorklistItem
from gateway.errors import IllegalTransition, InvalidValue, NotFound
from gateway.eventstore import chain
from gateway.eventstore.keys import KeyFile
from projections.worklist import WorklistFilter, WorklistRow

JANE = PERSON["patient_id"]
OTHER = participant(7) | {"patient_name": "JONES^ANNA"}
SECRETS = [JANE, "SMITH", "smith^jane", "19650315", "Mrs. Smith"]
"""What names Jane anywhere in the story; the names of the columns and the other woman's values are none of it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    with opened(path, sealing=True) as opened_gateway:
        yield opened_gateway


def story(gateway: Gateway) -> None:
    """Jane: examined, cancelled with a reason, refused once, a step that was linked late. The other: scheduled."""
    schedule(gateway, "ACC001")
    start(gateway, step_uid(1), naming("ACC001"), attribute_list=b"SMITH^JANE 9990000018")
    change(gateway, progressing(step_uid(1)))
    change(gateway, completed(step_uid(1)))
    schedule(gateway, "ACC002")
    gateway.amend("ACC002", lambda _: {"patient_name": "SMITH^JANET", "location": "HALL 2"}, request=request("amend"))
    gateway.cancel("ACC002", "Mrs. Smith rang", request=request("cancel", reason="Mrs. Smith rang"))
    conflict = appointment("ACC001", patient_name="SMITH^JANE^MARY")
    assert gateway.schedule(conflict, request=create_request("conflict", conflict)).status == "error"
    schedule(gateway, "ACC003")
    start(gateway, step_uid(2), naming("ACC999"), patient_id="", patient_name="SMITH^J")
    gateway.link_step(step_uid(2), "ACC003", reason="Mrs. Smith told us", operator="night shift")
    change(gateway, completed(step_uid(2)))
    gateway.reject_unidentified(request("", text=f"{{ half a message about {JANE} and SMITH"), InvalidValue("not JSON"))
    schedule(gateway, "ACC007", **OTHER)


def erase(gateway: Gateway, patient_id: str = JANE, reason: str = "request 114") -> Erased:
    found = erasure.find(gateway, patient_id)
    return erasure.erase(gateway, patient_id, found, reason=reason, operator="dpo")


def tables(path: Path) -> dict[str, list[Any]]:
    names = [table for projection in PROJECTIONS for table in projection.TABLES]
    with closing(sqlite3.connect(path)) as prompt:
        return {name: sorted(prompt.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def row(gateway: Gateway, number: str) -> WorklistRow:
    [found] = gateway.find_items(WorklistFilter(accession_number=number))
    return found


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}


def secrets_in(content: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in content]


# --- what is gone, and what stays


def test_no_file_holds_the_person_any_more(gateway: Gateway, path: Path) -> None:
    story(gateway)
    assert any(secrets_in(content) for content in files(path).values())
    erase(gateway)
    assert {name: secrets_in(content) for name, content in files(path).items() if secrets_in(content)} == {}


def test_the_keys_themselves_are_overwritten(gateway: Gateway, path: Path) -> None:
    story(gateway)
    ring = gateway.sealing.keys
    assert ring
    with gateway.reading() as connection:
        mine = {r[0] for r in connection.execute("SELECT key_id FROM patient_keys WHERE patient = ?",
                                                 (gateway.sealing.pseudonym(JANE),))}  # fmt: skip
    known = dict(ring._connection.execute("SELECT key_id, key FROM keys").fetchall())
    erase(gateway)
    content = b"".join(content for name, content in files(path).items() if ".keys" in name)
    assert len(mine) == 2  # hers, and that of the step that was linked late
    assert [key_id for key_id in mine if known[key_id] in content] == []
    assert sum(key in content for key in known.values()) >= len(known) - 3
    assert [ring.states()[key_id] for key_id in mine] == [True, True]


def test_history_keeps_its_shape_and_verifies(gateway: Gateway, path: Path) -> None:
    story(gateway)
    with gateway.reading() as connection:
        before = [tuple(r) for r in connection.execute("SELECT rowid, * FROM stored_events ORDER BY rowid")]
        links = [tuple(r) for r in connection.execute("SELECT * FROM event_chain ORDER BY position")]
    erase(gateway)
    with gateway.reading() as connection:
        after = [tuple(r) for r in connection.execute("SELECT rowid, * FROM stored_events ORDER BY rowid")]
        linked = [tuple(r) for r in connection.execute("SELECT * FROM event_chain ORDER BY position")]
        assert chain.verify(connection).intact
    assert (after[: len(before)], linked[: len(links)]) == (before, links)


def test_the_tables_keep_everything_but_the_person(gateway: Gateway) -> None:
    story(gateway)
    before = row(gateway, "ACC001")
    erase(gateway)
    after = row(gateway, "ACC001")
    assert (after.patient_id, after.patient_name, after.patient_birth_date, after.patient_sex) == ("", "", "", None)
    kept = ("status", "scheduled_date", "scheduled_time", "study_instance_uid", "mpps_instance_uid", "modality")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    with gateway.reading() as connection:
        steps = [tuple(r) for r in connection.execute("SELECT patient_id, patient_name, status FROM performed_steps")]
    assert steps == [("", "", "COMPLETED"), ("", "", "COMPLETED")]


def test_the_timeline_tells_that_it_was_done_and_why_and_no_reason_that_people_wrote(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    told = [r for number in ("ACC002", "ACC003", "ACC999") for r in gateway.timeline(number)]
    reasons = {(r.kind, r.details["reason"]) for r in told if "reason" in r.details}
    assert reasons == {
        ("WorklistItem.PersonErased", "request 114"),
        ("PerformedProcedureStep.PersonErased", "request 114"),
    }
    [amended] = [r for r in told if r.kind == "WorklistItem.Amended"]
    assert amended.details == {"fields": ["location"]}


def test_a_rebuild_gives_exactly_what_the_erasure_left(gateway: Gateway, path: Path) -> None:
    story(gateway)
    erase(gateway)
    assert gateway.verify_projections() == []
    before = tables(path)
    gateway.rebuild_projections()
    assert tables(path) == before


def test_aggregates_still_load_and_a_repeated_action_has_its_answer(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    item = gateway.load(WorklistItem, WorklistItem.create_id("ACC002"))
    step = gateway.load(PerformedProcedureStep, PerformedProcedureStep.create_id(step_uid(2)))
    assert item
    assert step
    assert (item.is_erased, item.status, item.appointment.location) == (True, "CANCELLED", "HALL 2")
    assert (step.is_erased, step.status, step.accession_numbers) == (True, "COMPLETED", ["ACC003"])
    again = appointment("ACC001")
    reply = gateway.schedule(again, request=create_request("create-ACC001", again))
    assert (reply.status, reply.duplicate) == ("created", True)
    [receipt] = gateway.events.get(RelayAction.create_id("create-ACC001"))
    assert receipt.request == ""
    data_sets = gateway.performed_step(step_uid(1))
    assert data_sets
    assert {data for data, _ in data_sets.data_sets} == {b""}


def test_the_other_patient_is_as_she_was(gateway: Gateway) -> None:
    story(gateway)
    before = row(gateway, "ACC007")
    erase(gateway)
    assert row(gateway, "ACC007") == before
    item = gateway.load(WorklistItem, WorklistItem.create_id("ACC007"))
    assert item
    assert item.appointment == appointment("ACC007", **OTHER)


def test_the_event_of_an_erasure_names_nobody(gateway: Gateway) -> None:
    story(gateway)
    done = erase(gateway)
    with gateway.reading() as connection:
        kept = connection.execute("SELECT state FROM stored_events WHERE topic = 'Erasure.PersonErased'")
        [(state,)] = kept.fetchall()
    assert secrets_in(state) == []
    assert b"request 114" in state
    assert done.keys == 3  # hers, the linked step's, and the unreadable message's
    assert done.accession_numbers == ("ACC001", "ACC002", "ACC003")


# --- whose it is


def test_all_keys_of_racing_first_saves_are_destroyed(path: Path) -> None:
    with opened(path, sealing=True) as one, opened(path, sealing=True) as other:
        other.sealing._patients(other.sealing.pseudonym(JANE))  # chosen, and not yet saved
        schedule(one, "ACC001")
        schedule(other, "ACC002")
        for number in ("ACC001", "ACC002"):
            one.cancel(number)
        assert erase(one).keys == 2
        assert [row(one, number).is_erased for number in ("ACC001", "ACC002")] == [True, True]
        assert one.verify_projections() == []


def test_a_step_that_was_never_linked_is_found_by_the_id_in_it(gateway: Gateway) -> None:
    story(gateway)
    start(gateway, step_uid(5), naming("ACC998"))
    gateway.dismiss_step(step_uid(5), reason="a repeat", operator="night shift")
    start(gateway, step_uid(6), naming("ACC997"), patient_id="", patient_name="")
    change(gateway, progressing(step_uid(6)))
    late = replace(completed(step_uid(6)), attribute_list=b"Other Patient IDs: 9990000018")
    change(gateway, late)
    gateway.dismiss_step(step_uid(6), reason="nobody knows", operator="night shift")
    assert erase(gateway).performed_steps == 4
    assert gateway.verify_projections() == []


@pytest.mark.parametrize("who", [JANE, OTHER["patient_id"]])
def test_an_item_that_was_once_the_person_s_shows_nobody(gateway: Gateway, path: Path, who: str) -> None:
    """It was scheduled for one and amended to be the other's: whichever is erased, no row mixes the two."""
    schedule(gateway, "ACC001")
    gateway.amend("ACC001", lambda _: {"patient_id": OTHER["patient_id"], "patient_name": OTHER["patient_name"]})
    gateway.cancel("ACC001", "a mix-up")
    erase(gateway, who)
    assert row(gateway, "ACC001").is_erased
    before = tables(path)
    gateway.rebuild_projections()
    assert tables(path) == before


def test_an_appointment_after_the_erasure_is_a_new_life(path: Path) -> None:
    """Also in a process that knew the old key."""
    with opened(path, sealing=True) as service:
        schedule(service, "ACC001")
        service.cancel("ACC001")
        with opened(path, sealing=True) as hand:
            erase(hand)
        schedule(service, "ACC002")
        assert row(service, "ACC002").patient_id == JANE
        item = service.load(WorklistItem, WorklistItem.create_id("ACC002"))
        assert item
        assert item.appointment == appointment("ACC002")
        assert service.verify_projections() == []
        service.cancel("ACC002")
        assert erase(service).accession_numbers == ("ACC002",)
        assert len(erasure.find(service, JANE).before) == 2


def test_a_message_about_an_erased_person_is_kept_also_by_a_process_that_knew_the_old_key(path: Path) -> None:
    with opened(path, sealing=True) as service:
        schedule(service, "ACC001")
        service.cancel("ACC001")
        with opened(path, sealing=True) as hand:
            erase(hand)
        wanted = appointment("ACC001")
        again = create_request("create-ACC001", appointment("ACC001", location="HALL 9"))
        again = replace(again, digest="another content")
        assert service.schedule(wanted, request=again).code == "action_id_conflict"
        assert service.verify_projections() == []


# --- what is refused


@pytest.mark.parametrize("going_on", ["SCHEDULED", "IN PROGRESS"])
def test_nothing_is_erased_while_an_item_is_not_over(gateway: Gateway, path: Path, going_on: str) -> None:
    story(gateway)
    schedule(gateway, "ACC008")
    if going_on == "IN PROGRESS":
        start(gateway, step_uid(8), naming("ACC008"))
    before = tables(path)
    with pytest.raises(NotOver, match=f"item ACC008 is {going_on}; nothing was erased") as refused:
        erase(gateway)
    assert "gateway steps complete or cancel" in refused.value.remedy
    assert tables(path) == before
    gateway.correct_status("ACC008", Status.CANCELLED, reason="by hand", operator="night shift")
    assert "ACC008" in erase(gateway).accession_numbers


def test_nothing_is_erased_while_an_unmatched_step_waits(gateway: Gateway) -> None:
    story(gateway)
    start(gateway, step_uid(9), naming("ACC998"))
    with pytest.raises(NotOver, match="waits for a person; nothing was erased"):
        erase(gateway)


def test_what_was_saved_in_plain_text_can_not_be_erased_and_is_counted(path: Path) -> None:
    with opened(path) as gateway:
        schedule(gateway, "ACC001")
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC002")
        for number in ("ACC001", "ACC002"):
            gateway.cancel(number, "did not attend")
        before = tables(path)
        with pytest.raises(NotSealed, match=r"2 events hold this person in plain text \(positions 1, 2\)"):
            erase(gateway)
        assert tables(path) == before


def test_a_database_that_is_not_sealed_says_so(path: Path) -> None:
    with opened(path) as gateway:
        schedule(gateway, "ACC001")
        gateway.cancel("ACC001", "did not attend")
        with pytest.raises(NotSealed, match="3 events hold this person in plain text"):
            erase(gateway)


def test_a_person_of_whom_nothing_is_known_is_said(gateway: Gateway) -> None:
    story(gateway)
    with pytest.raises(NotFound, match="nothing of this patient"):
        erase(gateway, "9990000999")


@pytest.mark.parametrize("reason", [f"{JANE} asked for it", "Jane asked for it", "letter from MRS SMITH"])
def test_a_reason_that_names_the_person_is_refused(gateway: Gateway, reason: str) -> None:
    story(gateway)
    with pytest.raises(InvalidValue, match="names the person"):
        erase(gateway, reason=reason)


# --- afterwards


def test_a_second_time_finds_nothing_left_and_says_when_it_was_done(gateway: Gateway) -> None:
    story(gateway)
    first = erase(gateway)
    again = erase(gateway)
    assert (again.events, again.erased_at) == (0, first.erased_at)


def test_an_erased_item_takes_nothing_more(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    with pytest.raises(IllegalTransition, match="was erased"):
        gateway.correct_status("ACC002", Status.SCHEDULED, reason="back", operator="night shift")
    start(gateway, step_uid(6), naming("ACC998"), **{k: OTHER[k] for k in ("patient_id", "patient_name")})
    with pytest.raises(IllegalTransition, match="was erased"):
        gateway.link_step(step_uid(6), "ACC002", reason="x", operator="night shift", despite_other_patient=True)
    with pytest.raises(IllegalTransition, match="was erased"):
        gateway.link_step(step_uid(2), "ACC007", reason="x", operator="night shift", despite_other_patient=True)


@pytest.mark.parametrize("patient_id", ["", JANE])
def test_a_performed_step_for_an_erased_item_is_kept_apart_and_waits_for_a_person(
    gateway: Gateway, patient_id: str
) -> None:
    story(gateway)
    erase(gateway)
    before = row(gateway, "ACC001")
    outcome = start(gateway, step_uid(6), naming("ACC001"), patient_id=patient_id)
    assert outcome.accession_numbers == ()
    assert outcome.unmatched == ("the person of item ACC001 was erased",)
    assert row(gateway, "ACC001") == before


def test_an_erased_item_is_on_no_modality_s_list(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    responder = Responder(gateway, listed_statuses=[status.value for status in Status])
    caller = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 4242)
    asked = data_set.encode([Element(0x00080050, "SH", b"")], IMPLICIT_VR_LITTLE_ENDIAN)
    answers = [r.identifier for r in responder.find(caller, asked, IMPLICIT_VR_LITTLE_ENDIAN, lambda: False)]
    assert [b"ACC007" in identifier for identifier in answers if identifier] == [True]


def test_a_late_n_set_of_an_erased_step_goes_into_the_log_under_a_key_of_its_own(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    start(gateway, step_uid(1), naming("ACC001"))
    gateway.correct_status("ACC001", Status.COMPLETED, reason="by hand", operator="night shift")
    erase(gateway)
    change(gateway, completed(step_uid(1)))
    step = gateway.load(PerformedProcedureStep, PerformedProcedureStep.create_id(step_uid(1)))
    assert step
    assert step.status == "COMPLETED"
    assert gateway.verify_projections() == []


# --- interrupted, restored


def test_an_old_key_file_that_is_put_back_is_erased_again_at_the_next_start(path: Path, tmp_path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        story(gateway)
    old = tmp_path / "old.keys"
    shutil.copy(path.with_name("gateway.db.keys"), old)
    with opened(path, sealing=True) as gateway:
        erase(gateway)
    with opened(path, keys_path=old) as gateway:
        assert gateway.keys_destroyed == 3
        item = gateway.load(WorklistItem, WorklistItem.create_id("ACC001"))
        assert item
        assert item.is_erased
    with closing(KeyFile(old)) as keys:
        assert sum(keys.states().values()) == 3


def test_a_database_from_before_the_erasure_with_the_keys_of_after_it_shows_nobody(path: Path, tmp_path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        story(gateway)
    old = tmp_path / "old.db"
    shutil.copy(path, old)
    with opened(path, sealing=True) as gateway:
        erase(gateway)
    with opened(old, keys_path=path.with_name("gateway.db.keys")) as gateway:
        assert row(gateway, "ACC001").is_erased
        assert gateway.verify_projections() == []
        assert row(gateway, "ACC007").patient_id == OTHER["patient_id"]


# --- the record of queries


def asking(number: int, **keys: str) -> Query:
    tags = {"PatientName": (0x00100010, "PN"), "PatientID": (0x00100020, "LO"), "AccessionNumber": (0x00080050, "SH")}
    elements = [Element(*tags[name], value.encode()) for name, value in keys.items()]
    return Query(
        at=f"2026-11-23T09:00:{number:02d}.000+00:00",
        calling_ae_title="MAMMO1",
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.7",
        keys=tuple(keys),
        identifier=data_set.encode(sorted(elements, key=lambda e: e.tag), IMPLICIT_VR_LITTLE_ENDIAN),
        transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN,
        status=0,
        error_comment="",
        answers=1,
        accession_numbers=("ACC001",),
        milliseconds=1.0,
    )


def recorded(gateway: Gateway, *queries: Query) -> list[Query]:
    book = QueryRecord(gateway)
    for query in queries:
        book.add(query)
    book.start()
    book.close()
    return kept(gateway)


def kept(gateway: Gateway) -> list[Query]:
    with gateway.reading() as connection:
        queries = reversed(record.latest_queries(connection, limit=99))
        return [record.opened(query, gateway.sealing) for query in queries]


def test_the_identifier_of_a_query_is_sealed_and_read_again(gateway: Gateway, path: Path) -> None:
    asked = asking(1, PatientName="SMITH*")
    [query] = recorded(gateway, asked)
    assert query.identifier == asked.identifier
    assert b"SMITH" not in b"".join(files(path).values())


def test_without_sealing_it_is_kept_as_it_is(path: Path) -> None:
    with opened(path) as gateway:
        [query] = recorded(gateway, asking(1, PatientName="SMITH*"))
        assert (query.key_id, query.sealed) == (None, None)


@pytest.mark.parametrize(
    ("keys", "erased"),
    [
        ({"PatientID": JANE}, True),
        ({"PatientName": "SMITH^JANE"}, True),
        ({"PatientName": "smi*"}, True),
        ({"AccessionNumber": "ACC002"}, True),
        ({"PatientID": OTHER["patient_id"]}, False),
        ({"PatientName": "JONES*"}, False),
        ({"PatientName": "*"}, False),
        ({"AccessionNumber": "ACC007"}, False),
        ({"PatientName": "", "PatientID": ""}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("sealing", [True, False])
def test_a_query_that_names_the_person_loses_its_identifier_and_no_other_does(
    gateway: Gateway, path: Path, keys: dict[str, str], erased: bool, sealing: bool
) -> None:
    story(gateway)
    with opened(path, sealing=sealing) as recording:
        recorded(recording, asking(1, **keys))
    assert erase(gateway).queries == int(erased)
    [query] = kept(gateway)
    assert (query.identifier is None) == erased
    assert (query.calling_ae_title, query.accession_numbers) == ("MAMMO1", ("ACC001",))


def test_what_was_found_before_is_looked_at_again_when_more_came_in(gateway: Gateway) -> None:
    """Between the look and the erasure the service goes on."""
    story(gateway)
    found: Found = erasure.find(gateway, JANE)
    schedule(gateway, "ACC009")
    gateway.cancel("ACC009", "Mrs. Smith again")
    done = erasure.erase(gateway, JANE, found, reason="request 114", operator="dpo")
    assert "ACC009" in done.accession_numbers
    assert gateway.verify_projections() == []


def test_an_n_get_of_an_erased_step_answers_that_nothing_is_held(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    caller = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 4242)
    answer = Responder(gateway).n_get(
        caller, "1.2.840.10008.3.1.2.3.4", step_uid(1), [0x00100010, 0x00100020], IMPLICIT_VR_LITTLE_ENDIAN
    )
    assert answer.status in (0x0000, 0x0001)
    assert b"SMITH" not in (answer.attribute_list or b"")
    assert JANE.encode() not in (answer.attribute_list or b"")


def test_an_n_create_that_a_unit_repeats_after_the_erasure_is_a_repeat(gateway: Gateway) -> None:
    story(gateway)
    erase(gateway)
    with pytest.raises(StepExists):
        start(gateway, step_uid(1), naming("ACC001"))


def stored(gateway: Gateway, stream: Any) -> list[StoredEvent]:
    return list(gateway.recorder.select_events(stream))


def test_the_state_that_exports_take_is_open_needs_no_key_and_says_what_was_erased(
    gateway: Gateway, tmp_path: Path
) -> None:
    story(gateway)
    hers, others = (WorklistItem.create_id(number) for number in ("ACC001", "ACC007"))
    before = gateway.mapper.open_state(stored(gateway, hers)[0])
    assert before["envelope"] == {"key_id": None, "sealed": {"person": PERSON}}
    erase(gateway)
    erased = gateway.mapper.open_state(stored(gateway, hers)[0])
    assert erased["envelope"] == {"key_id": mock.ANY, "erased": True}
    assert gateway.mapper.open_state(stored(gateway, others)[0])["envelope"]["sealed"]["person"] == OTHER
    with opened(tmp_path / "elsewhere.db") as elsewhere:
        event = stored(gateway, hers)[0]
        moved = StoredEvent(event.originator_id, 1, event.topic, elsewhere.mapper.transcoder.encode(erased))
        assert elsewhere.mapper.to_domain_event(moved).person == ERASED_PERSON
        assert elsewhere.mapper.open_state(moved) == erased


@pytest.mark.parametrize(
    ("patient_id", "other_uid"), [("680043", "1.2.826.0.1.3680043.8.7"), ("999000", "2.25.999000.1")]
)
def test_a_patient_id_is_no_part_of_a_uid_nor_of_another_id(gateway: Gateway, patient_id: str, other_uid: str) -> None:
    """What is nobody else's is theirs only where the whole Patient ID stands in it."""
    schedule(gateway, "ACC001", patient_id=patient_id)
    gateway.cancel("ACC001")
    uid_in_bytes = f"\0{other_uid}\0 9990001 \0".encode()
    start(gateway, step_uid(1), naming("ACC404"), patient_id="", attribute_list=uid_in_bytes)
    gateway.dismiss_step(step_uid(1), reason="a phantom", operator="ward")
    start(
        gateway,
        step_uid(2),
        naming("ACC404"),
        patient_id=OTHER["patient_id"],
        attribute_list=f"LO {patient_id} ".encode(),
    )
    gateway.dismiss_step(step_uid(2), reason="a phantom", operator="ward")
    erase(gateway, patient_id)
    for uid in (step_uid(1), step_uid(2)):
        step = gateway.performed_step(uid)
        assert step is not None
        assert step.data_sets[0][0]
