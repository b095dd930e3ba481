"""Erasing a person without breaking history: their keys are destroyed, and what was built from plain text is cleared.

In this order, so that it can be interrupted anywhere:

1. The whole log is read for what is theirs, sealed or plain. Anything plain, anything not over yet: nothing is done.
2. The record of queries loses the identifiers that name them.
3. One commit: the order to destroy the keys (`Erasure.PersonErased`), and in each stream of theirs an event that clears
   the projections. From here on the erasure is decided: whoever opens the database next finishes what is left.
4. The keys are overwritten in the key file.
5. The database's write-ahead log is cut off, and the files are searched for the Patient ID; only if a page still has a
   trace of it, the database is written anew (VACUUM).
6. What still names the person, because no erasure reaches it, is looked for and told (`gateway.audit.remaining`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import projections.worklist
from gateway.application import Gateway
from gateway.audit import remaining
from gateway.audit.remaining import LONG_ENOUGH, Person, Remaining
from gateway.audit.restore import still_lost
from gateway.dicom import data_set, identifier, record
from gateway.dicom.identifier import Identifier
from gateway.dicom.keys import ACCESSION_NUMBER, PATIENT_ID
from gateway.dicom.status import RequestRefused
from gateway.domain import lifecycle
from gateway.domain.erasure import Erasure
from gateway.domain.events import Stream, circumstances
from gateway.domain.identity import worklist_item_id
from gateway.domain.names import folded
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import Contention, GatewayError, InvalidValue, NotFound
from gateway.eventstore import chain, erasing, replay
from gateway.eventstore.projection import RecordedEvent
from projections import patient_keys
from projections.worklist import WorklistFilter

_PATIENT_NAME = 0x00100010
_BIRTH_DATE = 0x00100030

_MOST_NAMED = 5
_QUERIES = 500
_TRIES = 5

Progress = Callable[[int, int], None]


class NotSealed(GatewayError):
    """Events that identify the person were saved in plain text: the log can't forget them."""

    code = "not_sealed"


class NotOver(GatewayError):
    """Something of the person is still going on."""

    code = "not_over"


@dataclass
class Found:
    """What the log has of a person, as far as `position`. `before` is when they were erased earlier."""

    position: int = 0
    keys: set[str] = field(default_factory=set)
    apart: set[str] = field(default_factory=set)
    """Keys of anybody's that are a single stream's own."""
    items: dict[str, None] = field(default_factory=dict)
    """Accession numbers of items that hold something of theirs."""
    steps: dict[str, None] = field(default_factory=dict)
    """SOP Instance UIDs."""
    studies: dict[str, None] = field(default_factory=dict)
    """Orthanc ids of studies that it received."""
    streams: set[Any] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    birth_dates: set[str] = field(default_factory=set)
    other_names: set[str] = field(default_factory=set)
    """What anybody else is called."""
    nameless: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Keys of steps and studies without Patient ID → the name and the birth date in them."""
    events: int = 0
    plain: list[int] = field(default_factory=list)
    """Positions of events that hold something of theirs in plain text."""
    before: list[str] = field(default_factory=list)
    queries: int = 0
    """Recorded queries that name the person, or ask by the name of somebody who was erased before."""
    is_lost: bool = False
    """Whether a restore has lost an erasure of theirs: it is repeated, even when nothing can be read any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was erased; `vacuumed` when the database had to be written anew for it."""

    erased_at: str
    accession_numbers: tuple[str, ...]
    items_of_others: tuple[str, ...]
    """Those of the accession numbers whose item was somebody else's by then."""
    performed_steps: int
    received_studies: int
    streams: int
    events: int
    keys: int
    queries: int
    vacuumed: bool
    remaining: tuple[Remaining, ...]
    """Where the person is still named, which no erasure reaches."""


def find(gateway: Gateway, patient_id: str, progress: Progress = lambda _done, _all: None) -> Found:
    """Everything the log and the record of queries have of a person.

    Raises `NotFound` when that is nothing, now or before an erasure. The record alone has something where a backup from
    before an erasure was restored: the log's part can't be read any more, and queries come back.
    """
    with gateway.reading() as connection:
        head, _, _ = chain.head(connection)
        lost = _lost_keys(gateway, patient_id)
        keys = _keys_of(gateway, connection, patient_id) | (lost or set())
        while True:
            search = _Search(gateway, patient_id, keys)
            for event in replay.read(connection, gateway.mapper, until=head):
                search.take(event)
                if event.position % 1000 == 0:
                    progress(event.position, head)
            found = search.found
            found.is_lost = lost is not None
            keys = found.keys | _alike(found)
            if keys == found.keys:
                break
    found.queries = sum(map(len, _queries(gateway, patient_id, found)))
    if not (found.events or found.plain or found.before or found.queries or found.is_lost):
        raise NotFound(
            "neither the log nor the record of queries has anything of this patient",
            remedy="look at the Patient ID: as sent, no spaces",
        )
    return found


