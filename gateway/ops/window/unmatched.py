"""Performed steps that a person should look at: without an appointment, or begun and never finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from gateway.domain.masking import masked_id, masked_name
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.step import plain_name
from gateway.ops.window.visits import Visit, reason_of, require_operator, reveal
from projections.performed_steps import PerformedStepRow

SUBJECT = "unmatched steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A performed step. `participant` and `patient_id` are the modality's own words, masked unless revealed.

    `named` are accession numbers that it named without being linked to them, `unmatched` why it could not be.
    """

    sop_instance_uid: str
    received_at: str
    ae_title: str
    modality: str
    status: str
    participant: str
    patient_id: str
    accession_numbers: tuple[str, ...]
    named: tuple[str, ...]
    unmatched: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Both kinds, the oldest first; `unfinished_hours` is from when on a step in progress is told of."""

    unmatched: tuple[Step, ...]
    unfinished: tuple[Step, ...]
    unfinished_hours: float
    seconds_revealed: int


def look(sources: Sources, given: Visit, _: Request) -> Steps:
    """As they are now."""
    revealed = given.seconds_revealed(SUBJECT)
    unmatched, unfinished = _rows(sources)
    return Steps(
        unmatched=tuple(_step(row, reveal=given.shows(SUBJECT, row.sop_instance_uid)) for row in unmatched),
        unfinished=tuple(_step(row, reveal=given.shows(SUBJECT, row.sop_instance_uid)) for row in unfinished),
        unfinished_hours=sources.unfinished_after.total_seconds() / 3600,
        seconds_revealed=revealed,
    )


def _rows(sources: Sources) -> tuple[list[PerformedStepRow], list[PerformedStepRow]]:
    unmatched = sources.gateway.unmatched_steps()
    known = {row.sop_instance_uid for row in unmatched}
    unfinished = sources.gateway.unfinished_steps(datetime.now(UTC) - sources.unfinished_after)
    return unmatched, [row for row in unfinished if row.sop_instance_uid not in known]


def _step(row: PerformedStepRow, *, reveal: bool) -> Step:
    return Step(
        sop_instance_uid=row.sop_instance_uid,
        received_at=row.received_at,
        ae_title=row.ae_title or "",
        modality=row.modality,
        status=row.status,
        participant=plain_name(row.patient_name) if reveal else masked_name(row.patient_name),
        patient_id=row.patient_id if reveal else masked_id(row.patient_id),
        accession_numbers=row.accession_numbers,
        named=row.named,
        unmatched=row.unmatched,
    )


# --- acts


def _reveal(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    rows: Sequence[PerformedStepRow] = [row for kind in _rows(sources) for row in kind]
    subjects = dict.fromkeys(one for row in rows for one in (*row.accession_numbers, row.sop_instance_uid))
    held = [value for row in rows for value in (row.patient_name, row.patient_id)]
    reveal(sources, given, SUBJECT, list(subjects), held, reason_of(form))
    return "Names are shown to you for five minutes. That, and your reason, is kept."


def _link(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    number = form.get("accession_number", "").strip()
    status = sources.gateway.link_step(
        form.get("sop_instance_uid", ""),
        number,
        reason=reason_of(form),
        operator=given.visitor.name,
        despite_other_patient=form.get("despite_other_patient") == "yes",
    )
    return f"The step is linked to {number}, which is {status.lower()}."


def _dismiss(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    require_operator(given)
    sources.gateway.dismiss_step(form.get("sop_instance_uid", ""), reason=reason_of(form), operator=given.visitor.name)
    return "The step is dismissed: it is kept, and no longer listed here."


PAGES = (Page("/unmatched", "unmatched.html", "Unmatched steps", look),)
ACTS: dict[str, Act] = {
    "/unmatched/reveal": _reveal,
    "/unmatched/link": _link,
    "/unmatched/dismiss": _dismiss,
}
