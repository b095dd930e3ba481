"""The outbox: what the web app has not acknowledged yet, what it refused, and what a person does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from starlette.requests import Request

import projections.timeline
from gateway.delivery.attempts import Attempts, attempts_of
from gateway.domain.masking import HIDDEN
from gateway.domain.status_update import StatusUpdate
from gateway.ops.health import restored_from
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit, reason_of, require_operator
from projections.outbox import OutboxRow

_MOST = 500
"""Of each kind that a page shows: of more, the web app has been away for days."""
_NOT_TRIED = Attempts(0, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A status event. `answer` is the web app's word, or for a waiting one why the last try failed.

    What an operator wrote who parked it is hidden: the step's page shows it to whoever may see names.
    """

    event_id: str
    accession_number: str
    sequence: int
    status: str
    state: str
    requested_at: str
    settled_at: str | None
    attempts: int
    last_sent_at: str | None
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """What is not settled, the oldest of it, and how many there are.

    `restored` is the restored backup after which the deliveries wait for a person, or None.
    """

    parked: tuple[Update, ...]
    parked_in_all: int
    waiting: tuple[Update, ...]
    waiting_in_all: int
    delivery: dict[str, Any]
    restored: dict[str, Any] | None


def look(sources: Sources, _: Visit, __: Request) -> Outbox:
    """The unsettled status events, the oldest first."""
    gateway = sources.gateway
    parked, waiting = gateway.find_updates(state="parked"), gateway.find_updates(state="waiting")
    shown = [*parked[:_MOST], *waiting[:_MOST]]
    with gateway.reading() as connection:
        tries = attempts_of(connection, [row.event_id for row in shown])
    by_hand = _parked_by_hand(sources, shown)
    updates = [_update(row, tries.get(row.event_id, _NOT_TRIED), by_hand=row.event_id in by_hand) for row in shown]
    restored = restored_from(gateway)
    return Outbox(
        parked=tuple(update for update in updates if update.state == "parked"),
        parked_in_all=len(parked),
        waiting=tuple(update for update in updates if update.state == "waiting"),
        waiting_in_all=len(waiting),
        delivery=sources.delivery(),
        restored=restored if restored and restored["warning"] else None,
    )


def _parked_by_hand(sources: Sources, rows: Sequence[OutboxRow]) -> frozenset[str]:
    """The event ids of those that an operator has parked last, and not the web app."""
    numbers = [row.accession_number for row in rows if row.state == "parked"]
    with sources.gateway.reading() as connection:
        parkings = projections.timeline.of_kinds(connection, [StatusUpdate.Parked.TOPIC], numbers)
        latest = {row.details["event_id"]: row.has_written_reason for row in parkings}
    return frozenset(event_id for event_id, is_written in latest.items() if is_written)


def _update(row: OutboxRow, tried: Attempts, *, by_hand: bool) -> Update:
    answer = tried.last_error if row.state == "waiting" else row.answer
    return Update(
        event_id=row.event_id,
        accession_number=row.accession_number,
        sequence=row.sequence,
        status=row.status,
        state=row.state,
        requested_at=row.requested_at,
        settled_at=row.settled_at,
        attempts=tried.attempts,
        last_sent_at=tried.last_sent_at,
        answer=f"parked by an operator: {HIDDEN}" if by_hand else answer or "",
    )


# --- acts


def _retry(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    event_id, force = form.get("event_id", ""), form.get("force") == "yes"
    sources.gateway.requeue_update(event_id, reason=reason_of(form), operator=given.visitor.name, force=force)
    return "It is sent again, with the same event id and sequence."


def _park(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    sources.gateway.withdraw_update(form.get("event_id", ""), reason=reason_of(form), operator=given.visitor.name)
    return "It is parked. Later status events of its accession number go on."


def _resume(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    waiting = sources.gateway.resume_delivery(operator=given.visitor.name, reason=reason_of(form))
    return f"Status events go to the web app again: {waiting} wait."


def table(page: Outbox) -> list[tuple[object, ...]]:
    """All that is not settled, for a spreadsheet."""
    names = tuple(field.name for field in fields(Update))
    return [names, *(tuple(getattr(update, name) for name in names) for update in (*page.parked, *page.waiting))]


PAGES = (Page("/outbox", "outbox.html", "Outbox", look, table),)
ACTS: dict[str, Act] = {"/outbox/retry": _retry, "/outbox/park": _park, "/outbox/resume": _resume}
