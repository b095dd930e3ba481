"""One scheduled procedure step, from the appointment to what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar
from uuid import UUID

from gateway.domain import lifecycle
from gateway.domain.events import Stream
from gateway.domain.identity import worklist_item_id
from gateway.domain.lifecycle import Command, Status, StepStatus, Verdict
from gateway.domain.received_study import StudyReport
from gateway.errors import AccessionConflict, IllegalTransition

PERSON_FIELDS = ("patient_id", "patient_name", "patient_birth_date", "patient_sex")

ERASED_PERSON: dict[str, Any] = {"patient_id": "", "patient_name": "", "patient_birth_date": "", "patient_sex": None}
"""What is left of an erased person. No appointment of a person has an empty Patient ID."""


@dataclass(frozen=True, kw_only=True)
class Appointment:
    """What the web app schedules. Values are checked by `gateway.domain.values`; None is *not known*.

    `scheduled_date` and `scheduled_time` are the site's wall clock (`YYYYMMDD`, `HHMMSS`).
    """

    accession_number: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str | None = None
    scheduled_date: str
    scheduled_time: str
    modality: str
    study_description: str | None = None
    procedure_code: str | None = None
    procedure_code_scheme: str | None = None
    procedure_code_meaning: str | None = None
    station_ae_titles: tuple[str, ...] = ()
    location: str | None = None
    performing_physician: str | None = None

    def person(self) -> dict[str, Any]:
        """The part that identifies somebody."""
        return {name: getattr(self, name) for name in PERSON_FIELDS}

    def step(self) -> dict[str, Any]:
        """The part that identifies nobody."""
        values = dict(vars(self))
        for name in (*PERSON_FIELDS, "accession_number"):
            del values[name]
        values["station_ae_titles"] = list(self.station_ae_titles)
        return values

    @classmethod
    def of(cls, accession_number: str, person: dict[str, Any], step: dict[str, Any]) -> Appointment:
        """The appointment that `person()` and `step()` were taken from; fields of later versions are ignored."""
        values = {k: v for k, v in {**person, **step}.items() if k in _FIELDS}
        values["station_ae_titles"] = tuple(step.get("station_ae_titles") or ())
        return cls(accession_number=accession_number, **values)

    def first_difference(self, other: Appointment) -> str | None:
        """The name of the first field that differs, the patient's first, or None."""
        return next((f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)), None)


_FIELDS = frozenset(f.name for f in fields(Appointment))


