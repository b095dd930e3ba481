"""A day's list: who is expected when, what became of it, which modality was shown it, what the web app was told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import projections.timeline
from gateway.audit.as_of import Standing, standing_at, worklist_as_of
from gateway.dicom import record
from gateway.domain.masking import masked_id, masked_name
from gateway.domain.moments import moment_of
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.status_update import StatusUpdate
from gateway.domain.values import date_of
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import InvalidValue
from gateway.ops.window.sources import Sources
from projections.worklist import WorklistFilter, WorklistRow

_TOLD = {
    StatusUpdate.Requested.TOPIC: "waiting",
    StatusUpdate.Requeued.TOPIC: "waiting",
    StatusUpdate.Acknowledged.TOPIC: "acknowledged",
    StatusUpdate.Parked.TOPIC: "parked",
}
_IMAGES = (WorklistItem.ImagesReceived.TOPIC, ReceivedStudy.Updated.TOPIC)
_MINUTES = 24 * 60
Reveals = Callable[[str], bool]
"""Whether the name of this accession number's participant is shown."""

_FEW = 8
"""Items up to which the record is asked for each; of more, all of the day's queries are read once."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A modality that was shown the item, first at this instant (UTC)."""

    ae_title: str
    at: str


@dataclass(frozen=True, slots=True)
class Told:
    """The latest status that the web app is owed: `waiting`, `acknowledged` or `parked` since this instant (UTC)."""

    state: str
    at: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the list. `participant` and `patient_id` are masked unless `revealed`; `scheduled_time` `HHMMSS`.

    `images` is how many of it Orthanc has.
    """

    accession_number: str
    scheduled_time: str
    participant: str
    patient_id: str
    status: str
    modality: str
    description: str
    stations: tuple[str, ...] = ()
    sent: tuple[Sent, ...] = ()
    told: Told | None = None
    images: int = 0
    revealed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinic:
    """A day's list as it is, or as it stood. `minute` is the slider's place (of the day), `latest` its right end."""

    day: str
    today: str
    as_of: str | None
    position: int | None
    notes: tuple[str, ...]
    minute: int
    latest: int
    counts: dict[str, int]
    items: tuple[Item, ...]

    @property
    def is_live(self) -> bool:
        """Whether the list changes while somebody looks."""
        return self.as_of is None and self.day == self.today

    @property
    def date(self) -> datetime:
        """The day, for showing it."""
        return datetime.strptime(self.day, "%Y%m%d")  # noqa: DTZ007  a calendar day, no instant


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which day's list, and as it stood when; both None: today's as it is."""

    day: str
    standing: Standing | None


def choose(sources: Sources, *, day: str = "", at: str = "", minute: str = "") -> Chosen:
    """What a visitor asks for: a day, a moment, or the slider's minute of that day. Raises `InvalidValue`."""
    wanted = date_of(day.replace("-", ""), "day") if day else sources.site.today()
    if at:
        standing = standing_at(sources.gateway, moment_of(at.replace("T", " "), sources.zone, field="at"))
        return Chosen(wanted if day else sources.site.day_of(standing.instant), standing)
    if minute and _minute_of(minute) < _slider(sources, wanted)[1]:
        clock = datetime.strptime(wanted, "%Y%m%d") + timedelta(minutes=_minute_of(minute))  # noqa: DTZ007  a wall clock
        return Chosen(wanted, standing_at(sources.gateway, moment_of(f"{clock:%Y-%m-%d %H:%M}", sources.zone)))
    return Chosen(wanted, None)


def _minute_of(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) > _MINUTES:
        raise InvalidValue(f"minute: must be a minute of the day, 0 to {_MINUTES}", field="minute")
    return int(text)


