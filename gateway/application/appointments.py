"""Appointments: what the web app asks, what a person corrects, and what expires."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from gateway.application.deciding import Decision, now
from gateway.application.owed import status_owed
from gateway.application.receipts import Receipts
from gateway.application.worklist import Worklist
from gateway.domain.events import circumstances
from gateway.domain.identity import new_study_instance_uid
from gateway.domain.lifecycle import Status
from gateway.domain.relay_action import ActionReply, ActionRequest
from gateway.domain.worklist_item import Appointment, WorklistItem
from projections.worklist import WorklistFilter


class Appointments(Receipts, Worklist):
    """An appointment's life as people and the web app have it; `Steps` has what modalities make of it."""

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
                received_at=request.received_at if request else now(),
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

    def correct_status(self, accession_number: str, status: Status, *, reason: str, operator: str) -> Status:
        """Set a status by hand, with a reason. Returns the one before. Raises `NotFound`, `IllegalTransition`."""
        cause = f"operator/{uuid4()}"

        def decide() -> Decision[Status]:
            item = self._item(accession_number)
            before, sequence = item.status, item.update_sequence
            item.correct_status(status, reason)
            return before, [item, *status_owed(item, sequence, cause=cause, occurred_at=now())]

        with circumstances(source="operator", correlation_id=operator):
            return self._retry(decide)

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
