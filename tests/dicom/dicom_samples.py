"""Worklist items and an application held in memory, for tests that need no store; data sets by pydicom, not by us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from typing import Any

import structlog
from pydicom import config
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from structlog.testing import LogCapture

from gateway.dicom import caller, responder, step_scp, worklist_scp
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import (
    StepChange,
    StepExists,
    StepFinal,
    StepRecord,
    StepReport,
    StepUnknown,
)
from projections.worklist import Version, WorklistFilter, WorklistRow

config.settings.writing_validation_mode = config.IGNORE  # what units send is not always valid

SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)

AE_TITLE = "ORTHANC_MWL"


def row(accession_number: str = "ACC001", **values: Any) -> WorklistRow:
    """A scheduled mammography of a synthetic patient."""
    defaults: dict[str, Any] = {
        "accession_number": accession_number,
        "patient_id": "9990000018",
        "patient_name": "SMITH^JANE",
        "patient_birth_date": "19650315",
        "patient_sex": "F",
        "scheduled_date": "20261123",
        "scheduled_time": "100000",
        "modality": "MG",
        "study_description": "Bilateral Mammography",
        "procedure_code": None,
        "status": "SCHEDULED",
        "study_instance_uid": f"1.2.826.0.1.{sum(map(ord, accession_number))}",
        "mpps_instance_uid": None,
        "created_at": "",
        "updated_at": "",
        "source_message_id": None,
        "procedure_code_scheme": None,
        "procedure_code_meaning": None,
        "station_ae_titles": (),
        "location": None,
        "performing_physician": None,
        "is_test": False,
        "row_version": 0,
    }
    return WorklistRow(**{**defaults, **values})


@dataclass
class Outcome:
    accession_numbers: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


@dataclass
class InMemory:
    """The application's part that modalities see: filters as the store does, keeps steps by their UID."""

    rows: list[WorklistRow] = field(default_factory=list)
    reports: dict[str, StepReport] = field(default_factory=dict)
    changes: list[StepChange] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    asked: list[WorklistFilter] = field(default_factory=list)

    def find_items(self, wanted: WorklistFilter) -> list[WorklistRow]:
        self.asked.append(wanted)
        return [row for row in self.rows if _passes(row, wanted)]

    def worklist(self, wanted: WorklistFilter, known: Callable[[Version], Any]) -> Iterator[Any]:
        in_order = sorted(
            self.find_items(wanted), key=lambda r: (r.scheduled_date, r.scheduled_time, r.accession_number)
        )
        for row in in_order:
            yield known((row.accession_number, row.row_version)) or row

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> Outcome:
        if report.sop_instance_uid in self.reports:
            raise StepExists("exists")
        self.callers.append(calling_ae_title)
        self.reports[report.sop_instance_uid] = report
        return Outcome(self._set_status(report.sop_instance_uid, "IN PROGRESS"))

    def change_step(self, change: StepChange, *, calling_ae_title: str, received_at: datetime) -> Outcome:
        if change.sop_instance_uid not in self.reports:
            raise StepUnknown("unknown")
        before = [c.status for c in self.changes if c.sop_instance_uid == change.sop_instance_uid]
        if any(status in (StepStatus.COMPLETED, StepStatus.DISCONTINUED) for status in before):
            raise StepFinal("final")
        self.changes.append(change)
        return Outcome(self._set_status(change.sop_instance_uid, str(change.status or "IN PROGRESS")))

    def performed_step(self, sop_instance_uid: str) -> StepRecord | None:
        report = self.reports.get(sop_instance_uid)
        if report is None:
            return None
        changes = [change for change in self.changes if change.sop_instance_uid == sop_instance_uid]
        return StepRecord(
            sop_instance_uid=sop_instance_uid,
            status=next((c.status for c in reversed(changes) if c.status), StepStatus.IN_PROGRESS),
            accession_numbers=(),
            data_sets=tuple((told.attribute_list, told.transfer_syntax) for told in (report, *changes)),
        )

    def _set_status(self, uid: str, status: str) -> tuple[str, ...]:
        numbers = {reference.accession_number for reference in self.reports[uid].references}
        self.rows = [replace(r, status=status) if r.accession_number in numbers else r for r in self.rows]
        return tuple(r.accession_number for r in self.rows if r.accession_number in numbers)


def _passes(row: WorklistRow, wanted: WorklistFilter) -> bool:
    return (
        wanted.accession_number in ("", row.accession_number)
        and wanted.patient_id in ("", row.patient_id)
        and (not wanted.study_instance_uids or row.study_instance_uid in wanted.study_instance_uids)
        and (not wanted.modalities or row.modality in wanted.modalities)
        and (not wanted.dates[0] or wanted.dates[0] <= row.scheduled_date)
        and (not wanted.dates[1] or row.scheduled_date <= wanted.dates[1])
        and (not wanted.statuses or row.status in wanted.statuses)
        and wanted.is_test in (None, row.is_test)
    )


