"""Why an item was, or was not, on a modality's list: a recorded query read once more against a worklist, that of now
or the one that stood at an earlier moment.

The identifier is read and matched by the very code that answered it (`identifier.read`, `matching.plan`), so what is
said here is what a modality that asks again is answered. What came of it then is known from the record: where the two
differ, the item or the settings changed since, or the answer was cut short.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from typing import Protocol

from pydicom.datadict import keyword_for_tag

from gateway.application import Gateway
from gateway.dicom import find, identifier, keys, matching, record
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.data_set import tag_name, vr_of
from gateway.dicom.identifier import Identifier
from gateway.dicom.matching import MatchingPlan
from gateway.dicom.profiles import EVERYBODY, Profiles
from gateway.dicom.record import Query, RefusedAssociation
from gateway.dicom.status import (
    CANCELLED,
    IDENTIFIER_DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    PENDING,
    SUCCESS,
    UNABLE_TO_PROCESS,
    RequestRefused,
)
from gateway.domain.lifecycle import Status
from gateway.errors import NotFound
from projections.worklist import WorklistFilter, WorklistRow

_LONGEST_RANGE = timedelta(days=7)
"""A query for more days than that is explained for today."""

_NAMING_KEYS = (
    keys.ACCESSION_NUMBER,
    keys.REQUESTED_PROCEDURE_ID,
    keys.SCHEDULED_PROCEDURE_STEP_ID,
    keys.PATIENT_ID,
    keys.PATIENT_NAME,
    keys.STUDY_INSTANCE_UID,
)
"""Keys that mean one item or one patient: what they find is explained whatever its day."""

_ALWAYS_ANSWERED = (keys.STUDY_INSTANCE_UID, keys.PATIENT_ID, keys.PATIENT_NAME, keys.START_DATE, keys.START_TIME)
"""The attributes of type 1 without which an item is not answered (`find.answerable`)."""

_EVERY_STATUS = tuple(status.value for status in Status)
_ATTRIBUTES = {**keys.ROOT, **keys.STEP}

Shown = Callable[[int, str], str]
"""How the value of a tag is shown: as it is, or masked."""


class Items(Protocol):
    """Where items are looked at: `gateway.application.Gateway` as it is, `gateway.audit.as_of` as it stood."""

    def find_items(self, wanted: WorklistFilter) -> list[WorklistRow]:
        """Worklist items by date and time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What decides beside the query: the settings and profiles that the service answers by, and the site's clock."""

    zone: tzinfo
    listed_statuses: tuple[str, ...] = ("SCHEDULED",)
    test_ae_titles: tuple[str, ...] = ("REHEARSAL",)
    profiles: Profiles = EVERYBODY

    def today(self) -> str:
        """The date of the site's clock, `YYYYMMDD`."""
        return datetime.now(self.zone).strftime("%Y%m%d")

    def day_of(self, instant: str) -> str:
        """The date of the site's clock at an instant of the log."""
        return datetime.fromisoformat(instant).astimezone(self.zone).strftime("%Y%m%d")

    def clock(self, instant: str) -> str:
        """An instant of the log on the site's wall clock."""
        return datetime.fromisoformat(instant).astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class AskedKey:
    """A key with a value, as the query has it."""

    tag: int
    value: str

    @property
    def keyword(self) -> str:
        """DICOM's name of the attribute."""
        return keyword_of(self.tag)


