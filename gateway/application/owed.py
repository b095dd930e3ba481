"""What a change owes the web app: a status event, to be kept in the same save."""

from __future__ import annotations

from gateway.domain.events import Stream
from gateway.domain.identity import status_event_id
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import StudyReport
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem


def status_owed(
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


def images_owed(item: WorklistItem, report: StudyReport, event_id: str, occurred_at: str) -> StatusUpdate:
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
