"""The cases of MPPS in a clinic, over real associations, the real application and a real store.

The client is pynetdicom, and its answers are read by pydicom; what became of the worklist is asked of the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from dicom_samples import AE_TITLE, SYNTAXES, captured_logs, changed, created, from_bytes, hold, scheduled_step, series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import N_CREATE, N_SET
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve

from bench.synthetic import PERSON, schedule
from gateway.application import Gateway, opened
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.performed_procedure_step import StepRecord
from gateway.rehearsal.requestor import associate
from projections.worklist import WorklistFilter
from tests.serving import serving

UID, SECOND = "1.2.3.4.5", "1.2.3.4.6"
UNSPECIFIED, WRONG_ENTRY, OF_THE_PATIENT = "110513", "110514", "110515"


@dataclass
class Unit:
    """A modality with one association, and the command sets it was answered with."""

    peer: Any
    commands: list[Dataset] = field(default_factory=list)

    def create(self, attributes: Dataset, uid: str = UID) -> int:
        """N-CREATE."""
        status, _ = self.peer.send_n_create(attributes, ModalityPerformedProcedureStep, uid)
        return int(status.Status)

    def set(self, attributes: Dataset, uid: str = UID) -> int:
        """N-SET."""
        status, _ = self.peer.send_n_set(attributes, ModalityPerformedProcedureStep, uid)
        return int(status.Status)

    def get(self, uid: str = UID) -> Dataset:
        """N-GET of the whole instance."""
        status, held = self.peer.send_n_get([], ModalityPerformedProcedureStepRetrieve, uid)
        assert status.Status == 0x0000
        return held


@contextmanager
def served(gateway: Gateway) -> Iterator[AssociationServer]:
    with serving(Responder(gateway)) as server:
        yield server


@contextmanager
def unit_of(server: AssociationServer) -> Iterator[Unit]:
    commands: list[Dataset] = []
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
    for sop_class in (ModalityPerformedProcedureStep, ModalityPerformedProcedureStepRetrieve):
        entity.add_requested_context(sop_class, list(SYNTAXES))
    received = [(evt.EVT_DIMSE_RECV, lambda event: commands.append(event.message.command_set))]
    peer = associate(entity, "127.0.0.1", server.port, ae_title=AE_TITLE, evt_handlers=received)
    assert peer.is_established
    try:
        yield Unit(peer, commands)
    finally:
        if peer.is_established:
            peer.release()


@pytest.fixture
def unit(gateway: Gateway) -> Iterator[Unit]:
    with served(gateway) as server, unit_of(server) as unit:
        yield unit


def status_of(gateway: Gateway, accession_number: str = "ACC001") -> str:
    (row,) = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return row.status


def study_of(gateway: Gateway, accession_number: str = "ACC001") -> str:
    (row,) = gateway.find_items(WorklistFilter(accession_number=accession_number))
    assert row.study_instance_uid
    return row.study_instance_uid


def record_of(gateway: Gateway, uid: str = UID) -> StepRecord:
    record = gateway.performed_step(uid)
    assert record is not None
    return record


def of_item(gateway: Gateway, *accession_numbers: str, **changes: Any) -> Dataset:
    """The create of a unit that copied these items of the worklist."""
    steps = [
        scheduled_step(number, StudyInstanceUID=study_of(gateway, number))
        for number in accession_numbers or ("ACC001",)
    ]
    values = {"PatientID": PERSON["patient_id"], "ScheduledStepAttributesSequence": steps, **changes}
    return created(**values)


def reason(code: str, meaning: str = "as the code says") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
    return item


def discontinued(code: str) -> Dataset:
    return changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason(code)])


# --- what was planned


def test_scheduled_its_item_follows_the_step(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    assert unit.create(of_item(gateway)) == 0x0000
    assert status_of(gateway) == "IN PROGRESS"
    assert unit.set(changed("COMPLETED", PerformedSeriesSequence=[series(4)], EntranceDoseInmGy="5.8")) == 0x0000
    assert status_of(gateway) == "COMPLETED"
    held = unit.get()
    assert held.PerformedProcedureStepStatus == "COMPLETED"
    assert len(held.PerformedSeriesSequence[0].ReferencedImageSequence) == 4
    assert record_of(gateway).accession_numbers == ("ACC001",)


def test_a_group_every_item_follows_the_one_step(unit: Unit, gateway: Gateway) -> None:
    for number in ("ACC001", "ACC002", "ACC003"):
        schedule(gateway, number)
    assert unit.create(of_item(gateway, "ACC001", "ACC002", "ACC003")) == 0x0000
    assert {status_of(gateway, number) for number in ("ACC001", "ACC002", "ACC003")} == {"IN PROGRESS"}
    assert unit.set(changed()) == 0x0000
    assert {status_of(gateway, number) for number in ("ACC001", "ACC002", "ACC003")} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (changed("COMPLETED"), discontinued(UNSPECIFIED), "COMPLETED"),
        (discontinued(UNSPECIFIED), changed("COMPLETED"), "COMPLETED"),
        (discontinued(UNSPECIFIED), discontinued(OF_THE_PATIENT), "DISCONTINUED"),
    ],
    ids=["completed, discontinued", "discontinued, completed", "discontinued twice"],
)
def test_several_performed_steps_of_one_item_completed_if_any_is(
    unit: Unit, gateway: Gateway, first: Dataset, second: Dataset, status: str
) -> None:
    schedule(gateway)
    assert [unit.create(of_item(gateway), uid) for uid in (UID, SECOND)] == [0x0000, 0x0000]
    assert [unit.set(first, UID), unit.set(second, SECOND)] == [0x0000, 0x0000]
    assert status_of(gateway) == status


def test_an_append_to_what_is_completed_is_accepted_and_changes_no_status(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    assert [unit.create(of_item(gateway)), unit.set(changed())] == [0x0000, 0x0000]
    assert unit.create(of_item(gateway), SECOND) == 0x0000
    assert status_of(gateway) == "COMPLETED"
    assert unit.set(discontinued(UNSPECIFIED), SECOND) == 0x0000
    assert status_of(gateway) == "COMPLETED"
    assert record_of(gateway, SECOND).accession_numbers == ("ACC001",)


@pytest.mark.parametrize("said_at", ["create", "set"])
def test_a_wrong_entry_that_was_said_before_the_step_ended_puts_the_item_back(
    unit: Unit, gateway: Gateway, said_at: str
) -> None:
    schedule(gateway)
    tag = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
    said = {tag: [reason(WRONG_ENTRY)]}
    assert unit.create(of_item(gateway, **(said if said_at == "create" else {}))) == 0x0000
    if said_at == "set":
        assert unit.set(changed("IN PROGRESS", **said)) == 0x0000
    assert unit.set(changed("DISCONTINUED")) == 0x0000
    assert status_of(gateway) == "SCHEDULED"


# --- what was not


def unscheduled() -> Dataset:
    step = scheduled_step(
        StudyInstanceUID="1.2.826.9", AccessionNumber="", RequestedProcedureID="", ScheduledProcedureStepID=""
    )
    return created(PatientID=PERSON["patient_id"], ScheduledStepAttributesSequence=[step])


@pytest.mark.parametrize(
    "attributes",
    [
        unscheduled(),
        created(PatientID=PERSON["patient_id"], ScheduledStepAttributesSequence=[]),
        created(
            PatientID=PERSON["patient_id"],
            ScheduledStepAttributesSequence=[scheduled_step("NOWHERE", StudyInstanceUID="1.2.826.8")],
        ),
    ],
    ids=["unscheduled", "an empty sequence", "an unknown accession number"],
)
def test_a_step_of_no_known_item_is_kept_to_its_end_and_touches_none(
    unit: Unit, gateway: Gateway, attributes: Dataset
) -> None:
    schedule(gateway)
    with captured_logs() as logs:
        assert [unit.create(attributes), unit.set(changed())] == [0x0000, 0x0000]
    assert "step_alert" in {line["event"] for line in logs}
    assert (record_of(gateway).accession_numbers, record_of(gateway).status) == ((), "COMPLETED")
    assert status_of(gateway) == "SCHEDULED"
    assert unit.get().PerformedProcedureStepStatus == "COMPLETED"


def test_an_accession_number_of_another_patient_closes_nobodys_appointment(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    with captured_logs() as logs:
        assert unit.create(of_item(gateway, PatientID="9990000042")) == 0x0000
        assert unit.set(changed()) == 0x0000
    assert [line for line in logs if line["event"] == "step_alert"]
    assert "9990000042" not in str(logs)
    assert (status_of(gateway), record_of(gateway).accession_numbers) == ("SCHEDULED", ())


def test_a_missing_patient_id_is_accepted_linked_and_flagged(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    with captured_logs() as logs:
        assert unit.create(of_item(gateway, PatientID="")) == 0x0000
    (odd,) = [line for line in logs if line["event"] == "step_odd"]
    assert odd["warnings"] == ("the step names no Patient ID",)
    assert status_of(gateway) == "IN PROGRESS"


# --- how it goes on


def test_any_number_of_n_sets_in_progress_with_and_without_status(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    unit.create(of_item(gateway))
    assert unit.set(changed("IN PROGRESS", PerformedSeriesSequence=[series(1)])) == 0x0000
    assert unit.set(changed(None, PerformedSeriesSequence=[series(2), series(1)])) == 0x0000
    assert status_of(gateway) == "IN PROGRESS"
    held = unit.get()
    assert [len(one.ReferencedImageSequence) for one in held.PerformedSeriesSequence] == [2, 1]
    assert held.PerformedProcedureStepStatus == "IN PROGRESS"
    assert unit.set(changed("COMPLETED")) == 0x0000
    assert len(record_of(gateway).data_sets) == 4


@pytest.mark.parametrize(
    ("code", "status"), [(UNSPECIFIED, "DISCONTINUED"), (OF_THE_PATIENT, "DISCONTINUED"), (WRONG_ENTRY, "SCHEDULED")]
)
def test_discontinued_with_a_reason_and_the_wrong_entry_puts_the_item_back_cid_9300(
    unit: Unit, gateway: Gateway, code: str, status: str
) -> None:
    schedule(gateway)
    unit.create(of_item(gateway))
    assert unit.set(discontinued(code)) == 0x0000
    assert status_of(gateway) == status
    (kept,) = unit.get().PerformedProcedureStepDiscontinuationReasonCodeSequence
    assert kept.CodeValue == code


def test_an_n_set_before_its_create_is_0112_and_invents_nothing(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    assert unit.set(changed()) == 0x0112
    assert gateway.performed_step(UID) is None
    assert status_of(gateway) == "SCHEDULED"
    assert [unit.create(of_item(gateway)), unit.set(changed())] == [0x0000, 0x0000]  # the unit tries again


def test_what_an_n_set_may_not_change_stays_and_is_named_in_the_event(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    unit.create(of_item(gateway))
    assert unit.set(changed(PatientID="9990000042", PatientName="OTHER^ONE")) == 0x0000
    held = unit.get()
    assert (held.PatientID, held.PatientName) == (PERSON["patient_id"], "SMITH^JANE")
    (line,) = [row for row in gateway.timeline("ACC001") if row.kind == "PerformedProcedureStep.Completed"]
    assert line.details["warnings"] == ["ignored, fixed by the create: (0010,0010) (0010,0020)"]


# --- repeats


def test_a_create_again_is_0111_and_changes_nothing_whatever_it_says(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    unit.create(of_item(gateway))
    before = record_of(gateway)
    with captured_logs() as logs:
        assert unit.create(of_item(gateway)) == 0x0111
        assert unit.create(of_item(gateway, PerformedStationAETitle="MAMMO9")) == 0x0111
    assert record_of(gateway) == before
    assert [line["differing"] for line in logs if line["event"] == "step_created_differently"] == ["(0040,0241)"]


@pytest.mark.parametrize(
    "again", [changed("COMPLETED"), discontinued(UNSPECIFIED), changed(None), changed("IN PROGRESS")]
)
def test_after_the_final_n_set_everything_is_0110_with_error_id_a710(
    unit: Unit, gateway: Gateway, again: Dataset
) -> None:
    schedule(gateway)
    assert [unit.create(of_item(gateway)), unit.set(changed())] == [0x0000, 0x0000]
    assert unit.set(again) == 0x0110
    refusal = unit.commands[-1]
    assert (refusal.ErrorID, refusal.AffectedSOPInstanceUID) == (0xA710, UID)
    assert refusal.ErrorComment == "Performed Procedure Step Object may no longer be updated"
    assert (status_of(gateway), len(record_of(gateway).data_sets)) == ("COMPLETED", 2)


def test_a_crash_between_write_and_reply_the_retry_is_answered_from_the_log(database: Path) -> None:
    with opened(database) as gateway:
        schedule(gateway)
        attributes = of_item(gateway)
        with served(gateway) as server, unit_of(server) as unit:
            assert [unit.create(attributes), unit.set(changed())] == [0x0000, 0x0000]  # as if nobody had heard it
    with opened(database) as gateway, served(gateway) as server, unit_of(server) as unit:
        assert [unit.create(attributes), unit.set(changed())] == [0x0111, 0x0110]
        assert unit.commands[-1].ErrorID == 0xA710
        assert unit.get().PerformedProcedureStepStatus == "COMPLETED"


def test_a_disk_without_room_is_0213_nothing_is_half_kept_and_the_retry_works(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    with gateway.datastore.writer.transaction() as cursor:
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages}")
    large = of_item(gateway, PerformedSeriesSequence=[series(500)])
    assert unit.create(large) == 0x0213
    assert gateway.performed_step(UID) is None
    assert unit.create(large) == 0x0000


# --- anything at all


@pytest.mark.slow
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.binary(min_size=2, max_size=300), setting=st.booleans())
def test_any_bytes_as_attribute_list_get_a_documented_status_and_no_abort(
    unit: Unit, gateway: Gateway, data: bytes, setting: bool
) -> None:
    peer = unit.peer
    if gateway.performed_step(SECOND) is None:
        unit.create(created(), SECOND)
    request = N_SET() if setting else N_CREATE()
    request.MessageID = 1
    if setting:
        request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = ModalityPerformedProcedureStep, SECOND
        request.ModificationList = BytesIO(data)
    else:
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ModalityPerformedProcedureStep, UID
        request.AttributeList = BytesIO(data)
    context = next(c for c in peer.accepted_contexts if c.abstract_syntax == ModalityPerformedProcedureStep)
    kept = len(record_of(gateway, SECOND).data_sets)
    hold(peer)
    peer.dimse.send_msg(request, context.context_id)
    _, response = peer.dimse.get_msg(block=True)
    peer._reactor_checkpoint.set()
    assert response is not None, "the association was aborted"
    assert response.Status in (0x0000, 0x0106, 0x0110, 0x0120, 0x0121)
    assert len(record_of(gateway, SECOND).data_sets) == kept + (setting and response.Status == 0x0000)
    unit.get(SECOND)


def test_the_bytes_are_kept_as_they_came(unit: Unit, gateway: Gateway) -> None:
    schedule(gateway)
    attributes = of_item(gateway, PerformedSeriesSequence=[series(1)])
    attributes.add_new(0x00091001, "LO", "a private element")
    unit.create(attributes)
    ((data, syntax),) = record_of(gateway).data_sets
    assert from_bytes(data, syntax)[0x00091001].value in ("a private element", b"a private element ")
    assert from_bytes(data, syntax).PerformedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4"
