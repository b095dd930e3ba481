"""A status update on its way: waiting, acknowledged or parked."""

from __future__ import annotations

from gateway.domain.status_update import StatusUpdate


def requested() -> StatusUpdate:
    update = StatusUpdate.request(
        event_id="1",
        accession_number="ACC001",
        sequence=1,
        status="COMPLETED",
        action_id=None,
        mpps_instance_uid=None,
        occurred_at="2026-11-23T09:00:00+00:00",
        performed={},
    )
    update.collect_events()
    return update


def parked() -> StatusUpdate:
    update = requested()
    update.park("appointment_not_found", 3)
    update.collect_events()
    return update


def test_an_acknowledged_update_is_settled_and_a_second_acknowledgement_is_no_event() -> None:
    update = requested()
    update.acknowledge("updated", 1)
    update.acknowledge("updated", 2)
    assert update.state == "acknowledged"
    assert len(update.collect_events()) == 1


def test_an_acknowledged_update_can_neither_be_parked_nor_requeued() -> None:
    update = requested()
    update.acknowledge("updated", 1)
    update.collect_events()
    update.park("late refusal", 2)
    update.requeue("again")
    assert (update.state, update.collect_events()) == ("acknowledged", [])


def test_a_parked_update_waits_again_once_a_person_wants_it() -> None:
    update = parked()
    update.requeue("the appointment exists now")
    assert update.state == "waiting"


def test_only_a_parked_update_is_requeued() -> None:
    update = requested()
    update.requeue("impatience")
    assert update.collect_events() == []


def test_parking_twice_is_one_event() -> None:
    update = parked()
    update.park("appointment_not_found", 4)
    assert update.collect_events() == []


def test_a_late_acknowledgement_settles_a_parked_update() -> None:
    update = parked()
    update.acknowledge("updated", 4)
    assert update.state == "acknowledged"
