"""DCMTK's worklist provider `wlmscpfs` as a real process over files that hold the same items as ours."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from gateway.rehearsal.requestor import associate
from projections.worklist import WorklistRow
from tests.end_to_end.harness import free_port

PROGRAM = Path("/usr/bin/wlmscpfs")
CALLED = "ORTHANC_MWL"


@contextmanager
def wlmscpfs(folder: Path, rows: Iterable[WorklistRow]) -> Iterator[int]:
    """The port of a `wlmscpfs` that serves these items, those without a station too."""
    files = folder / CALLED
    files.mkdir()
    (files / "lockfile").touch()
    for row in rows:
        _file(row).save_as(files / f"{row.accession_number}.wl", enforce_file_format=True)
    port = free_port()
    options = ["--quiet", "--single-process", "--disable-file-reject", "--disable-host-lookup", "--keep-char-set"]
    process = subprocess.Popen([PROGRAM, *options, "--data-files-path", folder, str(port)])
    try:
        _wait_until_it_listens(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def association(port: int) -> Iterator[Any]:
    """One association that carries any number of queries, in implicit VR."""
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    entity.add_requested_context(ModalityWorklistInformationFind, ImplicitVRLittleEndian)
    peer = associate(entity, "127.0.0.1", port, ae_title=CALLED)
    assert peer.is_established
    peer.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a query is two segments
    try:
        yield peer
    finally:
        peer.release()


def _file(row: WorklistRow) -> Dataset:
    file = Dataset()
    if not row.patient_name.isascii():
        file.SpecificCharacterSet = "ISO_IR 192"
    file.AccessionNumber = row.accession_number
    file.ReferringPhysicianName = ""
    file.PatientName = row.patient_name
    file.PatientID = row.patient_id
    file.PatientBirthDate = row.patient_birth_date
    file.PatientSex = row.patient_sex or ""
    file.StudyInstanceUID = row.study_instance_uid
    file.RequestedProcedureID = row.accession_number
    file.RequestedProcedureDescription = row.study_description
    file.ScheduledProcedureStepSequence = [_step(row)]
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    file.file_meta.MediaStorageSOPInstanceUID = row.study_instance_uid
    return file


def _step(row: WorklistRow) -> Dataset:
    step = Dataset()
    step.Modality = row.modality
    step.ScheduledStationAETitle = list(row.station_ae_titles)
    step.ScheduledProcedureStepStartDate = row.scheduled_date
    step.ScheduledProcedureStepStartTime = row.scheduled_time
    step.ScheduledPerformingPhysicianName = row.performing_physician or ""
    step.ScheduledProcedureStepDescription = row.study_description
    step.ScheduledProcedureStepID = row.accession_number
    return step


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline, pause = time.monotonic() + 20, threading.Event()
    while time.monotonic() < deadline:
        assert process.poll() is None, "wlmscpfs ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            pause.wait(0.02)
        else:
            return
    raise AssertionError("wlmscpfs does not listen")
