"""DICOM audit messages (PS3.15 A.5) of what the records hold, as XML or as JSON, one a line.

A message is plain data: attributes are texts, elements are objects, repeated ones lists of them. Both forms are written
from it, so they say the same. Which table of the standard a message follows is said where it is made.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from xml.sax.saxutils import escape

import projections.performed_steps
import projections.received_studies
from gateway.application import Gateway
from gateway.audit import persons
from gateway.audit.activities import EVERYTHING, LOOKED, STARTED, Activity
from gateway.audit.trail import HIDDEN, Act, Done, seen_within
from gateway.dicom.record import Query, RefusedAssociation, Retrieval
from gateway.dicom.status import CANCELLED, PENDING, PROCESSING_FAILURE, SUCCESS
from gateway.domain.performed_procedure_step import PerformedProcedureStep as Step
from gateway.domain.relay_action import RelayAction
from gateway.domain.worklist_item import WorklistItem
from projections.worklist import WorklistFilter, WorklistRow

Message = dict[str, Any]

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"

NOMINAL_SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = "0", "4", "8"
"""EventOutcomeIndicator (PS3.15 Table A.5.2-1)."""

_PERSON, _SYSTEM_OBJECT = "1", "2"
_PATIENT, _REPORT, _SECURITY_RESOURCE = "1", "3", "13"
_APPLICATION_SERVER = "4"

_TEXTS = ("EventOutcomeDescription", "ParticipantObjectName", "ParticipantObjectQuery")
"""Elements that hold a text; all other texts are attributes."""
_QUOTE = {'"': "&quot;"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Who reports: the gateway's AE title, and the site where one is given.

    `mask_id` and `mask_name` are applied to Patient IDs and names; None says them in full, and the identifiers of
    queries and the reasons that people wrote with them.
    """

    ae_title: str
    site: str = ""
    mask_id: Callable[[str], str] | None = None
    mask_name: Callable[[str], str] | None = None

    @property
    def reveals(self) -> bool:
        """Whether persons are named."""
        return self.mask_id is None

    def patient_id(self, value: str) -> str:
        """As it is to be reported."""
        return self.mask_id(value) if self.mask_id else value

    def patient_name(self, value: str) -> str:
        """As it is to be reported."""
        return self.mask_name(value) if self.mask_name else value


def messages(gateway: Gateway, act: Act, reporter: Reporter) -> Iterator[Message]:
    """The audit messages of one act; none of an event that is no procedure record."""
    match act:
        case Query():
            yield _query(act, reporter)
        case RefusedAssociation():
            yield _security_alert(act, reporter)
        case Retrieval():
            yield _retrieval(gateway, act, reporter)
        case Activity():
            yield from _activity(gateway, act, reporter)
        case Done():
            action = _action_code(act)
            if action:
                yield _procedure_record(gateway, act, action, reporter)


# --- A.5.3.10 Query


def _query(query: Query, reporter: Reporter) -> Message:
    shown = [{"Number": number} for number in query.accession_numbers]
    told = {
        "TransferSyntax": query.transfer_syntax,
        "Status": f"0x{query.status:04X}",
        "Answers": str(query.answers),
        "MatchingKeys": "\\".join(query.keys),
        **_run(query.times, query.last_at),
    }
    identifier = query.identifier if reporter.reveals and query.identifier else b""
    asked = {
        "ParticipantObjectID": MODALITY_WORKLIST_FIND,
        "ParticipantObjectTypeCode": _SYSTEM_OBJECT,
        "ParticipantObjectTypeCodeRole": _REPORT,
        "ParticipantObjectIDTypeCode": _dcm("110181", "SOP Class UID"),
        "ParticipantObjectQuery": _base64(identifier),
        "ParticipantObjectDetail": _details(told),
        "ParticipantObjectDescription": [{"Accession": shown}] if shown else [],
    }
    return _message(
        _event("110112", "Query", "E", query.at, _outcome_of(query.status), description=query.error_comment),
        [
            _entity(query.calling_ae_title, "110153", "Source Role ID", requestor=True, address=query.address),
            _entity(query.called_ae_title, "110152", "Destination Role ID", requestor=False),
        ],
        reporter,
        [asked],
    )


def _outcome_of(status: int) -> str:
    """Answered, also when the modality had enough; refused or cut short; failed on our side (PS3.4 K.4.1.1.4)."""
    if status in (SUCCESS, CANCELLED):
        return NOMINAL_SUCCESS
    unable = status >> 12 == 0xC or status == PROCESSING_FAILURE
    return SERIOUS_FAILURE if unable and status != PENDING else MINOR_FAILURE


# --- A.5.3.11 Security Alert