def _alike(found: Found) -> set[str]:
    """Keys of steps without Patient ID that have the person's name and birth date: they are taken for theirs."""
    names = {folded(name) for name in found.names}
    return {
        key_id
        for key_id, (name, birth_date) in found.nameless.items()
        if birth_date in found.birth_dates and folded(name) in names
    }


def items_of_others(gateway: Gateway, patient_id: str, found: Found) -> tuple[str, ...]:
    """Accession numbers of items that were the person's once and are another's now: they are erased as well."""
    items = (gateway.load(WorklistItem, WorklistItem.create_id(number)) for number in found.items)
    return tuple(
        item.accession_number for item in items if item and item.appointment.patient_id not in ("", patient_id)
    )


def still_named(gateway: Gateway, patient_id: str, found: Found, progress: Progress) -> list[Remaining]:
    """Events that will go on naming the person after the erasure."""
    return remaining.look(gateway, _person(patient_id, found), progress)


def _person(patient_id: str, found: Found) -> Person:
    return Person(
        patient_id=patient_id,
        names=found.names,
        others=found.other_names,
        keys=found.keys,
        streams=found.streams,
        items=frozenset(found.items),
    )


def require_erasable(gateway: Gateway, found: Found) -> None:
    """Raise `NotSealed` or `NotOver` when this person can't be erased (now)."""
    if found.plain:
        some = ", ".join(map(str, found.plain[:_MOST_NAMED])) + (" …" if len(found.plain) > _MOST_NAMED else "")
        raise NotSealed(
            f"{len(found.plain)} events hold this person in plain text (positions {some}), saved while GATEWAY_SEALING "
            "was off; nothing was erased",
            remedy="what was saved in plain text stays in the log for ever; sealing covers what comes after it is on",
        )
    items = [item for number in found.items if (item := gateway.load(WorklistItem, WorklistItem.create_id(number)))]
    going_on = [f"item {item.accession_number} is {item.status}" for item in items if item.status not in _OVER]
    for uid in found.steps:
        step = gateway.load(PerformedProcedureStep, PerformedProcedureStep.create_id(uid))
        if step and step.waits_for_person:
            going_on.append(f"step {uid} waits for a person")
    if going_on:
        raise NotOver(
            f"{'; '.join(going_on)}; nothing was erased",
            remedy="finish them first: gateway steps complete or cancel for an item, gateway steps link or dismiss for "
            "a step",
        )


_OVER = lifecycle.FINISHED


def erase(
    gateway: Gateway,
    patient_id: str,
    found: Found,
    *,
    reason: str,
    operator: str,
    progress: Progress = lambda _done, _all: None,
) -> Erased:
    """Erase what was found, and what came since. Raises `NotSealed`, `NotOver`, `InvalidValue`, `KeysUnusable`.

    May be repeated after any interruption.
    """
    require_nameless(reason, patient_id, found)
    for _ in range(_TRIES):
        require_erasable(gateway, found)
        others = items_of_others(gateway, patient_id, found)
        queries = _erase_queries(gateway, patient_id, found)
        with circumstances(source="operator", correlation_id=operator):
            done, erased_at = _order(gateway, patient_id, found, reason)
        if done:
            gateway.destroy_erased_keys()
            gateway.sealing.cut_log()
            vacuumed = erasing.leave_no_trace(gateway.path, _traces(gateway, patient_id, found))
            left = still_named(gateway, patient_id, found, progress)
            left += remaining.look_at_tables(gateway, _person(patient_id, found))
            return Erased(
                erased_at=erased_at,
                accession_numbers=tuple(found.items),
                items_of_others=others,
                performed_steps=len(found.steps),
                received_studies=len(found.studies),
                streams=len(found.streams),
                events=found.events,
                keys=len(found.keys),
                queries=queries,
                vacuumed=vacuumed,
                remaining=tuple(left),
            )
        found = find(gateway, patient_id, progress)
    raise Contention("new events of this person came in on every try", remedy="ask again")


def require_nameless(reason: str, patient_id: str, found: Found) -> None:
    """Raise `InvalidValue` for a reason that names the person: it is kept for ever, in plain text."""
    words = {word for name in found.names for word in remaining.words_of(name)}
    said = set("".join(sign if sign.isalnum() else " " for sign in "".join(folded(reason))).split())
    if patient_id.replace(" ", "") in reason.replace(" ", "") or {word for word in words if len(word) > 2} & said:
        raise InvalidValue("reason: names the person, and is kept for ever", field="reason")


