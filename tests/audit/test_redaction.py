"""A redacted export names nobody and still tells everything else."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from audit_support import events, exported, replayed

from bench.synthetic import (
    EXPLICIT_LITTLE_ENDIAN,
    appointment,
    change,
    completed,
    create_request,
    naming,
    request,
    start,
    step_uid,
)
from gateway.actions.door import ActionDoor
from gateway.actions.times import SiteClock
from gateway.application import Gateway, opened
from gateway.audit.redaction import Redaction
from gateway.dicom import readable
from gateway.dicom.data_set import Element, encode
from gateway.domain import values
from gateway.errors import Refusal
from tests.eventstore.everything import everything_happened
from tests.eventstore.test_topics import sample, samples

LONDON = ZoneInfo("Europe/London")
SECRETS = (
    "9990000018",
    "9990000026",
    "SMITH",
    "JANE",
    "MARY",
    "19650315",
    "attend",
    "paper",
    "phantom",
    "night shift",
    "hall",
)
"""What identifies somebody in the story in which everything happens, or what people wrote in it."""


def data_set(**texts: str) -> bytes:
    tags = {"name": (0x00100010, "PN"), "patient_id": (0x00100020, "LO"), "accession": (0x00080050, "SH")}
    return encode([Element(*tags[name], text.encode()) for name, text in texts.items()], EXPLICIT_LITTLE_ENDIAN)


def decoded(event: dict[str, Any]) -> bytes:
    return base64.b64decode(event["state"]["envelope"]["sealed"]["attribute_list"]["_data_"])


def persons(lines: list[str]) -> list[dict[str, Any]]:
    return [
        event["state"]["envelope"]["sealed"]["person"]
        for event in events(lines)
        if event["topic"] == "WorklistItem.Scheduled"
    ]


def test_nothing_that_identifies_is_left(gateway: Gateway) -> None:
    everything_happened(gateway)
    plain, redacted = "\n".join(exported(gateway)), "\n".join(exported(gateway, redact=True))
    for secret in SECRETS:
        assert secret in plain
        assert secret not in redacted


@pytest.mark.parametrize("name", samples())
def test_each_version_of_each_event_keeps_its_keys_and_kinds_and_names_nobody(name: str) -> None:
    kept = sample(name)
    told = Redaction().state(kept["topic"], kept["state"])
    assert shape(told) == shape(kept["state"])
    assert not [secret for secret in SECRETS if secret in str(told)]


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value)


def test_every_version_of_a_sample_is_redacted_too_where_a_field_stood_openly() -> None:
    kept = sample("WorklistItem.Cancelled.v1")
    openly = {**kept["state"], "reason": kept["state"]["envelope"]["sealed"]["reason"]}
    del openly["envelope"]
    assert Redaction().state(kept["topic"], openly)["reason"] == "xxx xxx xxxxxx"


def test_the_reason_of_an_erasure_is_blanked_like_other_reasons(gateway: Gateway) -> None:
    everything_happened(gateway)
    erasures = [event for event in events(exported(gateway, redact=True)) if "PersonErased" in event["topic"]]
    assert {event["topic"].split(".")[0] for event in erasures} == {
        "Erasure",
        "WorklistItem",
        "PerformedProcedureStep",
        "ReceivedStudy",
    }
    assert {event["state"]["reason"] for event in erasures} == {"xxxxxxx 0"}


def test_the_same_person_is_the_same_pseudonym_everywhere(gateway: Gateway) -> None:
    jane, mary = appointment("ACC001"), appointment("ACC002", patient_id="9990000026", patient_name="JONES^MARY")
    for wanted in (jane, mary):
        gateway.schedule(wanted, request=create_request(f"create-{wanted.accession_number}", wanted))
    gateway.schedule(appointment("ACC003"), request=create_request("create-ACC003", appointment("ACC003")))
    start(
        gateway,
        step_uid(1),
        naming("ACC001"),
        attribute_list=data_set(accession="ACC001", name="Smith^Jane", patient_id="9990000018"),
    )
    lines = exported(gateway, redact=True)
    first, second, third = persons(lines)
    assert first == third
    assert first["patient_id"] != second["patient_id"]
    assert first["patient_name"] != second["patient_name"]
    requests = [
        event["state"]["envelope"]["sealed"]["request"]
        for event in events(lines)
        if event["topic"].startswith("RelayAction")
    ]
    participants = [json.loads(text)["parameters"]["worklist_item"]["participant"] for text in requests]
    assert [one["nhs_number"] for one in participants] == [one["patient_id"] for one in (first, second, third)]
    assert [one["name"] for one in participants] == [one["patient_name"] for one in (first, second, third)]
    assert [one["birth_date"] for one in participants] == [one["patient_birth_date"] for one in (first, second, third)]
    [step] = [event for event in events(lines) if event["topic"] == "PerformedProcedureStep.Started"]
    assert step["state"]["envelope"]["sealed"]["patient"] == {key: first[key] for key in ("patient_id", "patient_name")}
    told = readable.model([(decoded(step), EXPLICIT_LITTLE_ENDIAN)])
    assert told["00100020"]["Value"] == [first["patient_id"]]
    assert told["00100010"]["Value"] == [{"Alphabetic": first["patient_name"].title()}]
    assert told["00080050"]["Value"] == ["ACC001"]


@pytest.mark.parametrize(
    "text", ["Ms MÜLLERSTEIN 9990000042", "for mullerstein, Anna", "999 000 0042", "999-000-0042/Müllerstein1"]
)
def test_a_known_person_is_named_in_no_description_and_no_action_id(
    gateway: Gateway, tmp_path: Path, text: str
) -> None:
    person = {"patient_id": "9990000042", "patient_name": "MÜLLERSTEIN^ANNA"}
    before = appointment("ACC000", study_description=f"before {text}")  # somebody else's, before hers
    gateway.schedule(before, request=create_request("create-0", before))
    wanted = appointment("ACC001", **person, study_description=text, location="HALL 2")
    gateway.schedule(wanted, request=create_request(f"book {text}", wanted))
    content = encode([Element(0x00081030, "LO", b"Anna 9990000042")], EXPLICIT_LITTLE_ENDIAN)
    start(gateway, step_uid(1), naming("ACC001"), attribute_list=content, **person)
    lines = exported(gateway, redact=True)
    [step] = [event for event in events(lines) if event["topic"] == "PerformedProcedureStep.Started"]
    told = "\n".join([*lines, decoded(step).decode("latin-1")]).lower()
    assert not [secret for secret in ("stein", "anna", "9990000042", "000 0042", "000-0042") if secret in told]
    assert ("before " in told, "hall 2" in told) == (True, True)
    scheduled, answered = events(lines)[2:4]
    booked = scheduled["state"]["action_id"]
    assert {answered["state"]["action_id"], answered["state"]["metadata"]["correlation_id"]} == {booked}
    assert len(booked) == len(f"book {text}")
    built = replayed(lines, tmp_path)
    with opened(built.database) as copy:
        assert copy.verify_projections() == []


def test_uids_and_accession_numbers_stay_though_they_hold_what_may_be_an_id(gateway: Gateway) -> None:
    uid = "1.2.826.9990000018.1"
    wanted = appointment("9990000018")
    gateway.schedule(wanted, request=create_request(uid, wanted))
    scheduled = events(exported(gateway, redact=True))[0]["state"]
    assert (scheduled["accession_number"], scheduled["action_id"]) == ("9990000018", uid)


def test_two_exports_have_nothing_in_common(gateway: Gateway) -> None:
    gateway.schedule(appointment())
    [one], [other] = (persons(exported(gateway, redact=True)) for _ in range(2))
    assert all(one[name] != other[name] for name in ("patient_id", "patient_name"))


def test_values_stay_valid(gateway: Gateway) -> None:
    gateway.schedule(appointment(performing_physician="BROWN^ANN"))
    lines = exported(gateway, redact=True)
    [person] = persons(lines)
    assert values.patient_id_warning(person["patient_id"]) is None
    assert values.person_name(person["patient_name"]) == person["patient_name"]
    assert values.date_of(person["patient_birth_date"], "date") == person["patient_birth_date"]
    assert person["patient_sex"] == "F"
    physician = events(lines)[0]["state"]["step"]["performing_physician"]
    assert re.fullmatch(r"[A-Z]{5}\^[A-Z]{3}", physician)
    assert physician != "BROWN^ANN"


def test_who_an_operator_is_and_what_they_wrote_is_hidden_but_one_stays_one(gateway: Gateway) -> None:
    everything_happened(gateway)
    told = {event["topic"]: event["state"] for event in events(exported(gateway, redact=True))}
    acts = ("PerformedProcedureStep.Linked", "PerformedProcedureStep.Dismissed", "WorklistItem.StatusCorrected")
    assert len({told[act]["metadata"]["correlation_id"] for act in acts}) == 1
    assert told["PerformedProcedureStep.Dismissed"]["envelope"]["sealed"]["reason"] == "x xxxxxxx"
    assert told["StatusUpdate.Requeued"]["reason"] == "xx xxxxxx xxx"
    assert told["StatusUpdate.Parked"]["reason"] == "appointment_not_found"  # the web app's word, not a person's


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Jane Smith, born 15/3/65", "Xxxx Xxxxx, xxxx 00/0/00"),
        ('{"name": "JANE"', '{"xxxx": "XXXX"'),
        ('["SMITH"]', '["XXXXX"]'),
        (
            '{"a": {"email": "j@smith.uk", "age": 61, "deaf": true}}',
            '{"a": {"email": "x@xxxxx.xx", "age": 0, "deaf": true}}',
        ),
        ('{"Jane Smith": 1.5}', '{"Xxxx Xxxxx": 0}'),
        ('{"accession_number": "ACC001", "sex": "Jane"}', '{"accession_number": "ACC001", "sex": "Xxxx"}'),
        ('{"scheduled": {"date": "soon, says Jane"}}', '{"scheduled": {"date": "xxxx, xxxx Xxxx"}}'),
        ('{"reason": "\\ud800 Jane"}', '{"reason": "\\ud800 Xxxx"}'),
    ],
)
def test_whatever_was_refused_is_hidden_and_keeps_its_shape(gateway: Gateway, text: str, told: str) -> None:
    gateway.reject_unidentified(replace(request(""), text=text, digest=""), Refusal("nonsense"))
    [event] = events(exported(gateway, redact=True))
    assert event["state"]["envelope"]["sealed"]["request"] == told
    assert event["state"]["digest"] == ""


def test_a_number_that_should_be_a_text_is_the_same_person(gateway: Gateway) -> None:
    text = '{"nhs_number": 9990000018, "patient_id": "9990000018"}'
    gateway.reject_unidentified(replace(request(""), text=text), Refusal("nonsense"))
    [event] = events(exported(gateway, redact=True))
    told = json.loads(event["state"]["envelope"]["sealed"]["request"])
    assert str(told["nhs_number"]) == told["patient_id"] != "9990000018"


def test_a_digest_does_not_give_the_content_away_and_a_repeat_is_still_a_repeat(
    gateway: Gateway, tmp_path: Path
) -> None:
    sent = Path(__file__).parents[2] / "gateway" / "contract" / "samples" / "actions" / "worklist.create_item.json"
    assert answered(gateway, sent.read_text())["status"] == "created"
    redacted = exported(gateway, redact=True)
    [plain], [told] = (
        [e["state"] for e in events(lines) if e["topic"] == "RelayAction.Accepted"]
        for lines in (exported(gateway), redacted)
    )
    assert told["digest"] != plain["digest"]
    with opened(replayed(redacted, tmp_path).database) as copy:
        reply = answered(copy, told["envelope"]["sealed"]["request"])
        assert (reply["status"], reply["duplicate"]) == ("created", True)


def test_what_was_erased_stays_as_it_is() -> None:
    kept = sample("WorklistItem.Scheduled.v1")
    state = {**kept["state"], "envelope": {"key_id": "k1", "erased": True}}
    assert Redaction().state(kept["topic"], state) == state


def test_a_data_set_is_redacted_inside_its_bytes(gateway: Gateway) -> None:
    gateway.schedule(appointment())
    start(gateway, step_uid(1), naming(), attribute_list=data_set(accession="ACC001", name="SMITH^JANE"))
    change(gateway, completed(step_uid(1)))
    started, ended = (event for event in events(exported(gateway, redact=True)) if "attribute_list" in str(event))
    assert decoded(started).startswith(data_set(accession="ACC001"))
    assert len(decoded(started)) == len(data_set(accession="ACC001", name="SMITH^JANE"))
    assert decoded(ended) == bytes(len(completed("1").attribute_list))  # no data set: nobody knows what is in it


def answered(gateway: Gateway, message: str) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(ActionDoor(gateway, SiteClock(LONDON), dict).answer(message))
    return reply
