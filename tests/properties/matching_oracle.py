"""Which items a worklist query lists, as the standard says it (PS3.4 C.2.2.2, K.2.2.1 and Table K.6-1): slow and plain.

It shares nothing with `gateway.dicom`. A query is a dictionary of keywords and values, those of the scheduled procedure
step among them; an absent key and an empty one ask nothing.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

from projections.worklist import WorklistRow

Query = dict[str, str]

IN_STEP = frozenset(
    {
        "Modality",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepLocation",
        "ScheduledProcedureStepStatus",
    }
)

LISTED = "SCHEDULED"


class Unreadable(ValueError):
    """A key holds what is no value of its kind: the query is to be refused."""


def lists(query: Query, item: WorklistRow) -> bool:
    """Whether the query lists the item. Raises `Unreadable`, whatever the item."""
    found = [_when(query, item), _status(query, item), _station(query, item), _study(query, item)]
    for keyword, value in _texts(item).items():
        found.append(text_matches(query.get(keyword, ""), value))
    for keyword, value in _names(item).items():
        found.append(name_matches(query.get(keyword, ""), value))
    found.append(_date_alone(query.get("PatientBirthDate", ""), item.patient_birth_date))
    return all(found) and not item.is_test


def _texts(item: WorklistRow) -> dict[str, str | None]:
    return {
        "AccessionNumber": item.accession_number,
        "RequestedProcedureID": item.accession_number,
        "ScheduledProcedureStepID": item.accession_number,
        "PatientID": item.patient_id,
        "PatientSex": item.patient_sex,
        "Modality": item.modality,
        "RequestedProcedureDescription": item.study_description,
        "ScheduledProcedureStepDescription": item.study_description,
        "ScheduledProcedureStepLocation": item.location,
    }


def _names(item: WorklistRow) -> dict[str, str | None]:
    return {"PatientName": item.patient_name, "ScheduledPerformingPhysicianName": item.performing_physician}


# --- text


def wild(pattern: str, text: str) -> bool:
    """C.2.2.2.4, character by character: `*` any run of characters, `?` one of them, the others themselves."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(wild(pattern[1:], text[start:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and wild(pattern[1:], text[1:])


def text_matches(asked: str, value: str | None) -> bool:
    """Universal (C.2.2.2.3), single value (C.2.2.2.1), wildcard (C.2.2.2.4); several values: any of them."""
    if set(asked.strip(" ")) <= {"*"}:
        return True
    if not value:
        return False  # K.2.2.1.1.1: unknown matches only what is universal
    known = unicodedata.normalize("NFC", value.strip(" "))
    wanted = [unicodedata.normalize("NFC", part.strip(" ")) for part in asked.split("\\")]
    return any(part and wild(part, known) for part in wanted)


def _station(query: Query, item: WorklistRow) -> bool:
    """An item is for each of its stations (Table K.6-1), without one for all (design §3.15)."""
    asked = query.get("ScheduledStationAETitle", "")
    return not item.station_ae_titles or any(text_matches(asked, title) for title in item.station_ae_titles)


def _status(query: Query, item: WorklistRow) -> bool:
    """Only scheduled items are listed, unless asked by status (design §3.17)."""
    asked = query.get("ScheduledProcedureStepStatus", "").replace("_", " ")
    words = [{"STARTED": "IN PROGRESS"}.get(word.strip(" "), word) for word in asked.split("\\")]
    if set(asked.strip(" ")) <= {"*"}:
        return item.status == LISTED
    return text_matches("\\".join(words), item.status)


def _study(query: Query, item: WorklistRow) -> bool:
    """List of UID (C.2.2.2.2)."""
    asked = [uid.strip(" \0") for uid in query.get("StudyInstanceUID", "").split("\\")]
    wanted = [uid for uid in asked if uid]
    if any(set(uid) - set("0123456789.") for uid in wanted):
        raise Unreadable
    return not wanted or item.study_instance_uid in wanted


# --- names

_NAMED_OTHERWISE = {
    "SHARP S": "ss",
    "AE": "ae",
    "OE": "oe",
    "THORN": "th",
    "ETH": "d",
    "DOTLESS I": "i",
    "RIGHT SINGLE QUOTATION MARK": "'",
}


def plain(letter: str) -> str:
    """A letter as a keyboard without accents has it, told by its name in Unicode; other scripts stay."""
    name = unicodedata.name(letter, "").split(" WITH ")[0]
    if name.startswith("COMBINING "):
        return ""
    for beginning in (
        "LATIN CAPITAL LETTER ",
        "LATIN SMALL LETTER ",
        "LATIN CAPITAL LIGATURE ",
        "LATIN SMALL LIGATURE ",
    ):
        name = name.removeprefix(beginning)
    if len(name) == 1:
        return name.lower()
    return _NAMED_OTHERWISE.get(name, letter)


