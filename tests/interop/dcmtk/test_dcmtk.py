"""DCMTK's own echoscu and findscu against a real gateway, called by absolute path: pynetdicom has namesakes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import Gateway, opened
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.worklist_item import Appointment
from tests.serving import serving

ECHOSCU, FINDSCU = Path("/usr/bin/echoscu"), Path("/usr/bin/findscu")
MODALITY = "ScheduledProcedureStepSequence[0].Modality"
DATE = "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate"

SAMPLES = [
    ("ACC000", "SMITH^JOHN", "9990000026", "100000"),
    ("ACC001", "SMITH^JANE", "9990000034", "100000"),
    ("ACC002", "MÜLLER^MARY", "9990000042", "110000"),
]


@pytest.fixture(scope="module", autouse=True)
def _dcmtk() -> None:
    for tool in (ECHOSCU, FINDSCU):
        if not tool.exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{tool} is missing (Debian package dcmtk)")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with opened(tmp_path_factory.mktemp("dcmtk") / "gateway.db") as gateway:
        for accession_number, name, patient_id, time in SAMPLES:
            gateway.schedule(
                Appointment(
                    accession_number=accession_number,
                    patient_id=patient_id,
                    patient_name=name,
                    patient_birth_date="19650315",
                    scheduled_date="20261123",
                    scheduled_time=time,
                    modality="MG",
                    study_description="Bilateral Mammography",
                )
            )
        yield gateway


@pytest.fixture(scope="module")
def server(gateway: Gateway) -> Iterator[AssociationServer]:
    with serving(Responder(gateway)) as server:
        yield server


def run(tool: Path, server: AssociationServer, *arguments: str, called: str = "ORTHANC_MWL") -> str:
    command = [str(tool), "-v", *arguments, "-aec", called, "127.0.0.1", str(server.port)]
    result = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return result.stdout.decode("latin-1") + result.stderr.decode("latin-1")


def find(server: AssociationServer, *keys: str, options: tuple[str, ...] = ("-W",), called: str = "ORTHANC_MWL") -> str:
    arguments = [word for key in keys for word in ("-k", key)]
    return run(FINDSCU, server, *options, *arguments, called=called)


def accession_numbers(output: str) -> list[str]:
    _, _, answers = output.partition("Find Response: 1")
    return re.findall(r"\(0008,0050\) SH \[(\w+)", answers)


def test_echoscu(server: AssociationServer) -> None:
    assert "Received Echo Response (Success)" in run(ECHOSCU, server)


def test_the_proof_of_concepts_query_as_a_worklist_query(server: AssociationServer) -> None:
    output = find(server, "QueryRetrieveLevel=WORKLIST", f"{MODALITY}=MG", f"{DATE}=20261123", "AccessionNumber")
    assert accession_numbers(output) == ["ACC000", "ACC001", "ACC002"]
    assert "Received Final Find Response (Success)" in output
    assert "QueryRetrieveLevel" not in output.partition("Find Response: 1")[2]


def test_the_proof_of_concepts_s_option_proposes_query_retrieve_which_is_no_worklist(server: AssociationServer) -> None:
    """Its README asks by Study Root; its server refused that context too. `-W`, or no option, is the worklist."""
    keys = ("QueryRetrieveLevel=WORKLIST", f"{MODALITY}=MG", "AccessionNumber")
    assert "No Acceptable Presentation Contexts" in find(server, *keys, options=("-S",))
    assert len(accession_numbers(find(server, *keys, options=()))) == 3


@pytest.mark.parametrize("syntax", ["-xi", "-xe", "-xb", "-xd"])
def test_whatever_transfer_syntaxes_are_proposed(server: AssociationServer, syntax: str) -> None:
    output = find(server, f"{MODALITY}=MG", "AccessionNumber", options=("-W", syntax))
    assert len(accession_numbers(output)) == 3


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (f"{DATE}=20261101-20261130", ["ACC000", "ACC001", "ACC002"]),
        (f"{DATE}=20261124-", []),
        ("PatientName=smith*", ["ACC000", "ACC001"]),
        ("PatientName=SMITH^JANE^^^", ["ACC001"]),
        ("PatientName=muller*", ["ACC002"]),
        ("PatientID=9990000042", ["ACC002"]),
        ("AccessionNumber=ACC00?", ["ACC000", "ACC001", "ACC002"]),
        ("RequestedProcedureID=ACC001", ["ACC001"]),
        (f"{MODALITY}=US", []),
    ],
)
def test_keys(server: AssociationServer, key: str, found: list[str]) -> None:
    keys = (key,) if key.startswith("AccessionNumber") else (key, "AccessionNumber")
    assert accession_numbers(find(server, *keys)) == found


def test_a_zero_length_sequence_brings_the_whole_step(server: AssociationServer) -> None:
    output = find(server, "AccessionNumber=ACC001", "ScheduledProcedureStepSequence")
    for expected in ("CS [MG]", "AE [FINDSCU ]", "DA [20261123]", "TM [100000]", "LO [Bilateral Mammography ]"):
        assert expected in output.partition("Find Response: 1")[2]


def test_the_asked_character_set_is_answered_in(server: AssociationServer) -> None:
    output = find(server, "SpecificCharacterSet=ISO_IR 100", "PatientID=9990000042", "PatientName")
    answer = output.partition("Find Response: 1")[2]
    assert "ISO_IR 100" in answer
    assert "MÜLLER^MARY" in answer


def test_a_unit_that_declares_no_character_set_is_answered_in_ascii(server: AssociationServer) -> None:
    answer = find(server, "PatientID=9990000042", "PatientName").partition("Find Response: 1")[2]
    assert "MULLER^MARY" in answer
    assert "SpecificCharacterSet" not in answer


def test_a_query_with_code_extensions_is_read_and_answered(server: AssociationServer) -> None:
    output = find(server, "SpecificCharacterSet=ISO 2022 IR 100\\ISO 2022 IR 87", "PatientName=M?LLER*")
    answer = output.partition("Find Response: 1")[2]
    assert "ISO_IR 100" in answer
    assert "MÜLLER^MARY" in answer


def test_a_date_that_does_not_exist_is_refused_with_its_reason(server: AssociationServer) -> None:
    output = find(server, f"{DATE}=20260230", "AccessionNumber")
    assert "Received Final Find Response (Error: DataSetDoesNotMatchSOPClass)" in output
    assert accession_numbers(output) == []


def test_a_wrong_called_ae_title_is_rejected(server: AssociationServer) -> None:
    assert "Called AE Title Not Recognized" in run(ECHOSCU, server, called="NOBODY")
    assert "Called AE Title Not Recognized" in find(server, "AccessionNumber", called="NOBODY")


def test_small_pdus(server: AssociationServer) -> None:
    output = find(server, f"{MODALITY}=MG", "AccessionNumber", options=("-W", "-pdu", "4096"))
    assert len(accession_numbers(output)) == 3


def test_a_cancel_or_an_abort_in_the_middle_harms_nobody(server: AssociationServer) -> None:
    find(server, f"{MODALITY}=MG", "AccessionNumber", options=("-W", "--cancel", "1"))
    find(server, f"{MODALITY}=MG", "AccessionNumber", options=("-W", "--abort"))
    assert "Received Echo Response (Success)" in run(ECHOSCU, server)