def _security_alert(refused: RefusedAssociation, reporter: Reporter) -> Message:
    subject = {
        "ParticipantObjectID": refused.calling_ae_title or refused.address,
        "ParticipantObjectTypeCode": _SYSTEM_OBJECT,
        "ParticipantObjectTypeCodeRole": _SECURITY_RESOURCE,
        "ParticipantObjectIDTypeCode": _dcm("110182", "Node ID"),
        "ParticipantObjectName": refused.calling_ae_title or refused.address,
        "ParticipantObjectDetail": _details(
            {"Alert Description": refused.reason, **_run(refused.times, refused.last_at)}
        ),
    }
    return _message(
        _event(
            "110113",
            "Security Alert",
            "E",
            refused.at,
            SERIOUS_FAILURE,  # PS3.15 Table A.5.2-1: the action was terminated
            types=[_dcm("110126", "Node Authentication")],
            description=refused.reason,
        ),
        [
            _entity(refused.called_ae_title or reporter.ae_title, "110152", "Destination Role ID", requestor=False),
            _entity(refused.calling_ae_title, "110153", "Source Role ID", requestor=False, address=refused.address),
        ],
        reporter,
        [subject],
    )


# --- A.5.3.1 Application Activity, A.5.3.2 Audit Log Used, and looks as A.5.3.15 Procedure Record


def _activity(gateway: Gateway, activity: Activity, reporter: Reporter) -> Iterator[Message]:
    if activity.activity != LOOKED:
        yield from _application_activity(activity, reporter)
    elif activity.subjects == (EVERYTHING,):
        yield _audit_log_used(gateway, activity, reporter)
    else:
        for subject in activity.subjects:
            yield _look(gateway, activity, subject, reporter)


def _application_activity(activity: Activity, reporter: Reporter) -> Iterator[Message]:
    latest = activity.details.get("previous_ended_without_stop")
    if latest:
        told = f"ended without a stop; found at the start of {activity.at}, nothing of it is recorded after this"
        yield _application(activity, "110121", "Application Stop", latest, reporter, SERIOUS_FAILURE, told)
    if activity.activity == STARTED:
        yield _application(activity, "110120", "Application Start", activity.at, reporter)
    else:
        yield _application(activity, "110121", "Application Stop", activity.at, reporter)


def _application(
    activity: Activity,
    code: str,
    meaning: str,
    at: str,
    reporter: Reporter,
    outcome: str = NOMINAL_SUCCESS,
    description: str = "",
) -> Message:
    event = _event("110100", "Application Activity", "E", at, outcome, types=[_dcm(code, meaning)])
    if description:
        event["EventOutcomeDescription"] = description
    return _message(
        event,
        [
            _entity(reporter.ae_title, "110150", "Application", requestor=False),
            _human(activity.who, requestor=True, role=_dcm("110151", "Application Launcher")),
        ],
        reporter,
    )


def _audit_log_used(gateway: Gateway, activity: Activity, reporter: Reporter) -> Message:
    log = {
        "ParticipantObjectID": gateway.path.absolute().as_uri(),
        "ParticipantObjectTypeCode": _SYSTEM_OBJECT,
        "ParticipantObjectTypeCodeRole": _SECURITY_RESOURCE,
        "ParticipantObjectIDTypeCode": {
            "csd-code": "12",
            "codeSystemName": "RFC-3881",
            "originalText": "URI",
        },
        "ParticipantObjectName": "Security Audit Log",
        "ParticipantObjectDetail": _details(
            {"Verb": activity.details["verb"], **_run(activity.times, activity.last_at)}
        ),
    }
    return _message(
        _event("110101", "Audit Log Used", "R", activity.at, NOMINAL_SUCCESS), [_human(activity.who)], reporter, [log]
    )


def _look(gateway: Gateway, activity: Activity, subject: str, reporter: Reporter) -> Message:
    told = {"Verb": activity.details["verb"], **_run(activity.times, activity.last_at)}
    return _message(
        _event("110111", "Procedure Record", "R", activity.at, NOMINAL_SUCCESS),
        [_human(activity.who)],
        reporter,
        _read(gateway, subject, seen_within(activity)[1], reporter, told),
    )


def _retrieval(gateway: Gateway, retrieved: Retrieval, reporter: Reporter) -> Message:
    told = {"Operation": "N-GET", **_run(retrieved.times, retrieved.last_at)}
    reader = _entity(
        retrieved.calling_ae_title, "110152", "Destination Role ID", requestor=True, address=retrieved.address
    )
    return _message(
        _event("110111", "Procedure Record", "R", retrieved.at, NOMINAL_SUCCESS),
        [reader],
        reporter,
        _read(gateway, retrieved.sop_instance_uid, retrieved.last_at or retrieved.at, reporter, told),
    )


