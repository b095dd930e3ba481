"""`gateway timeline`: the whole data set of what was performed, and nobody named unless asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cli_support import Command

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway
from gateway.dicom.responder import Responder
from gateway.dicom.server_pynetdicom import PynetdicomServer
from gateway.rehearsal.modality import Modality

PERSON = ("SMITH", "9990000018", "19650315", "RADIOGRAPHER")


@pytest.fixture
def unit(gateway: Gateway) -> Iterator[Modality]:
    schedule(gateway)
    server = PynetdicomServer(Responder(gateway), ae_title="ORTHANC_MWL", host="127.0.0.1", port=0)
    server.start()
    yield Modality("127.0.0.1", server.port, "ORTHANC_MWL")
    server.stop(2)


def test_series_dose_and_protocol_of_an_examination_are_shown(unit: Modality, run: Command) -> None:
    unit.perform("ACC001")
    outcome = run("timeline", "ACC001")
    table, _, step = outcome.out.partition("\n\n")
    assert re.search(r"  completed +\S+ +at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d by its own clock", table)
    assert re.fullmatch(r"received → listed .+ · started → completed \d+ ms", table.splitlines()[-1])
    assert "Screening mammography · R CC, L CC, R MLO, L MLO · 4 images · operators R" in step
    assert "4 exposures, entrance dose 5.8 mGy, organ dose 1.87 mGy" in step
    assert "24623002 (SCT) Screening mammography" in step
    assert not any(secret in outcome.out for secret in PERSON)


def test_a_reason_to_discontinue_is_shown_with_its_meaning(unit: Modality, run: Command) -> None:
    unit.perform("ACC001", wrong_entry=True)
    assert "110514 (DCM) Incorrect worklist entry selected" in run("timeline", "ACC001").out


def test_with_data_set_every_attribute_is_shown_and_persons_only_when_revealed(unit: Modality, run: Command) -> None:
    unit.perform("ACC001")
    whole = run("timeline", "ACC001", "--data-set").out
    assert "PerformedProcedureStepStartDate" in whole
    assert "    ReferencedImageSequence" in whole
    assert "PatientID" in whole
    assert not any(secret in whole for secret in PERSON)
    revealed = run("timeline", "ACC001", "--data-set", "--reveal").out
    assert all(secret in revealed for secret in PERSON)


def test_json_has_the_data_set_of_each_message_in_the_dicom_json_model(unit: Modality, run: Command) -> None:
    unit.perform("ACC001")
    outcome = run("timeline", "ACC001", "--json")
    told = {row["kind"]: row["details"]["data_set"] for row in outcome.json if "data_set" in row["details"]}
    assert list(told) == ["PerformedProcedureStep.Started", "PerformedProcedureStep.Completed"]
    assert told["PerformedProcedureStep.Started"]["00400252"] == {"vr": "CS", "Value": ["IN PROGRESS"]}
    assert told["PerformedProcedureStep.Completed"]["00400301"] == {"vr": "US", "Value": [4]}
    assert not any(secret in outcome.out for secret in PERSON)
    assert all(secret in run("timeline", "ACC001", "--json", "--reveal").out for secret in PERSON)


def test_a_data_set_that_can_not_be_decoded_is_said_to_be_so(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    change(gateway, completed(step_uid(1)))
    assert "can't be decoded" in run("timeline", "ACC001", "--data-set").out
    steps = [row for row in run("timeline", "ACC001", "--json").json if row["kind"].startswith("Performed")]
    assert [row["details"]["data_set"] for row in steps] == [None, None]
