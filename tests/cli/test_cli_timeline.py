"""`gateway timeline`: the whole data set of what was performed, and nobody named unless asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from cli_support import Command

from bench.synthetic import change, completed, naming, request, schedule, start, step_uid, wrong_entry
from gateway.application import Gateway
from gateway.dicom.responder import Responder
from gateway.domain.lifecycle import Status
from gateway.rehearsal.modality import Modality
from tests.serving import serving

PERSON = ("SMITH", "9990000018", "19650315", "RADIOGRAPHER")


@pytest.fixture
def unit(gateway: Gateway) -> Iterator[Modality]:
    schedule(gateway)
    with serving(Responder(gateway)) as server:
        yield Modality("127.0.0.1", server.port, "ORTHANC_MWL")


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


def test_a_step_says_whose_it_is_and_that_it_is_nobody_s(unit: Modality, run: Command, gateway: Gateway) -> None:
    unit.perform("ACC001")
    assert re.search(r"^of item +ACC001$", run("timeline", "ACC001").out, re.MULTILINE)
    start(gateway, "1.2.3", naming("ACC003"), patient_id="9990000042")
    assert "of item         none: gateway steps unmatched" in run("timeline", "ACC003").out


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


WRITTEN = "asked by Mrs SMITH on the telephone"


@pytest.mark.parametrize("options", [(), ("--json",)], ids=str)
def test_what_an_operator_wrote_may_name_somebody_and_is_shown_only_when_revealed(
    gateway: Gateway, run: Command, options: tuple[str, ...]
) -> None:
    schedule(gateway)
    gateway.correct_status("ACC001", Status.CANCELLED, reason=WRITTEN, operator="night shift")
    masked = run("timeline", "ACC001", *options)
    assert "SMITH" not in masked.out + masked.err
    assert "•••" in masked.out
    assert WRITTEN in run("timeline", "ACC001", "--reveal", *options).out
    [look] = [one for one in run("audit", "list", "--accession", "ACC001", "--json").json if one["act"] == "looked"]
    assert (look["details"]["verb"], look["about"]) == ("timeline", ["ACC001"])


def test_what_the_web_app_wrote_is_shown_only_when_revealed(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    gateway.cancel("ACC001", WRITTEN, request=request("cancel", "worklist.cancel_item"))
    assert WRITTEN not in run("timeline", "ACC001").out
    assert WRITTEN not in run("timeline", "--action", "cancel").out
    assert WRITTEN in run("timeline", "ACC001", "--reveal").out


def test_a_revealed_reason_about_a_step_of_nobody_is_a_look_at_that_step(gateway: Gateway, run: Command) -> None:
    start(gateway, step_uid(1))
    gateway.dismiss_step(step_uid(1), reason=WRITTEN, operator="night shift")
    assert WRITTEN not in run("timeline", "--rejected", "--json").out
    assert WRITTEN in run("timeline", "--rejected", "--json", "--reveal").out
    looks = [one for one in run("audit", "list", "--since", "2020-01-01", "--json").json if one["act"] == "looked"]
    assert [one["about"] for one in looks] == [[step_uid(1)]]


def test_a_code_to_discontinue_and_the_gateway_s_own_words_are_always_shown(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    change(gateway, wrong_entry(step_uid(1)))
    assert "reason=110514" in run("timeline", "ACC001").out
