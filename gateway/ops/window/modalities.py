"""The modalities: who asks how often and who has fallen silent; and of one what it asked, and why it is shown what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from gateway.audit import story_words
from gateway.audit.rhythm import Rhythm, clinic_hours, rhythms
from gateway.dicom import explain, explain_words, record
from gateway.dicom.data_set import tag_name
from gateway.dicom.explain import Explanation, identifies, keyword_of
from gateway.dicom.profiles import Profile
from gateway.dicom.record import RefusedAssociation
from gateway.domain.values import date_of
from gateway.errors import InvalidValue, NotFound
from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit, reason_of, reveal

_LATEST = 20
"""Queries and refusals that are shown of each."""


# --- all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One AE title. Instants are UTC, spans seconds; the words are for the eye.

    `state` is `asking`, `silent` (longer than its rhythm explains, in the clinic's hours), `refused` (never let in, or
    turned away since it last asked), `quiet` (whose rhythm nobody can tell yet) or `not seen`.
    """

    ae_title: str
    address: str
    state: str
    last_seen: str
    usual_seconds: float | None
    usual: str
    silent_seconds: float | None
    silent: str
    refused: int
    refusal: str
    is_configured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """All AE titles of the last fortnight and of the modalities file, and the latest refusals of anybody."""

    units: tuple[Unit, ...]
    refused: tuple[RefusedAssociation, ...]
    strangers_admitted: bool


def look(sources: Sources, _: Visit, __: Request) -> Units:
    """Everybody."""
    now = datetime.now(UTC)
    clinic = clinic_hours(sources.gateway, sources.zone, now)
    with sources.gateway.reading() as connection:
        known = rhythms(connection, now, leave_out=sources.site.test_ae_titles)
        refused = record.refused_associations(connection, limit=_LATEST) if record.has_record(connection) else []
    profiles = sources.site.profiles
    configured = {profile.ae_title for profile in profiles.modalities}
    units = [_unit(one, one.overdue_for(now, clinic), is_configured=one.ae_title in configured) for one in known]
    units += [_unseen(title) for title in configured - {one.ae_title for one in known}]
    return Units(
        units=tuple(sorted(units, key=lambda unit: unit.ae_title)),
        refused=tuple(refused),
        strangers_admitted=profiles.strangers_admitted,
    )


def _unit(rhythm: Rhythm, overdue: float, *, is_configured: bool) -> Unit:
    return Unit(
        ae_title=rhythm.ae_title,
        address=rhythm.address,
        state=_state(rhythm, overdue),
        last_seen=rhythm.last_seen.isoformat() if rhythm.last_seen else "",
        usual_seconds=rhythm.usual_seconds,
        usual="" if rhythm.usual_seconds is None else f"every {story_words.length(rhythm.usual_seconds)}",
        silent_seconds=rhythm.silent_for,
        silent="" if rhythm.silent_for is None else story_words.length(rhythm.silent_for),
        refused=rhythm.refused,
        refusal=rhythm.refusal,
        is_configured=is_configured,
    )


def _state(rhythm: Rhythm, overdue: float) -> str:
    if rhythm.refused:
        return "refused"
    if overdue:
        return "silent"
    return "quiet" if rhythm.usual_seconds is None else "asking"


def _unseen(ae_title: str) -> Unit:
    return Unit(
        ae_title=ae_title,
        address="",
        state="not seen",
        last_seen="",
        usual_seconds=None,
        usual="",
        silent_seconds=None,
        silent="",
        refused=0,
        refusal="",
        is_configured=True,
    )


