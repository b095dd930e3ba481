"""The gateway's use cases, one method each: load, decide and save inside one retry (design §3.4, §3.16).

What comes over the relay carries an `ActionRequest`: its effect and its receipt are saved in one transaction, and the
same request is answered from the receipt ever after. What an operator or a modality asks raises what it can't have.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from random import uniform
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.persistence import InfrastructureFactory, IntegrityError
from eventsourcing.utils import Environment, EnvType

import projections.epochs
import projections.outbox
import projections.patient_keys
import projections.performed_steps
import projections.received_studies
import projections.timeline
import projections.worklist
import projections.worklist_days
from gateway.domain import lifecycle
from gateway.domain.epoch import Epoch
from gateway.domain.events import Stream, circumstances
from gateway.domain.identity import images_event_id, new_study_instance_uid, status_event_id
from gateway.domain.image_feed import ImageFeed
from gateway.domain.lifecycle import Status, StepStatus
from gateway.domain.performed_procedure_step import (
    PerformedProcedureStep,
    Reference,
    StepChange,
    StepExists,
    StepRecord,
    StepReport,
    StepUnknown,
)
from gateway.domain.received_study import FeedPlace, ReceivedStudy, Route, StudyReport
from gateway.domain.relay_action import ActionReply, ActionRequest, RelayAction
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import Appointment, WorklistItem
from gateway.errors import (
    ActionIdConflict,
    Contention,
    GatewayError,
    IllegalTransition,
    KeyLost,
    KeysUnusable,
    NotFound,
    OtherPatient,
    Refusal,
    StoreUnusable,
)
from gateway.eventstore import chain, positions, proofs, rebuilding, replay
from gateway.eventstore.connections import require_room
from gateway.eventstore.factory import StoreFactory
from gateway.eventstore.projection import as_projection
from gateway.eventstore.recent import Recent
from gateway.eventstore.recorder import Datastore, InlineEventStore
from gateway.eventstore.sealing import KeyIndex, Sealing, default_path
from gateway.eventstore.sequence_mark import SequenceMark
from gateway.eventstore.turns import Turns
from projections.epochs import EpochRow
from projections.outbox import OutboxCounts, OutboxRow
from projections.performed_steps import PerformedStepRow
from projections.received_studies import FeedRow, ParkedStudyRow, ReceivedStudyRow, RouteRow
from projections.timeline import TimelineRow
from projections.worklist import Version, WorklistFilter, WorklistRow

PROJECTIONS = tuple(
    as_projection(module)
    for module in (
        projections.worklist,
        projections.worklist_days,
        projections.outbox,
        projections.timeline,
        projections.performed_steps,
        projections.received_studies,
        projections.patient_keys,
        projections.epochs,
    )
)

_APART = tuple(
    as_projection(module) for module in (projections.worklist, projections.performed_steps, projections.patient_keys)
)
"""What a second process builds of a long log: those that need to know who it was. It is about half of the work."""

_GOING_ON = (StepStatus.IN_PROGRESS, Status.IN_PROGRESS)

_MOST_RECENT = 256
"""Steps in progress and their items that are kept in memory: more than a site's units have at a time."""

_TRIES = 25

_LONGEST_PAUSE = 0.01
"""Seconds between two of them at most."""

