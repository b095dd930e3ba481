"""Synthetic appointments, actions and modality reports, for the benchmarks and the tests.

Nobody here exists: NHS numbers are of the 999 range, names are SMITH^JANE and her like.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from gateway.application import Gateway
from gateway.domain.events import circumstances
from gateway.domain.identity import new_study_instance_uid, status_event_id
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import (
    WRONG_WORKLIST_ENTRY,
    PerformedProcedureStep,
    Reference,
    StepChange,
    StepReport,
)
from gateway.domain.received_study import FeedPlace, Series, StudyReport
from gateway.domain.relay_action import ActionReply, ActionRequest, RelayAction
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import Appointment, WorklistItem

RECEIVED = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
MODALITY = "MAMMO1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

PERSON = {
    "patient_id": "9990000018",
    "patient_name": "SMITH^JANE",
    "patient_birth_date": "19650315",
    "patient_sex": "F",
}
"""The values of `appointment()` that identify somebody."""

_ROOT = "1.2.826.0.1.3680043.8.498"


def appointment(accession_number: str = "ACC001", **changes: Any) -> Appointment:
    """An appointment of Jane Smith's, with changes."""
    values: dict[str, Any] = {
        "accession_number": accession_number,
        **PERSON,
        "scheduled_date": "20261123",
        "scheduled_time": "100000",
        "modality": "MG",
        "study_description": "Bilateral Mammography",
    }
    return Appointment(**{**values, **changes})


def participant(number: int) -> dict[str, str]:
    """The identifying values of the n-th synthetic woman."""
    return {
        "patient_id": f"999{number % 10_000_000:07d}",
        "patient_name": f"SMITH^JANE^{number}",
        "patient_birth_date": f"19{50 + number % 30}0{1 + number % 9}{10 + number % 18}",
        "patient_sex": "F",
    }


def request(action_id: str, action_type: str = "worklist.create_item", **parameters: Any) -> ActionRequest:
    """An action as the relay door hands it on."""
    content = json.dumps([action_type, parameters], sort_keys=True)
    return ActionRequest(
        action_id=action_id,
        action_type=action_type,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        text=json.dumps({"action_id": action_id, "action_type": action_type, "parameters": parameters}),
        received_at=RECEIVED.isoformat(),
    )


def create_request(action_id: str, wanted: Appointment) -> ActionRequest:
    """The `worklist.create_item` that asks for this appointment, as long as a real one is."""
    return request(
        action_id,
        worklist_item={
            "accession_number": wanted.accession_number,
            "participant": {
                "nhs_number": wanted.patient_id,
                "name": wanted.patient_name,
                "birth_date": wanted.patient_birth_date,
                "sex": wanted.patient_sex,
            },
            "scheduled": {"date": wanted.scheduled_date, "time": wanted.scheduled_time},
            "procedure": {"modality": wanted.modality, "study_description": wanted.study_description},
        },
    )


def step_uid(number: int) -> str:
    """The SOP Instance UID of the n-th performed procedure step."""
    return f"{_ROOT}.{number}"


def report(uid: str, *references: Reference, **details: Any) -> StepReport:
    """An N-CREATE of Jane Smith's; without references it is unscheduled."""
    values: dict[str, Any] = {
        "patient_id": PERSON["patient_id"],
        "patient_name": PERSON["patient_name"],
        "performed_station_ae_title": MODALITY,
        "performed_procedure_step_id": "PPS1",
        "started": "20261123100500",
        "modality": "MG",
        "attribute_list": bytes(range(256)) * 3,
        "transfer_syntax": EXPLICIT_LITTLE_ENDIAN,
    }
    return StepReport(sop_instance_uid=uid, references=references, **{**values, **details})


def naming(accession_number: str = "ACC001") -> Reference:
    """A reference by accession number, as most units send it."""
    return Reference(accession_number=accession_number, scheduled_procedure_step_id=accession_number)


def completed(uid: str) -> StepChange:
    """An N-SET COMPLETED."""
    return StepChange(
        sop_instance_uid=uid,
        status=StepStatus.COMPLETED,
        ended="20261123101500",
        attribute_list=bytes(range(256)) * 4,
        transfer_syntax=EXPLICIT_LITTLE_ENDIAN,
    )


def discontinued(uid: str, reason: str | None = None) -> StepChange:
    """An N-SET DISCONTINUED."""
    return StepChange(
        sop_instance_uid=uid,
        status=StepStatus.DISCONTINUED,
        discontinuation_reason=reason,
        ended="20261123100700",
        attribute_list=b"\x08\x00\x16\x00UI",
        transfer_syntax=EXPLICIT_LITTLE_ENDIAN,
    )


def wrong_entry(uid: str) -> StepChange:
    """An N-SET DISCONTINUED because the wrong worklist entry had been chosen."""
    return discontinued(uid, WRONG_WORKLIST_ENTRY)


def progressing(uid: str) -> StepChange:
    """An N-SET that holds no status: the step goes on."""
    return StepChange(sop_instance_uid=uid, attribute_list=b"\x18\x00\x60", transfer_syntax=EXPLICIT_LITTLE_ENDIAN)