def clinic(sources: Sources, chosen: Chosen, items: Sequence[Item]) -> Clinic:
    """The page of these items."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.status] = counts.get(item.status, 0) + 1
    minute, latest = _slider(sources, chosen.day, chosen.standing)
    return Clinic(
        day=chosen.day,
        today=sources.site.today(),
        as_of=chosen.standing.instant if chosen.standing else None,
        position=chosen.standing.position if chosen.standing else None,
        notes=chosen.standing.notes if chosen.standing else (),
        minute=minute,
        latest=latest,
        counts=counts,
        items=tuple(items),
    )


def _slider(sources: Sources, day: str, standing: Standing | None = None) -> tuple[int, int]:
    """Where the slider stands and ends, in minutes of the day: now, on the present day, else its last minute."""
    now = sources.now()
    latest = now.hour * 60 + now.minute + 1 if day == now.strftime("%Y%m%d") else _MINUTES
    if standing is None:
        return latest, latest
    then = datetime.fromisoformat(standing.instant).astimezone(sources.zone)
    return (then.hour * 60 + then.minute if then.strftime("%Y%m%d") == day else latest), latest


def nobody(_: str) -> bool:
    """No name is shown."""
    return False


def everybody(_: str) -> bool:
    """All names are shown."""
    return True


def items_of(sources: Sources, chosen: Chosen, *, reveals: Reveals = nobody) -> list[Item]:
    """The items of the chosen day as they are, or as they stood; tests are not among them."""
    wanted = WorklistFilter(dates=(chosen.day, chosen.day), is_test=False)
    if chosen.standing is None:
        return shown(sources, sources.gateway.find_items(wanted), day=chosen.day, reveals=reveals)
    with worklist_as_of(sources.gateway, chosen.standing) as then:
        rows = then.find_items(wanted)
    return shown(sources, rows, day=chosen.day, standing=chosen.standing, reveals=reveals)


def shown(
    sources: Sources,
    rows: Sequence[WorklistRow],
    *,
    day: str,
    standing: Standing | None = None,
    reveals: Reveals = nobody,
) -> list[Item]:
    """These rows as lines, with whom they were sent to since the day began and what was told (until then)."""
    numbers = [row.accession_number for row in rows]
    position, until = (standing.position, standing.instant) if standing else (None, "")
    with sources.gateway.reading() as connection:
        hops = list(projections.timeline.of_kinds(connection, [*_TOLD, *_IMAGES], numbers, until=position))
        few = numbers if len(numbers) <= _FEW else None
        queries = record.queries_between(connection, accession_numbers=few, since=sources.start_of(day), until=until)
        units = (query for query in queries if query.calling_ae_title not in sources.site.test_ae_titles)
        sent = _sent(units, frozenset(numbers))
    told, images = _told(hop for hop in hops if hop.kind in _TOLD), _images(hop for hop in hops if hop.kind in _IMAGES)
    return [_item(row, sent, told, images, reveal=reveals(row.accession_number)) for row in rows]


def _item(
    row: WorklistRow, sent: dict[str, dict[str, str]], told: dict[str, Told], images: dict[str, int], *, reveal: bool
) -> Item:
    item = Item(
        accession_number=row.accession_number,
        scheduled_time=row.scheduled_time,
        participant=" ".join(row.patient_name.replace("=", " ").replace("^", " ").split()),
        patient_id=row.patient_id,
        status=row.status,
        modality=row.modality,
        description=row.study_description or "",
        stations=row.station_ae_titles,
        sent=tuple(Sent(title, at) for title, at in sent.get(row.accession_number, {}).items()),
        told=told.get(row.accession_number),
        images=images.get(row.accession_number, 0),
        revealed=True,
    )
    return item if reveal else masked(item)


def masked(item: Item) -> Item:
    """The same line for whoever has given no reason."""
    return replace(
        item, participant=masked_name(item.participant), patient_id=masked_id(item.patient_id), revealed=False
    )


def _told(rows: Iterable[projections.timeline.TimelineRow]) -> dict[str, Told]:
    """By accession number what most wants to be known: a status that was refused, else one that waits, else the latest.

    News of images are of no status.
    """
    by_event: dict[str, dict[Any, Told]] = {}
    for row in rows:
        known, event_id = by_event.setdefault(row.accession_number, {}), row.details.get("event_id")
        if row.kind == StatusUpdate.Requested.TOPIC:
            known[event_id] = Told("waiting", row.committed_at, row.details["status"])
        elif event_id in known:
            known[event_id] = replace(known[event_id], state=_TOLD[row.kind], at=row.committed_at)
    return {number: max(known.values(), key=_urgency) for number, known in by_event.items() if known}


def _urgency(told: Told) -> tuple[int, str]:
    return ("acknowledged", "waiting", "parked").index(told.state), told.at


def _images(rows: Iterable[projections.timeline.TimelineRow]) -> dict[str, int]:
    """By accession number how many images its studies have; a study that is no longer the item's has none."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        if row.kind == WorklistItem.ImagesReceived.TOPIC or row.details.get("unmatched"):
            is_of_item = row.kind == WorklistItem.ImagesReceived.TOPIC
            studies = found.setdefault(row.accession_number, {})
            studies[row.details["study_instance_uid"]] = row.details["instances"] if is_of_item else 0
    return {number: sum(studies.values()) for number, studies in found.items()}


def _sent(queries: Iterable[record.Query], wanted: frozenset[str]) -> dict[str, dict[str, str]]:
    """By accession number the AE titles that were answered with it, in their order, and when first."""
    sent: dict[str, dict[str, str]] = {}
    for query in queries:
        for number in wanted.intersection(query.accession_numbers):
            sent.setdefault(number, {}).setdefault(query.calling_ae_title, query.at)
    return sent


def table(page: Clinic) -> list[tuple[object, ...]]:
    """The list for a spreadsheet."""
    who = ("date", "time", "participant", "patient_id", "accession_number")
    headings = (*who, "status", "modality", "sent", "told", "images")
    return [headings, *((page.day, *_cells(item)) for item in page.items)]


def _cells(item: Item) -> tuple[object, ...]:
    sent = " ".join(f"{one.ae_title} {one.at}" for one in item.sent)
    told = f"{item.told.state} {item.told.status} {item.told.at}" if item.told else ""
    who = (item.participant, item.patient_id)
    return (item.scheduled_time, *who, item.accession_number, item.status, item.modality, sent, told, item.images)
