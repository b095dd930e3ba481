"""The responder as an engine sees it: every request gets an answer, and no log line names a patient."""

from __future__ import annotations

from typing import Any

import pytest
from dicom_samples import SYNTAXES, InMemory, captured_logs, changed, created, from_bytes, query, row, samples, to_bytes
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.dicom.caller import Caller, failed
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.find import FindResponse
from gateway.dicom.keys import ROOT
from gateway.dicom.mpps import RETRIEVE_SOP_CLASS, SOP_CLASS
from gateway.dicom.responder import Responder
from gateway.domain.performed_procedure_step import StepReport
from gateway.errors import Contention, DiskFull, GatewayError, OutcomeUnknown, StoreUnusable

CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
UID = "1.2.3.4.5"


def ask(
    responder: Responder, data: bytes | None, *, caller: Caller = CALLER, syntax: str = IMPLICIT
) -> list[FindResponse]:
    return list(responder.find(caller, data, syntax, lambda: False))


def numbers(responses: list[FindResponse]) -> list[str]:
    return [from_bytes(r.identifier).AccessionNumber for r in responses if r.identifier is not None]


def test_a_query_is_answered_in_order_and_ends_in_success(responder: Responder) -> None:
    responses = ask(responder, to_bytes(query({"Modality": "MG"}, AccessionNumber="")))
    assert numbers(responses) == ["ACC000", "ACC001", "ACC002"]
    assert responses[-1] == FindResponse(0x0000)


def test_nothing_found_is_success_without_identifier(responder: Responder) -> None:
    assert ask(responder, to_bytes(query({"Modality": "CT"}))) == [FindResponse(0x0000)]


@pytest.mark.parametrize("data", [None, b"", b"\x10\x00\x20\x00\x04\0\0\0ab", b"garbage, no data set"])
def test_an_identifier_that_is_none_is_refused_and_matches_nothing(responder: Responder, data: bytes | None) -> None:
    (response,) = ask(responder, data)
    assert response.status == 0xA900
    assert response.error_comment


def test_a_refusal_names_the_offending_element(responder: Responder) -> None:
    (response,) = ask(responder, to_bytes(query({"ScheduledProcedureStepStartDate": "20260230"})))
    assert (response.status, response.offending_elements) == (0xA900, (0x00400002,))
    assert response.error_comment == "(0040,0002) is no date and no range of them"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300, deadline=None
)
@given(data=st.binary(max_size=120))
@example(data=bytes.fromhex("4141414100000000"))
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_bytes_get_a_documented_status_and_never_match_everything(
    responder: Responder, syntax: str, data: bytes
) -> None:
    responses = ask(responder, data, syntax=syntax)
    assert responses[-1].status in (0x0000, 0xA900)
    assert all(len(response.error_comment) <= 64 for response in responses)
    if len(responses) > 1:  # only when it really asks for something of the worklist
        assert any(element.tag in ROOT for element in from_bytes(data, syntax))


def test_test_items_are_shown_only_to_test_callers_beside_the_real_ones() -> None:
    responder = Responder(InMemory([row("REAL"), row("TEST", is_test=True)]))
    data = to_bytes(query({}, AccessionNumber=""))
    assert numbers(ask(responder, data)) == ["REAL"]
    rehearsal = Caller("REHEARSAL", "ORTHANC_MWL", "192.0.2.7", 50000)
    assert numbers(ask(responder, data, caller=rehearsal)) == ["REAL", "TEST"]


def test_listed_statuses_are_a_setting() -> None:
    items = InMemory([row("A"), row("B", status="IN PROGRESS"), row("C", status="COMPLETED")])
    data = to_bytes(query({}, AccessionNumber=""))
    assert numbers(ask(Responder(items), data)) == ["A"]
    assert numbers(ask(Responder(items, listed_statuses=("SCHEDULED", "IN PROGRESS")), data)) == ["A", "B"]


def test_an_item_without_study_instance_uid_is_left_out_and_logged() -> None:
    erased = row("C", patient_id="", patient_name="", patient_birth_date="")
    responder = Responder(InMemory([row("A", study_instance_uid=None), row("B"), erased]))
    with captured_logs() as logs:
        assert numbers(ask(responder, to_bytes(query({}, AccessionNumber="")))) == ["B"]
    assert {"event": "items_incomplete", "log_level": "warning", "accession_numbers": ["A"]} in logs