def study_uid(number: int) -> str:
    """The Study Instance UID of the n-th study."""
    return f"{_ROOT}.7.{number}"


def orthanc_id(number: int) -> str:
    """What the n-th study is called in Orthanc."""
    return f"00000000-00000000-00000000-00000000-{number:08x}"


def study(number: int = 1, accession_number: str = "ACC001", *, images: int = 4, **details: Any) -> StudyReport:
    """What Orthanc says of a mammogram of Jane Smith's."""
    values: dict[str, Any] = {
        "orthanc_id": orthanc_id(number),
        "study_instance_uid": study_uid(number),
        "accession_number": accession_number,
        **{name: PERSON[name] for name in ("patient_id", "patient_name", "patient_birth_date")},
        "study_description": "Bilateral Mammography",
        "station_ae_title": MODALITY,
        "series": (Series(series_instance_uid=f"{study_uid(number)}.1", modality="MG", instances=images),),
    }
    return StudyReport(**{**values, **details})


def place(change: int = 1, *, feed: int = 1) -> FeedPlace:
    """The n-th change of Orthanc's feed, with nothing awaited."""
    return FeedPlace(feed=feed, change=change, changed=f"resource-{change}", resume_after=change)


def schedule(gateway: Gateway, accession_number: str = "ACC001", **changes: Any) -> Appointment:
    """Schedule an appointment by an action of its own."""
    wanted = appointment(accession_number, **changes)
    reply = gateway.schedule(wanted, request=create_request(f"create-{accession_number}", wanted))
    assert reply.status == "created", reply
    return wanted


def start(gateway: Gateway, uid: str, *references: Reference, **details: Any) -> Any:
    """Report an N-CREATE."""
    return gateway.start_step(report(uid, *references, **details), calling_ae_title=MODALITY, received_at=RECEIVED)


def change(gateway: Gateway, what: StepChange) -> Any:
    """Report an N-SET."""
    return gateway.change_step(what, calling_ae_title=MODALITY, received_at=RECEIVED)


def examine(gateway: Gateway, number: int) -> None:
    """One whole examination: scheduled over the relay, started, completed, both status updates acknowledged.

    Ten events: Scheduled and its receipt; Started, StepStarted and its update; the same three at the end; and two
    acknowledgements.
    """
    accession_number, uid = f"ACC{number:09d}", step_uid(number)
    who = participant(number)
    schedule(gateway, accession_number, **who)
    named = {"patient_id": who["patient_id"], "patient_name": who["patient_name"]}
    start(gateway, uid, naming(accession_number), **named)
    change(gateway, completed(uid))
    for update in gateway.find_updates(accession_number=accession_number):
        gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)


def examination(number: int, **changes: Any) -> list[Any]:
    """The ten events of `examine(gateway, number)`, in their order, without a gateway: for long histories.

    `changes` are of the appointment.
    """
    accession_number, uid, who = f"ACC{number:09d}", step_uid(number), participant(number)
    wanted, now = appointment(accession_number, **who, **changes), RECEIVED.isoformat()
    asked = create_request(f"create-{accession_number}", wanted)
    events: list[Any] = []
    with circumstances(source="relay", correlation_id=asked.action_id):
        item = WorklistItem(
            accession_number=accession_number,
            person=wanted.person(),
            step=wanted.step(),
            study_instance_uid=new_study_instance_uid(),
            is_test=False,
            action_id=asked.action_id,
            received_at=now,
        )
        created = ActionReply(status="created", accession_number=accession_number)
        receipt = RelayAction.answer(asked, created, accession_number=accession_number)
        events += [*item.collect_events(), *receipt.collect_events()]
    updates = []
    with circumstances(source="mpps", correlation_id=uid, ae_title=MODALITY):
        named = {"patient_id": who["patient_id"], "patient_name": who["patient_name"]}
        step = PerformedProcedureStep.start(
            report(uid, naming(accession_number), **named),
            accession_numbers=[accession_number],
            unmatched=[],
            received_at=now,
        )
        item.start_step(uid)
        updates.append(_update(item, uid, uid))
        events += [*step.collect_events(), *item.collect_events(), *updates[0].collect_events()]
        step.change(completed(uid), now)
        item.complete_step(uid)
        updates.append(_update(item, uid, f"{uid}/end"))
        events += [*step.collect_events(), *item.collect_events(), *updates[1].collect_events()]
    with circumstances(source="gateway"):
        for update in updates:
            update.acknowledge("updated", 1)
            events += update.collect_events()
    return events


def _update(item: WorklistItem, uid: str, cause: str) -> StatusUpdate:
    return StatusUpdate.request(
        event_id=status_event_id(cause, item.accession_number, item.status),
        accession_number=item.accession_number,
        sequence=item.update_sequence,
        status=item.status.value,
        action_id=item.action_id,
        mpps_instance_uid=uid,
        occurred_at=RECEIVED.isoformat(),
        performed={},
    )
