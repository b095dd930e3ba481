"""Matching of worklist items against keys (PS3.4 C.2.2.2 and K.2.2.1), without any input or output.

A plan is the coarse filter that an index can serve, and one criterion for each key that is not universal. An item is
listed when every criterion holds; each carries its key and clause, so that a miss can be explained.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import TypeVar

from gateway.dicom.data_set import tag_name
from gateway.dicom.identifier import Identifier, Key
from gateway.dicom.keys import (
    ACCESSION_NUMBER,
    MODALITY,
    PATIENT_BIRTH_DATE,
    PATIENT_ID,
    PATIENT_NAME,
    PATIENT_SEX,
    PERFORMING_PHYSICIAN,
    REQUESTED_PROCEDURE_DESCRIPTION,
    REQUESTED_PROCEDURE_ID,
    SCHEDULED_PROCEDURE_STEP_DESCRIPTION,
    SCHEDULED_PROCEDURE_STEP_ID,
    SCHEDULED_PROCEDURE_STEP_LOCATION,
    SCHEDULED_STATION_AE_TITLE,
    START_DATE,
    START_TIME,
    STATUS,
    STUDY_INSTANCE_UID,
    Attribute,
    Matching,
    Values,
)
from gateway.dicom.profiles import DEFAULT, Profile
from gateway.dicom.status import IDENTIFIER_DOES_NOT_MATCH, RequestRefused
from gateway.domain.names import folded
from projections.worklist import TextFilter, WorklistFilter, WorklistRow

T = TypeVar("T")
Test = Callable[[Values], bool]
"""Whether an item's values for one attribute match; an item without a value has ()."""

_PERIOD = "PS3.4 K.6.1.2.2, Start Time: a date range and a time range are one period"
_WILDCARDS = re.compile(r"[*?]")
_STARTED = "STARTED"
"""DICOM's word for a step in progress in (0040,0020) (PS3.3 C.4.10); ours is MPPS's."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What one key, or a rule of this site, demands. `clause` is where the standard, or which setting, says so."""

    tags: tuple[int, ...]
    clause: str
    matches: Callable[[WorklistRow], bool]
    asked: str = ""
    """The value of the key, or what the rule wants; may identify a patient."""


@dataclass(frozen=True, slots=True)
class MatchingPlan:
    """What to read from the store, and what each row read must fulfil.

    `wanted` only spares reading: it never leaves out a row that fulfils all criteria, so the criteria alone explain why
    an item is listed or is not.
    """

    wanted: WorklistFilter
    criteria: tuple[Criterion, ...]

    def matches(self, row: WorklistRow) -> bool:
        """Whether every criterion holds."""
        return all(criterion.matches(row) for criterion in self.criteria)


def plan(
    identifier: Identifier,
    *,
    listed_statuses: Sequence[str],
    test_items: bool,
    profile: Profile = DEFAULT,
) -> MatchingPlan:
    """The plan for a query. `listed_statuses` holds unless the query asks by Scheduled Procedure Step Status.

    Raises `RequestRefused` when the value of a key can't be read, such as a date that does not exist.
    """
    keys = {key.tag: key for key in identifier.matched() if not _universal(key)}
    wanted, rules = _coarse(keys), []
    if STATUS not in keys:
        wanted = replace(wanted, statuses=tuple(listed_statuses))
        rules.append(_listed(tuple(listed_statuses)))
    if not test_items:
        wanted = replace(wanted, is_test=False)
        rules.append(Criterion((), "GATEWAY_TEST_AE_TITLES", lambda row: not row.is_test, "no test items"))
    rules += _station_rules(profile, is_open=SCHEDULED_STATION_AE_TITLE not in keys)
    return MatchingPlan(wanted, (*_criteria(keys, profile), *rules))