# --- one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The explained query: who asked, labels and texts of the question, and of each item whether it is listed and why.

    `value` is all of it for programs.
    """

    asker: str
    head: tuple[tuple[str, str], ...]
    looked_at: str
    items: tuple[dict[str, Any], ...]
    is_masked: bool
    value: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPage:
    """One modality. `not_explained` says why there is no explanation."""

    ae_title: str
    unit: Unit | None
    profile: tuple[tuple[str, str], ...]
    queries: tuple[dict[str, Any], ...]
    refused: tuple[RefusedAssociation, ...]
    explained: Explained | None
    not_explained: str
    accession: str
    day: str
    query: str
    seconds_revealed: int


def look_at_one(sources: Sources, given: Visit, request: Request) -> UnitPage:
    """Raises `NotFound` for an AE title that nobody has ever heard of."""
    title, wanted = str(request.path_params["ae_title"]), request.query_params
    with sources.gateway.reading() as connection:
        is_kept = record.has_record(connection)
        queries = record.latest_queries(connection, from_ae_title=title, limit=_LATEST) if is_kept else []
        refused = record.refused_associations(connection, from_ae_title=title, limit=_LATEST) if is_kept else []
    is_configured = any(profile.ae_title == title for profile in sources.site.profiles.modalities)
    if not title or not (queries or refused or is_configured):
        raise NotFound("nobody has called by this AE title", remedy="the modalities page lists those who have")
    revealed = given.seconds_revealed(_subject(title))
    asked = {"accession": wanted.get("accession", ""), "day": wanted.get("day", ""), "query": wanted.get("query", "")}
    try:
        explanation = _explanation(sources, title, asked)
        revealed *= all(given.shows(_subject(title), number) for number in _numbers(explanation))
        explained, why_not = _explained(explanation, sources, reveal=bool(revealed)), ""
    except NotFound as error:
        explained, why_not = None, error.message
    units = look(sources, given, request).units
    return UnitPage(
        ae_title=title,
        unit=next((unit for unit in units if unit.ae_title == title), None),
        profile=tuple(_profile(sources.site.profiles.of(title))),
        queries=tuple(explain_words.query_as_json(query) for query in queries),
        refused=tuple(refused),
        explained=explained,
        not_explained=why_not,
        seconds_revealed=revealed,
        **asked,
    )


def _subject(ae_title: str) -> str:
    return f"modality {ae_title}"


def _profile(profile: Profile) -> Iterator[tuple[str, str]]:
    """How it is served, as the modalities file has it."""
    yield "Admitted", "yes" if profile.admitted else "no"
    yield "May call from", ", ".join(map(str, profile.addresses)) or "anywhere"
    yield "Stations", ", ".join(profile.group)
    yield "An open station", "finds its own group only" if profile.only_own_stations else "finds every station's items"
    yield "Items without a station", "are for it too" if profile.items_without_station else "are not for it"
    yield "Character set", profile.character_set or "as it asks"
    yield "Reads UTF-8", "yes" if profile.reads_utf8 else "only if it says so"
    yield "Answers at most", str(profile.answer_limit) if profile.answer_limit else "no limit of its own"
    yield "Left out", ", ".join(keyword_of(tag) or tag_name(tag) for tag in profile.omit_keys) or "nothing"


def _explanation(sources: Sources, ae_title: str, asked: dict[str, str]) -> Explanation:
    query_id = asked["query"]
    if query_id and not query_id.isdecimal():
        raise InvalidValue("query: must be the number of a recorded query", field="query")
    explanation = explain.explain(
        sources.gateway,
        sources.site,
        from_ae_title=ae_title,
        query_id=int(query_id) if query_id else None,
        day=date_of(asked["day"].replace("-", ""), "day") if asked["day"] else "",
        accession_number=asked["accession"],
    )
    if explanation.query.calling_ae_title != ae_title:
        raise NotFound(f"query {query_id} is another modality's")
    return explanation


def _explained(explanation: Explanation, sources: Sources, *, reveal: bool) -> Explained:
    shown = explain_words.plain if reveal else explain_words.masked
    return Explained(
        asker=explain_words.asker(explanation.query, sources.site),
        head=tuple(explain_words.head(explanation, sources.site, shown)),
        looked_at=explain_words.looked_at(explanation),
        items=tuple(
            {
                "accession_number": item.accession_number,
                "scheduled_date": item.scheduled_date,
                "scheduled_time": item.scheduled_time,
                "status": item.status,
                "listed": explain_words.listed(item),
                "why": explain_words.why(item, shown),
            }
            for item in explanation.items
        ),
        is_masked=not reveal and any(identifies(key.tag) for key in explanation.keys),
        value=explain_words.as_json(explanation, shown),
    )


def _reveal(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    title = form.get("ae_title", "")
    explanation = _explanation(sources, title, {name: form.get(name, "") for name in ("accession", "day", "query")})
    reveal(sources, given, _subject(title), _numbers(explanation), _held(explanation), reason_of(form))
    return "Names are shown to you for five minutes. That, and your reason, is kept."


def _numbers(explanation: Explanation) -> list[str]:
    """The query, and all whose items it tells of."""
    return [f"query {explanation.query.id}", *(item.accession_number for item in explanation.items)]


def _held(explanation: Explanation) -> Sequence[str]:
    """What identifies somebody in it."""
    keys = [key.value for key in explanation.keys if identifies(key.tag)]
    reasons = [reason for item in explanation.items for reason in item.reasons if any(map(identifies, reason.tags))]
    return [*keys, *(text for reason in reasons for text in (reason.asked, reason.has))]


PAGES = (
    Page("/modalities", "modalities.html", "Modalities", look),
    Page("/modalities/{ae_title:path}", "modality.html", "Modality", look_at_one),
)
ACTS: dict[str, Act] = {"/modalities/reveal": _reveal}
