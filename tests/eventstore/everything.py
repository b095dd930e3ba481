"""A story in which every event of ours happens at least once."""

from __future__ import annotations

from datetime import date
from typing import Any

from bench.synthetic import (
    PERSON,
    RECEIVED,
    appointment,
    change,
    completed,
    discontinued,
    naming,
    orthanc_id,
    place,
    progressing,
    request,
    schedule,
    start,
    step_uid,
    study,
)
from gateway.application import Gateway
from gateway.domain.epoch import Epoch
from gateway.domain.erasure import Erasure
from gateway.domain.events import Stream, circumstances
from gateway.domain.image_feed import ImageFeed
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy, Route
from gateway.domain.relay_action import RelayAction
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore import chain

BASES = ("Event", "Created", "Changed", "StatusChanged", "StepEvent", "RouteEvent", "Snapshot")
"""Event classes that only others are made of."""


STREAMS = (
    WorklistItem,
    PerformedProcedureStep,
    RelayAction,
    StatusUpdate,
    Erasure,
    Epoch,
    ReceivedStudy,
    ImageFeed,
)


def every_event() -> list[type[Stream.Event]]:
    """The event classes that can be in the log."""
    return [
        found
        for stream in STREAMS
        for name, found in vars(stream).items()
        if isinstance(found, type) and issubclass(found, Stream.Event) and name not in BASES
    ]


def everything_happened(gateway: Gateway) -> None:
    """One history with all of them."""
    for number in range(1, 7):
        schedule(gateway, f"ACC00{number}", patient_sex=None)
    changes = {"patient_id": "9990000026", "patient_name": "SMITH^JANE^MARY", "scheduled_date": "20261201"}
    gateway.amend("ACC003", lambda _: changes, request=request("amend", "worklist.update_item", **changes))
    gateway.cancel("ACC003", "did not attend", request=request("cancel", "worklist.cancel_item"))
    gateway.cancel("ACC003", None, request=request("cancel again", "worklist.cancel_item"))
    gateway.report_status("ACC004", Status.IN_PROGRESS, request=request("report", "worklist.update_status"))
    gateway.schedule(appointment("ACC001", patient_name="SMITH^JANE^MARY"), request=request("conflict", **PERSON))
    for number, end in ((1, completed), (2, discontinued)):
        start(gateway, step_uid(number), naming(f"ACC00{number}"))
        change(gateway, progressing(step_uid(number)))
        change(gateway, end(step_uid(number)))
    for number in (3, 4):
        start(gateway, step_uid(number), naming("ACC001"), patient_id="9990000026")
    gateway.link_step(step_uid(3), "ACC006", reason="another hall", operator="night shift", despite_other_patient=True)
    gateway.dismiss_step(step_uid(4), reason="a phantom", operator="night shift")
    gateway.correct_status("ACC004", Status.COMPLETED, reason="examined on paper", operator="night shift")
    gateway.expire(date(2026, 12, 1), after_days=1)
    restored(gateway)
    gateway.resume_delivery(operator="night shift")
    first, second, *_ = gateway.due_updates()
    gateway.acknowledge_update(first.event_id, answer="updated", attempts=1)
    gateway.park_update(second.event_id, reason="appointment_not_found", attempts=3)
    gateway.requeue_update(second.event_id, reason="it exists now")
    images_came(gateway)
    forget_somebody(gateway)


def images_came(gateway: Gateway) -> None:
    """Studies of somebody and of nobody on the list, sent on and not; one that could not be read."""
    gateway.begin_feed(reason="the first that is followed", database="")
    routes = [Route(rule="mammograms", target=target) for target in ("PACS", "ARCHIVE")]
    mine: dict[str, Any] = {"received_at": RECEIVED, "routes": routes, "tell_web_app": True}
    gateway.receive_study(study(1, "ACC004", images=2), place(7), **mine)
    gateway.receive_study(study(1, "ACC004", images=4), place(17), **mine)
    gateway.route_failed(orthanc_id(1), "PACS", error="Connection refused")
    gateway.route_succeeded(orthanc_id(1), "PACS", arrival=2, job="job-1", instances=4)
    gateway.abandon_route(orthanc_id(1), "ARCHIVE", reason="full until Monday", operator="night shift")
    gateway.receive_study(study(2, "ACC998", patient_id="9990000026"), place(27), received_at=RECEIVED)
    gateway.dismiss_study(orthanc_id(2), reason="a phantom", operator="night shift")
    gateway.park_study("00000000-00000000-00000000-00000000-00000003", "study: Orthanc answers 500", place(37))
    gateway.advance_feed(place(1037))


def forget_somebody(gateway: Gateway) -> None:
    """The events of an erasure, as `gateway.audit.erasure` saves them; here without keys."""
    item = gateway.load(WorklistItem, WorklistItem.create_id("ACC005"))
    step = gateway.load(PerformedProcedureStep, PerformedProcedureStep.create_id(step_uid(4)))
    assert item
    assert step
    images = gateway.load(ReceivedStudy, ReceivedStudy.create_id(orthanc_id(2)))
    assert images
    order = Erasure.order(patient="0" * 32, key_ids=["0123456789abcdef"], reason="request 1", streams=2, events=2)
    item.erase_person("request 1")
    step.erase_person("request 1")
    images.erase_person("request 1")
    gateway.save(order, item, step, images)


def restored(gateway: Gateway) -> None:
    """A backup of this log was restored: its event alone."""
    with gateway.reading() as connection:
        position, committed_at, head = chain.head(connection)
    with circumstances(source="operator", correlation_id="night shift"):
        gateway.save(
            Epoch.restore(
                number=2,
                backup="gateway-20261123T030000Z-40.db",
                position=position,
                head=head.hex(),
                backed_up_to=committed_at,
                restored_at="2026-11-23T09:30:00.000000+00:00",
                sequence_floor=1001,
                replaced="gateway.db.replaced-20261123T093000Z",
                replaced_position=position + 3,
                lost={
                    "known": True,
                    "actions": 1,
                    "items": 1,
                    "performed_steps": 0,
                    "status_events": 0,
                    "accession_numbers": ["ACC007"],
                },
            )
        )