def _station_rules(profile: Profile, *, is_open: bool) -> Iterator[Criterion]:
    """What the caller's profile adds to the keys; `is_open`: the query asks for no station."""
    tags, group = (SCHEDULED_STATION_AE_TITLE,), profile.group
    if not profile.items_without_station:
        yield Criterion(tags, "profile: items_without_station", lambda row: bool(row.station_ae_titles), "a station")
    if profile.only_own_stations and is_open:
        yield Criterion(
            tags,
            "profile: only_own_stations",
            lambda row: not row.station_ae_titles or any(station in group for station in row.station_ae_titles),
            "\\".join(group),
        )


def _listed(statuses: tuple[str, ...]) -> Criterion:
    """What is listed when a query does not ask by status (design §3.17)."""
    return Criterion((STATUS,), "GATEWAY_LISTED_STATUSES", lambda row: row.status in statuses, "\\".join(statuses))


def _universal(key: Key) -> bool:
    """A lone `*` asks nothing (PS3.4 C.2.2.2.4) where wildcards are allowed, nor does a name of empty components."""
    matching = key.attribute.matching if key.attribute else Matching.NONE
    if matching is Matching.NAME:
        return not key.text.strip("*^= ")
    return matching in _WILDCARD_MATCHING and not key.text.strip("*")


def _criteria(keys: dict[int, Key], profile: Profile) -> Iterator[Criterion]:
    period = _period(keys.get(START_DATE), keys.get(START_TIME))
    if period:
        yield period
    for tag, key in keys.items():
        if key.attribute and not (period and tag in period.tags):
            criterion = _criterion(_with_group(key, profile), key.attribute)
            yield criterion if criterion.asked == key.text else replace(criterion, clause="profile: stations")


def _with_group(key: Key, profile: Profile) -> Key:
    """A station key that names one of the caller's group asks for all of it."""
    if key.tag != SCHEDULED_STATION_AE_TITLE or not profile.stations:
        return key
    asked = _texts(key)
    names_own = any(_pattern(text).fullmatch(station) for text in asked for station in profile.group)
    others = [station for station in profile.group if station not in asked]
    return replace(key, text="\\".join((*asked, *others))) if names_own and others else key


def _criterion(key: Key, attribute: Attribute) -> Criterion:
    clause, test_of = _TESTS[attribute.matching]
    test, values_of = test_of(key), attribute.values or (lambda _: ())
    return Criterion((key.tag,), clause, lambda row: test(values_of(row)), key.text)


# --- text


def _texts(key: Key) -> tuple[str, ...]:
    """The values of a key; several mean any of them (PS3.4 C.2.2.2.8 leaves it open; everything would be wrong)."""
    return tuple(text for text in (value.strip(" ") for value in key.text.split("\\")) if text)


def _text_test(key: Key) -> Test:
    """Single value: the whole value, case-sensitive, padding aside; `*` any run, `?` one character."""
    patterns = [_pattern(_composed(text)) for text in _texts(key)]
    return lambda values: any(
        pattern.fullmatch(_composed(value.strip(" "))) for pattern in patterns for value in values
    )


def _station_test(key: Key) -> Test:
    """An item without a station is for any station (design §3.15)."""
    of_text = _text_test(key)
    return lambda values: not values or of_text(values)


def _status_test(key: Key) -> Test:
    return _text_test(replace(key, text="\\".join(_statuses(key))))


def _statuses(key: Key) -> tuple[str, ...]:
    """Statuses as the worklist has them: an underscore may stand for the space, STARTED is IN PROGRESS."""
    words = (text.replace("_", " ") for text in _texts(key))
    return tuple("IN PROGRESS" if word == _STARTED else word for word in words)


@lru_cache(maxsize=512)
def _pattern(text: str) -> re.Pattern[str]:
    """Runs between stars are taken at their first place for good (atomic groups): a key cannot make matching slow."""
    first, *rest = (_literal(run) for run in re.split(r"\*+", text))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{run})" for run in middle) + ".*" + last, re.DOTALL)


