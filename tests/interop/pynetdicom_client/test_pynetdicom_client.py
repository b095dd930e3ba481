"""A modality as people write it with pynetdicom: its own data sets and associations, worklist and performed steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    Verification,
)

from bench.synthetic import appointment
from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.rehearsal.requestor import associate
from projections.worklist import WorklistFilter, WorklistRow
from tests.interop.awaiting_cancel import AwaitingCancel
from tests.serving import serving

WORKLIST, MPPS = ModalityWorklistInformationFind, ModalityPerformedProcedureStep
BOTH = [build_context(sop_class) for sop_class in (Verification, WORKLIST, MPPS)]


@pytest.fixture
def items(gateway: Gateway) -> None:
    for number, name in enumerate(["SMITH^JANE", "MÜLLER^ZOË", "Yamada^Tarou=山田^太郎", "JONES^MARY"]):
        gateway.schedule(
            appointment(
                f"ACC{number}",
                patient_name=name,
                patient_id=f"999000000{number}",
                scheduled_time=f"1{number}0000",
                study_description="Bilateral Mammography " * 2,
            )
        )


@pytest.fixture
def server(gateway: Gateway, items: None) -> Iterator[AssociationServer]:
    yield from _serving(Responder(gateway))


@pytest.fixture
def patient_server(gateway: Gateway, items: None) -> Iterator[AssociationServer]:
    """One that waits for a cancel after its first answer."""
    yield from _serving(AwaitingCancel(gateway))


def _serving(responder: Responder) -> Iterator[AssociationServer]:
    with serving(responder) as server:
        yield server


@contextmanager
def associated(server: AssociationServer, contexts: list[Any] = BOTH, **options: Any) -> Iterator[Any]:
    unit = AE(ae_title="MAMMO1")
    unit.requested_contexts = contexts
    unit.dimse_timeout = unit.acse_timeout = unit.network_timeout = 30
    association = associate(unit, "127.0.0.1", server.port, ae_title="ORTHANC_MWL", **options)
    assert association.is_established
    yield association
    association.release()
    assert association.is_released


def todays_list() -> Dataset:
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.PatientName = "*"
    query.PatientID = ""
    query.AccessionNumber = ""
    query.StudyInstanceUID = ""
    query.RequestedProcedureDescription = ""
    step = Dataset()
    step.Modality = "MG"
    step.ScheduledStationAETitle = "MAMMO1"
    step.ScheduledProcedureStepStartDate = "20261123"
    step.ScheduledProcedureStepStartTime = ""
    step.ScheduledProcedureStepID = ""
    query.ScheduledProcedureStepSequence = [step]
    return query


def found(association: Any, query: Dataset) -> list[Dataset]:
    *pending, (last, nothing) = association.send_c_find(query, WORKLIST)
    assert (last.Status, nothing) == (0x0000, None)
    assert {status.Status for status, _ in pending} <= {0xFF00}
    return [answer for _, answer in pending]


def begin(item: Dataset, station: str = "MAMMO1") -> Dataset:
    """An N-CREATE made of the worklist's answer."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = item.StudyInstanceUID
    scheduled.AccessionNumber = item.AccessionNumber
    scheduled.ReferencedStudySequence = []
    scheduled.RequestedProcedureID = item.AccessionNumber
    scheduled.ScheduledProcedureStepID = item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID
    scheduled.ScheduledProtocolCodeSequence = []
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName, step.PatientID = item.PatientName, item.PatientID
    step.PatientBirthDate = step.PatientSex = ""
    step.PerformedProcedureStepID = "PPS1"
    step.PerformedStationAETitle = station
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20261123", "100500"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
    step.Modality = "MG"
    step.PerformedSeriesSequence = []
    return step


def end(status: str = "COMPLETED") -> Dataset:
    series = Dataset()
    series.ProtocolName, series.SeriesInstanceUID = "Screening", generate_uid()
    series.ReferencedImageSequence = []
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepEndDate, step.PerformedProcedureStepEndTime = "20261123", "101500"
    step.PerformedSeriesSequence = [series]
    return step


def row(gateway: Gateway, accession_number: str) -> WorklistRow:
    (only,) = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return only


def test_the_whole_examination_on_one_association(server: AssociationServer, gateway: Gateway) -> None:
    uid = generate_uid()
    with associated(server) as association:
        assert association.send_c_echo().Status == 0x0000
        first, *others = found(association, todays_list())
        assert str(first.PatientName) == "SMITH^JANE"
        status, _ = association.send_n_create(begin(first), MPPS, uid)
        assert status.Status == 0x0000
        assert [item.AccessionNumber for item in found(association, todays_list())] == ["ACC1", "ACC2", "ACC3"]
        assert row(gateway, "ACC0").status == "IN PROGRESS"
        status, _ = association.send_n_set(end(), MPPS, uid)
        assert status.Status == 0x0000
        assert row(gateway, "ACC0").status == "COMPLETED"
        assert found(association, todays_list()) == others
        assert association.send_c_echo().Status == 0x0000


