"""A worklist provider over a real database, and the client that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.worklist_item import Appointment
from tests.interop.dcmjs.dcmjs_client import HERE, Dcmjs
from tests.interop.npm import installed
from tests.serving import serving


@pytest.fixture(scope="session")
def dcmjs() -> Dcmjs:
    return Dcmjs(installed(HERE, "dcmjs-dimse"))


@pytest.fixture
def items(gateway: Gateway) -> None:
    """The appointments of a morning, the last one of another day."""
    for accession_number, name, patient_id, day, time in [
        ("ACC000", "SMITH^JOHN", "9990000026", "20261123", "100000"),
        ("ACC001", "SMITH^JANE", "9990000034", "20261123", "103000"),
        ("ACC002", "MÜLLER^ZOË", "9990000042", "20261123", "110000"),
        ("ACC003", "Yamada^Tarou=山田^太郎=やまだ^たろう", "9990000050", "20261123", "113000"),
        ("ACC004", "JONES^MARY", "9990000069", "20261124", "090000"),
    ]:
        gateway.schedule(
            Appointment(
                accession_number=accession_number,
                patient_id=patient_id,
                patient_name=name,
                patient_birth_date="19650315",
                scheduled_date=day,
                scheduled_time=time,
                modality="MG",
                study_description="Bilateral Mammography",
                procedure_code="XMAMB",
                procedure_code_scheme="LOCAL",
            )
        )


@pytest.fixture
def server(gateway: Gateway, items: None) -> Iterator[AssociationServer]:
    with serving(Responder(gateway)) as server:
        yield server