def _literal(run: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in run)


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# --- names


def _name_test(key: Key) -> Test:
    """Person names: case, accents, empty components and groups at the end do not count; per group (C.2.2.2.1)."""
    asked = _names(key)
    return lambda values: any(_name_matches(name, folded(value)) for name in asked for value in values)


def _names(key: Key) -> list[tuple[str, ...]]:
    return [folded(text.rstrip("=^ ")) for text in _texts(key)]


def _name_matches(asked: tuple[str, ...], groups: tuple[str, ...]) -> bool:
    if len(asked) == 1:
        return any(group and _group_matches(asked[0], group) for group in groups)
    padded = (*groups, "", "")
    return all(not key or _group_matches(key, group) for key, group in zip(asked, padded, strict=False))


def _group_matches(asked: str, group: str) -> bool:
    missing = asked.count("^") - group.count("^")
    return bool(_pattern(asked).fullmatch(group + "^" * missing))


# --- dates and times

Interval = tuple[str, str]
"""A closed range of comparable texts; "" is an open end."""

_FIRST_MOMENT, _LAST_MOMENT = "000000000000", "235959999999"


def _dates(key: Key) -> list[Interval]:
    return [_range(text, _date, key) for text in _texts(key)]


def _times(key: Key) -> list[Interval]:
    return [_range(text, _time, key) for text in _texts(key)]


def _range(text: str, parse: Callable[[str], Interval], key: Key) -> Interval:
    """A single value or a range `a-b`, `a-`, `-b`, both ends included (PS3.4 C.2.2.2.5)."""
    first, dash, last = (part.strip(" ") for part in text.partition("-"))
    try:
        if not dash or not (first or last):
            return parse(text)
        return (parse(first)[0] if first else "", parse(last)[1] if last else "")
    except ValueError:
        kind = "date" if parse is _date else "time"
        raise RequestRefused(
            IDENTIFIER_DOES_NOT_MATCH, f"{tag_name(key.tag)} is no {kind} and no range of them", tags=(key.tag,)
        ) from None


@lru_cache(maxsize=1024)
def _date(text: str) -> Interval:
    """A date as `YYYYMMDD`; `YYYY.MM.DD` of old units is read too (PS3.5 6.2)."""
    found = re.fullmatch(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})", text)
    if not found:
        raise ValueError(text)
    day = date(int(found[1]), int(found[3]), int(found[4])).strftime("%Y%m%d").rjust(8, "0")
    return day, day


_TIME = re.compile(r"([01][0-9]|2[0-3])(?::?([0-5][0-9])(?::?([0-5][0-9]|60)(?:\.([0-9]{1,6}))?)?)?")


@lru_cache(maxsize=4096)
def _time(text: str) -> Interval:
    """The first and last microsecond of a time, which may stop at the hour, the minute or the second (PS3.5 6.2)."""
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError(text)
    hour, minute, second, fraction = found.groups()
    if second == "60":  # a leap second
        second = "59"
    known = hour + (minute or "") + (second or "") + (fraction or "")
    return known + _FIRST_MOMENT[len(known) :], known + _LAST_MOMENT[len(known) :]


def _interval_test(intervals: list[Interval], read: Callable[[str], Interval]) -> Test:
    def test(values: Values) -> bool:
        return any(_within(_moment(value, read), interval) for value in values for interval in intervals)

    return test


def _moment(value: str, read: Callable[[str], Interval]) -> str | None:
    """The item's own date or time; None when it is none, which matches nothing."""
    try:
        return read(value.strip(" "))[0]
    except ValueError:
        return None


def _within(moment: str | None, interval: Interval) -> bool:
    first, last = interval
    return moment is not None and (not first or first <= moment) and (not last or moment <= last)


