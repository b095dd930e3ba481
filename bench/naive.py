"""What one writes first: a worklist and MPPS provider on pynetdicom and one SQLite table, durable and slow.

`python -m bench.naive PORT DATABASE` over a table of `bench.dicom_items.seed_table`.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind, Verification

from bench.dicom_items import CALLED, COLUMNS, data_set
from gateway.domain.worklist_item import Appointment

_PENDING, _SUCCESS = 0xFF00, 0x0000


class Provider:
    """The handlers; one connection that they take turns on."""

    def __init__(self, database: str) -> None:
        self._turn = threading.Lock()
        self._connection = sqlite3.connect(database, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = FULL")

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Items by date, modality and accession number."""
        asked = event.identifier
        step = asked.ScheduledProcedureStepSequence[0]
        keys = {
            "accession_number": asked.get("AccessionNumber"),
            "scheduled_date": step.get("ScheduledProcedureStepStartDate"),
            "modality": step.get("Modality"),
        }
        wanted = {column: str(value) for column, value in keys.items() if value}
        where = " AND ".join(f"{column} = ?" for column in wanted) or "TRUE"
        statement = f"SELECT {', '.join(COLUMNS)}, study_instance_uid FROM items WHERE {where} AND status = 'SCHEDULED'"
        with self._turn:
            rows = self._connection.execute(statement, tuple(wanted.values())).fetchall()
        for *values, study_instance_uid in rows:
            answer = data_set(Appointment(**dict(zip(COLUMNS, values, strict=True))), study_instance_uid)
            yield _PENDING, _requested(answer, asked)

    def create(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """A step has begun."""
        report = event.attribute_list
        accession_number = report.ScheduledStepAttributesSequence[0].AccessionNumber
        self._keep(
            "UPDATE items SET status = 'IN PROGRESS', mpps_instance_uid = ? WHERE accession_number = ?",
            (str(event.request.AffectedSOPInstanceUID), accession_number),
        )
        return _SUCCESS, report

    def change(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """A step goes on, or has ended."""
        changes = event.modification_list
        self._keep(
            "UPDATE items SET status = ? WHERE mpps_instance_uid = ?",
            (changes.PerformedProcedureStepStatus, str(event.request.RequestedSOPInstanceUID)),
        )
        return _SUCCESS, changes

    def _keep(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._turn, self._connection:
            self._connection.execute(statement, values)


def _requested(answer: Dataset, asked: Dataset) -> Dataset:
    """Of what is known the keys that were asked for, the others empty."""
    response = Dataset()
    for element in asked:
        if element.VR == "SQ":
            items = getattr(answer, element.keyword)
            setattr(response, element.keyword, [_requested(item, element.value[0]) for item in items])
        else:
            setattr(response, element.keyword, answer.get(element.keyword, ""))
    return response


def main(port: int, database: str) -> None:
    """Serve until the process ends."""
    provider = Provider(database)
    entity = AE(ae_title=CALLED)
    entity.maximum_associations = 1000
    for sop_class in (Verification, ModalityWorklistInformationFind, ModalityPerformedProcedureStep):
        entity.add_supported_context(sop_class, ImplicitVRLittleEndian)
    handlers = [
        (evt.EVT_C_FIND, provider.find),
        (evt.EVT_N_CREATE, provider.create),
        (evt.EVT_N_SET, provider.change),
    ]
    entity.start_server(("127.0.0.1", port), evt_handlers=handlers)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