class WorklistItem(Stream):
    """A worklist item: its appointment, its status, and the steps performed for it."""

    TOPIC = "WorklistItem"

    class Event(Stream.Event):
        """Base of the item's events."""

        TOPIC = "WorklistItem.Event"
        accession_number: str

    class Scheduled(Event, Stream.Created):
        """The appointment came in and got its Study Instance UID for ever."""

        TOPIC = "WorklistItem.Scheduled"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("person",)
        ERASED: ClassVar[dict[str, Any]] = {"person": ERASED_PERSON}
        person: dict[str, Any]
        step: dict[str, Any]
        study_instance_uid: str
        is_test: bool
        action_id: str | None
        received_at: str

        def subject(self) -> str:
            """The patient."""
            return _patient_id(self.person)

    class Amended(Event):
        """Demographics or the procedure changed; only the changed fields.

        Once erased it reads as a change to nobody: which fields it were is not known any more.
        """

        TOPIC = "WorklistItem.Amended"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("person",)
        ERASED: ClassVar[dict[str, Any]] = {"person": ERASED_PERSON}
        person: dict[str, Any]
        step: dict[str, Any]

        def subject(self) -> str:
            """The patient, when it is another one from here on."""
            return _patient_id(self.person)

        def apply(self, aggregate: WorklistItem) -> None:
            """Replace the changed fields."""
            aggregate.amended(self.person, self.step)

    class Rescheduled(Event):
        """The date or the time changed."""

        TOPIC = "WorklistItem.Rescheduled"
        scheduled_date: str
        scheduled_time: str

        def apply(self, aggregate: WorklistItem) -> None:
            """Replace date and time."""
            aggregate.amended({}, {"scheduled_date": self.scheduled_date, "scheduled_time": self.scheduled_time})

    class StatusChanged(Event):
        """Base of all events that may change the status.

        `status` is the one after it. `update_sequence` counts the status updates owed to the web app; None: no update.
        """

        TOPIC = "WorklistItem.StatusChanged"
        status: str
        update_sequence: int | None

        def apply(self, aggregate: WorklistItem) -> None:
            """Take the status over."""
            aggregate.status = Status(self.status)
            aggregate.update_sequence = self.update_sequence or aggregate.update_sequence

    class Cancelled(StatusChanged):
        """The web app withdrew the appointment."""

        TOPIC = "WorklistItem.Cancelled"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)  # what people write may name somebody
        ERASED: ClassVar[dict[str, Any]] = {"reason": None}
        reason: str | None

    class Expired(StatusChanged):
        """The day passed."""

        TOPIC = "WorklistItem.Expired"

    class StatusReported(StatusChanged):
        """The web app said so (`worklist.update_status`)."""

        TOPIC = "WorklistItem.StatusReported"

    class StatusCorrected(StatusChanged):
        """An operator said so, with a reason."""

        TOPIC = "WorklistItem.StatusCorrected"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)
        reason: str

    class PersonErased(Event):
        """The person was erased: the item keeps its number, times and status, and nobody's name."""

        TOPIC = "WorklistItem.PersonErased"
        reason: str

        def apply(self, aggregate: WorklistItem) -> None:
            """Nobody's any more, whoever it was before."""
            aggregate.amended(ERASED_PERSON, {})

    class StepEvent(StatusChanged):
        """Base of what a modality reported about a step performed for this item."""

        TOPIC = "WorklistItem.StepEvent"
        mpps_instance_uid: str

        def apply(self, aggregate: WorklistItem) -> None:
            """Remember the step, and the status that a withdrawn step gives back."""
            if aggregate.status is not Status.IN_PROGRESS:
                aggregate.status_before_steps = aggregate.status
            aggregate.steps[self.mpps_instance_uid] = self.step_status
            super().apply(aggregate)

        @property
        def step_status(self) -> StepStatus:
            """What became of the step."""
            return StepStatus.IN_PROGRESS

    class StepStarted(StepEvent):
        """A modality began (N-CREATE)."""

        TOPIC = "WorklistItem.StepStarted"

    class StepCompleted(StepEvent):
        """A modality completed its step (N-SET COMPLETED)."""

        TOPIC = "WorklistItem.StepCompleted"

        @property
        def step_status(self) -> StepStatus:
            """Completed."""
            return StepStatus.COMPLETED

    class StepDiscontinued(StepEvent):
        """A modality gave up (N-SET DISCONTINUED); `wrong_entry` when it had chosen the wrong item (110514)."""

        TOPIC = "WorklistItem.StepDiscontinued"
        reason: str | None
        wrong_entry: bool

        @property
        def step_status(self) -> StepStatus:
            """Discontinued, or withdrawn when it never was this item's."""
            return StepStatus.WITHDRAWN if self.wrong_entry else StepStatus.DISCONTINUED

    class ImagesReceived(Event):
        """Images of it are in Orthanc; its status stays as it is.

        `series` and `instances` are how many there are now, `arrival` counts how often that was another number;
        `matched_by` are the keys of the images that named the item. `update_sequence` as of `StatusChanged`.
        """

        TOPIC = "WorklistItem.ImagesReceived"
        study_instance_uid: str
        orthanc_id: str
        series: int
        instances: int
        modalities: list[str]
        station_ae_title: str
        matched_by: list[str]
        arrival: int
        received_at: str
        update_sequence: int | None

        def apply(self, aggregate: WorklistItem) -> None:
            """Count the update, when one is owed."""
            aggregate.update_sequence = self.update_sequence or aggregate.update_sequence

    def __init__(
        self,
        accession_number: str,
        person: dict[str, Any],
        step: dict[str, Any],
        study_instance_uid: str,
        is_test: bool,
        action_id: str | None,
        received_at: str,
    ) -> None:
        self.accession_number = accession_number
        self.appointment = Appointment.of(accession_number, person, step)
        self.study_instance_uid = study_instance_uid
        self.is_test = is_test
        self.action_id = action_id
        self.received_at = received_at
        self.status = Status.SCHEDULED
        self.status_before_steps = Status.SCHEDULED
        self.steps: dict[str, StepStatus] = {}
        self.update_sequence = 0

    @staticmethod
    def create_id(accession_number: str) -> UUID:
        """The stream of this accession number."""
        return worklist_item_id(accession_number)

    def amended(self, person: dict[str, Any], step: dict[str, Any]) -> None:
        """Take changed fields over; called by the events only."""
        values: dict[str, Any] = {**person, **step}
        if "station_ae_titles" in values:
            values["station_ae_titles"] = tuple(values["station_ae_titles"])
        self.appointment = replace(self.appointment, **values)

    def count_above(self, floor: int) -> None:
        """After a restore: the web app may have seen sequences up to `floor` of an item that has forgotten them.

        Not an event: the next one holds the `sequence` that comes of it, and replays the same without a floor.
        """
        self.update_sequence = max(self.update_sequence, floor)

    def require_same(self, appointment: Appointment, *, is_test: bool) -> None:
        """Raise `AccessionConflict`, naming the field, unless this live item holds exactly that appointment."""
        difference = self.appointment.first_difference(appointment)
        if difference is not None:
            raise AccessionConflict(
                f"the accession number is taken by an item with another {difference}", field=difference
            )
        if self.is_test != is_test:
            raise AccessionConflict("the accession number is taken by a test item or a real one", field="action_type")
        if self.status in lifecycle.FINISHED:
            raise AccessionConflict(f"the accession number is taken by an item that is {self.status}", field="status")

    def amend(self, changes: dict[str, Any]) -> None:
        """Change fields of the appointment, while it is scheduled. `changes` are fields of `Appointment`."""
        lifecycle.require(Command.AMEND, self.status)
        current = self.appointment
        changed = {k: v for k, v in changes.items() if v != getattr(current, k)}
        when = {k: changed.pop(k) for k in ("scheduled_date", "scheduled_time") if k in changed}
        if changed:
            person = {k: v for k, v in changed.items() if k in PERSON_FIELDS}
            step = {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items() if k not in PERSON_FIELDS}
            self._happened(self.Amended, person=person, step=step)
        if when:
            self._happened(
                self.Rescheduled,
                scheduled_date=when.get("scheduled_date", current.scheduled_date),
                scheduled_time=when.get("scheduled_time", current.scheduled_time),
            )

    def cancel(self, reason: str | None) -> None:
        """Withdraw the appointment, while it is scheduled."""
        lifecycle.require(Command.CANCEL, self.status, Status.CANCELLED)
        self._happened(self.Cancelled, status=Status.CANCELLED.value, update_sequence=None, reason=reason)

    def expire(self) -> None:
        """Its day has passed."""
        lifecycle.require(Command.EXPIRE, self.status, Status.EXPIRED)
        self._happened(self.Expired, status=Status.EXPIRED.value, update_sequence=None)

    def report_status(self, status: Status) -> None:
        """Take the status that the web app says; it knows, so no update is owed."""
        lifecycle.require(Command.REPORT_STATUS, self.status, status)
        self._happened(self.StatusReported, status=status.value, update_sequence=None)

    def correct_status(self, status: Status, reason: str) -> None:
        """Take the status that an operator says; the web app is owed an update."""
        self._require_person()
        lifecycle.require(Command.CORRECT_STATUS, self.status, status)
        self._happened(
            self.StatusCorrected, status=status.value, update_sequence=self.update_sequence + 1, reason=reason
        )

    def start_step(self, mpps_instance_uid: str) -> None:
        """A modality began a step for this item."""
        self._require_person()
        self._step_happened(self.StepStarted, mpps_instance_uid, StepStatus.IN_PROGRESS)

    def complete_step(self, mpps_instance_uid: str) -> None:
        """A modality completed a step for this item."""
        self._step_happened(self.StepCompleted, mpps_instance_uid, StepStatus.COMPLETED)

    def discontinue_step(
        self, mpps_instance_uid: str, *, reason: str | None, wrong_entry: bool, report_wrong_entry: bool = False
    ) -> None:
        """A modality gave a step up.

        A wrong worklist entry before anything else was performed is told to the web app only when asked for.
        """
        outcome = StepStatus.WITHDRAWN if wrong_entry else StepStatus.DISCONTINUED
        self._step_happened(
            self.StepDiscontinued,
            mpps_instance_uid,
            outcome,
            report_putting_back=report_wrong_entry,
            reason=reason,
            wrong_entry=wrong_entry,
        )

    def receive_images(
        self, study: StudyReport, *, arrival: int, matched_by: Sequence[str], received_at: str, report: bool
    ) -> None:
        """Images of it have come. With `report` the web app is owed the news."""
        self._require_person()
        self._happened(
            self.ImagesReceived,
            study_instance_uid=study.study_instance_uid,
            orthanc_id=study.orthanc_id,
            series=len(study.series),
            instances=study.instances,
            modalities=list(study.modalities),
            station_ae_title=study.station_ae_title,
            matched_by=list(matched_by),
            arrival=arrival,
            received_at=received_at,
            update_sequence=self.update_sequence + 1 if report else None,
        )

    @property
    def is_erased(self) -> bool:
        """Whether the person was erased."""
        return not self.appointment.patient_id

    def erase_person(self, reason: str) -> None:
        """Forget the person. Raises `IllegalTransition` while the item is not over."""
        if self.status not in lifecycle.FINISHED:
            raise IllegalTransition(f"item {self.accession_number} is {self.status}: not over yet", field="status")
        self._happened(self.PersonErased, reason=reason)

    def _require_person(self) -> None:
        if self.is_erased:
            raise IllegalTransition(
                f"the person of item {self.accession_number} was erased: it takes nothing more", field="status"
            )

    def _step_happened(
        self,
        event: type[StepEvent],
        mpps_instance_uid: str,
        outcome: StepStatus,
        *,
        report_putting_back: bool = True,
        **details: Any,  # noqa: ANN401  the event's own fields
    ) -> None:
        verdict = lifecycle.verdict_of({**self.steps, mpps_instance_uid: outcome}.values())
        status = lifecycle.performed(self.status, verdict, before=self.status_before_steps)
        owed = status is not self.status and (report_putting_back or verdict is not Verdict.WITHDRAWN)
        self._happened(
            event,
            mpps_instance_uid=mpps_instance_uid,
            status=status.value,
            update_sequence=self.update_sequence + 1 if owed else None,
            **details,
        )

    def _happened(self, event: type[Event], **details: Any) -> None:  # noqa: ANN401  the event's own fields
        self.trigger_event(event, accession_number=self.accession_number, **details)


def _patient_id(person: dict[str, Any]) -> str:
    patient_id: str = person.get("patient_id") or ""
    return patient_id