def _period(dates: Key | None, times: Key | None) -> Criterion | None:
    """From the first date at the first time to the last date at the last time, when both are ranges."""
    if dates is None or times is None or not all("-" in key.text and "\\" not in key.text for key in (dates, times)):
        return None
    (first_day, last_day), (first_time, last_time) = _dates(dates)[0], _times(times)[0]
    first = first_day + (first_time or _FIRST_MOMENT) if first_day else ""
    last = last_day + (last_time or _LAST_MOMENT) if last_day else ""

    def matches(row: WorklistRow) -> bool:
        day, time = _moment(row.scheduled_date, _date), _moment(row.scheduled_time, _time)
        return day is not None and time is not None and _within(day + time, (first, last))

    return Criterion((dates.tag, times.tag), _PERIOD, matches, f"{dates.text} {times.text}")


# --- UIDs


def _uid_test(key: Key) -> Test:
    """Any UID of the list (PS3.4 C.2.2.2.2); no wildcards."""
    asked = frozenset(_uids(key))
    return lambda values: any(value in asked for value in values)


def _uids(key: Key) -> tuple[str, ...]:
    uids = tuple(text.strip("\0") for text in _texts(key))
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise RequestRefused(IDENTIFIER_DOES_NOT_MATCH, f"{tag_name(key.tag)} is no UID", tags=(key.tag,))
    return uids


_TESTS: dict[Matching, tuple[str, Callable[[Key], Test]]] = {
    Matching.TEXT: ("PS3.4 C.2.2.2.1 and C.2.2.2.4", _text_test),
    Matching.STATION: ("PS3.4 C.2.2.2.1 and K.6.1.2.2", _station_test),
    Matching.STATUS: ("PS3.4 C.2.2.2.1 and C.2.2.2.4", _status_test),
    Matching.NAME: ("PS3.4 C.2.2.2.1 and C.2.2.2.4, person names", _name_test),
    Matching.DATE: ("PS3.4 C.2.2.2.5, dates", lambda key: _interval_test(_dates(key), _date)),
    Matching.TIME: ("PS3.4 C.2.2.2.5, times", lambda key: _interval_test(_times(key), _time)),
    Matching.UID: ("PS3.4 C.2.2.2.2, list of UID", _uid_test),
}
_WILDCARD_MATCHING = frozenset({Matching.TEXT, Matching.NAME, Matching.STATION, Matching.STATUS})


# --- what the store can look for itself


_MOST_VALUES = 100
_LONGEST_PATTERN = 256
"""Characters. More, and more values than the above, are left to the criteria: SQL has bounds, and nobody types them."""

_IDS = {
    ACCESSION_NUMBER: "accession_number",
    REQUESTED_PROCEDURE_ID: "accession_number",
    SCHEDULED_PROCEDURE_STEP_ID: "accession_number",
    PATIENT_ID: "patient_id",
}
_TEXT_COLUMNS = {
    MODALITY: "modality",
    PATIENT_SEX: "patient_sex",
    REQUESTED_PROCEDURE_DESCRIPTION: "study_description",
    SCHEDULED_PROCEDURE_STEP_DESCRIPTION: "study_description",
    SCHEDULED_PROCEDURE_STEP_LOCATION: "location",
}


def _coarse(keys: dict[int, Key]) -> WorklistFilter:
    """A superset of the matches, as narrow as the store can look for: by an index, or in a scan that makes no rows.

    It relies on values being kept as the domain lets them in: without padding, dates as YYYYMMDD, and accession numbers
    and Patient IDs without letters that are canonically equivalent to ASCII (such as the Kelvin sign).
    """
    statuses, uids = keys.get(STATUS), keys.get(STUDY_INSTANCE_UID)
    return WorklistFilter(
        accession_number=_one_exact(keys.get(tag) for tag in _IDS if tag != PATIENT_ID),
        patient_id=_one_exact([keys.get(PATIENT_ID)]),
        study_instance_uids=_few(_uids(uids)) if uids else (),
        modalities=_exact(keys.get(MODALITY)),
        dates=_bounds(_dates, keys.get(START_DATE)),
        birth_dates=_bounds(_dates, keys.get(PATIENT_BIRTH_DATE)),
        times=_time_bounds(keys.get(START_DATE), keys.get(START_TIME)),
        names=_coarse_names(keys.get(PATIENT_NAME)),
        texts=tuple(_coarse_texts(keys)),
        statuses=_exact(replace(statuses, text="\\".join(_statuses(statuses)))) if statuses else (),
    )