def test_a_line_of_the_log_does_not_grow_with_the_answer() -> None:
    items = [row(f"A{number:02}", study_instance_uid=None) for number in range(30)]
    items += [row(f"B{number:02}", patient_name="MÜLLER^JANE") for number in range(30)]
    with captured_logs() as logs:
        ask(Responder(InMemory(items)), to_bytes(query({}, AccessionNumber="", PatientName="")))
    (incomplete,) = [line for line in logs if line["event"] == "items_incomplete"]
    (transliterated,) = [line for line in logs if line["event"] == "answer_transliterated"]
    assert incomplete["accession_numbers"] == [f"A{number:02}" for number in range(20)]
    assert (transliterated["items"], len(transliterated["accession_numbers"])) == (30, 20)


def test_a_cancel_ends_the_search_itself_not_only_the_answers() -> None:
    looked_at = 0

    class Endless(InMemory):
        def worklist(self, wanted: Any, known: Any) -> Any:
            nonlocal looked_at
            for _ in range(1000):
                looked_at += 1
                yield row(patient_birth_date="19000101")

    asked = to_bytes(query({}, PatientBirthDate="19650315"))
    (final,) = Responder(Endless()).find(CALLER, asked, IMPLICIT, lambda: looked_at >= 10)
    assert (final.status, looked_at) == (0xFE00, 10)


class Broken(InMemory):
    def find_items(self, wanted: Any) -> Any:
        raise RuntimeError("SMITH^JANE 9990000034")

    def start_step(self, *_: Any, **__: Any) -> Any:
        raise StoreUnusable("the database is full")


def test_a_failure_of_ours_is_0xc000_and_its_text_stays_out_of_the_log() -> None:
    with captured_logs() as logs:
        (response,) = ask(Responder(Broken()), to_bytes(query({}, AccessionNumber="")))
    assert response.status == 0xC000
    (failure,) = [line for line in logs if line["event"] == "request_failed"]
    assert (failure["phase"], failure["error"]) == ("query", "RuntimeError")
    assert "SMITH" not in str(logs)


def test_a_failure_of_ours_is_0110_without_error_id_so_that_the_unit_tries_again() -> None:
    with captured_logs() as logs:
        response = Responder(Broken()).n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    assert (response.status, response.error_id) == (0x0110, None)
    assert [line["code"] for line in logs if line["event"] == "request_failed"] == ["store_unusable"]


# --- MPPS


def test_the_life_of_a_step(responder: Responder, application: InMemory) -> None:
    assert responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT).status == 0x0000
    assert responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed(None)), IMPLICIT).status == 0x0000
    assert responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed()), IMPLICIT).status == 0x0000
    assert {r.accession_number: r.status for r in application.rows}["ACC001"] == "COMPLETED"
    assert application.callers == ["MAMMO1"]


def test_a_create_again_is_0111_and_changes_nothing(responder: Responder, application: InMemory) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    before = dict(application.reports)
    response = responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created(PatientID="1")), IMPLICIT)
    assert (response.status, response.sop_instance_uid) == (0x0111, UID)
    assert application.reports == before


def test_a_create_again_with_other_content_is_0111_and_its_tags_are_logged_without_values(
    responder: Responder,
) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    with captured_logs() as logs:
        assert responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT).status == 0x0111
        other = created(PatientID="9990000018", PerformedLocation="ROOM 2")
        assert responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(other, EXPLICIT), EXPLICIT).status == 0x0111
    (line,) = [line for line in logs if line["event"] == "step_created_differently"]
    assert line["differing"] == "(0010,0020) (0040,0243)"
    assert "9990000018" not in str(logs)


@pytest.mark.parametrize("data", [b"", b"garbage", to_bytes(created(PerformedProcedureStepStatus="COMPLETED"))])
def test_a_create_again_is_0111_whatever_is_wrong_with_it(responder: Responder, data: bytes) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    assert responder.n_create(CALLER, SOP_CLASS, UID, data, IMPLICIT).status == 0x0111


def test_an_n_set_without_a_create_is_0112(responder: Responder) -> None:
    assert responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed()), IMPLICIT).status == 0x0112