def _order(gateway: Gateway, patient_id: str, found: Found, reason: str) -> tuple[bool, str]:
    """The commit that decides it, over the log as it is then; False when other keys have come in: look again."""
    if not found.events and not found.is_lost:
        return True, found.before[-1] if found.before else datetime.now(UTC).isoformat()
    with gateway.datastore.writer.transaction() as cursor:
        keys = _keys_of(gateway, cursor, patient_id)
        if not keys <= found.keys:
            return False, ""
        search = _Search(gateway, patient_id, found.keys, found)
        before = (found.events, len(found.plain))
        for event in replay.read(cursor, gateway.mapper, after=found.position):
            search.take(event)
        if (found.events, len(found.plain)) != before:
            return False, ""
        order = Erasure.order(
            patient=gateway.sealing.pseudonym(patient_id),
            key_ids=sorted(found.keys),
            reason=reason,
            streams=len(found.streams),
            events=found.events,
        )
        changed: list[Stream] = [order, *_cleared(gateway, found, reason)]
        gateway.save_within(cursor, changed)
        return True, chain.head(cursor)[1]


def _cleared(gateway: Gateway, found: Found, reason: str) -> Iterator[Stream]:
    for number in found.items:
        item = gateway.load(WorklistItem, WorklistItem.create_id(number))
        if item:
            item.erase_person(reason)
            yield item
    for uid in found.steps:
        step = gateway.load(PerformedProcedureStep, PerformedProcedureStep.create_id(uid))
        if step:
            step.erase_person(reason)
            yield step
    for orthanc_id in found.studies:
        study = gateway.load(ReceivedStudy, ReceivedStudy.create_id(orthanc_id))
        if study:
            study.erase_person(reason)
            yield study


def _keys_of(gateway: Gateway, connection: Any, patient_id: str) -> set[str]:  # noqa: ANN401  a connection or a cursor
    if not gateway.sealing.is_used:
        return set()
    return patient_keys.keys_of_patient(connection, gateway.sealing.pseudonym(patient_id))


def _lost_keys(gateway: Gateway, patient_id: str) -> set[str] | None:
    """The keys that an erasure destroyed which a restore has lost; None when there is none, as far as that is known."""
    epoch = gateway.restored()
    if epoch is None or not gateway.sealing.is_used:
        return None
    try:
        lost = still_lost(gateway.path, epoch).erasures.get(gateway.sealing.pseudonym(patient_id))
    except NotFound:
        return None
    return set(lost["key_ids"]) if lost else None


class _Search:
    """Reads events in their order and keeps what is one person's."""

    def __init__(self, gateway: Gateway, patient_id: str, keys: set[str], found: Found | None = None) -> None:
        self.patient_id = patient_id
        self.pseudonym = gateway.sealing.pseudonym(patient_id) if gateway.sealing.is_used else ""
        self.found = found or Found(keys=set(keys))
        self._word = re.compile(rf"(?<![0-9A-Za-z.]){re.escape(patient_id)}(?!\.?[0-9A-Za-z])")

    def take(self, event: RecordedEvent) -> None:
        """One event more."""
        happened, found = event.domain_event, self.found
        found.position = event.position
        if isinstance(happened, Erasure.PersonErased) and happened.patient == self.pseudonym:
            found.before.append(event.committed_at)
        values = [value for name in happened.IDENTIFYING if (value := getattr(happened, name))]
        seal = happened.seal
        if not values or (seal and seal.is_erased):
            return
        if seal is None:
            if self._is_theirs(happened) or self._mentions(happened, values):
                found.plain.append(event.position)
                self._note(happened)
            return
        if seal.is_apart:
            found.apart.add(seal.key_id)
        if seal.key_id in found.keys or (seal.key_id in found.apart and self._mentions(happened, values)):
            found.keys.add(seal.key_id)
            found.events += 1
            self._note(happened)
        else:
            self._note_other(happened)

    def _is_theirs(self, happened: Any) -> bool:  # noqa: ANN401  any of our events
        subject = happened.subject()
        if subject:
            return bool(subject == self.patient_id)
        return any(stream in self.found.streams for stream in (happened.originator_id, *happened.relatives()))

    def _mentions(self, happened: Any, values: list[Any]) -> bool:  # noqa: ANN401  any of our events
        """Whether an event that is nobody else's holds the Patient ID, as a word of its own: no part of a UID."""
        subject = happened.subject()
        if subject or len(self.patient_id) < LONG_ENOUGH:
            return bool(subject == self.patient_id)
        return any(
            self._word.search(value.decode("latin-1") if isinstance(value, bytes) else str(value)) for value in values
        )

    def _note(self, happened: Any) -> None:  # noqa: ANN401  any of our events
        found = self.found
        found.streams.add(happened.originator_id)
        if isinstance(happened, WorklistItem.Event):
            found.items[happened.accession_number] = None
            found.streams.add(worklist_item_id(happened.accession_number))
        elif isinstance(happened, PerformedProcedureStep.Event):
            found.steps[happened.sop_instance_uid] = None
        elif isinstance(happened, ReceivedStudy.Event):
            found.studies[happened.orthanc_id] = None
        named = _named(happened)
        if named.get("patient_id", "") in ("", self.patient_id):
            found.names |= set(filter(None, [named.get("patient_name")]))
            found.birth_dates |= set(filter(None, [named.get("patient_birth_date")]))

    def _note_other(self, happened: Any) -> None:  # noqa: ANN401  any of our events
        """Somebody else's, or nobody knows whose."""
        name, found = _named(happened).get("patient_name"), self.found
        if name and happened.subject():
            found.other_names.add(name)
        elif name and isinstance(happened, PerformedProcedureStep.Started) and happened.seal.is_apart:
            found.nameless[happened.seal.key_id] = (name, _birth_date(happened))
        elif name and isinstance(happened, ReceivedStudy.Received) and happened.seal.is_apart:
            found.nameless[happened.seal.key_id] = (name, happened.patient["patient_birth_date"])


