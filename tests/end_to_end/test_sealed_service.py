"""The service with sealing on: it serves as without, and a person is erased beside it."""

from __future__ import annotations

import pytest

from tests.end_to_end.harness import GatewayProcess, today, until
from tests.end_to_end.unit import Unit

pytestmark = pytest.mark.slow

JANE = "9990000018"
PERSON = ("--patient-id", JANE, "--patient-name", "SMITH^JANE", "--patient-birth-date", "19650315")


def traces(gateway: GatewayProcess) -> list[str]:
    files = [file for file in gateway.database.parent.iterdir() if file.is_file()]
    return [file.name for file in files if any(text in file.read_bytes() for text in (JANE.encode(), b"SMITH"))]


def test_a_person_is_erased_while_the_service_runs_and_stays_erased(lonely: GatewayProcess) -> None:
    gateway = lonely
    gateway.settings |= {"gateway_sealing": "true", "gateway_listed_statuses": "SCHEDULED,COMPLETED"}
    gateway.start()
    gateway.command("worklist", "add", "ACC001", *PERSON, "--scheduled-time", "100000")
    unit = Unit(gateway.dicom_port)
    assert unit.numbers(date=today(), modality="MG") == ["ACC001"]
    unit.find(PatientName="SMITH*")
    until(lambda: len(gateway.look("worklist", "queries")["queries"]) == 2, "both are on record", 5)
    refused = gateway.command("erase", "--patient", JANE, "--reason", "request 114", "--yes", code=1)
    assert "item ACC001 is SCHEDULED" in refused.stderr
    gateway.command("worklist", "set-status", "ACC001", "COMPLETED", "--reason", "Mrs. SMITH was here")
    assert unit.numbers(date=today(), modality="MG") == ["ACC001"]
    done = gateway.look("erase", "--patient", JANE, "--reason", "request 114", "--yes")
    assert (done["accession_numbers"], done["queries"]) == (["ACC001"], 1)
    assert traces(gateway) == []
    assert unit.numbers(date=today(), modality="MG") == []
    gateway.command("worklist", "add", "ACC002", *PERSON, "--scheduled-time", "110000")
    assert unit.numbers(date=today(), modality="MG") == ["ACC002"]
    gateway.restart()
    assert unit.numbers(date=today(), modality="MG") == ["ACC002"]
    gateway.assert_sound()
    assert gateway.stop() == 0
    assert "SMITH" not in gateway.output()
    assert JANE not in gateway.output()