def _read(gateway: Gateway, subject: str, at: str, reporter: Reporter, told: dict[str, str]) -> list[Message]:
    """An item, by its accession number, or a step or a study, by its UID, that somebody was shown as it was then."""
    item = _item(gateway, subject, at)
    with gateway.reading() as connection:
        step = None if item else projections.performed_steps.get(connection, subject)
        studies = [] if item or step else projections.received_studies.called(connection, subject)
    study = next(iter(studies), None)
    if study:
        return _procedure(
            _item(gateway, study.accession_number, at),
            reporter,
            accession_number=study.accession_number or study.named,
            step_uid="",
            of_step={"patient_id": study.patient_id, "patient_name": study.patient_name},
            told=told | {"Study Instance UID": study.study_instance_uid},
        )
    linked = next(iter(step.accession_numbers), "") if step else ""
    return _procedure(
        _item(gateway, linked, at) if step else item,
        reporter,
        accession_number=linked if step else subject,
        step_uid=subject if step else "",
        of_step={"patient_id": step.patient_id, "patient_name": step.patient_name} if step else None,
        told=told,
    )


# --- A.5.3.15 Procedure Record

_CREATED, _UPDATED, _DELETED = "C", "U", "D"
_ACTION_CODES: dict[Any, str] = {
    WorklistItem.Scheduled: _CREATED,
    WorklistItem.Amended: _UPDATED,
    WorklistItem.Rescheduled: _UPDATED,
    WorklistItem.Cancelled: _DELETED,
    WorklistItem.Expired: _UPDATED,
    WorklistItem.StatusReported: _UPDATED,
    WorklistItem.StatusCorrected: _UPDATED,
    Step.Started: _CREATED,
    Step.Updated: _UPDATED,
    Step.Completed: _UPDATED,
    Step.Discontinued: _UPDATED,
    Step.Linked: _UPDATED,
    Step.Dismissed: _UPDATED,
}
_BY_TOPIC = {event.TOPIC: code for event, code in _ACTION_CODES.items()}
_REFUSED = {"worklist.update_item": _UPDATED, "worklist.update_status": _UPDATED, "worklist.cancel_item": _DELETED}


def _action_code(done: Done) -> str | None:
    """What was done to the procedure's record; None of events that leave it alone."""
    if done.row.kind == RelayAction.Rejected.TOPIC and done.row.accession_number:
        return _REFUSED.get(done.row.details.get("action_type", ""), _CREATED)
    return _BY_TOPIC.get(done.row.kind)


def _procedure_record(gateway: Gateway, done: Done, action: str, reporter: Reporter) -> Message:
    row, is_refused = done.row, done.row.kind == RelayAction.Rejected.TOPIC
    refusal = f"{row.details.get('code')}: {row.details.get('message')}" if is_refused else ""
    outcome = MINOR_FAILURE if is_refused else NOMINAL_SUCCESS
    who = "web app" if row.source in ("relay", None) else done.who
    participant = (
        _entity(row.ae_title or "", "110153", "Source Role ID", requestor=True)
        if row.source == "mpps"
        else _human(who or "unknown")
    )
    reason = HIDDEN if row.has_written_reason and not reporter.reveals else row.details.get("reason")
    told = {"Event": row.kind, "Position": str(row.position), "Reason": str(reason or "")}
    return _message(
        _event("110111", "Procedure Record", action, row.committed_at, outcome, description=refusal),
        [participant],
        reporter,
        _procedure(
            _item(gateway, row.accession_number, row.position),
            reporter,
            accession_number=row.accession_number,
            step_uid=row.details.get("mpps_instance_uid", ""),
            of_step=getattr(done.event, "patient", None),
            told={name: value for name, value in told.items() if value},
        ),
    )


def _item(gateway: Gateway, accession_number: str, then: int | str) -> WorklistRow | None:
    """The item, with the person that it had at that position of the log, or at that instant."""
    rows = gateway.find_items(WorklistFilter(accession_number=accession_number)) if accession_number else []
    if not rows:
        return None
    with gateway.reading() as connection:
        found = persons.holdings(gateway, connection, accession_number)
    person = persons.at_position(found, then) if isinstance(then, int) else persons.at_instant(found, then)
    return replace(rows[0], patient_id=person["patient_id"], patient_name=person["patient_name"]) if person else rows[0]