def _named(happened: Any) -> dict[str, str]:  # noqa: ANN401  any of our events
    return getattr(happened, "person", None) or getattr(happened, "patient", None) or {}


def _birth_date(started: PerformedProcedureStep.Started) -> str:
    try:
        element = data_set.decode(started.attribute_list, started.transfer_syntax).get(_BIRTH_DATE)
    except data_set.Undecodable:
        return ""
    return element.value.decode("ascii", "replace").strip(" \0") if element else ""


# --- the record of queries


def _erase_queries(gateway: Gateway, patient_id: str, found: Found) -> int:
    """Take the identifiers that name the person out of the record; a portion of rows at a time."""
    erased = 0
    for theirs in _queries(gateway, patient_id, found):
        with gateway.datastore.writer.transaction() as cursor:
            record.erase_identifiers(cursor, theirs)
        erased += len(theirs)
    return erased


def _queries(gateway: Gateway, patient_id: str, found: Found) -> Iterator[list[int]]:
    """The queries that name the person, or somebody erased before, portion by portion."""
    with gateway.reading() as connection:
        if not record.has_record(connection):
            return
        nobodys = projections.worklist.erased_numbers(connection)
    last = 0
    while True:
        with gateway.reading() as connection:
            queries = record.after(connection, last, _QUERIES)
        if not queries:
            return
        last = queries[-1].id
        opened = (record.opened(query, gateway.sealing) for query in queries)
        theirs = [query.id for query in opened if _names(query, patient_id, found, nobodys)]
        if theirs:
            yield theirs


def _names(query: record.Query, patient_id: str, found: Found, nobodys: set[str]) -> bool:
    if query.identifier is None:
        return False
    if len(patient_id) >= LONG_ENOUGH and patient_id.encode() in query.identifier:
        return True
    try:
        asked = identifier.read(query.identifier, query.transfer_syntax)
    except RequestRefused:
        return any(name.encode() in query.identifier for name in found.names)
    if not nobodys.isdisjoint(query.accession_numbers) and _asks_by_name(asked):
        return True  # a name that was answered with an item is a name of its person, who is erased
    return _asks_for(asked, patient_id, found)


def _asks_by_name(asked: Identifier) -> bool:
    return any(key.tag == _PATIENT_NAME and key.text.strip("*?^= ") for key in asked.matched())


def _asks_for(asked: Identifier, patient_id: str, found: Found) -> bool:
    """By Patient ID, accession number or name, with or without wildcards that still say something."""
    wanted = {PATIENT_ID: {patient_id}, ACCESSION_NUMBER: set(found.items)}
    for key in asked.matched():
        if key.tag == _PATIENT_NAME:
            pattern = "=".join(folded(key.text))
            if pattern.strip("*?^= ") and any(_is_like("=".join(folded(name)), pattern) for name in found.names):
                return True
        elif key.text.strip("*?") and any(_is_like(value, key.text) for value in wanted.get(key.tag, ())):
            return True
    return False


def _is_like(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


def _traces(gateway: Gateway, patient_id: str, found: Found) -> list[bytes]:
    """What must not be left in the file: the Patient ID, and the names, as written and as compared, nobody else has."""
    unique = [name for name in found.names if not gateway.find_items(WorklistFilter(names=(_begins(name),), limit=1))]
    texts = [patient_id, *unique, *(group for name in unique for group in folded(name))]
    return [text.encode() for text in texts if len(text) >= LONG_ENOUGH]


def _begins(name: str) -> tuple[str, ...]:
    return tuple(f"{group}*" for group in folded(name))
