"""The morning's questions besides: today's list, its items, the units that are to serve it, and what was left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from gateway.audit.rhythm import clinic_of
from gateway.dicom import profiles
from gateway.domain.lifecycle import Status
from gateway.ops.doctor.finding import Finding, failed, ok, warning
from gateway.ops.doctor.site import Site, now
from gateway.ops.doctor.traffic import site_rhythms
from gateway.ops.doctor.words import counted, few
from gateway.ops.rehearsal import Rehearsal, Stage
from projections.worklist import WorklistRow

_HOURS = ("060000", "220000")
"""Site times between which an appointment makes sense; outside, its zone was mistaken most often."""
_STORE = "the store"


def list_is_there(site: Site) -> Finding:
    """How many are on today's list, and from when to when."""
    rows = clinic_of(site.gateway, site.today)
    if not rows:
        return warning("nobody is on today's list", _STORE, "if there is a clinic today: has the web app sent it?")
    times = sorted(row.scheduled_time for row in rows)
    waiting = sum(row.status == Status.SCHEDULED for row in rows)
    span = f"{_clock(times[0])} to {_clock(times[-1])}"
    return ok(f"{counted(len(rows), 'appointment')} today, {span}, {waiting} yet to be performed", _STORE)


def items_are_sane(site: Site) -> Sequence[Finding]:
    """Each item of today has a time of the day, a station that asks, and a person who is on the list once."""
    rows = clinic_of(site.gateway, site.today)
    doubts = [
        warning(f"{doubt}: {few(numbers)}", _STORE, remedy) for doubt, numbers, remedy in _doubts(rows, site) if numbers
    ]
    return doubts or [ok(f"time, station and person of {counted(len(rows), 'item')} make sense", _STORE)]


def units_are_awake(site: Site) -> Finding:
    """Every unit that asked within the last week, or is in the list of modalities, has asked today."""
    moment, how = now(), "the record of queries"
    found, _ = site_rhythms(site, moment)
    seen = {
        rhythm.ae_title: rhythm.last_seen.astimezone(site.settings.zone).date()
        for rhythm in found
        if rhythm.last_seen and moment - rhythm.last_seen < timedelta(days=7)
    }
    today = moment.astimezone(site.settings.zone).date()
    awake = sorted(title for title, day in seen.items() if day == today)
    asleep = sorted((seen.keys() | _listed(site)) - set(awake))
    remedy = "switch them on, and have each ask for its worklist"
    if not awake and not asleep:
        return warning("no unit has ever asked", how, "docs/for-the-modality-engineer.md")
    if not awake:
        return failed(f"no unit has asked today; not yet: {few(asleep)}", how, remedy)
    if asleep:
        return warning(f"asked today: {few(awake)}; not yet: {few(asleep)}", how, remedy)
    return ok(f"asked today: {few(awake)}", how)


def steps_are_settled(site: Site) -> Finding:
    """No performed step waits for a person."""
    hours = timedelta(hours=site.settings.gateway_unfinished_step_hours)
    unmatched = len(site.gateway.unmatched_steps())
    unfinished = len(site.gateway.unfinished_steps(now() - hours))
    if unmatched or unfinished:
        told = f"{unmatched} performed without an appointment, {unfinished} never finished"
        return warning(told, _STORE, "gateway steps unmatched, gateway steps unfinished")
    return ok("no performed step waits for a person", _STORE)


def rehearsal_passes(stage: Stage) -> Finding:
    """A participant who does not exist goes the whole way."""
    hops = list(Rehearsal(stage).rehearsed())
    how = "gateway rehearse"
    broken = next((hop for hop in hops if hop.outcome == "failed"), None)
    if broken:
        return failed(f"{broken.name}: {broken.proven}", how, broken.remedy, broken.fault)
    left_out = [hop.name for hop in hops if hop.outcome == "skipped"]
    seconds = sum(hop.seconds or 0.0 for hop in hops)
    if left_out:
        return ok(f"the way is clear, but for what is not configured: {', '.join(left_out)}", how, seconds=seconds)
    return ok("the whole way is clear, and the web app heard both statuses", how, seconds=seconds)


def _doubts(rows: Sequence[WorklistRow], site: Site) -> Iterator[tuple[str, list[str], str]]:
    """(what is odd, of which accession numbers, what to do)."""
    first, last = _HOURS
    known = {rhythm.ae_title for rhythm in site_rhythms(site, now())[0]} | _listed(site)
    persons = Counter(row.patient_id for row in rows)
    yield (
        "at a time of day when nobody is examined",
        [row.accession_number for row in rows if not first <= row.scheduled_time <= last],
        "does the web app send UTC? GATEWAY_SCHEDULED_TIMES says how its times are read",
    )
    yield (
        "for a station that never asked",
        [row.accession_number for row in rows if row.station_ae_titles and not known & set(row.station_ae_titles)],
        "is that unit's AE title spelt so? The web app can send the item again",
    )
    yield (
        "the same person more than once",
        [row.accession_number for row in rows if persons[row.patient_id] > 1],
        "ask the web app's team whether that is meant",
    )


def _listed(site: Site) -> set[str]:
    """The AE titles in the list of modalities, test callers left out."""
    entries = profiles.load(site.settings.gateway_modalities_file).modalities
    return {entry.ae_title for entry in entries if entry.admitted} - set(site.settings.gateway_test_ae_titles)


def _clock(time: str) -> str:
    return f"{time[:2]}:{time[2:4]}"