def samples() -> list[WorklistRow]:
    """The proof of concept's three appointments, with synthetic NHS numbers."""
    return [
        row("ACC002", patient_id="9990000042", patient_name="JONES^MARY", scheduled_time="110000"),
        row("ACC000", patient_id="9990000026", patient_name="SMITH^JOHN", patient_sex="M"),
        row("ACC001", patient_id="9990000034", patient_name="SMITH^JANE"),
    ]


@contextmanager
def captured_logs() -> Iterator[list[Any]]:
    """What the responder logs, however logging is configured (a logger once used keeps its first configuration)."""
    capture = LogCapture()
    capturing = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    modules = (caller, responder, step_scp, worklist_scp)
    with ExitStack() as stack:
        for module in modules:
            stack.callback(setattr, module, "_log", module._log)
            module._log = capturing
        yield capture.entries


def hold(peer: Any) -> None:
    """Keep the own thread of a peer from `associate` from the response, until its checkpoint is set again."""
    peer._reactor_checkpoint.clear()


def query(step: dict[str, Any] | None = None, /, **keys: Any) -> Dataset:
    """An identifier: root keys by name, and those of the scheduled procedure step as a dictionary."""
    data_set = Dataset()
    for keyword, value in keys.items():
        setattr(data_set, keyword, value)
    if step is not None:
        item = Dataset()
        for keyword, value in step.items():
            setattr(item, keyword, value)
        data_set.ScheduledProcedureStepSequence = [item]
    return data_set


def to_bytes(data_set: Dataset, syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """Encoded by pydicom."""
    encoded = encode(data_set, syntax == IMPLICIT_VR_LITTLE_ENDIAN, True)
    assert encoded is not None
    return encoded


def from_bytes(data: bytes, syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> Dataset:
    """Decoded by pydicom."""
    return decode(BytesIO(data), syntax == IMPLICIT_VR_LITTLE_ENDIAN, True)


def created(**changes: Any) -> Dataset:
    """The attribute list of a proper N-CREATE for ACC001; None takes an attribute out."""
    values: dict[str, Any] = {
        "ScheduledStepAttributesSequence": [scheduled_step()],
        "PatientName": "SMITH^JANE",
        "PatientID": "9990000034",
        "PatientBirthDate": "19650315",
        "PatientSex": "F",
        "ReferencedPatientSequence": [],
        "PerformedProcedureStepID": "PPS1",
        "PerformedStationAETitle": "MAMMO1",
        "PerformedStationName": "",
        "PerformedLocation": "",
        "PerformedProcedureStepStartDate": "20261123",
        "PerformedProcedureStepStartTime": "100500",
        "PerformedProcedureStepStatus": "IN PROGRESS",
        "PerformedProcedureStepDescription": "Bilateral Mammography",
        "PerformedProcedureTypeDescription": "",
        "ProcedureCodeSequence": [],
        "PerformedProcedureStepEndDate": "",
        "PerformedProcedureStepEndTime": "",
        "PerformedProcedureStepDiscontinuationReasonCodeSequence": [],
        "Modality": "MG",
        "StudyID": "",
        "PerformedProtocolCodeSequence": [],
        "PerformedSeriesSequence": [],
    }
    return _data_set({**values, **changes})


def scheduled_step(accession_number: str = "ACC001", **changes: Any) -> Dataset:
    """A proper item of the Scheduled Step Attributes Sequence; None takes an attribute out."""
    values: dict[str, Any] = {
        "StudyInstanceUID": f"1.2.826.0.1.{sum(map(ord, accession_number))}",
        "ReferencedStudySequence": [],
        "AccessionNumber": accession_number,
        "RequestedProcedureID": accession_number,
        "RequestedProcedureDescription": "",
        "ScheduledProcedureStepID": accession_number,
        "ScheduledProcedureStepDescription": "",
        "ScheduledProtocolCodeSequence": [],
    }
    return _data_set({**values, **changes})


def series(images: int = 0, **changes: Any) -> Dataset:
    """A proper item of the Performed Series Sequence; None takes an attribute out."""
    values: dict[str, Any] = {
        "PerformingPhysicianName": "",
        "ProtocolName": "Screening",
        "OperatorsName": "",
        "SeriesInstanceUID": "1.2.3.4",
        "SeriesDescription": "",
        "RetrieveAETitle": "",
        "ReferencedImageSequence": [_image(number) for number in range(images)],
        "ReferencedNonImageCompositeSOPInstanceSequence": [],
    }
    return _data_set({**values, **changes})


def _image(number: int) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    image.ReferencedSOPInstanceUID = f"1.2.3.4.{number}"
    return image


def changed(status: str | None = "COMPLETED", **changes: Any) -> Dataset:
    """The modification list of a proper final N-SET."""
    values: dict[str, Any] = {
        "PerformedProcedureStepStatus": status,
        "PerformedProcedureStepEndDate": "20261123",
        "PerformedProcedureStepEndTime": "101500",
        "PerformedSeriesSequence": [series()],
    }
    return _data_set({**values, **changes})


def _data_set(values: dict[str, Any]) -> Dataset:
    data_set = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(data_set, keyword, value)
    return data_set
