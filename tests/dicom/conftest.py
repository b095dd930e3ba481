"""A worklist provider over an application held in memory, for tests that need no store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from gateway.dicom.responder import Caller, Responder
from gateway.dicom.server_pynetdicom import PynetdicomServer
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import StepChange, StepExists, StepFinal, StepReport, StepUnknown
from projections.worklist import WorklistFilter, WorklistRow

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
    unmatched: tuple[str, ...] = ()
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


@pytest.fixture
def application() -> InMemory:
    return InMemory(samples())


@pytest.fixture
def responder(application: InMemory) -> Responder:
    return Responder(application)


@pytest.fixture
def server(responder: Responder) -> Iterator[PynetdicomServer]:
    server = PynetdicomServer(responder, ae_title=AE_TITLE, host="127.0.0.1", port=0)
    server.start()
    yield server
    server.stop(deadline=5)


@pytest.fixture
def caller() -> Caller:
    return Caller("MAMMO1", AE_TITLE, "192.0.2.7", 50000)