T = TypeVar("T")
S = TypeVar("S", bound=Stream)
Decision = tuple[T, list[Stream]]
"""What to answer, and the streams whose new events to save."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of an MPPS message: the linked items, why others are not, and what a person should look at."""

    accession_numbers: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What became of a study that Orthanc told of: its item, or why it has none; and whether anything was new."""

    accession_number: str
    unmatched: str = ""
    is_new: bool = True


_PORTION = 100
"""Worklist items read at once for an answer of many."""

_HELD_UP_TOO_LONG = 5.0
"""Seconds a save may wait for another process before health says so."""

_TRIAL_PATIENCE = 1.0
"""Seconds the save that health tries may wait: a person waits for the answer."""


class Gateway(Application[UUID]):
    """The application over one database file. Safe to call from many threads.

    Every method that writes may raise `OutcomeUnknown` or `Contention`: ask again.
    """

    name = "gateway"

    def __init__(
        self, path: Path, *, report_wrong_entry: bool = False, sealing: bool = False, keys_path: Path | None = None
    ) -> None:
        """Open the database, creating what is missing and bringing the projections to the log's head.

        With `sealing` what identifies a person is sealed from now on; what was sealed before is read in any case, with
        the keys at `keys_path` (by default beside the database). Raises `StoreUnusable` when a file can't be used.
        """
        self.path = path
        index = cast("KeyIndex", projections.patient_keys)
        self.sealing = Sealing(keys_path or default_path(path), index, switched_on=sealing)
        self.report_wrong_entry = report_wrong_entry
        self._listeners: list[Callable[[], None]] = []
        self._turns = Turns()
        self._recent = Recent(_MOST_RECENT)
        super().__init__()
        self.caught_up = replay.catch_up(path, self.datastore.writer, self.datastore.readers, self.mapper, PROJECTIONS)
        self.keys_destroyed = self.destroy_erased_keys()
        self._sequence_mark = SequenceMark(path)

    # --- what the web app asks

    def schedule(
        self,
        appointment: Appointment,
        *,
        is_test: bool = False,
        request: ActionRequest | None = None,
        action_id: str | None = None,
        operator: str | None = None,
    ) -> ActionReply:
        """Take an appointment in: `created`, or `exists` when it is there with the same content.

        Without a request `action_id` says which message it came from, if any, and `operator` who adds it. Raises
        `AccessionConflict` (or answers it, when there is a request).
        """

        def decide() -> Decision[ActionReply]:
            item = self._load(WorklistItem, WorklistItem.create_id(appointment.accession_number))
            if item:
                item.require_same(appointment, is_test=is_test)
                return ActionReply(status="exists", accession_number=appointment.accession_number), []
            item = WorklistItem(
                accession_number=appointment.accession_number,
                person=appointment.person(),
                step=appointment.step(),
                study_instance_uid=new_study_instance_uid(),
                is_test=is_test,
                action_id=request.action_id if request else action_id,
                received_at=request.received_at if request else _now(),
            )
            return ActionReply(status="created", accession_number=appointment.accession_number), [item]

        return self._answer(request, appointment.accession_number, decide, operator=operator)

    def amend(
        self,
        accession_number: str,
        changes: Callable[[Appointment], dict[str, Any]],
        *,
        request: ActionRequest | None = None,
    ) -> ActionReply:
        """Change an appointment while it is scheduled. `changes` gives the new values from the present ones."""

        def decide() -> Decision[ActionReply]:
            item = self._item(accession_number)
            item.amend(changes(item.appointment))
            return ActionReply(status="updated", accession_number=accession_number), [item]

        return self._answer(request, accession_number, decide)

    def cancel(
        self, accession_number: str, reason: str | None = None, *, request: ActionRequest | None = None
    ) -> ActionReply:
        """Withdraw an appointment while it is scheduled."""

        def decide() -> Decision[ActionReply]:
            item = self._item(accession_number)
            item.cancel(reason)
            return ActionReply(status="cancelled", accession_number=accession_number), [item]

        return self._answer(request, accession_number, decide)

    def report_status(
        self, accession_number: str, status: Status, *, request: ActionRequest | None = None
    ) -> ActionReply:
        """Take over the status that the web app says; it is owed no update."""

        def decide() -> Decision[ActionReply]:
            item = self._item(accession_number)
            item.report_status(status)
            return ActionReply(status="updated", accession_number=accession_number), [item]

        return self._answer(request, accession_number, decide)

    def reject(self, request: ActionRequest, refusal: Refusal, *, accession_number: str | None = None) -> ActionReply:
        """Keep a request that can't even be tried, and answer it."""

        def decide() -> Decision[ActionReply]:
            raise refusal

        return self._answer(request, accession_number, decide)

    def reject_unidentified(
        self, request: ActionRequest, refusal: Refusal, *, accession_number: str | None = None
    ) -> ActionReply:
        """Keep a message that has no usable action_id, under a random one, and answer it."""
        reply = ActionReply.refused(refusal)
        receipt = RelayAction.reject_unidentified(request, reply, accession_number=accession_number)
        with circumstances(source="relay"):
            self.save(receipt)
        return receipt.reply

    # --- what people do

    def correct_status(self, accession_number: str, status: Status, *, reason: str, operator: str) -> Status:
        """Set a status by hand, with a reason. Returns the one before. Raises `NotFound`, `IllegalTransition`."""
        cause = f"operator/{uuid4()}"

        def decide() -> Decision[Status]:
            item = self._item(accession_number)
            before, sequence = item.status, item.update_sequence
            item.correct_status(status, reason)
            return before, [item, *_owed(item, sequence, cause=cause, occurred_at=_now())]

        with circumstances(source="operator", correlation_id=operator):
            return self._retry(decide)

    def link_step(
        self,
        sop_instance_uid: str,
        accession_number: str,
        *,
        reason: str,
        operator: str,
        despite_other_patient: bool = False,
    ) -> Status:
        """Say for which item a step was performed; returns the item's status after it.

        The item takes the step as if the modality had named it: the web app hears the same statuses in the same order.
        Raises `NotFound`, `IllegalTransition`, and `OtherPatient` when the step is of another patient than the item
        (unless `despite_other_patient`).
        """
        cause = f"operator/{uuid4()}"

        def decide() -> Decision[Status]:
            step = self._step(sop_instance_uid)
            item = self._item(accession_number)
            if not despite_other_patient and step.patient_id not in ("", item.appointment.patient_id):
                raise OtherPatient(
                    f"the step is of another patient than item {accession_number}",
                    field="sop_instance_uid",
                    remedy="compare both; --despite-other-patient, or its tick in the window, links them all the same",
                )
            step.link(accession_number, reason)
            sequence = item.update_sequence
            item.start_step(sop_instance_uid)
            updates = _owed(item, sequence, cause=cause, step=step, occurred_at=step.started_at)
            if lifecycle.is_final(step.status):
                updates += self._finished(item, step, cause=cause)[1:]
            return item.status, [step, item, *updates]

        with circumstances(source="operator", correlation_id=operator):
            return self._retry(decide)

    def dismiss_step(self, sop_instance_uid: str, *, reason: str, operator: str) -> None:
        """Say that an unmatched step belongs to no item. Raises `NotFound`, `IllegalTransition`."""

        def decide() -> Decision[None]:
            step = self._step(sop_instance_uid)
            step.dismiss(reason)
            return None, [step]

        with circumstances(source="operator", correlation_id=operator):
            self._retry(decide)

    def _step(self, sop_instance_uid: str) -> PerformedProcedureStep:
        step = self._load(PerformedProcedureStep, PerformedProcedureStep.create_id(sop_instance_uid))
        if step is None:
            raise NotFound("there is no performed step with this SOP Instance UID", field="sop_instance_uid")
        return step

    def expire(self, today: date, *, after_days: int, due: datetime | None = None) -> list[str]:
        """Mark scheduled items dated more than `after_days` days before today as expired; returns their numbers.

        `due` is the moment this is done for, when it is made up for later: what came or changed since then is left to
        the next one, so that a restart alters nothing.
        """
        until = (due or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")
        last = (today - timedelta(days=after_days + 1)).strftime("%Y%m%d")
        rows = self.find_items(WorklistFilter(statuses=(Status.SCHEDULED,), dates=("", last)))
        with circumstances(source="gateway"):
            return [
                row.accession_number
                for row in rows
                if (row.updated_at or "") <= until and self._retry(partial(self._expire, row.accession_number, last))
            ]

    def _expire(self, accession_number: str, last: str) -> Decision[bool]:
        item = self._load(WorklistItem, WorklistItem.create_id(accession_number))
        if item is None or item.status is not Status.SCHEDULED or item.appointment.scheduled_date > last:
            return False, []  # changed since it was looked up, or a row that no event explains
        item.expire()
        return True, [item]

    # --- what modalities report

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """An N-CREATE: keep the step whole and start the items it was performed for. Raises `StepExists`."""

        def decide() -> Decision[StepOutcome]:
            if self._events.is_known(PerformedProcedureStep.create_id(report.sop_instance_uid)):
                raise StepExists("the performed procedure step exists")
            items, unmatched = self._linked(report)
            alerts = [*unmatched, *_over(items)]
            step = PerformedProcedureStep.start(
                report,
                accession_numbers=[item.accession_number for item in items],
                unmatched=unmatched,
                received_at=received_at.isoformat(),
            )
            updates: list[Stream] = []
            for item in items:
                sequence = item.update_sequence
                item.start_step(report.sop_instance_uid)
                uid = report.sop_instance_uid
                updates += _owed(item, sequence, cause=uid, step=step, occurred_at=received_at.isoformat())
            outcome = StepOutcome(tuple(step.accession_numbers), tuple(unmatched), tuple(alerts))
            return outcome, [step, *items, *updates]

        with circumstances(source="mpps", correlation_id=report.sop_instance_uid, ae_title=calling_ae_title):
            return self._retry(decide)

    def change_step(self, change: StepChange, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """An N-SET: keep it whole and finish the items when it is final. Raises `StepUnknown`, `StepFinal`."""

        def decide() -> Decision[StepOutcome]:
            step_id = PerformedProcedureStep.create_id(change.sop_instance_uid)
            step = self._recent.take(step_id) or self._load(PerformedProcedureStep, step_id)
            if step is None:
                raise StepUnknown("there is no such performed procedure step")
            step.change(change, received_at.isoformat())
            is_final = lifecycle.is_final(step.status)
            items = [self._recent_item(number) for number in step.accession_numbers] if is_final else []
            alerts = () if step.status is StepStatus.WITHDRAWN else tuple(_over(items))
            finished = [stream for item in items for stream in self._finished(item, step)]
            return StepOutcome(tuple(step.accession_numbers), alerts=alerts), [step, *finished]

        with circumstances(source="mpps", correlation_id=change.sop_instance_uid, ae_title=calling_ae_title):
            return self._retry(decide)

    def _finished(self, item: WorklistItem, step: PerformedProcedureStep, *, cause: str | None = None) -> list[Stream]:
        """Tell the item what became of its step."""
        sequence, uid = item.update_sequence, step.sop_instance_uid
        if step.status is StepStatus.COMPLETED:
            item.complete_step(uid)
        else:
            item.discontinue_step(
                uid,
                reason=step.discontinuation_reason,
                wrong_entry=step.status is StepStatus.WITHDRAWN,
                report_wrong_entry=self.report_wrong_entry,
            )
        # The end of a step is another cause than its start: both can bring the same status about.
        cause = f"{cause or uid}/end"
        return [item, *_owed(item, sequence, cause=cause, step=step, occurred_at=step.ended_at or _now())]

    def _linked(self, report: StepReport) -> tuple[list[WorklistItem], list[str]]:
        """The items that the step was performed for, and why the others could not be found (design §3.16)."""
        items: dict[str, WorklistItem] = {}
        unmatched: list[str] = [] if report.references else ["the step names no scheduled step"]
        for reference in report.references:
            found = self._referenced(reference, report.patient_id)
            if isinstance(found, str):
                unmatched.append(found)
            else:
                items[found.accession_number] = found
        return list(items.values()), unmatched

    def _referenced(self, reference: Reference, patient_id: str, what: str = "step") -> WorklistItem | str:
        """The item that these keys name, or why there is none; `what` has them (design §3.16)."""
        study, number = reference.study_instance_uid, reference.accession_number
        with self.reading() as connection:
            rows = projections.worklist.named(connection, study, (number, reference.scheduled_procedure_step_id))
        if not any(number == row.accession_number or (study and study == row.study_instance_uid) for row in rows):
            return f"no item has the accession number or the Study Instance UID of the {what}"
        if len(rows) > 1:
            return f"the keys of the {what} name two items"
        [(accession_number, _, item_patient_id)] = rows
        if patient_id and item_patient_id and patient_id != item_patient_id:
            return f"the {what} is of another patient than item {accession_number}"
        item = self._load(WorklistItem, WorklistItem.create_id(accession_number))
        if item and item.is_erased:
            return f"the person of item {accession_number} was erased"
        return item or f"no event explains item {accession_number}"

    # --- what Orthanc tells

    def begin_feed(self, *, reason: str, database: str) -> int:
        """An Orthanc is followed from its first change on; returns the feed's number."""

        def decide() -> Decision[int]:
            known = self.image_feed()
            number = known.number + 1 if known else 1
            return number, [ImageFeed.begin(number, reason=reason, database=database)]

        with circumstances(source="orthanc"):
            return self._retry(decide)

    def advance_feed(self, place: FeedPlace) -> None:
        """Keep how far the feed was followed, where no study was told of for long. Raises `NotFound`."""
        self._on_feed(place, lambda feed: feed.advance(place))

    def park_study(self, orthanc_id: str, why: str, place: FeedPlace) -> None:
        """Go on without a study that can't be read; a person is told. Raises `NotFound`."""
        self._on_feed(place, lambda feed: feed.park(orthanc_id, why, place))

    def _on_feed(self, place: FeedPlace, command: Callable[[ImageFeed], None]) -> None:
        def decide() -> Decision[None]:
            feed = self._load(ImageFeed, ImageFeed.create_id(place.feed))
            if feed is None:
                raise NotFound("there is no feed of this number", field="feed")
            command(feed)
            return None, [feed]

        with circumstances(source="orthanc"):
            self._retry(decide)

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

        The same content of the same item again changes nothing. With `tell_web_app` the web app is owed the news.
        """
        at = received_at.astimezone(UTC).isoformat()

        def decide() -> Decision[StudyOutcome]:
            keys = Reference(study_instance_uid=report.study_instance_uid, accession_number=report.accession_number)
            found = self._referenced(keys, report.patient_id, "study")
            item, unmatched = (None, found) if isinstance(found, str) else (found, "")
            number = item.accession_number if item else ""
            study = self._load(ReceivedStudy, ReceivedStudy.create_id(report.study_instance_uid))
            has_other_content = study is None or not study.holds(report)
            is_new = has_other_content or (study is not None and study.accession_number != number)
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
            return StudyOutcome(number, unmatched, is_new=is_new), changed

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
        event_id = images_event_id(report.study_instance_uid, item.accession_number, arrival, report.instances)
        tells = tell_web_app and not self._events.is_known(StatusUpdate.create_id(event_id))
        item.receive_images(report, arrival=arrival, matched_by=matched_by, received_at=received_at, report=tells)
        return [item, _images_owed(item, report, event_id, received_at)] if tells else [item]

    def _is_parked(self, orthanc_id: str) -> bool:
        return any(row.orthanc_id == orthanc_id for row in self.parked_studies())

    def route_succeeded(self, study_instance_uid: str, target: str, *, arrival: int, job: str, instances: int) -> None:
        """Orthanc has sent a study there. Raises `NotFound`."""
        self._on_study(
            study_instance_uid,
            lambda study: study.route_succeeded(target, arrival=arrival, job=job, instances=instances),
        )

    def route_failed(self, study_instance_uid: str, target: str, *, error: str) -> None:
        """Orthanc could not send a study there; it is tried again. Raises `NotFound`."""
        self._on_study(study_instance_uid, lambda study: study.route_failed(target, error))

    def abandon_route(self, study_instance_uid: str, target: str, *, reason: str, operator: str | None = None) -> None:
        """Send a study there no more. Raises `NotFound`, `IllegalTransition`."""
        self._on_study(study_instance_uid, lambda study: study.abandon_route(target, reason), operator=operator)

    def dismiss_study(self, study_instance_uid: str, *, reason: str, operator: str) -> None:
        """Say that an unmatched study is nobody's. Raises `NotFound`, `IllegalTransition`."""
        self._on_study(study_instance_uid, lambda study: study.dismiss(reason), operator=operator)

    def _on_study(
        self, study_instance_uid: str, command: Callable[[ReceivedStudy], None], *, operator: str | None = None
    ) -> None:
        def decide() -> Decision[None]:
            study = self._load(ReceivedStudy, ReceivedStudy.create_id(study_instance_uid))
            if study is None:
                raise NotFound("there is no received study with this UID", field="study_instance_uid")
            command(study)
            return None, [study]

        source, asker = ("operator", operator) if operator else ("gateway", study_instance_uid)
        with circumstances(source=source, correlation_id=asker, causation_id=study_instance_uid):
            self._retry(decide)

    def image_feed(self) -> FeedRow | None:
        """The feed of changes that is followed, and how far; None before the first."""
        with self.reading() as connection:
            return projections.received_studies.feed(connection)

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
        """Orthanc ids of unmatched studies, of so many newest ones, whose item is on the list by now."""
        return [row.orthanc_id for row in self.unmatched_studies(limit) if self._has_item(row)]

    def _has_item(self, row: ReceivedStudyRow) -> bool:
        keys = Reference(study_instance_uid=row.study_instance_uid, accession_number=row.named)
        return isinstance(self._referenced(keys, row.patient_id, "study"), WorklistItem)

    def known_studies(self, orthanc_ids: Collection[str]) -> frozenset[str]:
        """Those of these Orthanc ids whose studies were read, or could not be."""
        with self.reading() as connection:
            return projections.received_studies.known(connection, orthanc_ids)

    def parked_studies(self) -> list[ParkedStudyRow]:
        """Studies of Orthanc's that could not be read."""
        with self.reading() as connection:
            return projections.received_studies.parked(connection)

    def routes(self, limit: int) -> list[RouteRow]:
        """Studies that are or were sent on, those that changed last first."""
        with self.reading() as connection:
            return projections.received_studies.latest_routes(connection, limit)

    def routes_of(self, study_instance_uid: str) -> list[RouteRow]:
        """Where a study is or was sent, and what became of it."""
        with self.reading() as connection:
            return projections.received_studies.routes_of(connection, study_instance_uid)

    def open_routes(self) -> list[RouteRow]:
        """Studies that are to be sent on, the longest waiting first."""
        with self.reading() as connection:
            return projections.received_studies.open_routes(connection)

    # --- what delivery reports

    def acknowledge_update(self, event_id: str, *, answer: str, attempts: int) -> None:
        """The web app has it."""
        self._settle(event_id, lambda update: update.acknowledge(answer, attempts))

    def park_update(self, event_id: str, *, reason: str, attempts: int) -> None:
        """The web app refuses it for good; it waits for a person."""
        self._settle(event_id, lambda update: update.park(reason, attempts))

    def requeue_update(self, event_id: str, *, reason: str, operator: str | None = None, force: bool = False) -> None:
        """A person wants a parked one tried again.

        Raises `NotFound`; `IllegalTransition` when it is not parked, or when the web app has heard a later status of
        that item, which this one would put back (unless `force`).
        """
        row = self.status_update(event_id)
        if row.state != "parked":
            raise IllegalTransition(f"the status event is {row.state}, not parked", field="event_id")
        later = self.find_updates(state="acknowledged", accession_number=row.accession_number, is_test=None)
        of_its_kind = (other for other in later if other.event_type == row.event_type)
        if not force and any(other.sequence > row.sequence for other in of_its_kind):
            raise IllegalTransition(
                f"the web app has heard a later status of {row.accession_number}",
                field="event_id",
                remedy="--force, or its tick in the window, sends it all the same",
            )
        self._settle(event_id, lambda update: update.requeue(reason), source="operator", asker=operator)

    def withdraw_update(self, event_id: str, *, reason: str, operator: str | None = None) -> None:
        """A person takes a waiting one out of the queue. Raises `NotFound`, `IllegalTransition`."""
        row = self.status_update(event_id)
        if row.state != "waiting":
            raise IllegalTransition(f"the status event is {row.state}, not waiting", field="event_id")
        self._settle(event_id, lambda update: update.park(reason, 0), source="operator", asker=operator)

    # --- after a restore

    def restored(self) -> EpochRow | None:
        """The restore of a backup that began the present epoch of the log; None when none ever was.

        Raises `StoreUnusable` when its row was altered by hand, until a rebuild.
        """
        with self.reading() as connection:
            return projections.epochs.present(connection)

    @cached_property
    def _sequence_floor(self) -> int:
        """Read once: a restore lets nobody have the database open. And only when asked, so that a rebuild can begin."""
        epoch = self.restored()
        return epoch.sequence_floor if epoch else 0

    def resume_delivery(self, *, operator: str, reason: str = "") -> int:
        """A person lets the outbox go on after a restore, perhaps saying why; returns how many status events it holds.

        Raises `IllegalTransition` when it does not wait.
        """

        def decide() -> Decision[int]:
            epoch = self.restored()
            found = self._load(Epoch, Epoch.create_id(epoch.number)) if epoch else None
            if found is None:
                raise IllegalTransition("the outbox does not wait: no backup was restored")
            waiting = self.count_updates().waiting
            found.resume(waiting, reason)
            return waiting, [found]

        with circumstances(source="operator", correlation_id=operator):
            return self._retry(decide)

    def keep_sequence_mark(self, sequence: int = 0) -> None:
        """Make sure that the file beside the database covers this `sequence` and all there ever were.

        Raises `DiskFull`, `OutcomeUnknown`, `Contention`.
        """
        with self.datastore.writer.transaction() as cursor:  # its lock: two processes don't overtake each other
            known = max(projections.outbox.highest_sequence(cursor), self._sequence_floor)
            self._sequence_mark.cover(sequence, known)

    def status_update(self, event_id: str) -> OutboxRow:
        """A status update by its event_id. Raises `NotFound`."""
        with self.reading() as connection:
            row = projections.outbox.get(connection, event_id)
        if row is None:
            raise NotFound("there is no status event with this event_id", field="event_id")
        return row

    def _settle(
        self,
        event_id: str,
        command: Callable[[StatusUpdate], None],
        *,
        source: str = "gateway",
        asker: str | None = None,
    ) -> None:
        def decide() -> Decision[None]:
            update = self._load(StatusUpdate, StatusUpdate.create_id(event_id))
            if update is None:
                raise NotFound("there is no such status update", field="event_id")
            command(update)
            return None, [update]

        with circumstances(source=source, correlation_id=asker or event_id, causation_id=event_id):
            self._retry(decide)

    # --- what is asked without changing anything

    def find_items(self, wanted: WorklistFilter) -> list[WorklistRow]:
        """Worklist items by date and time."""
        with self.reading() as connection:
            return list(projections.worklist.find(connection, wanted))

    def worklist(
        self, wanted: WorklistFilter, known: Callable[[Version], T | None] = lambda _: None
    ) -> Iterator[WorklistRow | T]:
        """Worklist items by date and time, for whoever may take long over many of them (a modality, a network).

        What is found is what was there at the first one. Each item is as it is when it is reached: one that was changed
        meanwhile comes changed, and whoever asks looks at it again. No transaction stays open between two of them, only
        accession numbers are kept in memory, and long answers leave the processor to others most of the time.

        `known` is asked for what is held already of an item at its present version: that comes instead of its row,
        which is not read. Only the first hundred are asked for.

        Raises `TooMuchAsked` when too many ask what no index serves.
        """
        turn = nullcontext() if projections.worklist.is_indexed(wanted) else self._turns.scan()
        with turn, self.reading() as connection:
            versions = projections.worklist.find_versions(connection, wanted, limit=_PORTION)
            first = _read(connection, versions, known)
        yield from first
        if len(versions) == _PORTION:
            yield from self._turns.slowly(self._rest(wanted, {number for number, _ in versions}))

    def _rest(self, wanted: WorklistFilter, seen: set[str]) -> Iterator[WorklistRow]:
        with self._turns.scan(), self.reading() as connection:
            numbers = projections.worklist.find_numbers(connection, wanted)
        rest = [number for number in numbers if number not in seen]
        for begin in range(0, len(rest), _PORTION):
            with self.reading() as connection:
                portion = list(projections.worklist.get(connection, rest[begin : begin + _PORTION]))
            yield from portion

    def count_by_status(self, *, is_test: bool = False) -> dict[str, int]:
        """How many items are in each status; test items are counted apart."""
        with self.reading() as connection:
            return projections.worklist.count_by_status(connection, is_test=is_test)

    def performed_step(self, sop_instance_uid: str) -> StepRecord | None:
        """All that was reported about a performed step, or None when there is no such step."""
        stream_id = PerformedProcedureStep.create_id(sop_instance_uid)
        step = self._load(PerformedProcedureStep, stream_id)
        if step is None:
            return None
        reports = PerformedProcedureStep.Started | PerformedProcedureStep.Changed
        events = (event for event in self.events.get(stream_id) if isinstance(event, reports))
        return StepRecord(
            sop_instance_uid=sop_instance_uid,
            status=step.status,
            accession_numbers=tuple(step.accession_numbers),
            data_sets=tuple((event.attribute_list, event.transfer_syntax) for event in events),
        )

    def unmatched_steps(self) -> list[PerformedStepRow]:
        """Performed steps that wait for a person, the oldest first."""
        with self.reading() as connection:
            return projections.performed_steps.unmatched(connection)

    def unfinished_steps(self, before: datetime) -> list[PerformedStepRow]:
        """Performed steps begun before a moment that keep an item in progress, or belong to none; tests left out."""
        with self.reading() as connection:
            rows = projections.performed_steps.unfinished(connection, before.astimezone(UTC).isoformat())
        return [row for row in rows if not row.accession_numbers or any(map(self._in_progress, row.accession_numbers))]

    def _in_progress(self, accession_number: str) -> bool:
        rows = self.find_items(WorklistFilter(accession_number=accession_number, is_test=False))
        return any(row.status == Status.IN_PROGRESS for row in rows)

    def timeline(self, accession_number: str) -> list[TimelineRow]:
        """All that happened to an accession number."""
        with self.reading() as connection:
            return projections.timeline.find(connection, accession_number)

    def due_updates(self) -> list[OutboxRow]:
        """The next status update of each accession number; none while deliveries wait after a restore."""
        with self.reading() as connection:
            epoch = projections.epochs.present(connection)
            return projections.outbox.next_due(connection) if epoch is None or epoch.resumed_at else []

    def find_updates(
        self, *, state: str | None = None, accession_number: str = "", is_test: bool | None = False
    ) -> list[OutboxRow]:
        """Status updates in the order they were requested; without a state: the unsettled ones.

        `is_test` None: those of real and of test items.
        """
        with self.reading() as connection:
            return projections.outbox.find(connection, state=state, accession_number=accession_number, is_test=is_test)

    def last_acknowledged(self) -> str | None:
        """When the web app last acknowledged a status update; None when it never did."""
        with self.reading() as connection:
            return projections.outbox.last_acknowledged(connection)

    def count_updates(self) -> OutboxCounts:
        """The outbox in three figures, test items left out."""
        with self.reading() as connection:
            return projections.outbox.count(connection)

    # --- keeping the log and its projections

    def verify_chain(
        self, progress: Callable[[int], None] = lambda _: None, *, anchors: Sequence[chain.Anchor] = ()
    ) -> chain.Verification:
        """Whether every event is as it was written, and as the anchors say."""
        with self.reading() as connection:
            return chain.verify(connection, progress, anchors=anchors)

    def rebuild_projections(self, progress: rebuilding.Progress = lambda _done, _all: None) -> int:
        """Build all projections anew while the service goes on; returns the number of events."""
        return rebuilding.rebuild(self.path, self.datastore.writer, self.mapper, PROJECTIONS, progress, apart=_APART)

    def verify_projections(
        self, progress: rebuilding.Progress = lambda _done, _all: None
    ) -> list[rebuilding.Difference]:
        """The first difference of each projection between what is served and what the events say."""
        return rebuilding.compare(self.path, self.mapper, PROJECTIONS, progress, apart=_APART)

    def destroy_erased_keys(self) -> int:
        """Destroy what the log orders to destroy and the key file still has; returns how many keys that were.

        At start that is what an interrupted erasure left, or an older key file brought back. The other way round (a
        database from before an erasure, with the key file of after it) the projections, which hold plain text, are
        built anew. Raises `KeyLost`, `KeysUnusable`.
        """
        keys = self.sealing.keys
        if keys is None:
            return 0
        with self.reading() as connection:
            ordered = projections.patient_keys.erased_keys(connection)
            known = projections.patient_keys.known_keys(connection)
        states = keys.states()
        lost = known - states.keys()
        if lost:
            raise KeyLost(
                f"the key file {keys.path} lacks {len(lost)} keys of this database: it is older",
                remedy="put the newest copy of the key file back; this is no erasure: what was erased is known as such",
            )
        self.sealing.forget()
        doomed = [key_id for key_id in ordered if not states.get(key_id, True)]
        destroyed = keys.destroy(doomed) if doomed else 0
        if doomed:
            with suppress(KeysUnusable):  # somebody reads from the key file just now; `gateway erase` insists
                keys.cut_log()
        if any(states[key_id] for key_id in known):
            self.rebuild_projections()
        return destroyed

    def save_within(self, cursor: sqlite3.Cursor, streams: Sequence[Stream]) -> None:
        """Save inside a transaction of the writer's: for a decision over the log as it is then."""
        events = [event for stream in streams for event in stream.collect_events()]
        self._events.put_within(cursor, events)
        self._recent.clear()  # an erasure, most often: nothing of the person is to stay in memory

    def close(self) -> None:
        """Let go of the files."""
        super().close()
        self.sealing.close()

    def check_store(self) -> int:
        """The log's head. Raises `StoreUnusable` when it or the epoch can't be read, or saves fail or are held up."""
        writer = self.datastore.writer
        self.sealing.check()
        if writer.failure or writer.held_up > _HELD_UP_TOO_LONG:
            self.try_a_write()
        with self.reading() as connection:
            projections.epochs.present(connection)
            return chain.head(connection)[0]

    def projections_behind(self) -> list[str]:
        """The names of projections that have not taken every event; none, unless something broke."""
        with self.reading() as connection:
            head = chain.head(connection)[0]
            noted = positions.noted(connection)
        return [p.NAME for p in PROJECTIONS if noted.get(p.NAME, (p.VERSION, 0)) < (p.VERSION, head)]

    def try_a_write(self) -> None:
        """Write, changing nothing, with room for a few saves and synced to the disk. Raises `StoreUnusable`.

        After a failed save it tells whether the disk has recovered: otherwise health would wait for somebody to ask
        something.
        """
        self._try_a_write(positions.touch)

    def append_and_read_back(self) -> None:
        """Append a row of its own, synced to the disk, and read it by another connection. Raises `StoreUnusable`."""
        appended = self._try_a_write(proofs.append)
        with self.reading() as connection:
            if not proofs.is_there(connection, appended):
                raise StoreUnusable("what was appended can't be read back", remedy="gateway events verify")

    def _try_a_write(self, write: Callable[[sqlite3.Cursor], T]) -> T:
        writer = self.datastore.writer
        try:
            require_room(self.path)
            with writer.transaction(patience=_TRIAL_PATIENCE) as cursor:
                written = write(cursor)
        except Contention as error:
            raise StoreUnusable(f"saves wait in vain: {error.message}", remedy=error.remedy) from error
        except (OSError, GatewayError) as error:
            reason = writer.failure or str(error)
            raise StoreUnusable(f"saves fail: {reason}", remedy="look at the disk: room, rights, health") from error
        writer.recovered()
        return written

    def give_up_waiting(self) -> None:
        """We stop: saves that wait for another process to let go of the file fail now."""
        self.datastore.writer.give_up()

    def reading(self) -> Any:  # noqa: ANN401  a context manager over a connection
        """A connection for reading, for as long as the `with` lasts."""
        return self.datastore.readers.connection()

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call the listener after each commit of this process, from the thread that saved: a wake-up only."""
        self._listeners.append(listener)

    # --- the library's hooks

    @property
    def datastore(self) -> Datastore:
        """The connections."""
        return cast("StoreFactory", self.factory).datastore

    @property
    def _events(self) -> InlineEventStore:
        return cast("InlineEventStore", self.events)

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Nothing from the process's environment: `gateway.settings` is its only reader."""
        return Environment(name, env)

    def construct_factory(self, env: Environment) -> InfrastructureFactory:  # noqa: ARG002  the library's own signature
        """Our store."""
        return cast("InfrastructureFactory", StoreFactory(self.path, PROJECTIONS, self.sealing))

    def _notify(self, recordings: list[Any]) -> None:
        if recordings:
            for listener in self._listeners:
                listener()

    # --- load, decide, save

    def _answer(
        self,
        request: ActionRequest | None,
        accession_number: str | None,
        decide: Callable[[], Decision[ActionReply]],
        *,
        operator: str | None = None,
    ) -> ActionReply:
        if request is None:
            with circumstances(source="operator", correlation_id=operator):
                return self._retry(decide)
        with circumstances(source="relay", correlation_id=request.action_id):
            try:
                return self._retry(lambda: self._with_receipt(request, accession_number, decide))
            except ActionIdConflict as conflict:
                return self.reject_unidentified(request, conflict, accession_number=accession_number)

    def _with_receipt(
        self, request: ActionRequest, accession_number: str | None, decide: Callable[[], Decision[ActionReply]]
    ) -> Decision[ActionReply]:
        receipt = self._load(RelayAction, RelayAction.create_id(request.action_id))
        if receipt:
            return receipt.repeat(request), []
        try:
            reply, streams = decide()
        except Refusal as refusal:
            reply, streams = ActionReply.refused(refusal), []
        receipt = RelayAction.answer(request, reply, accession_number=accession_number)
        return receipt.reply, [*streams, receipt]

    def _retry(self, decide: Callable[[], Decision[T]]) -> T:
        """Decide on fresh state and save; when somebody else was faster, decide again."""
        for pauses_left in reversed(range(_TRIES)):
            try:
                answer, streams = decide()
                self._cover_sequences(streams)
                self._save(streams)
            except IntegrityError as error:
                if not pauses_left:
                    raise Contention("the item was changed by others on every try", remedy="ask again") from error
                time.sleep(uniform(0, _LONGEST_PAUSE))  # noqa: S311  no secret: so that two don't meet again
            else:
                self._keep_unfinished(streams)
                return answer
        raise AssertionError("unreachable: the last try returns or raises")

    def _keep_unfinished(self, streams: Sequence[Stream]) -> None:
        """Steps that go on and their items: the next message is about them."""
        for stream in streams:
            if isinstance(stream, PerformedProcedureStep | WorklistItem) and stream.status in _GOING_ON:
                self._recent.keep(stream.id, stream)

    def _save(self, streams: Sequence[Stream]) -> None:
        """As the library's `save`, without looking each stream and event through for its protocols' methods."""
        self._notify(self.events.put([event for stream in streams for event in stream.collect_events()]))

    def _item(self, accession_number: str) -> WorklistItem:
        item = self._load(WorklistItem, WorklistItem.create_id(accession_number))
        if item is None:
            raise NotFound("there is no item with this accession number", field="accession_number")
        return item

    def _recent_item(self, accession_number: str) -> WorklistItem:
        """The item, perhaps behind the log: for decisions that save an event of it in any case."""
        item: WorklistItem | None = self._recent.take(WorklistItem.create_id(accession_number))
        return item or self._item(accession_number)

    def load(self, stream: type[S], stream_id: UUID) -> S | None:
        """What a stream amounts to; None when there is no such stream."""
        return self._load(stream, stream_id)

    def _load(self, _stream: type[S], stream_id: UUID) -> S | None:
        try:
            found = cast("S", self.repository.get(stream_id, projector_func=_replayed))
        except AggregateNotFoundError:
            return None
        if isinstance(found, WorklistItem):
            found.count_above(self._sequence_floor)
        return found

    def _cover_sequences(self, streams: list[Stream]) -> None:
        """Before a `sequence` is committed, the mark outside the database is not below it."""
        highest = max((item.update_sequence for item in streams if isinstance(item, WorklistItem)), default=0)
        if highest > self._sequence_mark.kept:
            self.keep_sequence_mark(highest)


def _replayed(stream: Any, events: Iterable[Any]) -> Any:  # noqa: ANN401  the library's own signature
    for event in events:
        stream = event.mutate(stream)
    return stream


def _read(
    connection: sqlite3.Connection, versions: Sequence[Version], known: Callable[[Version], T | None]
) -> list[WorklistRow | T]:
    """What is known of these items, and the rows of the others, as far as they are still there."""
    held = list(map(known, versions))
    if None not in held:
        return cast("list[WorklistRow | T]", held)
    numbers = [number for (number, _), thing in zip(versions, held, strict=True) if thing is None]
    rows = {row.accession_number: row for row in projections.worklist.get(connection, numbers)}
    either = (rows.get(number) if thing is None else thing for (number, _), thing in zip(versions, held, strict=True))
    return [thing for thing in either if thing is not None]


def _owed(
    item: WorklistItem,
    sequence_before: int,
    *,
    cause: str,
    occurred_at: str,
    step: PerformedProcedureStep | None = None,
) -> list[Stream]:
    """The status update that this change owes the web app, if any; without a `step`, it names the item's latest."""
    if item.update_sequence == sequence_before:
        return []
    update = StatusUpdate.request(
        event_id=status_event_id(cause, item.accession_number, item.status),
        accession_number=item.accession_number,
        sequence=item.update_sequence,
        status=item.status.value,
        action_id=item.action_id,
        mpps_instance_uid=step.sop_instance_uid if step else next(reversed(item.steps), None),
        occurred_at=occurred_at,
        performed=step.performed if step else {},
    )
    return [update]


def _matching_keys(report: StudyReport, item: WorklistItem) -> list[str]:
    """Which keys of the images are the item's."""
    return [name for name in ("accession_number", "study_instance_uid") if getattr(report, name) == getattr(item, name)]


def _images_owed(item: WorklistItem, report: StudyReport, event_id: str, occurred_at: str) -> StatusUpdate:
    """The news of its images that the web app is owed."""
    return StatusUpdate.request_for_images(
        event_id=event_id,
        accession_number=item.accession_number,
        sequence=item.update_sequence,
        action_id=item.action_id,
        study_instance_uid=report.study_instance_uid,
        images={
            "series_count": len(report.series),
            "image_count": report.instances,
            "modalities": list(report.modalities),
        },
        occurred_at=occurred_at,
    )


def _over(items: list[WorklistItem]) -> Iterator[str]:
    for item in items:
        if item.status in lifecycle.OVER:
            yield f"item {item.accession_number} is performed although it is {item.status}"


def _now() -> str:
    return datetime.now(UTC).isoformat()


def is_missing(path: Path) -> bool:
    """Whether there is no database yet. Raises `StoreUnusable` when nobody may look there."""
    try:
        return not path.exists()
    except OSError as error:
        raise _out_of_reach(path, error) from error


def make_folder(path: Path) -> None:
    """Make the folder of a database that is to be. Raises `StoreUnusable` when that can't be."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _out_of_reach(path, error) from error


def _out_of_reach(path: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(
        f"the folder {path.parent} can't be used: {error.strerror}",
        remedy="set WORKLIST_DB_PATH to a file in a folder that this user may write to",
    )


@contextmanager
def opened(
    path: Path, *, report_wrong_entry: bool = False, sealing: bool = False, keys_path: Path | None = None
) -> Iterator[Gateway]:
    """The application for as long as the `with` lasts."""
    gateway = Gateway(path, report_wrong_entry=report_wrong_entry, sealing=sealing, keys_path=keys_path)
    try:
        yield gateway
    finally:
        gateway.close()
