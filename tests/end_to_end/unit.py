"""A modality made of pynetdicom alone: what it sends is chosen by the test, UIDs included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    Verification,
)

from gateway.rehearsal import modality as _quiet  # switches pynetdicom's own logging off
from gateway.rehearsal.requestor import associate
from tests.end_to_end.harness import AE_TITLE

assert _quiet

SERVICES = (Verification, ModalityWorklistInformationFind, ModalityPerformedProcedureStep)


class NoAssociation(Exception):
    """The gateway is not there, or does not want us."""


class NoAnswer(Exception):
    """The association ended before an answer came: whether it was done is open."""


@dataclass
class Unit:
    """A modality at one gateway. Each operation has an association of its own."""

    port: int
    ae_title: str = "MAMMO1"
    called: str = AE_TITLE
    timeout: float = 10.0

    @contextmanager
    def association(self) -> Iterator[Any]:
        """An association for everything. Raises `NoAssociation`."""
        entity = AE(ae_title=self.ae_title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = self.timeout
        for service in SERVICES:
            entity.add_requested_context(service, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        association = associate(entity, "127.0.0.1", self.port, ae_title=self.called)
        if not association.is_established:
            raise NoAssociation("rejected" if association.is_rejected else "not established")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def echo(self) -> int:
        """The status of a C-ECHO."""
        with self.association() as association:
            return _status(association.send_c_echo())

    def find(self, *, date: str = "", modality: str = "", **keys: str) -> list[Dataset]:
        """The answers to a worklist query that asks for what a unit needs; `keys` are of the root."""
        with self.association() as association:
            responses = list(association.send_c_find(query(date, modality, **keys), ModalityWorklistInformationFind))
        if not responses or _status(responses[-1][0]) != 0:
            raise NoAnswer(hex(_status(responses[-1][0])) if responses else "nothing came")
        return [identifier for _, identifier in responses[:-1]]

    def numbers(self, **keys: str) -> list[str]:
        """The accession numbers it is shown."""
        return [str(answer.AccessionNumber) for answer in self.find(**keys)]

    def create(self, uid: str, attributes: Dataset) -> int:
        """The status of an N-CREATE. Raises `NoAnswer`."""
        with self.association() as association:
            status, _ = association.send_n_create(attributes, ModalityPerformedProcedureStep, uid)
        return _status(status)

    def set(self, uid: str, changes: Dataset) -> int:
        """The status of an N-SET. Raises `NoAnswer`."""
        with self.association() as association:
            status, _ = association.send_n_set(changes, ModalityPerformedProcedureStep, uid)
        return _status(status)

    def start(self, accession_number: str, **attributes: Any) -> str:
        """Find an item and begin it; the step's UID. The N-CREATE must succeed."""
        [entry] = self.find(AccessionNumber=accession_number)
        uid = new_uid()
        status = self.create(uid, started(entry, **attributes))
        assert status == 0, hex(status)
        return uid

    def finish(self, uid: str, status: str = "COMPLETED", **attributes: Any) -> None:
        """Complete or discontinue a step. The N-SET must succeed."""
        answer = self.set(uid, finished(status, **attributes))
        assert answer == 0, hex(answer)

    def perform(self, accession_number: str, status: str = "COMPLETED") -> str:
        """Both of them."""
        uid = self.start(accession_number)
        self.finish(uid, status)
        return uid


def new_uid() -> str:
    """A fresh UID."""
    return f"2.25.{uuid4().int}"


def query(date: str = "", modality: str = "", **keys: str) -> Dataset:
    """A worklist identifier."""
    identifier = Dataset()
    for keyword in ("AccessionNumber", "PatientName", "PatientID", "StudyInstanceUID", "RequestedProcedureID"):
        setattr(identifier, keyword, keys.get(keyword, ""))
    step = Dataset()
    step.Modality = modality
    step.ScheduledProcedureStepStartDate = date
    for keyword in ("ScheduledProcedureStepStartTime", "ScheduledProcedureStepID", "ScheduledStationAETitle"):
        setattr(step, keyword, "")
    identifier.ScheduledProcedureStepSequence = [step]
    return identifier


def started(entry: Dataset, **attributes: Any) -> Dataset:
    """The attribute list of an N-CREATE for a worklist entry."""
    reference = Dataset()
    reference.StudyInstanceUID = entry.StudyInstanceUID
    reference.AccessionNumber = entry.AccessionNumber
    reference.RequestedProcedureID = entry.RequestedProcedureID
    reference.ScheduledProcedureStepID = entry.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID
    values: dict[str, Any] = {
        "ScheduledStepAttributesSequence": [reference],
        "PatientName": entry.PatientName,
        "PatientID": entry.PatientID,
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "MAMMO1",
        "PerformedProcedureStepStartDate": "20261123",
        "PerformedProcedureStepStartTime": "100500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "Modality": "MG",
        "PerformedSeriesSequence": [],
    }
    return _data_set(values | attributes)


def finished(status: str = "COMPLETED", **attributes: Any) -> Dataset:
    """The modification list of a final N-SET."""
    series = Dataset()
    series.ProtocolName = "Screening"
    series.SeriesInstanceUID = new_uid()
    values: dict[str, Any] = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20261123",
        "PerformedProcedureStepEndTime": "101500",
        "PerformedSeriesSequence": [series],
    }
    return _data_set(values | attributes)


def _data_set(values: dict[str, Any]) -> Dataset:
    attributes = Dataset()
    for keyword, value in values.items():
        setattr(attributes, keyword, value)
    return attributes


def _status(status: Dataset) -> int:
    if "Status" not in status:
        raise NoAnswer("the association ended without an answer")
    return int(status.Status)