def folded(group: str) -> str:
    """A group of a name without case and accents, blanks around components and empty components at its end."""
    letters = "".join(plain(letter) for letter in unicodedata.normalize("NFC", group))
    return "^".join(component.strip(" ") for component in letters.split("^")).rstrip("^")


def name_matches(asked: str, value: str | None) -> bool:
    """C.2.2.2.1 and PS3.5 6.2.1: case, accents and empty ends do not count; a key of one group asks for any group."""
    if set(asked) <= set("*^= "):
        return True
    if not value:
        return False
    return any(_one_name_matches(name, value) for name in asked.split("\\") if name.strip(" "))


def _one_name_matches(asked: str, value: str) -> bool:
    wanted = [folded(group) for group in asked.split("=")]
    while len(wanted) > 1 and not wanted[-1]:
        wanted.pop()
    groups = [folded(group) for group in value.split("=")]
    if len(wanted) == 1:
        return any(group and group_matches(wanted[0], group) for group in groups)
    known = groups + [""] * len(wanted)
    return all(not key or group_matches(key, group) for key, group in zip(wanted, known, strict=False))


def group_matches(asked: str, group: str) -> bool:
    """The components that the key has and the name has not are empty."""
    while group.count("^") < asked.count("^"):
        group += "^"
    return wild(asked, group)


# --- dates and times

_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


def date_of(text: str) -> datetime:
    """`YYYYMMDD`, or `YYYY.MM.DD` of old (PS3.5 6.2)."""
    digits = text.replace(".", "")
    if not (digits.isascii() and digits.isdigit() and text in (digits, f"{digits[:4]}.{digits[4:6]}.{digits[6:]}")):
        raise Unreadable
    try:
        return datetime.strptime(digits, "%Y%m%d") if len(digits) == 8 else _unreadable()  # noqa: DTZ007  a wall clock's
    except ValueError:
        raise Unreadable from None


def time_of(text: str) -> tuple[timedelta, timedelta]:
    """First and last microsecond of a time that may stop at the hour, the minute, the second or a part of it."""
    whole, point, fraction = text.replace(":", "").partition(".")
    if not (whole + fraction).isdigit() or len(whole) not in (2, 4, 6) or len(fraction) > 6:
        raise Unreadable
    if point and (len(whole) < 6 or not fraction):
        raise Unreadable
    hours, minutes, seconds = int(whole[:2]), int(whole[2:4] or 0), int(whole[4:] or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        raise Unreadable
    first = timedelta(hours=hours, minutes=minutes, seconds=min(seconds, 59), microseconds=int(fraction.ljust(6, "0")))
    unit = {2: timedelta(hours=1), 4: timedelta(minutes=1), 6: timedelta(seconds=1)}[len(whole)]
    if fraction:
        unit = _TICK * 10 ** (6 - len(fraction))
    return first, first + unit - _TICK


def _unreadable() -> datetime:
    raise Unreadable


def ends(asked: str) -> tuple[str, str] | None:
    """The two ends of a range `a-b`, `a-`, `-b`; None when it is none."""
    first, dash, last = asked.partition("-")
    if not dash:
        return None
    if not (first.strip() or last.strip()):
        raise Unreadable
    return first.strip(), last.strip()


def _date_alone(asked: str, value: str) -> bool:
    asked = asked.strip(" ")
    if not asked:
        return True
    first, last = ends(asked) or (asked, asked)
    limits = (date_of(first) if first else datetime.min, date_of(last) if last else datetime.max)  # noqa: DTZ901
    return bool(value) and limits[0] <= date_of(value) <= limits[1]


def _time_alone(asked: str, value: str) -> bool:
    asked = asked.strip(" ")
    if not asked:
        return True
    first, last = ends(asked) or (asked, asked)
    limits = (time_of(first)[0] if first else timedelta(0), time_of(last)[1] if last else _DAY)
    return bool(value) and limits[0] <= time_of(value)[0] <= limits[1]


def _when(query: Query, item: WorklistRow) -> bool:
    """Date and time; both as ranges are one period (Table K.6-1, Scheduled Procedure Step Start Time)."""
    dates = query.get("ScheduledProcedureStepStartDate", "").strip(" ")
    times = query.get("ScheduledProcedureStepStartTime", "").strip(" ")
    alone = (_date_alone(dates, item.scheduled_date), _time_alone(times, item.scheduled_time))
    days, hours = ends(dates), ends(times)
    if days is None or hours is None:
        return all(alone)
    moment = date_of(item.scheduled_date) + time_of(item.scheduled_time)[0]
    first = date_of(days[0]) + (time_of(hours[0])[0] if hours[0] else timedelta(0)) if days[0] else datetime.min  # noqa: DTZ901
    last = date_of(days[1]) + (time_of(hours[1])[1] if hours[1] else _DAY - _TICK) if days[1] else datetime.max  # noqa: DTZ901
    return first <= moment <= last