@dataclass(frozen=True, slots=True)
class Reason:
    """One demand that an item does not meet.

    `asked` is the key's value or what the rule wants, `has` the item's values; both may identify a patient. `clause` is
    where the standard, a setting or a profile says so. `tags` is () for a rule that is about no attribute.
    """

    tags: tuple[int, ...]
    asked: str
    has: str
    clause: str

    @property
    def is_key(self) -> bool:
        """Whether the query asked it, and not a rule of this site."""
        return self.clause.startswith("PS3")

    def text(self, shown: Shown = lambda _tag, value: value) -> str:
        """In plain words."""
        if not self.tags:
            return f"{self.asked} ({self.clause})"
        asked, has = (self._shown(value, shown) for value in (self.asked, self.has))
        what = " and ".join(f"{keyword_of(tag)} {tag_name(tag)}" for tag in self.tags)
        demand = f"asked {asked}, " if self.is_key and asked else f"listed: {asked}, " if asked else ""
        return f"{what}: {demand}the item has {has or 'none'} ({self.clause})"

    def _shown(self, value: str, shown: Shown) -> str:
        return shown(self.tags[0], value) if value else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemExplained:
    """One item. `listed` is whether the worklist that is looked at answers the same query with it; `reasons` why not.

    `answered` is whether it was in the answer then, None when that is not known any more. `since_then` tells why the
    two differ, "" when they do not.
    """

    accession_number: str
    scheduled_date: str
    scheduled_time: str
    status: str
    is_test: bool
    updated_at: str
    listed: bool
    answered: bool | None
    reasons: tuple[Reason, ...] = ()
    since_then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A recorded query and what it means for each item that was looked at.

    `days` is the range of dates that was looked at, either end "", or None when something else was. `ignored` are the
    keywords of keys with a value that nothing is matched by. `refusal` is why the query can't be answered at all,
    naming the offending element, and `not_kept` why it can't be read any more; then there are no items.
    `refused_since` are associations that the same AE title was refused after this query.
    """

    query: Query
    days: tuple[str, str] | None
    keys: tuple[AskedKey, ...] = ()
    ignored: tuple[str, ...] = ()
    character_set: str = ""
    refusal: str = ""
    not_kept: str = ""
    items: tuple[ItemExplained, ...] = ()
    refused_since: tuple[RefusedAssociation, ...] = ()


@dataclass(frozen=True, slots=True)
class Then:
    """The worklist as it stood at an earlier instant (UTC, as the log writes it), and where to look at its items."""

    instant: str
    items: Items


def explain(
    gateway: Gateway,
    site: Site,
    *,
    from_ae_title: str = "",
    query_id: int | None = None,
    day: str = "",
    accession_number: str = "",
    then: Then | None = None,
) -> Explanation:
    """Explain the latest recorded query of an AE title, or the one with `query_id`.

    `day` (`YYYYMMDD`) or `accession_number` say which items; without either it is the days that the query asks for,
    else today, and whatever it finds or names besides. With `then` it is the latest query until that instant, against
    the worklist of that instant, whose day is today; the site's settings and profiles are those of now.

    Raises `NotFound` when nothing like it is recorded, naming those who did ask, or when there is no such item.
    """
    until = then.instant if then else ""
    with gateway.reading() as connection:
        record.require_record(connection)
        if query_id is not None:
            query = record.query_of(connection, query_id)
        else:
            query = next(iter(record.latest_queries(connection, from_ae_title=from_ae_title, until=until)), None)
        if query is None:
            what = (
                _nobody_asked(connection, from_ae_title, site, until)
                if query_id is None
                else f"no query {query_id} is recorded"
            )
            raise NotFound(what, remedy="gateway worklist queries lists what is recorded")
        refused = record.refused_associations(
            connection, from_ae_title=query.calling_ae_title, since=query.last_at, until=until, limit=1000
        )
    query = record.opened(query, gateway.sealing)
    explained = explain_query(
        then.items if then else gateway,
        query,
        site,
        day=day,
        accession_number=accession_number,
        today=site.day_of(until) if until else "",
        until=until,
    )
    return replace(explained, refused_since=tuple(refused))


def _nobody_asked(connection: sqlite3.Connection, ae_title: str, site: Site, until: str) -> str:
    """What is known of callers instead."""
    if until and record.latest_queries(connection, from_ae_title=ae_title):
        return f"no query of {ae_title} until {site.clock(until)} is recorded, only later ones"
    refused = record.refused_associations(connection, from_ae_title=ae_title, limit=1000)
    told = f"; it was {refusals(refused, site)}" if refused else ""
    asked, turned_away = (", ".join(titles) for titles in record.callers(connection))
    others = [f"these have: {asked}"] if asked else []
    others += [f"these were refused: {turned_away}"] if turned_away else []
    text = f"nobody has asked as {ae_title}{told}; {'; '.join(others) or 'nor as anybody else'}"
    return "".join(sign if sign.isprintable() else "?" for sign in text)  # titles come from the network


def refusals(refused: Sequence[RefusedAssociation], site: Site) -> str:
    """`refused 3 times, last at …: why`, of refused associations with the newest first."""
    times = sum(one.times for one in refused)
    latest = refused[0]
    often = "once, at" if times == 1 else f"{times} times, last at"
    called = f", calling {latest.called_ae_title}" if latest.called_ae_title else ""
    return f"refused {often} {site.clock(latest.last_at)} from {latest.address}{called}: {latest.reason}"


def explain_query(
    items: Items,
    query: Query,
    site: Site,
    *,
    day: str = "",
    accession_number: str = "",
    today: str = "",
    until: str = "",
) -> Explanation:
    """Explain one query. `today` is the site's date, by its clock when not given.

    `until` is the instant that `items` are of, when it is an earlier one.

    Raises `NotFound` when there is no item with `accession_number`.
    """
    today = today or site.today()
    explained = Explanation(query=query, days=(day or today, day or today))
    if query.identifier is None:
        too_long = f"an identifier of more than {record.LONGEST_IDENTIFIER} bytes is not kept"
        return replace(explained, not_kept=f"{too_long}, nor one that named a person who was erased")
    try:
        asked = _read(query, site)
        explained = replace(
            explained,
            keys=tuple(AskedKey(key.tag, key.text) for key in asked.matched()),
            ignored=tuple(f"{keyword_of(key.tag)} {tag_name(key.tag)}" for key in asked.ignored()),
            character_set="\\".join(asked.character_set.values),
        )
        replay = _Replay(query, asked, site, until)
    except RequestRefused as refused:
        offending = "".join(f" {tag_name(tag)}" for tag in refused.tags if tag_name(tag) not in refused.comment)
        return replace(explained, refusal=refused.comment + offending)
    days = (day, day) if day else replay.days(today)
    looked_at = None if accession_number else days
    if accession_number:
        rows = items.find_items(WorklistFilter(accession_number=accession_number))
        if not rows:
            then = f" at {site.clock(until)}" if until else ""
            raise NotFound(f"there is no item {accession_number}{then}", field="accession_number")
    else:
        rows = items.find_items(WorklistFilter(dates=days))
        named = [] if day else replay.named_or_answered(items)
        if any(not days[0] <= row.scheduled_date <= (days[1] or "9") for row in named):
            looked_at = None
        rows += named
    return replace(explained, days=looked_at, items=tuple(replay.items(rows, items)))


def _read(query: Query, site: Site) -> Identifier:
    """The identifier as it was read then. Raises `RequestRefused` as the query did."""
    profile = site.profiles.of(query.calling_ae_title)
    return identifier.read(query.identifier, query.transfer_syntax, CharacterSet.of(profile.character_set))


class _Replay:
    """A recorded query, matched again. Raises `RequestRefused` as the query itself did."""

    def __init__(self, query: Query, asked: Identifier, site: Site, until: str = "") -> None:
        self.query, self.asked, self.site, self.until = query, asked, site, until
        # Of equal queries that went on beyond that instant only the first is known to have been before it.
        self.asked_at = query.at if until and query.last_at > until else query.last_at
        self.profile = site.profiles.of(query.calling_ae_title)
        self.test_items = query.calling_ae_title in site.test_ae_titles
        self.plan = self._plan(self.asked, site.listed_statuses)

    def _plan(self, asked: Identifier, listed_statuses: Sequence[str]) -> MatchingPlan:
        return matching.plan(asked, listed_statuses=listed_statuses, test_items=self.test_items, profile=self.profile)

    def days(self, today: str) -> tuple[str, str]:
        """The days that it asks for, if they are few; else today."""
        first, last = self.plan.wanted.dates
        try:
            length = date.fromisoformat(last) - date.fromisoformat(first)
        except ValueError:
            return today, today
        return (first, last) if timedelta(0) <= length <= _LONGEST_RANGE else (today, today)

    def named_or_answered(self, items: Items) -> list[WorklistRow]:
        """What it finds, what its keys for one item or one patient find by themselves, and what it found then."""
        rows = self._matching(items, self.plan)
        for key in self.asked.matched():
            if key.tag in _NAMING_KEYS:
                alone = self._plan(Identifier((key,)), _EVERY_STATUS)
                keyed = [criterion for criterion in alone.criteria if key.tag in criterion.tags]
                rows += self._matching(items, MatchingPlan(replace(alone.wanted, is_test=None), tuple(keyed)))
        for number in self.query.accession_numbers:
            rows += items.find_items(WorklistFilter(accession_number=number))
        return rows

    @staticmethod
    def _matching(items: Items, plan: MatchingPlan) -> list[WorklistRow]:
        return [row for row in items.find_items(plan.wanted) if plan.matches(row)]

    def items(self, rows: Iterable[WorklistRow], items: Items) -> Iterator[ItemExplained]:
        """Each row once, in the order of answers."""
        cut = self._cut(items)
        for row in _in_order({row.accession_number: row for row in rows}.values()):
            reasons = tuple(self._reasons(row, cut))
            answered = self._answered(row.accession_number)
            listed = not reasons
            yield ItemExplained(
                accession_number=row.accession_number,
                scheduled_date=row.scheduled_date,
                scheduled_time=row.scheduled_time,
                status=row.status,
                is_test=row.is_test,
                updated_at=row.updated_at,
                listed=listed,
                answered=answered,
                reasons=reasons,
                since_then="" if answered in (None, listed) else self._since_then(row, listed=listed),
            )

    def _reasons(self, row: WorklistRow, cut: frozenset[str]) -> Iterator[Reason]:
        for criterion in self.plan.criteria:
            if not criterion.matches(row):
                yield Reason(criterion.tags, criterion.asked, _held(row, criterion.tags), criterion.clause)
        if not find.answerable(row):
            lacking = tuple(tag for tag in _ALWAYS_ANSWERED if not _held(row, (tag,)))
            yield Reason(lacking, "", "", "PS3.4 Table K.6-1, type 1: no answer without it")
        if row.accession_number in cut:
            yield Reason((), f"only the first {self.profile.answer_limit} are answered", "", "profile: answer_limit")

    def _cut(self, items: Items) -> frozenset[str]:
        """What the profile's answer limit leaves out."""
        if self.profile.answer_limit is None:
            return frozenset()
        rows = _in_order(row for row in self._matching(items, self.plan) if find.answerable(row))
        return frozenset(row.accession_number for row in rows[self.profile.answer_limit :])

    def _answered(self, accession_number: str) -> bool | None:
        if accession_number in self.query.accession_numbers:
            return True
        return None if self.query.answers > len(self.query.accession_numbers) else False

    def _since_then(self, row: WorklistRow, *, listed: bool) -> str:
        """Why the answer then was another one."""
        query = self.query
        if self.until and query.at > self.until:
            return f"that query came later, at {self.site.clock(query.at)}"
        if row.created_at > self.asked_at:
            return f"it came in after that query, at {self.site.clock(row.created_at)}"
        if row.updated_at > self.asked_at:
            return f"it was changed after that query, at {self.site.clock(row.updated_at)}"
        if listed and (query.status != SUCCESS or query.answers == self.profile.answer_limit):
            return f"the answer ended after {query.answers}: {outcome(query)}"
        return "the item is as it was: a setting or a profile was changed since"


