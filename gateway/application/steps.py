"""Performed procedure steps: what modalities report by MPPS, and what a person makes of those that match nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import projections.performed_steps
from gateway.application.deciding import Decision, now
from gateway.application.linking import Linking
from gateway.application.owed import status_owed
from gateway.application.worklist import Worklist
from gateway.domain import lifecycle
from gateway.domain.events import Stream, circumstances
from gateway.domain.lifecycle import Status, StepStatus
from gateway.domain.performed_procedure_step import (
    PerformedProcedureStep,
    StepChange,
    StepExists,
    StepRecord,
    StepReport,
    StepUnknown,
)
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import NotFound, OtherPatient
from projections.performed_steps import PerformedStepRow
from projections.worklist import WorklistFilter


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of an MPPS message: the linked items, why others are not, and what a person should look at."""

    accession_numbers: tuple[str, ...]
    unmatched: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()


class Steps(Linking, Worklist):
    """MPPS, and the items that it starts and finishes."""

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
                updates += status_owed(item, sequence, cause=uid, step=step, occurred_at=received_at.isoformat())
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
        return [item, *status_owed(item, sequence, cause=cause, step=step, occurred_at=step.ended_at or now())]

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

    # --- what people do

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
            updates = status_owed(item, sequence, cause=cause, step=step, occurred_at=step.started_at)
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

    # --- what is asked without changing anything

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


def _over(items: list[WorklistItem]) -> Iterator[str]:
    for item in items:
        if item.status in lifecycle.OVER:
            yield f"item {item.accession_number} is performed although it is {item.status}"
