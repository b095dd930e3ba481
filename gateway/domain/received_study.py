"""One study that Orthanc received: what is in it, whose item it belongs to, and where it was sent on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from gateway.domain.events import Stream
from gateway.domain.identity import received_study_id, worklist_item_id
from gateway.errors import IllegalTransition

_TOLD_AGAIN_AFTER = timedelta(hours=1)
"""Two causes that take turns at every try would fill the log."""

ERASED_PATIENT = {"patient_id": "", "patient_name": "", "patient_birth_date": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of a study: `instances` is how many of its images are there."""

    series_instance_uid: str
    modality: str
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """What Orthanc says of a study. "" is absent; `station_ae_title` is the AE that sent it.

    `accession_number` is what the images say, whether there is such an item or not.
    """

    orthanc_id: str
    study_instance_uid: str
    accession_number: str = ""
    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    study_description: str = ""
    station_ae_title: str = ""
    series: tuple[Series, ...] = ()

    @property
    def instances(self) -> int:
        """How many images there are."""
        return sum(one.instances for one in self.series)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of its series, each once."""
        return tuple(dict.fromkeys(one.modality for one in self.series if one.modality))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlace:
    """Where in Orthanc's change feed something was read.

    `feed` is the number of the feed (`gateway.domain.image_feed`), `change` the sequence number that told of it and
    `changed` the Orthanc id of the resource that this change is of; by both a feed is known again. `resume_after` is
    where reading goes on after a restart: nothing up to there is still awaited.
    """

    feed: int
    change: int
    changed: str
    resume_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A rule that a study fits (`rule`), and the Orthanc modality that it is to be sent to (`target`)."""

    rule: str
    target: str