def outcome(query: Query) -> str:
    """The final status in words, with its comment."""
    word = _OUTCOMES.get(query.status, "failure")
    return f"0x{query.status:04X} {word}" + (f", {query.error_comment}" if query.error_comment else "")


def _in_order(rows: Iterable[WorklistRow]) -> list[WorklistRow]:
    """The order of answers."""
    return sorted(rows, key=lambda row: (row.scheduled_date, row.scheduled_time, row.accession_number))


_OUTCOMES = {
    SUCCESS: "success",
    CANCELLED: "cancelled by the unit",
    PENDING: "the association ended before the answer was complete",
    IDENTIFIER_DOES_NOT_MATCH: "refused",
    UNABLE_TO_PROCESS: "unable to process",
    OUT_OF_RESOURCES: "out of resources: a limit cut the answer",
}


def _held(row: WorklistRow, tags: Iterable[int]) -> str:
    """The item's own values, as the worklist has them."""
    values = (_ATTRIBUTES[tag].values for tag in tags if tag in _ATTRIBUTES)
    return " ".join("\\".join(of(row)) for of in values if of)


def keyword_of(tag: int) -> str:
    """DICOM's name of an attribute."""
    return _ATTRIBUTES[tag].keyword if tag in _ATTRIBUTES else str(keyword_for_tag(tag))


def identifies(tag: int) -> bool:
    """Whether the value of an attribute may identify a person."""
    return vr_of(tag) == "PN" or tag in (keys.PATIENT_ID, keys.PATIENT_BIRTH_DATE)
