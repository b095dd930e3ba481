"""Studies that Orthanc received: the item each is of, and where it is sent on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import projections.received_studies
from gateway.application.deciding import Decision
from gateway.application.feed import Feed
from gateway.application.linking import Linking
from gateway.application.owed import images_owed
from gateway.domain import lifecycle
from gateway.domain.events import Stream, circumstances
from gateway.domain.identity import images_event_id
from gateway.domain.performed_procedure_step import Reference
from gateway.domain.received_study import FeedPlace, ReceivedStudy, Route, StudyReport
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import IllegalTransition, NotFound
from projections.received_studies import ReceivedStudyRow, RouteRow


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What became of a study that Orthanc told of: its item, or why it has none; and whether anything was new.

    `alert` says why nobody should have been examined for the item, or "".
    """

    accession_number: str
    unmatched: str = ""
    is_new: bool = True
    alert: str = ""


class Studies(Linking, Feed):
    """Images find their item, a person settles those that do not, and routes carry them on."""

    def receive_study(
        self,
        report: StudyReport,
        place: FeedPlace,
        *,
        received_at: datetime,
        routes: Sequence[Route] = (),
        tell_web_app: bool = False,
    ) -> StudyOutcome:
        """Keep what Orthanc has of a study: link it to its item, choose its routes, in one save with its place.

        The same content again changes nothing, but where its item, or why it has none, is another than was known.
        With `tell_web_app` the web app is owed the news.
        """
        at = received_at.astimezone(UTC).isoformat()

        def decide() -> Decision[StudyOutcome]:
            keys = Reference(study_instance_uid=report.study_instance_uid, accession_number=report.accession_number)
            found = self._referenced(keys, report.patient_id, "study")
            item, unmatched = (None, found) if isinstance(found, str) else (found, "")
            number = item.accession_number if item else ""
            study = self._load(ReceivedStudy, ReceivedStudy.create_id(report.orthanc_id))
            has_other_content = study is None or not study.holds(report)
            known = (study.accession_number, study.unmatched) if study else None
            is_new = has_other_content or known != (number, unmatched)
            lost = study.lost_routes if study else set()
            wanted = [route for route in routes if has_other_content or route.target in lost]
            if not (is_new or wanted or self._is_parked(report.orthanc_id)):
                return StudyOutcome(number, unmatched, is_new=False), []
            matched_by = _matching_keys(report, item) if item else []
            content: dict[str, Any] = {
                "accession_number": number,
                "matched_by": matched_by,
                "unmatched": unmatched,
                "received_at": at,
            }
            if study is None:
                study = ReceivedStudy.receive(report, place, **content)
            else:
                study.update(report, place, **content)
            for route in wanted:
                study.choose_route(route)
            changed: list[Stream] = [study]
            if item and is_new:
                changed += self._with_images(item, report, study.arrival, matched_by, at, tell_web_app=tell_web_app)
            return StudyOutcome(number, unmatched, is_new=is_new, alert=_over(item)), changed

        uid = report.study_instance_uid
        with circumstances(source="orthanc", correlation_id=uid, ae_title=report.station_ae_title or None):
            return self._retry(decide)

    def _with_images(
        self,
        item: WorklistItem,
        report: StudyReport,
        arrival: int,
        matched_by: Sequence[str],
        received_at: str,
        *,
        tell_web_app: bool,
    ) -> list[Stream]:
        """The item with its images, and the news that the web app is owed: of one arrival once."""
        event_id = images_event_id(report.orthanc_id, item.accession_number, arrival, report.instances)
        tells = tell_web_app and not self._events.is_known(StatusUpdate.create_id(event_id))
        item.receive_images(report, arrival=arrival, matched_by=matched_by, received_at=received_at, report=tells)
        return [item, images_owed(item, report, event_id, received_at)] if tells else [item]

    def dismiss_study(self, orthanc_id: str, *, reason: str, operator: str) -> None:
        """Say that an unmatched study is nobody's. Raises `NotFound`, `IllegalTransition`."""
        self._on_study(orthanc_id, lambda study: study.dismiss(reason), operator=operator)

    def _on_study(
        self, orthanc_id: str, command: Callable[[ReceivedStudy], None], *, operator: str | None = None
    ) -> None:
        def decide() -> Decision[None]:
            study = self._load(ReceivedStudy, ReceivedStudy.create_id(orthanc_id))
            if study is None:
                raise NotFound("there is no received study with this id", field="orthanc_id")
            command(study)
            return None, [study]

        source, asker = ("operator", operator) if operator else ("gateway", orthanc_id)
        with circumstances(source=source, correlation_id=asker, causation_id=orthanc_id):
            self._retry(decide)

    def study_called(self, name: str) -> ReceivedStudyRow:
        """The study with this Orthanc id or Study Instance UID.

        Raises `NotFound`, and `IllegalTransition` where two studies have the UID: only Orthanc's id tells them apart.
        """
        with self.reading() as connection:
            rows = projections.received_studies.called(connection, name)
        if not rows:
            raise NotFound("there is no received study with this UID", field="study_instance_uid")
        if len(rows) > 1:
            ids = ", ".join(row.orthanc_id for row in rows)
            raise IllegalTransition(
                f"{len(rows)} studies have this UID, each of another patient: say which by its Orthanc id: {ids}",
                field="study_instance_uid",
            )
        return rows[0]

    def studies_of(self, accession_number: str) -> list[ReceivedStudyRow]:
        """The studies of an item, the oldest first."""
        with self.reading() as connection:
            return projections.received_studies.of_accession(connection, accession_number)

    def latest_studies(self, limit: int) -> list[ReceivedStudyRow]:
        """The studies that Orthanc received last, the newest first."""
        with self.reading() as connection:
            return projections.received_studies.latest(connection, limit)

    def unmatched_studies(self, limit: int = -1) -> list[ReceivedStudyRow]:
        """Studies of nobody on the list that wait for a person, the newest first."""
        with self.reading() as connection:
            return projections.received_studies.unmatched(connection, limit)

    def linkable_studies(self, limit: int) -> list[str]:
        """Orthanc ids of unmatched studies, of so many newest ones, whose item is on the list by now.

        Those too that have none for another reason than they had.
        """
        return [row.orthanc_id for row in self.unmatched_studies(limit) if self._is_out_of_date(row)]

    def _is_out_of_date(self, row: ReceivedStudyRow) -> bool:
        keys = Reference(study_instance_uid=row.study_instance_uid, accession_number=row.named)
        return self._referenced(keys, row.patient_id, "study") != row.unmatched

    def known_studies(self, orthanc_ids: Collection[str]) -> frozenset[str]:
        """Those of these Orthanc ids whose studies were read, or could not be."""
        with self.reading() as connection:
            return projections.received_studies.known(connection, orthanc_ids)

    # --- where they are sent on

    def route_succeeded(self, orthanc_id: str, target: str, *, arrival: int, job: str, instances: int) -> None:
        """Orthanc has sent a study there. Raises `NotFound`."""
        self._on_study(
            orthanc_id,
            lambda study: study.route_succeeded(target, arrival=arrival, job=job, instances=instances),
        )

    def route_failed(self, orthanc_id: str, target: str, *, error: str) -> None:
        """Orthanc could not send a study there; it is tried again. Raises `NotFound`."""
        self._on_study(orthanc_id, lambda study: study.route_failed(target, error))

    def abandon_route(self, orthanc_id: str, target: str, *, reason: str, operator: str | None = None) -> None:
        """Send a study there no more. Raises `NotFound`, `IllegalTransition`."""
        self._on_study(orthanc_id, lambda study: study.abandon_route(target, reason), operator=operator)

    def routes(self, limit: int) -> list[RouteRow]:
        """Studies that are or were sent on, those that changed last first."""
        with self.reading() as connection:
            return projections.received_studies.latest_routes(connection, limit)

    def routes_of(self, orthanc_id: str) -> list[RouteRow]:
        """Where a study is or was sent, and what became of it."""
        with self.reading() as connection:
            return projections.received_studies.routes_of(connection, orthanc_id)

    def open_routes(self) -> list[RouteRow]:
        """Studies that are to be sent on, the longest waiting first."""
        with self.reading() as connection:
            return projections.received_studies.open_routes(connection)


def _over(item: WorklistItem | None) -> str:
    if item is None or item.status not in lifecycle.OVER:
        return ""
    return f"images of item {item.accession_number} came although it is {item.status}"


def _matching_keys(report: StudyReport, item: WorklistItem) -> list[str]:
    """Which keys of the images are the item's."""
    return [name for name in ("accession_number", "study_instance_uid") if getattr(report, name) == getattr(item, name)]
