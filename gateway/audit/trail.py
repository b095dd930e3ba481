"""Who saw whom: what was asked, shown, refused, reported, decided and looked at, from all records in one order.

These records are read: the modalities' queries and retrievals and the refused associations (`gateway.dicom.record`),
the event log through its timeline, and the activities (`gateway.audit.activities`). `search` gives what they hold as
they hold it; `told` makes one kind of line of it for people.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import projections.performed_steps
import projections.received_studies
import projections.timeline
import projections.worklist
from gateway.application import Gateway
from gateway.audit import activities, persons, story
from gateway.audit.activities import EVERYTHING, LOOKED, STARTED, Activity
from gateway.audit.persons import Holding
from gateway.dicom import identifier, keys, record
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.explain import AskedKey, outcome
from gateway.dicom.profiles import EVERYBODY, Profiles
from gateway.dicom.record import Query, RefusedAssociation, Retrieval
from gateway.dicom.status import RequestRefused
from projections.received_studies import ReceivedStudyRow
from projections.timeline import TimelineRow
from projections.worklist import WorklistFilter

PEOPLE_AND_UNITS = ("mpps", "operator")
"""The sources of events that `audit list` tells of."""
ALL_SOURCES = ("relay", "mpps", "orthanc", "operator", "gateway")

_PATIENT_ID_KEYWORD = "PatientID"
_CONSEQUENCES = (
    "WorklistItem.Step",
    "WorklistItem.ImagesReceived",
    "StatusUpdate.Requested",
    "StatusUpdate.ImagesUpdateRequested",
)
"""Events that another one of the same save has brought about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for; an empty field asks nothing. Instants are ISO 8601 in UTC, `until` is not part of the span."""

    patient_id: str = ""
    accession_number: str = ""
    ae_title: str = ""
    since: str = ""
    until: str = ""

    @property
    def is_of_a_person(self) -> bool:
        """Whether it asks about one person or one item."""
        return bool(self.patient_id or self.accession_number)


@dataclass(frozen=True, slots=True)
class Done:
    """An event about one accession number ("" where it named none), with its row of the timeline and who did it."""

    row: TimelineRow
    event: Any
    who: str


Act = Query | RefusedAssociation | Retrieval | Activity | Done


@dataclass(frozen=True, slots=True)
class Person:
    """Where a person or an item is to be found: accession numbers, and the steps and studies of a Patient ID.

    An item that is in `held` was the person's for these parts of its time only.
    """

    accession_numbers: tuple[str, ...]
    step_uids: tuple[str, ...] = ()
    patient_id: str = ""
    held: Mapping[str, tuple[Holding, ...]] = field(default_factory=dict)
    study_uids: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether there is anything about them."""
        return bool(self.accession_numbers or self.step_uids or self.study_uids)

    def has_at(self, accession_number: str, position: int) -> bool:
        """Whether what an event at this position says of the item is said of the person."""
        held = self.held.get(accession_number)
        return accession_number in self.accession_numbers and (
            held is None or any(one.holds_at(position) for one in held)
        )

    def has_within(self, accession_number: str, first: str, last: str) -> bool:
        """Whether the item was the person's at any instant from the first ("": ever before) to the last."""
        held = self.held.get(accession_number)
        return accession_number in self.accession_numbers and (
            held is None or any(one.holds_within(first, last) for one in held)
        )


def person_of(gateway: Gateway, wanted: Wanted) -> Person | None:
    """The items and steps that are asked about; None when it is everybody's."""
    if not wanted.is_of_a_person:
        return None
    numbers = [wanted.accession_number] if wanted.accession_number else []
    steps: list[str] = []
    studies: list[str] = []
    held: dict[str, tuple[Holding, ...]] = {}
    if wanted.patient_id:
        with gateway.reading() as connection:
            of_patient = projections.worklist.find_numbers(connection, WorklistFilter(patient_id=wanted.patient_id))
            found = projections.performed_steps.of_patient(connection, wanted.patient_id)
            received = projections.received_studies.of_patient(connection, wanted.patient_id)
            held = persons.held_by(gateway, connection, wanted.patient_id)
        numbers = [number for number in dict.fromkeys([*of_patient, *held]) if number in numbers or not numbers]
        item = wanted.accession_number
        steps = [step.sop_instance_uid for step in found if not item or item in (*step.accession_numbers, *step.named)]
        studies = [study.study_instance_uid for study in received if not item or item in _named_by(study)]
    return Person(tuple(numbers), tuple(steps), wanted.patient_id, held, tuple(studies))