@pytest.mark.parametrize("again", ["COMPLETED", "DISCONTINUED", "IN PROGRESS", None, "NONSENSE"])
def test_a_final_step_may_no_longer_be_updated_table_f_7_2_2(responder: Responder, again: str | None) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed()), IMPLICIT)
    response = responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed(again)), IMPLICIT)
    assert (response.status, response.error_id) == (0x0110, 0xA710)
    assert response.error_comment == "Performed Procedure Step Object may no longer be updated"


def test_an_instance_is_assigned_when_the_create_names_none_ps3_7_10_1_5_1_4(responder: Responder) -> None:
    response = responder.n_create(CALLER, SOP_CLASS, None, to_bytes(created()), IMPLICIT)
    assert response.status == 0x0000
    assert response.sop_instance_uid.startswith("2.25.")


def test_another_sop_class_is_0122_and_0119_for_an_instance_that_exists(responder: Responder) -> None:
    def statuses() -> set[int]:
        return {
            responder.n_create(CALLER, "1.2.3", UID, to_bytes(created()), IMPLICIT).status,
            responder.n_set(CALLER, "1.2.3", UID, to_bytes(changed()), IMPLICIT).status,
            responder.n_get(CALLER, "1.2.3", UID, (), IMPLICIT).status,
        }

    assert statuses() == {0x0122}
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    assert statuses() == {0x0119}


def test_an_operation_of_the_other_class_of_the_service_is_0211(responder: Responder) -> None:
    assert responder.n_get(CALLER, SOP_CLASS, UID, (), IMPLICIT).status == 0x0211
    assert responder.n_set(CALLER, RETRIEVE_SOP_CLASS, UID, to_bytes(changed()), IMPLICIT).status == 0x0211
    assert responder.n_create(CALLER, RETRIEVE_SOP_CLASS, UID, to_bytes(created()), IMPLICIT).status == 0x0211


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (DiskFull("the disk is full"), 0x0213),
        (Contention("the database was held by another process"), 0x0213),
        (OutcomeUnknown("disk I/O error"), 0x0110),
        (StoreUnusable("the database can't be read"), 0x0110),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_unit_may_send_again_is_told_apart_from_a_final_step(failure: GatewayError, status: int) -> None:
    class Failing(InMemory):
        def start_step(self, *_: Any, **__: Any) -> Any:
            raise failure

        change_step = performed_step = start_step

    responder = Responder(Failing())
    for response in (
        responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT),
        responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed()), IMPLICIT),
        responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, (), IMPLICIT),
    ):
        assert (response.status, response.error_id, response.sop_instance_uid) == (status, None, UID)
        assert 0 < len(response.error_comment) <= 64


# --- MPPS Retrieve


def test_a_step_is_retrieved_as_its_data_sets_amount_to(responder: Responder) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed()), IMPLICIT)
    response = responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, (), IMPLICIT)
    assert (response.status, response.sop_instance_uid, response.attribute_identifier_list) == (0x0000, UID, ())
    held = from_bytes(response.attribute_list or b"")
    assert (held.PatientID, held.PerformedProcedureStepStatus) == ("9990000034", "COMPLETED")


def test_optional_attributes_not_held_are_a_warning_with_their_tags_0001(responder: Responder) -> None:
    responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
    response = responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, (0x00400252, 0x00400301), IMPLICIT)
    assert (response.status, response.attribute_identifier_list) == (0x0001, (0x00400301,))
    assert from_bytes(response.attribute_list or b"").PerformedProcedureStepStatus == "IN PROGRESS"


def test_an_unknown_instance_is_0112_to_retrieve_too(responder: Responder) -> None:
    assert responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, (), IMPLICIT).status == 0x0112
    assert responder.n_get(CALLER, RETRIEVE_SOP_CLASS, "abc", (), IMPLICIT).status == 0x0117


def test_what_stands_in_the_place_of_a_uid_may_be_a_name_and_is_not_logged(responder: Responder) -> None:
    with captured_logs() as logs:
        response = responder.n_create(CALLER, SOP_CLASS, "SMITH^JANE", to_bytes(created()), IMPLICIT)
    assert response.status == 0x0117
    assert [log["sop_instance_uid"] for log in logs] == ["not a UID"]


