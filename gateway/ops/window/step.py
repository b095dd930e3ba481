"""One appointment: what is known of it, what happened to it hop by hop, what was performed, what a person may do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from gateway.audit import story, story_words
from gateway.audit.story import Hop
from gateway.dicom import readable, record
from gateway.dicom.data_set import Undecodable
from gateway.domain.lifecycle import COMMANDS, Command, Status
from gateway.domain.masking import masked_id, masked_name, masked_value
from gateway.domain.performed_procedure_step import StepRecord
from gateway.errors import NotFound
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.studies import Study, of_item
from gateway.ops.window.visits import Visit, reason_of, require_operator, reveal
from projections.worklist import WorklistFilter, WorklistRow

_OTHER_IN_A_PATH = re.compile(r".*/.*|\.{0,2}|.*\.(json|csv)", re.DOTALL)
"""Browsers and proxies resolve dots and decode slashes; and a suffix is taken for the format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The item as it is now. `participant`, `patient_id` and `birth_date` are masked unless revealed."""

    participant: str
    patient_id: str
    birth_date: str
    is_erased: bool
    is_test: bool
    status: str
    scheduled_date: str
    scheduled_time: str
    modality: str
    description: str
    stations: tuple[str, ...]
    study_instance_uid: str
    source_message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineHop:
    """One line of the timeline. `at` is an instant in UTC; `after` and `text` are for the eye, `details` is all."""

    at: str
    after_seconds: float | None
    after: str
    hop: str
    who: str
    position: int | None
    text: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """A performed procedure step: labels and texts of its series, dose and times."""

    sop_instance_uid: str
    status: str
    accession_numbers: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPage:
    """All that is shown of one accession number. `summary` is None where no item ever came of it."""

    accession_number: str
    summary: Summary | None
    timeline: tuple[TimelineHop, ...]
    spans: dict[str, float]
    spans_text: str
    performed: tuple[Performed, ...]
    images: tuple[Study, ...]
    can_become: tuple[str, ...]
    askers: tuple[str, ...]
    """AE titles that ask for the worklist: each can be asked why it is shown the item, or is not."""
    seconds_revealed: int


def look(sources: Sources, given: Visit, request: Request) -> StepPage:
    """Raises `NotFound` for an accession number of which nothing is known."""
    number = str(request.path_params.get("accession") or request.query_params.get("accession", ""))
    revealed = given.seconds_revealed(subject(number))
    hops = story.of_accession(sources.gateway, number, test_ae_titles=sources.site.test_ae_titles)
    row = _row(sources, number)
    if not hops and row is None:
        raise NotFound("nothing is known of this accession number", field="accession_number")
    records = story.records_of(sources.gateway, hops)
    shown = hops if revealed else [story.without_written_reason(hop) for hop in hops]
    with sources.gateway.reading() as connection:
        askers = record.callers(connection)[0] if record.has_record(connection) else []
    return StepPage(
        accession_number=number,
        summary=_summary(row, reveal=bool(revealed)) if row else None,
        timeline=tuple(_hop(sources, hop) for hop in shown),
        spans=story.spans_of(hops),
        spans_text=story_words.spans(hops),
        performed=tuple(_performed(one, reveal=bool(revealed)) for one in records.values()),
        images=of_item(sources, number),
        can_become=tuple(_can_become(row)) if row else (),
        askers=tuple(askers),
        seconds_revealed=revealed,
    )


def address(accession_number: str) -> str:
    """Where its page is: in the path, or in the query if on its way a path could become another item's."""
    quoted = quote(accession_number, safe="")
    return f"/step?accession={quoted}" if _OTHER_IN_A_PATH.fullmatch(accession_number) else f"/step/{quoted}"


def subject(accession_number: str) -> str:
    """What names are revealed of, for a few minutes."""
    return f"step {accession_number}"


def _row(sources: Sources, accession_number: str) -> WorklistRow | None:
    if not accession_number:
        return None
    return next(iter(sources.gateway.find_items(WorklistFilter(accession_number=accession_number))), None)


def _summary(row: WorklistRow, *, reveal: bool) -> Summary:
    return Summary(
        participant=plain_name(row.patient_name) if reveal else masked_name(row.patient_name),
        patient_id=row.patient_id if reveal else masked_id(row.patient_id),
        birth_date=row.patient_birth_date if reveal else "",
        is_erased=row.is_erased,
        is_test=row.is_test,
        status=row.status,
        scheduled_date=row.scheduled_date,
        scheduled_time=row.scheduled_time,
        modality=row.modality,
        description=row.study_description or "",
        stations=row.station_ae_titles,
        study_instance_uid=row.study_instance_uid or "",
        source_message_id=row.source_message_id or "",
    )


def plain_name(name: str) -> str:
    """`SMITH^JANE` as `SMITH JANE`."""
    return " ".join(name.replace("=", " ").replace("^", " ").split())


def _hop(sources: Sources, hop: Hop) -> TimelineHop:
    return TimelineHop(
        at=hop.at,
        after_seconds=hop.after_seconds,
        after="" if hop.after_seconds is None else story_words.after(hop.after_seconds),
        hop=hop.hop,
        who=hop.who,
        position=hop.position,
        text=story_words.details_of(hop, sources.zone),
        details=hop.details,
    )


def _performed(held: StepRecord, *, reveal: bool) -> Performed:
    try:
        rows = readable.step(held.data_sets, None if reveal else masked_value)
    except Undecodable as error:
        rows = [("data set", f"can't be decoded: {error.message}")]
    return Performed(
        sop_instance_uid=held.sop_instance_uid,
        status=held.status,
        accession_numbers=held.accession_numbers,
        rows=tuple(rows),
    )


def _can_become(row: WorklistRow) -> list[str]:
    allowed = frozenset() if row.is_erased else COMMANDS[Command.CORRECT_STATUS].get(Status(row.status), frozenset())
    return [status.value for status in (Status.COMPLETED, Status.CANCELLED) if status in allowed]


# --- acts


def _reveal(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    number = form.get("accession_number", "")
    row = _row(sources, number)
    if row is None:
        raise NotFound("there is no item with this accession number", field="accession_number")
    held = [row.patient_name, row.patient_id, row.patient_birth_date]
    reveal(sources, given, subject(number), [number], held, reason_of(form))
    return "Names and written reasons are shown to you for five minutes. That, and your reason, is kept."


def _set_status(status: Status) -> Act:
    def act(sources: Sources, given: Visit, form: dict[str, str]) -> str:
        require_operator(given)
        number = form.get("accession_number", "")
        before = sources.gateway.correct_status(number, status, reason=reason_of(form), operator=given.visitor.name)
        return f"{number}: {before.lower()} → {status.lower()}. The web app will be told."

    return act


PAGES = (
    Page("/step", "step.html", "Step", look),
    Page("/step/{accession:path}", "step.html", "Step", look),
)
ACTS: dict[str, Act] = {
    "/step/reveal": _reveal,
    "/step/complete": _set_status(Status.COMPLETED),
    "/step/cancel": _set_status(Status.CANCELLED),
}