def _named_by(study: ReceivedStudyRow) -> tuple[str, str]:
    return study.accession_number, study.named


def search(
    gateway: Gateway, wanted: Wanted, *, sources: Collection[str] = PEOPLE_AND_UNITS, profiles: Profiles = EVERYBODY
) -> Iterator[Act]:
    """Everything that the records hold of it, by time.

    Refused associations name nobody: with a person or an item they are left out. With an AE title only what that title
    did is told.
    """
    person = person_of(gateway, wanted)
    with gateway.reading() as connection:
        streams: list[Iterator[Act]] = [
            _queries(gateway, connection, wanted, person, profiles),
            _events(gateway, connection, wanted, person, sources),
        ]
        span = {"since": wanted.since, "until": wanted.until}
        uids = None if person is None else _steps(gateway, connection, person)
        streams.append(
            record.retrievals_between(connection, sop_instance_uids=uids, from_ae_title=wanted.ae_title, **span)
        )
        if person is None:
            streams.append(record.refusals_between(connection, from_ae_title=wanted.ae_title, **span))
        if not wanted.ae_title:
            subjects = None if person is None else [*person.accession_numbers, *person.step_uids, *person.study_uids]
            looks = activities.find(connection, subjects=subjects, **span)
            streams.append(look for look in looks if person is None or _looked_at(look, person))
        yield from heapq.merge(*streams, key=_when)


def _queries(
    gateway: Gateway, connection: sqlite3.Connection, wanted: Wanted, person: Person | None, profiles: Profiles
) -> Iterator[Query]:
    found = record.queries_between(
        connection,
        accession_numbers=None if person is None else person.accession_numbers,
        with_key=_PATIENT_ID_KEYWORD if person and person.patient_id else "",
        from_ae_title=wanted.ae_title,
        since=wanted.since,
        until=wanted.until,
    )
    for query in (record.opened(query, gateway.sealing) for query in found):
        if person is None or shown_of(query, person) or _asked_for(query, person.patient_id, profiles):
            yield query


def shown_of(query: Query, person: Person) -> tuple[str, ...]:
    """Which of the person's items the answer held, while they were the person's.

    A query is stamped at its end: what it showed was read within its `milliseconds`. A row that stands for many queries
    may show an item of two people.
    """
    began = datetime.fromisoformat(query.at) - timedelta(milliseconds=query.milliseconds)
    span = (began.isoformat(), query.last_at)
    shown = (number for number in person.accession_numbers if number in query.accession_numbers)
    return tuple(number for number in shown if person.has_within(number, *span))


def _asked_for(query: Query, patient_id: str, profiles: Profiles) -> bool:
    """Whether a query named the patient by id, whatever came of it."""
    asked = keys_of(query, profiles)[0] if patient_id and _PATIENT_ID_KEYWORD in query.keys else ()
    return any(key.tag == keys.PATIENT_ID and key.value == patient_id for key in asked)


def keys_of(query: Query, profiles: Profiles = EVERYBODY) -> tuple[tuple[AskedKey, ...], tuple[str, ...]]:
    """The keys of a query that had a value, and the keywords of all attributes that it wanted to be shown.

    Both () when its identifier was not kept or can't be read.
    """
    if query.identifier is None:
        return (), ()
    default = CharacterSet.of(profiles.of(query.calling_ae_title).character_set)
    try:
        asked = identifier.read(query.identifier, query.transfer_syntax, default)
    except RequestRefused:
        return (), ()
    matched = tuple(AskedKey(key.tag, key.text) for key in asked.matched())
    wanted = (AskedKey(key.tag, "").keyword for key in (*asked.keys, *asked.step))
    return matched, tuple(dict.fromkeys(wanted))