def _procedure(
    item: WorklistRow | None,
    reporter: Reporter,
    *,
    accession_number: str,
    step_uid: str,
    told: dict[str, str],
    of_step: dict[str, str] | None = None,
) -> list[Message]:
    """The study, where it is known, and the patient: the item's, or the one that an unmatched step names."""
    description: Message = {}
    if step_uid:
        description["MPPS"] = [{"UID": step_uid}]
    if accession_number:
        description["Accession"] = [{"Number": accession_number}]
    about = {"ParticipantObjectDetail": _details(told), "ParticipantObjectDescription": [description]}
    person = of_step if item is None and isinstance(of_step, dict) else None
    patient_id = item.patient_id if item else (person or {}).get("patient_id", "")
    name = item.patient_name if item else (person or {}).get("patient_name", "")
    patient = {
        "ParticipantObjectID": reporter.patient_id(patient_id) or "unknown",
        "ParticipantObjectTypeCode": _PERSON,
        "ParticipantObjectTypeCodeRole": _PATIENT,
        "ParticipantObjectIDTypeCode": {
            "csd-code": "2",
            "codeSystemName": "RFC-3881",
            "originalText": "Patient Number",
        },
        "ParticipantObjectName": reporter.patient_name(name) or "unknown",
    }
    if item is None or not item.study_instance_uid:
        return [patient | about]
    study = {
        "ParticipantObjectID": item.study_instance_uid,
        "ParticipantObjectTypeCode": _SYSTEM_OBJECT,
        "ParticipantObjectTypeCodeRole": _REPORT,
        "ParticipantObjectIDTypeCode": _dcm("110180", "Study Instance UID"),
        "ParticipantObjectName": f"study of accession number {accession_number}",
    }
    return [study | about, patient]


# --- what all messages are made of


def _message(
    event: Message, participants: Sequence[Message], reporter: Reporter, objects: Sequence[Message] = ()
) -> Message:
    source: Message = {"AuditEnterpriseSiteID": reporter.site} if reporter.site else {}
    source |= {"AuditSourceID": reporter.ae_title, "AuditSourceTypeCode": [{"csd-code": _APPLICATION_SERVER}]}
    message: Message = {
        "EventIdentification": event,
        "ActiveParticipant": list(participants),
        "AuditSourceIdentification": source,
        "ParticipantObjectIdentification": list(objects),
    }
    cleaned: Message = _clean(message)
    return cleaned


def _event(
    code: str,
    meaning: str,
    action: str,
    at: str,
    outcome: str,
    *,
    types: Sequence[Message] = (),
    description: str = "",
) -> Message:
    event = {
        "EventActionCode": action,
        "EventDateTime": at,
        "EventOutcomeIndicator": outcome,
        "EventID": _dcm(code, meaning),
        "EventTypeCode": list(types),
    }
    return event | ({"EventOutcomeDescription": description} if description else {})


def _entity(ae_title: str, code: str, meaning: str, *, requestor: bool, address: str = "") -> Message:
    """A DICOM application entity (PS3.15 A.5.2.1, A.5.2.2)."""
    entity: Message = {"UserID": ae_title or "unknown"}
    if ae_title:
        entity["AlternativeUserID"] = f"AETITLES={ae_title}"
    entity["UserIsRequestor"] = _boolean(value=requestor)
    if address:
        entity |= {"NetworkAccessPointID": address, "NetworkAccessPointTypeCode": "2" if _is_ip(address) else "1"}
    return entity | {"RoleIDCode": [_dcm(code, meaning)]}


def _human(who: str, *, requestor: bool = True, role: Message | None = None) -> Message:
    person: Message = {"UserID": who, "UserIsRequestor": _boolean(value=requestor)}
    return person | ({"RoleIDCode": [role]} if role else {})


def _dcm(code: str, meaning: str) -> Message:
    return {"csd-code": code, "codeSystemName": "DCM", "originalText": meaning}


def _details(told: dict[str, str]) -> list[Message]:
    return [{"type": name, "value": _base64(value.encode())} for name, value in told.items()]


def _run(times: int, last_at: str) -> dict[str, str]:
    """A message that stands for a run of equal acts says so."""
    return {"Times": str(times), "LastAt": last_at} if times > 1 else {}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _boolean(*, value: bool) -> str:
    return "true" if value else "false"


def _is_ip(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _clean(value: Any) -> Any:  # noqa: ANN401  data of a message
    """Without empty lists, and without characters that a line or XML can't hold: titles come from the network."""
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items() if one != []}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    text = str(value)
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


# --- one a line


def as_json(message: Message) -> str:
    """The message as JSON, on one line."""
    return json.dumps({"AuditMessage": message}, ensure_ascii=False, separators=(",", ":"))


def as_xml(message: Message) -> str:
    """The message as XML, on one line, without a declaration."""
    return _element("AuditMessage", message)


def _element(name: str, content: Any) -> str:  # noqa: ANN401
    if isinstance(content, str):
        return f"<{name}>{escape(content)}</{name}>"
    attributes, elements = [], []
    for key, value in content.items():
        if isinstance(value, str) and key not in _TEXTS:
            attributes.append(f' {key}="{escape(value, _QUOTE)}"')
        else:
            elements += [_element(key, one) for one in (value if isinstance(value, list) else [value])]
    head = name + "".join(attributes)
    return f"<{head}>{''.join(elements)}</{name}>" if elements else f"<{head}/>"
