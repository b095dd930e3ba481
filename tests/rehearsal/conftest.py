"""A gateway on a real file, its DICOM door, and a simulated unit before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import Gateway, opened
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.worklist_item import Appointment
from gateway.rehearsal.modality import Modality
from tests.serving import serving


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "gateway.db") as gateway:
        for accession_number, name, patient_id in (
            ("ACC001", "SMITH^JANE", "9990000034"),
            ("ACC002", "MÜLLER^ZOË", "9990000042"),
        ):
            gateway.schedule(
                Appointment(
                    accession_number=accession_number,
                    patient_id=patient_id,
                    patient_name=name,
                    patient_birth_date="19700822",
                    patient_sex="F",
                    scheduled_date="20261123",
                    scheduled_time="100000",
                    modality="MG",
                    study_description="Bilateral Mammography",
                )
            )
        yield gateway


@pytest.fixture
def server(gateway: Gateway) -> Iterator[AssociationServer]:
    with serving(Responder(gateway)) as server:
        yield server


@pytest.fixture
def modality(server: AssociationServer) -> Modality:
    return Modality("127.0.0.1", server.port, "ORTHANC_MWL")