def _events(
    gateway: Gateway, connection: sqlite3.Connection, wanted: Wanted, person: Person | None, sources: Collection[str]
) -> Iterator[Done]:
    rows = projections.timeline.of_sources(
        connection,
        tuple(sources),
        accession_numbers=None if person is None else _numbers(connection, person),
        ae_title=wanted.ae_title,
        since=wanted.since,
        until=wanted.until,
    )
    with gateway.reading() as other:
        for row in rows:
            if row.kind.startswith(_CONSEQUENCES) or (person and not _is_about(row, person)):
                continue
            yield Done(row, story.event_at(gateway, other, row.position), story.who_did(gateway, other, row))


def _numbers(connection: sqlite3.Connection, person: Person) -> list[str]:
    """Under which numbers of the timeline to look: a step or a study of hers may have named another's item, or none."""
    named = [
        number
        for uid in person.step_uids
        if (step := projections.performed_steps.get(connection, uid))
        for number in (*step.accession_numbers, *step.named)
    ]
    named += [
        number
        for uid in person.study_uids
        for study in projections.received_studies.called(connection, uid)
        for number in filter(None, _named_by(study))
    ]
    nameless = [""] if person.step_uids or person.study_uids else []
    return list(dict.fromkeys([*person.accession_numbers, *named, *nameless]))


def _steps(gateway: Gateway, connection: sqlite3.Connection, person: Person) -> list[str]:
    """The performed steps of the person, and those that are linked to their items."""
    rows = (row for number in person.accession_numbers for row in gateway.timeline(number))
    hers_then = (row for row in rows if person.has_at(row.accession_number, row.position))
    named = dict.fromkeys(uid for row in hers_then if (uid := row.details.get("mpps_instance_uid")))
    steps = (projections.performed_steps.get(connection, uid) for uid in named)
    hers = set(person.accession_numbers)
    linked = [step.sop_instance_uid for step in steps if step and hers.intersection(step.accession_numbers)]
    return list(dict.fromkeys([*person.step_uids, *linked]))


def _is_about(row: TimelineRow, person: Person) -> bool:
    if person.has_at(row.accession_number, row.position):
        return True
    if row.kind.startswith("ReceivedStudy."):
        return row.details.get("study_instance_uid") in person.study_uids
    return row.kind.startswith("PerformedProcedureStep.") and row.details.get("mpps_instance_uid") in person.step_uids


def _looked_at(look: Activity, person: Person) -> tuple[str, ...]:
    """What of the person's a look showed, or everything in a range."""
    if EVERYTHING in look.subjects:
        return look.subjects
    first, last = seen_within(look)
    hers = (*person.step_uids, *person.study_uids)
    return tuple(one for one in look.subjects if one in hers or person.has_within(one, first, last))


def seen_within(look: Activity) -> tuple[str, str]:
    """The first ("": the beginning) and the last instant of the time of which a look at an item showed the person."""
    moment = look.details.get("as_of")
    if moment:
        return moment, moment
    shows_history = look.details.get("verb") != _SHOWS_THE_PRESENT
    return ("" if shows_history else look.at), look.last_at


_SHOWS_THE_PRESENT = "worklist list"
"""Every other verb may show whose an item was before."""


def _when(act: Act) -> datetime:
    instant = datetime.fromisoformat(act.row.committed_at if isinstance(act, Done) else act.at)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