class ReceivedStudy(Stream):
    """A study in Orthanc: its images, the item they belong to, and what became of its routes.

    Orthanc's id names it: two patients' images may carry one Study Instance UID.
    """

    TOPIC = "ReceivedStudy"

    class Event(Stream.Event):
        """Base of the study's events."""

        TOPIC = "ReceivedStudy.Event"
        orthanc_id: str
        study_instance_uid: str
        concerned: list[str]
        """The accession number of its item, or the one that the images name, or none."""

    class Received(Event, Stream.Created):
        """Orthanc has the study, whole as far as it knows.

        `accession_number` is the item's ("": of nobody on the list, and `unmatched` says why); `matched_by` the keys
        that named it. `arrival` counts how often its content was another one, from 1.
        """

        TOPIC = "ReceivedStudy.Received"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("patient", "study_description")
        ERASED: ClassVar[dict[str, Any]] = {"patient": ERASED_PATIENT}
        patient: dict[str, str]
        study_description: str
        accession_number: str
        matched_by: list[str]
        unmatched: str
        station_ae_title: str
        series: list[dict[str, Any]]
        arrival: int
        place: dict[str, Any]
        received_at: str

        def subject(self) -> str:
            """The patient, in the modality's words."""
            return self.patient.get("patient_id", "")

        def is_apart(self) -> bool:
            """Of an unmatched study nobody knows whether these words are right."""
            return bool(self.unmatched)

        def relatives(self) -> Sequence[UUID]:
            """The item it belongs to."""
            return [worklist_item_id(self.accession_number)] if self.accession_number else []

    class Updated(Event):
        """It has other images than before, or belongs to another item than was known; fields as of `Received`."""

        TOPIC = "ReceivedStudy.Updated"
        accession_number: str
        matched_by: list[str]
        unmatched: str
        station_ae_title: str
        series: list[dict[str, Any]]
        arrival: int
        place: dict[str, Any]
        received_at: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """What is there now."""
            aggregate.accession_number = self.accession_number
            aggregate.unmatched = self.unmatched
            aggregate.concerned = self.concerned
            aggregate.series = self.series
            aggregate.arrival = self.arrival
            aggregate.is_dismissed = False  # there is something new to look at

    class RouteEvent(Event):
        """Base of what happens to one route."""

        TOPIC = "ReceivedStudy.RouteEvent"
        STATE: ClassVar[str] = "waiting"
        """How far the route is after it: `waiting`, `failing`, `routed` or `abandoned`."""
        target: str
        arrival: int

        def apply(self, aggregate: ReceivedStudy) -> None:
            """How far the route is."""
            aggregate.routes[self.target] = self.STATE

    class RouteChosen(RouteEvent):
        """A rule wants it sent to a modality that Orthanc knows; saved with what was received."""

        TOPIC = "ReceivedStudy.RouteChosen"
        rule: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """All that is there now is to be sent."""
            super().apply(aggregate)
            aggregate.arrivals_to_send[self.target] = self.arrival
            aggregate.lost_routes.discard(self.target)
            aggregate.causes.pop(self.target, None)

    class Routed(RouteEvent):
        """Orthanc's job has sent it, `instances` images."""

        TOPIC = "ReceivedStudy.Routed"
        STATE = "routed"
        job: str
        instances: int

    class RouteFailed(RouteEvent):
        """It could not be sent; it is tried again until it is. Told when the cause changes, not at each try."""

        TOPIC = "ReceivedStudy.RouteFailed"
        STATE = "failing"
        error: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """One cause more."""
            super().apply(aggregate)
            causes = aggregate.causes.setdefault(self.target, {})
            causes.pop(self.error, None)
            causes[self.error] = self.metadata["recorded_at"]

    class RouteAbandoned(RouteEvent):
        """It is not tried again: the study is no longer in Orthanc, or a person said so."""

        TOPIC = "ReceivedStudy.RouteAbandoned"
        STATE = "abandoned"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)  # what people write may name somebody
        reason: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """Given up; what no person gave up goes on if the study comes back."""
            super().apply(aggregate)
            if self.metadata.get("source") != "operator":
                aggregate.lost_routes.add(self.target)

    class Dismissed(Event):
        """An operator said that it is of nobody who is looked for here, such as a phantom's images."""

        TOPIC = "ReceivedStudy.Dismissed"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)
        reason: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """No person needs to look at it any more."""
            aggregate.is_dismissed = True

    class PersonErased(Event):
        """The person was erased: the study keeps its times and counts. Orthanc's own copy is not ours to erase."""

        TOPIC = "ReceivedStudy.PersonErased"
        reason: str

        def apply(self, aggregate: ReceivedStudy) -> None:
            """Nobody's any more."""
            aggregate.is_erased = True

    def __init__(
        self,
        orthanc_id: str,
        study_instance_uid: str,
        concerned: list[str],
        accession_number: str,
        unmatched: str,
        series: list[dict[str, Any]],
        arrival: int,
    ) -> None:
        self.orthanc_id = orthanc_id
        self.study_instance_uid = study_instance_uid
        self.concerned = concerned
        self.accession_number = accession_number
        self.unmatched = unmatched
        self.series = series
        self.arrival = arrival
        self.routes: dict[str, str] = {}
        self.arrivals_to_send: dict[str, int] = {}
        self.causes: dict[str, dict[str, str]] = {}
        """Why a route has failed so far, by its target: the last one last, and when each was told last."""
        self.lost_routes: set[str] = set()
        """Targets of routes that were given up because Orthanc no longer had the study."""
        self.is_dismissed = False
        self.is_erased = False

    @staticmethod
    def create_id(orthanc_id: str) -> UUID:
        """The stream of the study with this id in Orthanc."""
        return received_study_id(orthanc_id)

    @classmethod
    def receive(
        cls,
        report: StudyReport,
        place: FeedPlace,
        *,
        accession_number: str,
        matched_by: Sequence[str],
        unmatched: str,
        received_at: str,
    ) -> ReceivedStudy:
        """A study that is new to us."""
        return cls._create(
            event_class=cls.Received,
            patient={name: getattr(report, name) for name in ERASED_PATIENT},
            study_description=report.study_description,
            arrival=1,
            **_content(report, place, accession_number, matched_by, unmatched, received_at),
        )

    def holds(self, report: StudyReport) -> bool:
        """Whether its content is the same: the same series with as many images."""
        return self.series == _series(report)

    def update(
        self,
        report: StudyReport,
        place: FeedPlace,
        *,
        accession_number: str,
        matched_by: Sequence[str],
        unmatched: str,
        received_at: str,
    ) -> None:
        """Take over what is there now."""
        self.trigger_event(
            self.Updated,
            arrival=self.arrival + (not self.holds(report)),
            **_content(report, place, accession_number, matched_by, unmatched, received_at),
        )

    def choose_route(self, route: Route) -> None:
        """It is to be sent there, whole, also if an earlier content was."""
        self._route_happened(self.RouteChosen, route.target, rule=route.rule)

    def route_succeeded(self, target: str, *, arrival: int, job: str, instances: int) -> None:
        """It was sent. Changes nothing when other images are to be sent there since."""
        if self._is_open(target) and arrival == self.arrivals_to_send[target]:
            self._route_happened(self.Routed, target, job=job, instances=instances)

    def route_failed(self, target: str, error: str) -> None:
        """It could not be sent. A cause is told when it was not the last one, but one that returns once an hour."""
        causes = self.causes.get(target, {})
        is_last = error == next(reversed(causes), None)
        if self._is_open(target) and not is_last and not _is_recent(causes.get(error)):
            self._route_happened(self.RouteFailed, target, error=error)

    def abandon_route(self, target: str, reason: str) -> None:
        """Send it there no more. Raises `IllegalTransition` when it is not to be sent there."""
        if not self._is_open(target):
            raise IllegalTransition("the study does not wait to be sent there", field="target")
        self._route_happened(self.RouteAbandoned, target, reason=reason)

    def dismiss(self, reason: str) -> None:
        """Say that it is nobody's. Raises `IllegalTransition` when it has an item, or was dismissed as it is."""
        if self.accession_number or self.is_dismissed:
            raise IllegalTransition("no person is asked about this study", field="study_instance_uid")
        self._happened(self.Dismissed, reason=reason)

    def erase_person(self, reason: str) -> None:
        """Forget the person."""
        self._happened(self.PersonErased, reason=reason)

    def _is_open(self, target: str) -> bool:
        return self.routes.get(target) in ("waiting", "failing")

    def _route_happened(self, event: type[RouteEvent], target: str, **details: str | int) -> None:
        arrival = self.arrival if event is self.RouteChosen else self.arrivals_to_send[target]
        self._happened(event, target=target, arrival=arrival, **details)

    def _happened(self, event: type[Event], **details: str | int) -> None:
        self.trigger_event(
            event,
            orthanc_id=self.orthanc_id,
            study_instance_uid=self.study_instance_uid,
            concerned=self.concerned,
            **details,
        )


def _is_recent(told_at: str | None) -> bool:
    return told_at is not None and datetime.now(UTC) - datetime.fromisoformat(told_at) < _TOLD_AGAIN_AFTER


def _content(
    report: StudyReport,
    place: FeedPlace,
    accession_number: str,
    matched_by: Sequence[str],
    unmatched: str,
    received_at: str,
) -> dict[str, Any]:
    named = accession_number or report.accession_number
    return {
        "orthanc_id": report.orthanc_id,
        "study_instance_uid": report.study_instance_uid,
        "concerned": [named] if named else [],
        "accession_number": accession_number,
        "matched_by": list(matched_by),
        "unmatched": unmatched,
        "station_ae_title": report.station_ae_title,
        "series": _series(report),
        "place": {name: getattr(place, name) for name in ("feed", "change", "changed", "resume_after")},
        "received_at": received_at,
    }


def _series(report: StudyReport) -> list[dict[str, Any]]:
    ordered = sorted(report.series, key=lambda one: one.series_instance_uid)
    return [{name: getattr(one, name) for name in ("series_instance_uid", "modality", "instances")} for one in ordered]
