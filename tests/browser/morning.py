"""A morning at the hospital in which everything happens that the window has something to say about."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset

from bench.synthetic import place, study
from gateway.domain.received_study import Route
from gateway.rehearsal.modality import AssociationRejected, Modality
from tests.browser.visiting import Hospital
from tests.end_to_end.harness import AE_TITLE, action, until
from tests.end_to_end.unit import new_uid, started
from tests.end_to_end.web_app import settled

EXPECTED = (
    ("ACC2411", "0830", "TAYLOR^GRACE"),
    ("ACC2412", "0850", "EVANS^MARGARET"),
    ("ACC2413", "0910", "O'BRIEN^SIOBHÁN"),
    ("ACC2414", "0930", "PATEL^ANJALI"),
    ("ACC2415", "0950", "OKAFOR^NGOZI"),
    ("ACC2416", "1010", "WILSON^JOAN"),
    ("ACC2417", "1030", "ÅKERMAN^LENA"),
    ("ACC2418", "1050", "THOMAS^CARYS"),
    ("ACC2419", "1110", "KHAN^FATIMA"),
)
COMPLETED, DISCONTINUED, BEGUN, PARKED, CANCELLED = "ACC2411", "ACC2412", "ACC2414", "ACC2413", "ACC2418"
UNMATCHED = "ACC9999"
"""An accession number that somebody typed at the modality: nobody on the list has it."""


def answer(event: dict[str, Any]) -> dict[str, Any]:
    """A web app that knows everybody but one."""
    if event["data"]["accession_number"] == PARKED:
        return {"status": "appointment_not_found", "action_id": event["data"]["action_id"]}
    return settled(event)


def play(hospital: Hospital) -> None:
    """Nine are expected, four come, one does not; one step is of nobody; a unit that calls us by a wrong name."""
    for number, (accession_number, time, name) in enumerate(EXPECTED):
        hospital.schedule(accession_number, time, name=name, who=number)
    unit = Modality("127.0.0.1", hospital.gateway.dicom_port, AE_TITLE, "MAMMO1")
    unit.find(date=hospital.today(), modality="MG")
    unit.perform(COMPLETED)
    unit.perform(DISCONTINUED, discontinue=True)
    hospital.web_app.answer = answer
    unit.perform(PARKED)
    unit.start(unit.find(accession_number=BEGUN)[0])
    cancelled = {"accession_number": CANCELLED, "reason": "did not attend"}
    hospital.ask(action("worklist.cancel_item", cancelled), "cancelled")
    perform_unmatched(hospital)
    receive_images(hospital)
    with contextlib.suppress(AssociationRejected):
        Modality("127.0.0.1", hospital.gateway.dicom_port, "WORKLIST", "MAMMO2").echo()
    until(lambda: not hospital.gateway.owed("waiting") and hospital.gateway.owed("parked"), "the outbox has settled")


def receive_images(hospital: Hospital) -> None:
    """Orthanc has the images of one appointment, is sending them on, and has a phantom's."""
    nobody: dict[str, Any] = {"patient_id": "", "patient_name": "", "patient_birth_date": ""}
    archive = Route(rule="mammograms to the archive", target="PACS")
    with hospital.gateway.store() as store:
        now = datetime.now(UTC)
        store.receive_study(study(1, COMPLETED, **nobody), place(1), received_at=now, routes=[archive])
        store.receive_study(study(2, "PHANTOM", **nobody), place(2), received_at=now)


def perform_unmatched(hospital: Hospital) -> str:
    """A step whose accession number nobody on the list has; its UID."""
    entry = hospital.unit.find(AccessionNumber=EXPECTED[-1][0])[0]
    typed = Dataset()
    typed.AccessionNumber, typed.StudyInstanceUID = UNMATCHED, new_uid()
    uid = new_uid()
    status = hospital.unit.create(uid, started(entry, ScheduledStepAttributesSequence=[typed]))
    assert status == 0, hex(status)
    hospital.unit.finish(uid)
    return uid