def test_a_stored_step_that_can_not_be_decoded_is_0110(responder: Responder, application: InMemory) -> None:
    application.reports[UID] = StepReport(
        sop_instance_uid=UID, references=(), attribute_list=b"garbage", transfer_syntax=IMPLICIT
    )
    assert responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, (), IMPLICIT).status == 0x0110


DOCUMENTED = {0x0000, 0x0001, 0x0106, 0x0110, 0x0111, 0x0112, 0x0117, 0x0119, 0x0120, 0x0121, 0x0122, 0x0211, 0x0213}


@settings(deadline=None)
@given(
    data=st.binary(max_size=200) | st.just(to_bytes(created())),
    later=st.binary(max_size=200) | st.just(to_bytes(changed())),
    tags=st.lists(st.integers(0, 0xFFFFFFFF), max_size=4),
    syntax=st.sampled_from([*SYNTAXES, "1.2.840.10008.1.2.2"]),
)
def test_any_bytes_get_a_documented_status_and_what_was_accepted_is_kept(
    data: bytes, later: bytes, tags: list[int], syntax: str
) -> None:
    application = InMemory()
    responder = Responder(application)
    create = responder.n_create(CALLER, SOP_CLASS, UID, data, syntax)
    change = responder.n_set(CALLER, SOP_CLASS, UID, later, syntax)
    get = responder.n_get(CALLER, RETRIEVE_SOP_CLASS, UID, tags, IMPLICIT)
    assert {create.status, change.status, get.status} <= DOCUMENTED
    accepted = [bytes_ for bytes_, response in ((data, create), (later, change)) if response.status == 0x0000]
    told = [*application.reports.values(), *application.changes]
    assert [one.attribute_list for one in told] == accepted


def test_a_uid_that_is_none_is_0117(responder: Responder) -> None:
    assert responder.n_set(CALLER, SOP_CLASS, "abc", to_bytes(changed()), IMPLICIT).status == 0x0117


def test_an_undecodable_attribute_list_is_0110_with_a_comment(responder: Responder) -> None:
    response = responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created())[:-3], IMPLICIT)
    assert (response.status, response.error_id) == (0x0110, None)
    assert response.error_comment.startswith("attribute list: ")


def test_an_operation_that_the_class_does_not_have_is_0211(responder: Responder) -> None:
    assert responder.unrecognised(CALLER, "N-GET", UID).status == 0x0211


# --- the log


def test_no_log_line_names_a_patient(responder: Responder) -> None:
    identifying = [
        value for item in samples() for value in (item.patient_name, item.patient_id, item.patient_birth_date)
    ]
    with captured_logs() as logs:
        responder.echo(CALLER)
        ask(responder, to_bytes(query({"Modality": "MG"}, PatientName="SMITH^JANE", PatientID="9990000034")))
        ask(responder, to_bytes(query({"ScheduledProcedureStepStartDate": "19650315x"})))
        responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created(PerformedProcedureStepStartTime="x")), IMPLICIT)
        responder.n_create(CALLER, SOP_CLASS, UID, to_bytes(created()), IMPLICIT)
        responder.n_set(CALLER, SOP_CLASS, UID, to_bytes(changed("NONSENSE", PatientName="SMITH^JANE")), IMPLICIT)
    assert {"query_answered", "step_started", "step_odd", "step_refused"} <= {line["event"] for line in logs}
    for value in identifying:
        assert value not in str(logs)


def test_a_query_is_logged_with_its_keywords_and_the_number_of_answers(responder: Responder) -> None:
    with captured_logs() as logs:
        ask(responder, to_bytes(query({"Modality": "MG"}, PatientName="SMITH*", PatientID="")))
    (line,) = [line for line in logs if line["event"] == "query_answered"]
    assert (line["calling_ae"], line["address"], line["answers"]) == ("MAMMO1", "192.0.2.7", 2)
    assert line["keys"] == ["PatientName", "Modality"]


def test_a_failure_that_was_never_raised_is_told_as_well(caller: Caller) -> None:
    with captured_logs() as logs:
        failed("operation", caller, ValueError("SMITH^JANE"))
    ((error, where),) = [(line["error"], line["where"]) for line in logs]
    assert (error, where) == ("ValueError", "")