def _few(values: tuple[T, ...]) -> tuple[T, ...]:
    return values if len(values) <= _MOST_VALUES else ()


def _exact(key: Key | None) -> tuple[str, ...]:
    """The values of a key if they can be looked up as they stand, else ()."""
    texts = _few(_texts(key)) if key else ()
    return () if any(_WILDCARDS.search(text) or not text.isascii() for text in texts) else texts


def _one_exact(keys: Iterable[Key | None]) -> str:
    return next((values[0] for values in map(_exact, keys) if len(values) == 1), "")


def _coarse_texts(keys: dict[int, Key]) -> Iterator[TextFilter]:
    for tag, column in _IDS.items():
        if len(_exact(keys.get(tag))) != 1:
            yield from _text_filter(column, keys.get(tag), _loosened)
    for tag, column in _TEXT_COLUMNS.items():
        if tag != MODALITY or not _exact(keys.get(tag)):
            yield from _text_filter(column, keys.get(tag), _contained)
    if PERFORMING_PHYSICIAN in keys:
        yield TextFilter("performing_physician", ("*",))


def _text_filter(column: str, key: Key | None, pattern_of: Callable[[str], str]) -> Iterator[TextFilter]:
    patterns = tuple(pattern_of(text) for text in _few(_texts(key))) if key else ()
    if patterns and not any(pattern == "*" or len(pattern) > _LONGEST_PATTERN for pattern in patterns):
        yield TextFilter(column, patterns)


_COMPOSABLE = re.compile(r"[^\x01-\x7f]|\?")
"""What may be kept in another number of characters than it has when composed."""
_SINGLETONS = re.compile("[K;`]")
"""What other characters turn into when composed (U+212A, U+037E, U+1FEF)."""


def _loosened(text: str) -> str:
    """The pattern without what composing a kept value might change."""
    return re.sub(r"\*+", "*", _COMPOSABLE.sub("*", _composed(text)))


def _contained(text: str) -> str:
    """The same for values that may be kept with blanks around, and hold any character."""
    return re.sub(r"\*+", "*", f"*{_SINGLETONS.sub('*', _loosened(text))}*")


def _coarse_names(key: Key | None) -> tuple[tuple[str, ...], ...]:
    """The groups as they begin: the empty components that matching adds to a name can only be at its end."""
    asked_names = _few(tuple(_names(key))) if key else ()
    names = tuple(tuple(_beginning(group) for group in name[:_GROUPS]) for name in asked_names)
    asked = "".join(pattern for name in names for pattern in name)
    unfit = any(not any(name) for name in names) or "\0" in asked or len(asked) > _LONGEST_PATTERN
    return () if unfit else names


_GROUPS = 3


def _beginning(group: str) -> str:
    begins = group.rstrip("^*")
    return f"{begins}*" if begins else ""


def _bounds(intervals_of: Callable[[Key], list[Interval]], key: Key | None) -> Interval:
    intervals = intervals_of(key) if key else []
    if not intervals:
        return "", ""
    firsts, lasts = [first for first, _ in intervals], [last for _, last in intervals]
    return "" if "" in firsts else min(firsts), "" if "" in lasts else max(lasts)


def _time_bounds(dates: Key | None, times: Key | None) -> Interval:
    """To the second, as times are kept; those of a period hold for its first and its last day only."""
    if _period(dates, times):
        return "", ""
    first, last = _bounds(_times, times)
    return first[:6], last[:6]
