"""The event log: the newest first, a page at a time; and one event whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request

import projections.timeline
from gateway.audit import event_log, event_words
from gateway.audit.event_log import Line, Wanted
from gateway.domain.masking import HIDDEN
from gateway.domain.moments import moment_of
from gateway.errors import InvalidValue
from gateway.eventstore import selection
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit, reason_of, reveal

_PAGE = 50
_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """A page of the log, the newest first. `older` and `newest` are queries of the pages beside it, "" without one.

    `found` is how many events there are up to this page's newest; `head` the position of the log's newest event.
    """

    lines: tuple[Line, ...]
    found: int
    head: int
    kind: str
    accession: str
    since: str
    until: str
    before: str
    kinds: tuple[str, ...]
    older: str
    newest: str


def look(sources: Sources, _: Visit, request: Request) -> Events:
    """Raises `InvalidValue` for a kind, a moment or a position that can't be."""
    names = ("kind", "accession", "since", "until")
    asked = {name: request.query_params.get(name, "").strip() for name in names}
    before = request.query_params.get("before", "").strip()
    chosen = event_log.choose(sources.gateway, _wanted(sources, asked, before))
    lines = [event_log.line_of(row) for row in event_log.rows(sources.gateway, chosen.selection)][::-1]
    given = {name: value for name, value in asked.items() if value}
    more = chosen.events > len(lines)
    return Events(
        lines=tuple(lines),
        found=chosen.events,
        head=chosen.head,
        before=before,
        kinds=tuple(event_log.topics()),
        older=urlencode({**given, "before": lines[-1].position}) if more else "",
        newest=urlencode(given) if before else "",
        **asked,
    )


def _wanted(sources: Sources, asked: dict[str, str], before: str) -> Wanted:
    return Wanted(
        accession_number=asked["accession"],
        kinds=(asked["kind"],) if asked["kind"] else (),
        since=_moment(sources, asked["since"], "since"),
        until=_moment(sources, asked["until"], "until"),
        to_position=_position(before, "before") - 1 if before else None,
        limit=_PAGE,
    )


def _moment(sources: Sources, written: str, field: str) -> str:
    """An instant of the log; a day alone is included as a whole where a span ends."""
    if not written:
        return ""
    is_day = len(written) == len("2026-11-23")
    text = written.replace("T", " ")
    moment = moment_of(text, sources.zone, field=field, first_run=field == "since")
    if field == "until" and is_day:
        moment = moment_of((date.fromisoformat(written) + timedelta(days=1)).isoformat(), sources.zone, field=field)
    return moment.text


def _position(written: str, field: str) -> int:
    if not (written.isascii() and written.isdecimal() and len(written) <= _MOST_DIGITS):
        raise InvalidValue(f"{field}: must be the position of an event", field=field)
    return int(written)


def table(page: Events) -> list[tuple[object, ...]]:
    """This page of the log for a spreadsheet."""
    headings = ("position", "committed_at", "kind", "accession_numbers", "source", "ae_title")
    return [headings, *map(_cells, page.lines)]


def _cells(line: Line) -> tuple[object, ...]:
    numbers = " ".join(line.accession_numbers)
    return (line.position, line.committed_at, line.kind, numbers, line.source, line.ae_title)


# --- one event


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """One event; names and values of its parts as one reads them in `rows`, all of it in `event`."""

    position: int
    line: Line
    event: dict[str, Any]
    metadata: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...]
    identifying: tuple[tuple[str, str], ...]
    is_erased: bool
    has_earlier: bool
    has_later: bool
    seconds_revealed: int


def look_at_one(sources: Sources, given: Visit, request: Request) -> EventPage:
    """Raises `NotFound`, and `EventUnreadable` for one that is not as it was written."""
    position = _position(str(request.path_params["position"]), "position")
    row, state = _read(sources, position)
    revealed = given.seconds_revealed(_subject(position))
    event = event_words.told(row, state, reveal=bool(revealed))
    if not revealed:
        event = _without_written_reason(event)
    head = sources.gateway.check_store()
    return EventPage(
        position=position,
        line=event_log.line_of(row),
        event=event,
        metadata=tuple(_rows(event["metadata"])),
        fields=tuple(_rows(event["fields"])),
        identifying=tuple(_rows(event["identifying"])),
        is_erased=event["erased"],
        has_earlier=position > 1,
        has_later=position < head,
        seconds_revealed=revealed,
    )


def _subject(position: int) -> str:
    return f"event {position}"


def _read(sources: Sources, position: int) -> tuple[selection.StoredRow, dict[str, Any]]:
    row = event_log.row_at(sources.gateway, position)
    return row, event_log.open_state(sources.gateway, row)


def _without_written_reason(event: dict[str, Any]) -> dict[str, Any]:
    """What people write may name somebody, also where the event class does not say so."""
    fields = event["fields"]
    written = projections.timeline.has_written_reason(event["kind"], fields, event["metadata"].get("source"))
    return {**event, "fields": {**fields, "reason": HIDDEN}} if written and fields["reason"] else event


def _rows(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, str(value)) for name, value in event_words.flat(values))


def _reveal(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    position = _position(form.get("position", ""), "position")
    row, state = _read(sources, position)
    identifying = event_words.told(row, state, reveal=True)["identifying"]
    held = [str(value) for name, value in event_words.flat(identifying) if _names_somebody(name)]
    about = event_log.accession_numbers(state) or (str(state.get("sop_instance_uid") or f"position {position}"),)
    reveal(sources, given, _subject(position), about, held, reason_of(form))
    return "What identifies somebody is shown to you for five minutes. That, and your reason, is kept."


def _names_somebody(name: str) -> bool:
    """Whether a name or an id is called so: in a data set (`PatientName`) or among our own (`person.patient_name`)."""
    return name.lower().replace("_", "").endswith(("patientname", "patientid"))


PAGES = (
    Page("/events", "events.html", "Events", look, table),
    Page("/events/{position}", "event.html", "Event", look_at_one),
)
ACTS: dict[str, Act] = {"/events/reveal": _reveal}
