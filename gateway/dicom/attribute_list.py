"""An N-service's attribute list, decoded: its values as text, dates and numbers, and what is odd about them.

Nothing here refuses a value: what can't be read is named, by its tag alone, in the warnings kept with the step.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.dicom import character_sets, data_set
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.data_set import DataSet, Element, tag_name
from gateway.domain import values
from gateway.errors import InvalidValue

_MOST_NAMED = 12
"""Tags that one warning names: a list of every tag of a hostile data set helps nobody."""

_LIMITS = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240, "PN": 64,
    "SH": 16, "ST": 1024, "TM": 14, "UI": 64,
}  # fmt: skip
"""Most characters of one value, for PN of one group (PS3.5 Table 6.2-1)."""

ONE_VALUE = frozenset({"LT", "ST", "UT"})
"""VRs in which a backslash is text."""

_BINARY = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d", "UV": "<Q", "SV": "<q"}
_LONGEST_NUMBER = 64
"""Characters of a decimal string that we look at; the standard has 16."""

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")
_DATE_TIME = re.compile(r"[0-9]{4}([0-9]{2}){0,5}(\.[0-9]{1,6})?([+-][0-9]{4})?")


def _is_date(text: str) -> bool:
    try:
        values.date_of(text, "date")
    except InvalidValue:
        return False
    return True


_WELL_FORMED: dict[str, Callable[[str], object]] = {
    "AS": re.compile(r"[0-9]{3}[DWMY]").fullmatch,
    "CS": re.compile(r"[A-Z0-9 _]*").fullmatch,
    "DA": _is_date,
    "DS": _DECIMAL.fullmatch,
    "DT": _DATE_TIME.fullmatch,
    "IS": re.compile(r"[+-]?[0-9]+").fullmatch,
    "TM": _TIME.fullmatch,
    "UI": values.is_uid,
}


@dataclass
class Warnings:
    """What is odd about an attribute list: sentences, and tags by what is odd about them."""

    sentences: list[str] = field(default_factory=list)
    tags: dict[str, dict[int, None]] = field(default_factory=dict)

    def say(self, sentence: str) -> None:
        """Add a sentence once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def name(self, oddity: str, tag: int) -> None:
        """Add a tag to those with this oddity."""
        self.tags.setdefault(oddity, {})[tag] = None

    def told(self) -> tuple[str, ...]:
        """All of them, each oddity with its tags."""
        return (*self.sentences, *(f"{oddity}: {_some(sorted(tags))}" for oddity, tags in self.tags.items()))


def _some(tags: list[int]) -> str:
    more = len(tags) - _MOST_NAMED
    return " ".join(tag_name(tag) for tag in tags[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


OUTSIDE_ITS_SET = "not in the declared character set"
MALFORMED = "malformed"
TOO_LONG = "too long"


class AttributeList:
    """A decoded attribute list or one of its items, and the warnings about all of it."""

    def __init__(self, elements: DataSet, character_set: CharacterSet, warnings: Warnings) -> None:
        self.data_set = elements
        self.character_set = character_set
        self.warnings = warnings

    @classmethod
    def of(cls, data: bytes, transfer_syntax: str) -> AttributeList:
        """Decode it. Raises `Undecodable`."""
        elements = data_set.decode(data, transfer_syntax)
        return cls(elements, character_sets.declared(elements), Warnings())

    def filled(self, tag: int) -> bool:
        """Whether it is there and has a value."""
        element = self.data_set.get(tag)
        return element is not None and bool(element.items or element.value.strip(b" \0"))

    def text(self, tag: int) -> str:
        """The value without padding, "" where there is none."""
        element = self.data_set.get(tag)
        return text_of(element, self.character_set, data_set.vr_of(tag))[0] if element else ""

    def items(self, tag: int) -> list[AttributeList]:
        """The items of a sequence, each with the character set that governs it."""
        element = self.data_set.get(tag)
        found = element.items if element else ()
        return [AttributeList(item, character_sets.declared(item, self.character_set), self.warnings) for item in found]

    def moment(self, date_tag: int, time_tag: int) -> str:
        """Date and time as `YYYYMMDDHHMMSS`, or "" when either can't be read."""
        day, time = self.text(date_tag), self.text(time_tag)
        if not (_is_date(day) and _TIME.fullmatch(time)):
            return ""  # `examine` names what is malformed
        return day + time.partition(".")[0].ljust(6, "0")

    def number(self, tag: int) -> float | None:
        """The one number of a DS, IS or binary VR; None where there is none. A malformed one is named and is None."""
        element = self.data_set.get(tag)
        if element is None or not (element.value if element.vr in _BINARY else self.filled(tag)):
            return None
        number = _number(element)
        if number is None:
            self.warnings.name(MALFORMED, tag)
        return number

    def examine(self) -> None:
        """Name every value that is not as its VR has it; items included. Private elements are nobody's business."""
        for element in self.data_set.values():
            if data_set.is_private(element.tag):
                continue
            if element.value:
                for oddity in _oddities(element, self.character_set):
                    self.warnings.name(oddity, element.tag)
            elif element.items:
                for item in self.items(element.tag):
                    item.examine()


def text_of(element: Element, character_set: CharacterSet, vr: str) -> tuple[str, bool]:
    """The value without padding, and whether it is in its set; what is not is read as ISO_IR 100 rather than lost."""
    value = element.value.rstrip(b"\0")
    try:
        return character_set.decode(value, vr).strip(" "), True
    except (UnicodeError, LookupError):
        return value.decode("latin-1").strip(" "), False


def _oddities(element: Element, character_set: CharacterSet) -> Iterator[str]:
    vr = element.vr
    longest = _LIMITS.get(vr)
    if longest is None:
        return
    text, inside = text_of(element, character_set, vr)
    if not inside:
        yield OUTSIDE_ITS_SET
    well_formed = _WELL_FORMED.get(vr)
    if len(text) <= longest and not well_formed:
        return  # most values: nothing in them is longer than they are
    parts = [text] if vr in ONE_VALUE else [part.strip(" \0") for part in text.split("\\")]
    if len(text) > longest:
        groups = [group for part in parts for group in (part.split("=") if vr == "PN" else [part])]
        if any(len(group) > longest for group in groups):
            yield TOO_LONG
    if well_formed and not all(well_formed(part) for part in parts if part):
        yield MALFORMED


def _number(element: Element) -> float | None:
    layout = _BINARY.get(element.vr)
    if layout:
        exact = len(element.value) == struct.calcsize(layout)
        number: float = struct.unpack(layout, element.value)[0] if exact else math.nan
    else:
        text = element.value.strip(b" \0").decode("ascii", "replace")
        number = float(text) if len(text) <= _LONGEST_NUMBER and _DECIMAL.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None
