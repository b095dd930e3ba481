"""DICOM audit messages: each valid by the schema of PS3.15 A.5.1, and with what the table of its kind demands."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bench.synthetic import PERSON, completed, naming, schedule, start, step_uid
from bench.synthetic import change as changed
from gateway.application import Gateway
from gateway.audit import activities, audit_messages, trail
from gateway.audit.audit_messages import Message, Reporter
from gateway.cli.output import masked_id, masked_name
from gateway.dicom.record import Query, QueryRecord, RefusedAssociation, Retrieval
from tests.eventstore.everything import everything_happened

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit-message.rng")))
FULL = Reporter(ae_title="ORTHANC_MWL", site="Example Hospital")
MASKED = Reporter(ae_title="ORTHANC_MWL", mask_id=masked_id, mask_name=masked_name)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC).isoformat(timespec="milliseconds")
SOP_CLASS = "1.2.840.10008.5.1.4.31"


def a_query(**values: Any) -> Query:
    details: dict[str, Any] = {
        "at": NOW,
        "last_at": NOW,
        "calling_ae_title": "MAMMO1",
        "called_ae_title": "ORTHANC_MWL",
        "address": "192.0.2.7",
        "keys": ("PatientID",),
        "identifier": b"\x10\x00\x20\x00 the identifier",
        "transfer_syntax": "1.2.840.10008.1.2",
        "status": 0,
        "error_comment": "",
        "answers": 1,
        "accession_numbers": ("ACC001",),
        "milliseconds": 1.0,
    }
    return Query(**{**details, **values})


def a_refusal(**values: Any) -> RefusedAssociation:
    details: dict[str, Any] = {
        "at": NOW,
        "last_at": NOW,
        "calling_ae_title": "MAMO1",
        "called_ae_title": "GATEWAY",
        "address": "192.0.2.9",
        "reason": "Called AE title not recognised",
    }
    return RefusedAssociation(**{**details, **values})


def a_retrieval() -> Retrieval:
    return Retrieval(
        at=NOW,
        last_at=NOW,
        calling_ae_title="WORKSTATION",
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.8",
        sop_instance_uid=step_uid(1),
    )


def of(gateway: Gateway, act: trail.Act, reporter: Reporter = FULL) -> Message:
    [message] = audit_messages.messages(gateway, act, reporter)
    return message


def valid(message: Message) -> Any:
    """The message as XML, after it was held against the schema."""
    line = audit_messages.as_xml(message)
    assert "\n" not in line
    root = etree.fromstring(line)
    SCHEMA.assertValid(root)
    return root


def detail(objects: Message, name: str) -> str:
    [value] = [one["value"] for one in objects["ParticipantObjectDetail"] if one["type"] == name]
    return base64.b64decode(value).decode()


def everything(gateway: Gateway, reporter: Reporter = FULL) -> Iterator[Message]:
    """The messages of everything that can happen, all records together."""
    everything_happened(gateway)
    activities.service_started(gateway, "gateway", version="0.1.0", ae_title="ORTHANC_MWL")
    activities.service_started(gateway, "gateway", version="0.1.0", ae_title="ORTHANC_MWL")
    activities.service_stopped(gateway, "gateway")
    activities.looked(gateway, "night shift", "worklist list", ["ACC001", step_uid(4), "ACC999"])
    activities.looked(gateway, "auditor", "audit export", [activities.EVERYTHING])
    book = QueryRecord(gateway, kept_days=36500)
    for act in (a_query(), a_query(status=0xA900, keys=(), error_comment="(0010,0020)"), a_refusal(), a_retrieval()):
        book.add(act)
    book.start()
    book.close()
    for act in trail.search(gateway, trail.Wanted(), sources=trail.ALL_SOURCES):
        yield from audit_messages.messages(gateway, act, reporter)


# --- all of them


def test_every_message_is_valid_by_the_schema_of_the_standard(gateway: Gateway) -> None:
    kinds = {valid(message).find("EventIdentification/EventID").get("csd-code") for message in everything(gateway)}
    assert kinds == {"110100", "110101", "110111", "110112", "110113"}


def test_masked_messages_are_valid_too_and_name_nobody(gateway: Gateway) -> None:
    told = list(everything(gateway, MASKED))
    for message in told:
        valid(message)
    text = json.dumps(told, ensure_ascii=False)
    assert not any(secret in text for secret in ("SMITH", *[value for value in PERSON.values() if len(value) > 1]))
    assert base64.b64encode(a_query().identifier or b"").decode() not in text


def test_the_schema_refuses_what_is_no_message(gateway: Gateway) -> None:
    root = valid(of(gateway, a_query()))
    del root.find("EventIdentification").attrib["EventOutcomeIndicator"]
    assert not SCHEMA.validate(root)


def test_json_says_what_xml_says(gateway: Gateway) -> None:
    for message in everything(gateway):
        assert read_back(valid(message)) == json.loads(audit_messages.as_json(message))["AuditMessage"]


SINGLE = ("EventIdentification", "EventID", "AuditSourceIdentification", "ParticipantObjectIDTypeCode")
TEXTS = ("EventOutcomeDescription", "ParticipantObjectName", "ParticipantObjectQuery")


def read_back(element: Any) -> Message:
    told: Message = dict(element.attrib)
    for child in element:
        if child.tag in TEXTS:
            told[child.tag] = child.text or ""
        elif child.tag in SINGLE:
            told[child.tag] = read_back(child)
        else:
            told.setdefault(child.tag, []).append(read_back(child))
    return told


@given(title=st.text(max_size=16), reason=st.text(max_size=60), called=st.text(max_size=16))
def test_whatever_a_peer_calls_itself_the_message_is_valid_and_one_line(title: str, reason: str, called: str) -> None:
    refused = a_refusal(calling_ae_title=title, called_ae_title=called, reason=reason)
    [message] = audit_messages.messages(None, refused, FULL)  # type: ignore[arg-type]  it asks nothing of the gateway
    valid(message)
    assert len(audit_messages.as_json(message).splitlines()) == 1


def test_the_source_is_the_gateway_of_the_site(gateway: Gateway) -> None:
    assert of(gateway, a_query())["AuditSourceIdentification"] == {
        "AuditEnterpriseSiteID": "Example Hospital",
        "AuditSourceID": "ORTHANC_MWL",
        "AuditSourceTypeCode": [{"csd-code": "4"}],
    }


# --- A.5.3.10


def test_a_query_says_who_asked_whom_for_what_and_how_it_ended(gateway: Gateway) -> None:
    message = of(gateway, a_query(times=12, last_at="2026-11-23T09:05:00.000+00:00"))
    event = message["EventIdentification"]
    assert event["EventID"] == {"csd-code": "110112", "codeSystemName": "DCM", "originalText": "Query"}
    assert (event["EventActionCode"], event["EventDateTime"], event["EventOutcomeIndicator"]) == ("E", NOW, "0")
    source, destination = message["ActiveParticipant"]
    assert source == {
        "UserID": "MAMMO1",
        "AlternativeUserID": "AETITLES=MAMMO1",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.7",
        "NetworkAccessPointTypeCode": "2",
        "RoleIDCode": [{"csd-code": "110153", "codeSystemName": "DCM", "originalText": "Source Role ID"}],
    }
    assert destination["RoleIDCode"][0]["csd-code"] == "110152"
    [asked] = message["ParticipantObjectIdentification"]
    assert (asked["ParticipantObjectTypeCode"], asked["ParticipantObjectTypeCodeRole"]) == ("2", "3")
    assert asked["ParticipantObjectIDTypeCode"]["csd-code"] == "110181"
    assert asked["ParticipantObjectID"] == SOP_CLASS
    assert base64.b64decode(asked["ParticipantObjectQuery"]) == a_query().identifier
    assert detail(asked, "TransferSyntax") == "1.2.840.10008.1.2"
    assert detail(asked, "MatchingKeys") == "PatientID"
    assert (detail(asked, "Times"), detail(asked, "LastAt")) == ("12", "2026-11-23T09:05:00.000+00:00")
    assert asked["ParticipantObjectDescription"] == [{"Accession": [{"Number": "ACC001"}]}]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, "0"),
        (0xFE00, "0"),
        (0xFF00, "4"),
        (0xA700, "4"),
        (0xA900, "4"),
        (0xC000, "8"),
        (0x0110, "8"),
    ],
)
def test_the_outcome_is_by_the_status(gateway: Gateway, status: int, outcome: str) -> None:
    """Answered or cancelled: success; refused, cut short or left: minor; failed on our side: serious."""
    assert of(gateway, a_query(status=status))["EventIdentification"]["EventOutcomeIndicator"] == outcome


def test_without_leave_to_name_persons_the_identifier_of_a_query_is_left_out(gateway: Gateway) -> None:
    [asked] = of(gateway, a_query(), MASKED)["ParticipantObjectIdentification"]
    assert asked["ParticipantObjectQuery"] == ""
    assert detail(asked, "MatchingKeys") == "PatientID"


def test_an_identifier_that_was_not_kept_is_empty(gateway: Gateway) -> None:
    [asked] = of(gateway, a_query(identifier=None))["ParticipantObjectIdentification"]
    assert asked["ParticipantObjectQuery"] == ""


# --- A.5.3.11


def test_a_refused_association_is_a_security_alert_of_node_authentication(gateway: Gateway) -> None:
    message = of(gateway, a_refusal())
    event = message["EventIdentification"]
    assert (event["EventID"]["csd-code"], event["EventActionCode"]) == ("110113", "E")
    assert [code["csd-code"] for code in event["EventTypeCode"]] == ["110126"]
    assert (event["EventOutcomeIndicator"], event["EventOutcomeDescription"]) == ("8", a_refusal().reason)
    assert [one["UserID"] for one in message["ActiveParticipant"]] == ["GATEWAY", "MAMO1"]
    assert message["ActiveParticipant"][1]["NetworkAccessPointID"] == "192.0.2.9"
    [subject] = message["ParticipantObjectIdentification"]
    assert (subject["ParticipantObjectID"], subject["ParticipantObjectIDTypeCode"]["csd-code"]) == ("MAMO1", "110182")
    assert detail(subject, "Alert Description") == a_refusal().reason


def test_a_peer_that_named_no_title_is_known_by_its_address(gateway: Gateway) -> None:
    message = of(gateway, a_refusal(calling_ae_title="", called_ae_title="", address="unit.example"))
    [subject] = message["ParticipantObjectIdentification"]
    assert subject["ParticipantObjectID"] == "unit.example"
    assert message["ActiveParticipant"][1]["NetworkAccessPointTypeCode"] == "1"


# --- A.5.3.1


def test_starts_and_stops_are_application_activities_and_so_is_an_end_without_a_stop(gateway: Gateway) -> None:
    activities.service_started(gateway, "gateway")
    activities.service_started(gateway, "gateway")
    activities.service_stopped(gateway, "gateway")
    told = [
        (message["EventIdentification"]["EventTypeCode"][0]["csd-code"], message)
        for act in trail.search(gateway, trail.Wanted())
        for message in audit_messages.messages(gateway, act, FULL)
    ]
    assert [code for code, _ in told] == ["110120", "110121", "110120", "110121"]
    outcomes = [message["EventIdentification"]["EventOutcomeIndicator"] for _, message in told]
    assert outcomes == ["0", "8", "0", "0"]
    assert "without a stop" in told[1][1]["EventIdentification"]["EventOutcomeDescription"]
    for _, message in told:
        assert message["EventIdentification"]["EventID"]["csd-code"] == "110100"
        application, launcher = message["ActiveParticipant"]
        assert (application["UserID"], application["RoleIDCode"][0]["csd-code"]) == ("ORTHANC_MWL", "110150")
        assert (application["UserIsRequestor"], launcher["UserIsRequestor"]) == ("false", "true")
        assert (launcher["UserID"], launcher["RoleIDCode"][0]["csd-code"]) == ("gateway", "110151")


# --- A.5.3.15 and A.5.3.2


def records(gateway: Gateway, act: Callable[[], object]) -> list[Message]:
    """The messages of what is done now."""
    before = gateway.check_store()
    act()
    return [
        message
        for found in trail.search(gateway, trail.Wanted(), sources=trail.ALL_SOURCES)
        if isinstance(found, trail.Done) and found.row.position > before
        for message in audit_messages.messages(gateway, found, FULL)
    ]


def test_an_examination_is_a_procedure_record_made_and_updated_of_one_patient_and_one_study(gateway: Gateway) -> None:
    [made] = records(gateway, lambda: schedule(gateway))
    [started] = records(gateway, lambda: start(gateway, step_uid(1), naming()))
    [ended] = records(gateway, lambda: changed(gateway, completed(step_uid(1))))
    assert [one["EventIdentification"]["EventActionCode"] for one in (made, started, ended)] == ["C", "C", "U"]
    assert made["ActiveParticipant"][0]["UserID"] == "web app"
    assert started["ActiveParticipant"][0]["UserID"] == "MAMMO1"
    study, patient = ended["ParticipantObjectIdentification"]
    assert study["ParticipantObjectIDTypeCode"]["csd-code"] == "110180"
    [row] = gateway.find_items(trail.WorklistFilter(accession_number="ACC001"))
    assert study["ParticipantObjectID"] == row.study_instance_uid
    assert study["ParticipantObjectDescription"] == [
        {"MPPS": [{"UID": step_uid(1)}], "Accession": [{"Number": "ACC001"}]}
    ]
    assert (patient["ParticipantObjectTypeCode"], patient["ParticipantObjectTypeCodeRole"]) == ("1", "1")
    assert (patient["ParticipantObjectID"], patient["ParticipantObjectName"]) == ("9990000018", "SMITH^JANE")
    assert patient["ParticipantObjectIDTypeCode"]["csd-code"] == "2"


def test_an_unmatched_step_is_a_record_of_the_patient_that_it_names(gateway: Gateway) -> None:
    [message] = records(gateway, lambda: start(gateway, step_uid(1)))
    [patient] = message["ParticipantObjectIdentification"]
    assert patient["ParticipantObjectID"] == "9990000018"
    assert patient["ParticipantObjectDescription"] == [{"MPPS": [{"UID": step_uid(1)}]}]


def test_what_an_operator_does_is_the_operator_s(gateway: Gateway) -> None:
    start(gateway, step_uid(1))
    [message] = records(gateway, lambda: gateway.dismiss_step(step_uid(1), reason="a phantom", operator="night shift"))
    assert message["ActiveParticipant"] == [{"UserID": "night shift", "UserIsRequestor": "true"}]


def test_a_look_at_persons_is_a_procedure_record_read_of_each_item(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    start(gateway, step_uid(1))
    activities.looked(gateway, "night shift", "worklist list", ["ACC001", "ACC002", step_uid(1)])
    [look] = activities_of(gateway)
    told = list(audit_messages.messages(gateway, look, FULL))
    assert [one["EventIdentification"]["EventActionCode"] for one in told] == ["R", "R", "R"]
    assert [one["ActiveParticipant"][0]["UserID"] for one in told] == ["night shift"] * 3
    assert told[2]["ParticipantObjectIdentification"][0]["ParticipantObjectID"] == "9990000018"


def test_a_retrieved_step_is_a_procedure_record_read_by_whom_it_was_shown(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    message = of(gateway, a_retrieval())
    assert message["EventIdentification"]["EventActionCode"] == "R"
    [reader] = message["ActiveParticipant"]
    assert (reader["UserID"], reader["NetworkAccessPointID"]) == ("WORKSTATION", "192.0.2.8")
    study, patient = message["ParticipantObjectIdentification"]
    assert study["ParticipantObjectDescription"] == [
        {"MPPS": [{"UID": step_uid(1)}], "Accession": [{"Number": "ACC001"}]}
    ]
    assert patient["ParticipantObjectID"] == "9990000018"


def test_an_export_of_everything_is_an_audit_log_used(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "audit export", [activities.EVERYTHING])
    [look] = activities_of(gateway)
    message = of(gateway, look)
    event = message["EventIdentification"]
    assert (event["EventID"]["csd-code"], event["EventActionCode"]) == ("110101", "R")
    [log] = message["ParticipantObjectIdentification"]
    assert (log["ParticipantObjectTypeCodeRole"], log["ParticipantObjectName"]) == ("13", "Security Audit Log")
    assert log["ParticipantObjectID"].startswith("file:///")


def activities_of(gateway: Gateway) -> list[activities.Activity]:
    with gateway.reading() as connection:
        return list(activities.find(connection))


# --- an item that became another's


def test_each_procedure_record_names_the_person_that_its_event_is_about(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026", patient_name="JONES^JANE")
    gateway.amend("X2", lambda _: {"patient_id": "9990000034", "patient_name": "BROWN^JANE"})
    gateway.cancel("X2", reason=None)
    acts = trail.search(gateway, trail.Wanted(), sources=trail.ALL_SOURCES)
    told = [message for act in acts for message in audit_messages.messages(gateway, act, FULL)]
    patients = [message["ParticipantObjectIdentification"][-1] for message in told]
    assert [(one["ParticipantObjectID"], one["ParticipantObjectName"]) for one in patients] == [
        ("9990000026", "JONES^JANE"),
        ("9990000034", "BROWN^JANE"),
        ("9990000034", "BROWN^JANE"),
    ]


def test_a_look_names_the_person_of_the_moment_that_was_looked_at(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    then = gateway.timeline("X2")[-1].committed_at
    gateway.amend("X2", lambda _: {"patient_id": "9990000034"})
    activities.looked(gateway, "auditor", "worklist list", ["X2"])
    activities.looked(gateway, "auditor", "worklist list", ["X2"], as_of=then)
    looks = [act for act in trail.search(gateway, trail.Wanted()) if isinstance(act, activities.Activity)]
    named = [of(gateway, look)["ParticipantObjectIdentification"][-1]["ParticipantObjectID"] for look in looks]
    assert named == ["9990000034", "9990000026"]
