"""What comes and goes by itself: status events to the web app, and the modalities' questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.audit.rhythm import Rhythm, Span, clinic_hours, rhythms
from gateway.delivery.attempts import attempts_of
from gateway.ops.doctor.finding import Finding, failed, ok, skipped, warning
from gateway.ops.doctor.site import Site, now
from gateway.ops.doctor.words import counted, duration

_BACKLOG_SECONDS = 120.0
_RECORD = "the record of queries"


def outbox_is_acknowledged(site: Site, *, delivers: bool) -> Finding:
    """What the web app has not heard of yet, and when it last said that it has."""
    gateway, how = site.gateway, "the web app's acknowledgements"
    counts, last = gateway.count_updates(), gateway.last_acknowledged()
    heard = f"last acknowledged {_ago(last)} ago" if last else "never acknowledged one"
    told = f"{counts.waiting} waiting, {counts.parked} refused, {heard}"
    epoch = gateway.restored()
    if epoch and not epoch.resumed_at:
        remedy = "look at gateway backup lost, then gateway outbox resume --after-restore"
        return failed(f"nothing leaves since a backup was restored; {told}", how, remedy)
    if not delivers:
        missing = "no events hybrid connection is configured"
        remedy = "set AZURE_RELAY_EVENTS_HYBRID_CONNECTION"
        return warning(f"{missing}; {told}", how, remedy) if counts.waiting else skipped(missing, remedy)
    if counts.oldest and (now() - datetime.fromisoformat(counts.oldest)).total_seconds() > _BACKLOG_SECONDS:
        return failed(
            f"{told}; {_last_error(site)}", how, "gateway outbox list; does the web app listen?", "the web app"
        )
    if counts.parked:
        return warning(told, how, "gateway outbox list --state parked, then outbox retry")
    return ok(told, how)


def modalities_ask(site: Site) -> Sequence[Finding]:
    """Each modality asks as often as it usually does, while the clinic is on."""
    moment = now()
    found, clinic = site_rhythms(site, moment)
    if not found:
        return [skipped("no modality has asked within a fortnight", "docs/for-the-modality-engineer.md")]
    return [replace(_asks(rhythm, moment, clinic), name=f"modality {rhythm.ae_title}") for rhythm in found]


def site_rhythms(site: Site, moment: datetime) -> tuple[list[Rhythm], Span | None]:
    """The modalities' rhythms, test callers left out, and the clinic's hours of the day."""
    with site.gateway.reading() as connection:
        found = rhythms(connection, moment, leave_out=site.settings.gateway_test_ae_titles)
    return found, clinic_hours(site.gateway, site.settings.zone, moment)


def _asks(rhythm: Rhythm, moment: datetime, clinic: Span | None) -> Finding:
    refused = f"refused {counted(rhythm.refused, 'time')}: {rhythm.refusal}" if rhythm.refused else ""
    if rhythm.last_seen is None or rhythm.silent_for is None:
        return warning(refused, _RECORD, "gateway worklist queries; most often the called AE title is wrong")
    usually = f", usually every {duration(rhythm.usual_seconds)}" if rhythm.usual_seconds else ""
    told = f"last asked {duration(rhythm.silent_for)} ago{usually}"
    if rhythm.overdue_for(moment, clinic):
        return failed(told, _RECORD, f"check its power and network; {refused or 'it was not refused'}", "the unit")
    if refused:
        return warning(f"{told}; since then {refused}", _RECORD, "gateway worklist queries")
    return ok(told if clinic else f"{told}; no clinic today", _RECORD)


def _ago(instant: str) -> str:
    return duration((now() - datetime.fromisoformat(instant)).total_seconds())


def _last_error(site: Site) -> str:
    with site.gateway.reading() as connection:
        tries = attempts_of(connection)
    waiting = site.gateway.find_updates(state="waiting")
    errors = [tries[row.event_id].last_error for row in waiting if row.event_id in tries]
    return next((error for error in errors if error), "it was not sent: does the service run?")
