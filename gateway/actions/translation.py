"""Messages → the domain's appointment and changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from gateway.actions.messages import ItemToCreate, ItemToUpdate, ScheduledChanges
from gateway.actions.times import SiteClock
from gateway.domain.worklist_item import Appointment

_PARTICIPANT = {
    "nhs_number": "patient_id",
    "name": "patient_name",
    "birth_date": "patient_birth_date",
    "sex": "patient_sex",
}
_PROCEDURE = {
    "modality": "modality",
    "study_description": "study_description",
    "code": "procedure_code",
    "code_scheme": "procedure_code_scheme",
    "code_meaning": "procedure_code_meaning",
}
_PLACE = {"location": "location", "performing_physician": "performing_physician"}


def appointment_of(item: ItemToCreate, clock: SiteClock) -> Appointment:
    """The appointment that a create action asks for."""
    scheduled = item.scheduled
    date, time = (
        clock.at(scheduled.starts_at)
        if scheduled.starts_at
        else clock.wall_clock(scheduled.date or "", scheduled.time or "")
    )
    return Appointment(
        accession_number=item.accession_number,
        scheduled_date=date,
        scheduled_time=time,
        station_ae_titles=tuple(scheduled.station_ae_title),
        **_renamed(item.participant, _PARTICIPANT),
        **_renamed(item.procedure, _PROCEDURE),
        **_renamed(scheduled, _PLACE),
    )


def changes_of(item: ItemToUpdate, clock: SiteClock) -> Callable[[Appointment], dict[str, Any]]:
    """What an update action changes, given the present appointment: the keys that the message holds."""

    def changes(present: Appointment) -> dict[str, Any]:
        values = (
            _renamed(item.participant, _PARTICIPANT, only_set=True)
            | _renamed(item.procedure, _PROCEDURE, only_set=True)
            | _renamed(item.scheduled, _PLACE, only_set=True)
            | _moved(item.scheduled, present, clock)
        )
        if "station_ae_title" in item.scheduled.model_fields_set:
            values["station_ae_titles"] = tuple(item.scheduled.station_ae_title)
        return values

    return changes


def _moved(scheduled: ScheduledChanges, present: Appointment, clock: SiteClock) -> dict[str, str]:
    if scheduled.starts_at:
        date, time = clock.at(scheduled.starts_at)
    elif scheduled.date or scheduled.time:
        sent_date, sent_time = clock.as_sent(present.scheduled_date, present.scheduled_time)
        date, time = clock.wall_clock(scheduled.date or sent_date, scheduled.time or sent_time)
    else:
        return {}
    return {"scheduled_date": date, "scheduled_time": time}


def _renamed(message: BaseModel, names: dict[str, str], *, only_set: bool = False) -> dict[str, Any]:
    return {
        ours: getattr(message, theirs)
        for theirs, ours in names.items()
        if not only_set or theirs in message.model_fields_set
    }