def test_worklist_and_performed_step_on_associations_of_their_own(server: AssociationServer, gateway: Gateway) -> None:
    uid = generate_uid()
    with associated(server, [build_context(WORKLIST)]) as association:
        item = found(association, todays_list())[1]
    with associated(server, [build_context(MPPS)]) as association:
        assert association.send_n_create(begin(item), MPPS, uid)[0].Status == 0x0000
    with associated(server, [build_context(MPPS)]) as association:
        assert association.send_n_set(end("DISCONTINUED"), MPPS, uid)[0].Status == 0x0000
    assert row(gateway, "ACC1").status == "DISCONTINUED"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_unit_that_speaks_one_transfer_syntax_only(server: AssociationServer, gateway: Gateway, syntax: str) -> None:
    with associated(server, [build_context(sop_class, syntax) for sop_class in (WORKLIST, MPPS)]) as association:
        items = found(association, todays_list())
        assert [str(item.PatientName) for item in items][1:3] == ["MÜLLER^ZOË", "Yamada^Tarou=山田^太郎"]
        assert association.send_n_create(begin(items[1]), MPPS, generate_uid())[0].Status == 0x0000
    assert row(gateway, "ACC1").status == "IN PROGRESS"


def test_a_context_for_each_transfer_syntax_big_endian_is_refused(server: AssociationServer) -> None:
    syntaxes = (ExplicitVRBigEndian, ImplicitVRLittleEndian, ExplicitVRLittleEndian)
    with associated(server, [build_context(WORKLIST, syntax) for syntax in syntaxes]) as association:
        accepted = {str(context.transfer_syntax[0]) for context in association.accepted_contexts}
        assert accepted == {ImplicitVRLittleEndian, ExplicitVRLittleEndian}
        assert len(association.rejected_contexts) == 1
        assert len(found(association, todays_list())) == 4


@pytest.mark.parametrize("max_pdu", [128, 4096, 0], ids=["128 bytes", "4 kB", "unlimited"])
def test_any_maximum_pdu_length(server: AssociationServer, max_pdu: int) -> None:
    with associated(server, max_pdu=max_pdu) as association:
        assert [item.AccessionNumber for item in found(association, todays_list())] == ["ACC0", "ACC1", "ACC2", "ACC3"]


def test_a_cancel_after_the_first_answer_ends_in_fe00_and_the_association_goes_on(
    patient_server: AssociationServer,
) -> None:
    with associated(patient_server) as association:
        responses = association.send_c_find(todays_list(), WORKLIST, msg_id=7)
        statuses = []
        for status, _ in responses:
            statuses.append(status.Status)
            if len(statuses) == 1:
                association.send_c_cancel(7, query_model=WORKLIST)
        assert statuses == [0xFF00, 0xFE00]
        assert association.send_c_echo().Status == 0x0000


def test_a_cancel_of_what_is_over_or_never_was_is_ignored_ps3_7_9_3_2_3(server: AssociationServer) -> None:
    with associated(server) as association:
        assert len(found(association, todays_list())) == 4
        association.send_c_cancel(1, query_model=WORKLIST)
        association.send_c_cancel(999, query_model=WORKLIST)
        assert len(found(association, todays_list())) == 4


def test_what_is_refused_says_why_and_the_association_goes_on(server: AssociationServer, gateway: Gateway) -> None:
    uid = generate_uid()
    bad = todays_list()
    bad.ScheduledProcedureStepSequence.append(Dataset())
    with associated(server) as association:
        ((status, nothing),) = association.send_c_find(bad, WORKLIST)
        assert (status.Status, nothing) == (0xA900, None)
        assert (status.OffendingElement, status.ErrorComment) == (0x00400100, "a key sequence has more than one item")
        (item, *_) = found(association, todays_list())
        assert association.send_n_set(end(), MPPS, uid)[0].Status == 0x0112
        early = begin(item)
        early.PerformedProcedureStepStatus = "COMPLETED"
        assert association.send_n_create(early, MPPS, uid)[0].Status == 0x0106
        assert association.send_n_create(begin(item), MPPS, uid)[0].Status == 0x0000
        assert association.send_n_create(begin(item), MPPS, uid)[0].Status == 0x0111
        assert association.send_n_set(end(), MPPS, uid)[0].Status == 0x0000
        again, _ = association.send_n_set(end(), MPPS, uid)
        assert (again.Status, again.ErrorID) == (0x0110, 0xA710)
        assert association.send_c_echo().Status == 0x0000
    assert row(gateway, "ACC0").status == "COMPLETED"


def test_a_second_step_for_the_same_item_appends_to_it(server: AssociationServer, gateway: Gateway) -> None:
    first, second = generate_uid(), generate_uid()
    with associated(server) as association:
        (item, *_) = found(association, todays_list())
        for uid in (first, second):
            assert association.send_n_create(begin(item), MPPS, uid)[0].Status == 0x0000
        assert association.send_n_set(end("DISCONTINUED"), MPPS, first)[0].Status == 0x0000
        assert row(gateway, "ACC0").status == "IN PROGRESS"
        assert association.send_n_set(end(), MPPS, second)[0].Status == 0x0000
    assert row(gateway, "ACC0").status == "COMPLETED"
