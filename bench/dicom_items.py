"""The same items for every provider, each in the form that it keeps them in: events, `.wl` files, a table.

Numbers have eight digits and times six, so that an item is a template with a few bytes replaced: a hundred thousand
files are written in seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from bench.synthetic import RECEIVED, appointment
from gateway.application import opened
from gateway.domain.events import circumstances
from gateway.domain.worklist_item import Appointment, WorklistItem

CALLED = "ORTHANC_MWL"
DAY = "20361124"
"""The day that is asked for."""

_FIRST_OTHER_DAY = date(2037, 1, 1)
_PER_DAY = 100
_BATCH = 1000
_ROOT = "1.2.826.0.1.3680043.8.498"
_FIRST = 10_000_000
_WORKLIST_FILE = "1.2.276.0.7230010.3.1.0.1"
"""DCMTK's own SOP class of a worklist file."""


def matches(size: int) -> int:
    """How many of so many items are of the day that is asked for."""
    return min(size, 40)


def accession_number(number: int) -> str:
    """Of the n-th item."""
    return f"ACC{_FIRST + number}"


def study_uid(number: int) -> str:
    """Of the n-th item."""
    return f"{_ROOT}.1.{_FIRST + number}"


def step_uid(number: int) -> str:
    """The SOP Instance UID of the step that is performed for the n-th item."""
    return f"{_ROOT}.2.{_FIRST + number}"


def item(number: int, *, size: int) -> Appointment:
    """The n-th of so many; the first ones are of the day that is asked for, the others a hundred a day later."""
    other_day = (_FIRST_OTHER_DAY + timedelta(days=number // _PER_DAY)).strftime("%Y%m%d")
    return appointment(
        accession_number(number),
        patient_id=f"999{number:07d}",
        patient_name=f"SMITH^JANE^{_FIRST + number}",
        scheduled_date=DAY if number < matches(size) else other_day,
        scheduled_time=f"{8 + number % 10:02}{number % 60:02}00",
    )


def numbered(template: bytes, number: int) -> bytes:
    """What was made for item 0, for the n-th: its numbers and identifiers are replaced."""
    return template.replace(b"%d" % _FIRST, b"%d" % (_FIRST + number)).replace(b"9990000000", b"999%07d" % number)


# --- our own form: the log, and the projections that come of it


def seed_gateway(path: Path, size: int) -> None:
    """A database of ours in which so many items have been scheduled."""
    with opened(path) as gateway, circumstances(source="relay"):
        for begin in range(0, size, _BATCH):
            numbers = range(begin, min(begin + _BATCH, size))
            gateway.events.put([event for number in numbers for event in _scheduled(number, size).collect_events()])


def _scheduled(number: int, size: int) -> WorklistItem:
    wanted = item(number, size=size)
    return WorklistItem(
        accession_number=wanted.accession_number,
        person=wanted.person(),
        step=wanted.step(),
        study_instance_uid=study_uid(number),
        is_test=False,
        action_id=None,
        received_at=RECEIVED.isoformat(),
    )


# --- a folder of files: `wlmscpfs` and Orthanc


def seed_files(folder: Path, size: int) -> None:
    """A file for each item, in the folder of our AE title as `wlmscpfs` wants it."""
    files = folder / CALLED
    files.mkdir(parents=True)
    (files / "lockfile").touch()
    template = _file(item(0, size=size))
    for number in range(size):
        wanted = item(number, size=size)
        content = template.replace(DAY.encode(), wanted.scheduled_date.encode())
        content = content.replace(b"080000", wanted.scheduled_time.encode())  # before there are other numbers with it
        (files / f"{wanted.accession_number}.wl").write_bytes(numbered(content, number))


def _file(wanted: Appointment) -> bytes:
    file = data_set(wanted, study_uid(0))
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = _WORKLIST_FILE
    file.file_meta.MediaStorageSOPInstanceUID = study_uid(0)
    written = BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()


# --- one table: the naive provider

COLUMNS = (
    "accession_number",
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "scheduled_date",
    "scheduled_time",
    "modality",
    "study_description",
)


def seed_table(path: Path, size: int) -> None:
    """A table of the items, with an index on date and modality."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        names = ", ".join((*COLUMNS, "study_instance_uid", "status", "mpps_instance_uid"))
        connection.execute(f"CREATE TABLE items ({names}, PRIMARY KEY (accession_number))")
        connection.execute("CREATE INDEX by_day ON items (scheduled_date, modality)")
        marks = ", ".join("?" * (len(COLUMNS) + 3))
        connection.executemany(f"INSERT INTO items VALUES ({marks})", _rows(size))


def _rows(size: int) -> Iterator[tuple[object, ...]]:
    for number in range(size):
        wanted = item(number, size=size)
        values = (getattr(wanted, name) for name in COLUMNS)
        yield (*values, study_uid(number), "SCHEDULED", None)


# --- as a data set


def data_set(wanted: Appointment, study_instance_uid: str) -> Dataset:
    """What a modality is told of an item."""
    step = Dataset()
    step.Modality = wanted.modality
    step.ScheduledStationAETitle = "MAMMO1"
    step.ScheduledProcedureStepStartDate = wanted.scheduled_date
    step.ScheduledProcedureStepStartTime = wanted.scheduled_time
    step.ScheduledPerformingPhysicianName = ""
    step.ScheduledProcedureStepDescription = wanted.study_description
    step.ScheduledProcedureStepID = wanted.accession_number
    answer = Dataset()
    answer.AccessionNumber = wanted.accession_number
    answer.ReferringPhysicianName = ""
    answer.PatientName = wanted.patient_name
    answer.PatientID = wanted.patient_id
    answer.PatientBirthDate = wanted.patient_birth_date
    answer.PatientSex = wanted.patient_sex
    answer.StudyInstanceUID = study_instance_uid
    answer.RequestedProcedureID = wanted.accession_number
    answer.RequestedProcedureDescription = wanted.study_description
    answer.ScheduledProcedureStepSequence = [step]
    return answer