# --- for people


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One line: `who` did what (`act`), from which `address`, `about` which items, with which `outcome`.

    `about` are accession numbers, SOP Instance UIDs of steps and Study Instance UIDs: with a person only theirs, else
    all. A line stands for `times` equal acts from `at` to `last_at`. `keys` are those of a query that had a value,
    `attributes` what it wanted to be shown. `source` is the record, `queries`, `refused_associations`, `retrievals`,
    `events` or `activities`, and its row there.
    """

    at: str
    last_at: str
    times: int
    act: str
    who: str
    address: str
    about: tuple[str, ...]
    outcome: str
    keys: tuple[AskedKey, ...] = ()
    attributes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    source: tuple[str, int]


HIDDEN = "•••"
"""Stands for what somebody wrote."""


def told(
    act: Act, person: Person | None = None, profiles: Profiles = EVERYBODY, *, reveal_reasons: bool = True
) -> Trace:
    """An act as a line; what people wrote as a reason may name somebody, and can be left out."""
    if isinstance(act, Query):
        return _of_query(act, person, profiles)
    if isinstance(act, RefusedAssociation):
        return _of_refusal(act)
    if isinstance(act, Retrieval):
        return _of_retrieval(act)
    return _of_activity(act, person) if isinstance(act, Activity) else _of_event(act, reveal_reasons=reveal_reasons)


def _of_query(query: Query, person: Person | None, profiles: Profiles) -> Trace:
    about = query.accession_numbers if person is None else shown_of(query, person)
    asked, attributes = keys_of(query, profiles)
    return Trace(
        at=query.at,
        last_at=query.last_at,
        times=query.times,
        act="was shown" if about else "asked",
        who=query.calling_ae_title,
        address=query.address,
        about=about,
        outcome=f"{query.answers} answered, {outcome(query)}",
        keys=asked,
        attributes=attributes,
        details={"called_ae_title": query.called_ae_title, "answers": query.answers},
        source=("queries", query.id),
    )


def _of_refusal(refused: RefusedAssociation) -> Trace:
    return Trace(
        at=refused.at,
        last_at=refused.last_at,
        times=refused.times,
        act="was refused",
        who=refused.calling_ae_title,
        address=refused.address,
        about=(),
        outcome=refused.reason,
        details={"called_ae_title": refused.called_ae_title},
        source=("refused_associations", refused.id),
    )


def _of_retrieval(retrieved: Retrieval) -> Trace:
    return Trace(
        at=retrieved.at,
        last_at=retrieved.last_at,
        times=retrieved.times,
        act="retrieved",
        who=retrieved.calling_ae_title,
        address=retrieved.address,
        about=(retrieved.sop_instance_uid,),
        outcome="the performed step, by N-GET",
        details={"called_ae_title": retrieved.called_ae_title},
        source=("retrievals", retrieved.id),
    )


def _of_activity(activity: Activity, person: Person | None) -> Trace:
    looked = activity.activity == LOOKED
    hers = activity.subjects if person is None else _looked_at(activity, person)
    return Trace(
        at=activity.at,
        last_at=activity.last_at,
        times=activity.times,
        act="looked" if looked else f"service {activity.activity}",
        who=activity.who,
        address="",
        about=hers,
        outcome=_look(activity) if looked else _life(activity),
        details=activity.details,
        source=("activities", activity.id),
    )


def _look(activity: Activity) -> str:
    details = activity.details
    shown = "all of a range" if EVERYTHING in activity.subjects else details["shown"]
    return f"by gateway {details['verb']}, {shown} shown" + (f": {details['reason']}" if "reason" in details else "")


def _life(activity: Activity) -> str:
    latest = activity.details.get("previous_ended_without_stop")
    if activity.activity == STARTED and latest:
        return f"the one before ended without a stop, after {latest}"
    return ""


def _of_event(done: Done, *, reveal_reasons: bool) -> Trace:
    row = done.row
    is_hidden = row.has_written_reason and not reveal_reasons
    details = {**row.details, "reason": HIDDEN} if is_hidden else row.details
    uid = details.get("mpps_instance_uid") or details.get("study_instance_uid")
    about = (row.accession_number,) if row.accession_number else (uid,) if uid else ()
    return Trace(
        at=row.committed_at,
        last_at=row.committed_at,
        times=1,
        act=story.hop_name(row),
        who=done.who,
        address="",
        about=about,
        outcome=str(details.get("reason") or details.get("message") or ""),
        details=details,
        source=("events", row.position),
    )
