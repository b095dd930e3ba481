"""What a query asks, read from its bytes as PS3.5 7 says it: a second opinion that shares nothing with `gateway.dicom`.

Stricter than most: every element whole, nothing left over, no element twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.properties.matching_oracle import Query

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

ROOT_KEYS = {
    "00080050": "AccessionNumber",
    "00100010": "PatientName",
    "00100020": "PatientID",
    "00100030": "PatientBirthDate",
    "00100040": "PatientSex",
    "0020000D": "StudyInstanceUID",
    "00321060": "RequestedProcedureDescription",
    "00401001": "RequestedProcedureID",
}
STEP_KEYS = {
    "00080060": "Modality",
    "00400001": "ScheduledStationAETitle",
    "00400002": "ScheduledProcedureStepStartDate",
    "00400003": "ScheduledProcedureStepStartTime",
    "00400006": "ScheduledPerformingPhysicianName",
    "00400007": "ScheduledProcedureStepDescription",
    "00400009": "ScheduledProcedureStepID",
    "00400011": "ScheduledProcedureStepLocation",
    "00400020": "ScheduledProcedureStepStatus",
}
STEP_SEQUENCE, CHARACTER_SET = "00400100", "00080005"
SEQUENCES = {STEP_SEQUENCE, "00400008", "00321064", "00081110", "00081120", "00101002"}
TEXT_KEYS = {"00080050", "00100010", "00100020", "00321060", "00401001", "00400006", "00400007", "00400009", "00400011"}
"""Those of SH, LO and PN, whose text is in the Specific Character Set; the others are ASCII."""

SHORT = re.compile("AE|AS|AT|CS|DA|DS|DT|FD|FL|IS|LO|LT|PN|SH|SL|SS|ST|TM|UI|UL|US")
"""VRs with a length of two bytes (PS3.5 Table 7.1-2); all others have four, those to come too."""
CODECS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
UNDEFINED = 0xFFFFFFFF


class Malformed(ValueError):
    """The bytes are no data set."""


class Elsewhere(ValueError):
    """It has text in a set that this reader does not know."""


Elements = dict[str, "bytes | list[Elements]"]


@dataclass
class Reader:
    data: bytes
    explicit: bool
    at: int = 0

    def take(self, length: int, end: int) -> bytes:
        if self.at + length > end:
            raise Malformed("it ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, length: int, end: int) -> int:
        return int.from_bytes(self.take(length, end), "little")

    def tag(self, end: int) -> str:
        return f"{self.number(2, end):04X}{self.number(2, end):04X}"

    def elements(self, end: int, *, closed_by: str = "") -> Elements:
        found: Elements = {}
        while self.at < end:
            tag = self.tag(end)
            if tag == closed_by:
                self.number(4, end)
                return found
            if tag.startswith("FFFE"):
                raise Malformed("a delimiter where an element should be")
            value = self.value(tag, end)
            if tag in found:
                raise Malformed("an element twice")
            if not tag.endswith("0000"):
                found[tag] = value
        if closed_by:
            raise Malformed("an item without end")
        return found

    def value(self, tag: str, end: int) -> bytes | list[Elements]:
        vr, length = self.header(end)
        if vr == "SQ" or length == UNDEFINED or (vr in ("", "UN") and tag in SEQUENCES):
            inner = Reader(self.data, self.explicit and vr != "UN", self.at)
            items = inner.items(end, length)
            self.at = inner.at
            return items
        return self.take(length, end)

    def header(self, end: int) -> tuple[str, int]:
        if not self.explicit:
            return "", self.number(4, end)
        vr = self.take(2, end).decode("latin-1")
        if SHORT.fullmatch(vr):
            return vr, self.number(2, end)
        if not (vr.isascii() and vr.isalpha() and vr.isupper()):
            raise Malformed("no value representation")
        self.number(2, end)  # reserved; VRs of the future are long
        return vr, self.number(4, end)

    def items(self, end: int, length: int) -> list[Elements]:
        last = end if length == UNDEFINED else self.at + length
        if last > end:
            raise Malformed("a sequence longer than what is there")
        found: list[Elements] = []
        while self.at < last:
            tag, size = self.tag(last), self.number(4, last)
            if tag == "FFFEE0DD" and length == UNDEFINED:
                return found
            if tag != "FFFEE000" or (size != UNDEFINED and self.at + size > last):
                raise Malformed("no item, or too long a one")
            found.append(
                self.elements(last, closed_by="FFFEE00D") if size == UNDEFINED else self.elements(self.at + size)
            )
        if length == UNDEFINED:
            raise Malformed("a sequence without end")
        return found


def asked_by(data: bytes, syntax: str) -> Query:
    """The keys with a value. Raises `Malformed`, `Elsewhere`."""
    try:
        elements = Reader(data, syntax == EXPLICIT).elements(len(data))
    except RecursionError:
        raise Malformed("nested without end") from None
    codec = _codec(elements, "ascii")
    asked = _texts(elements, ROOT_KEYS, codec)
    steps = elements.get(STEP_SEQUENCE, [])
    if isinstance(steps, bytes):
        if steps:
            raise Malformed("the step is no sequence")
        return asked
    if len(steps) > 1:
        raise Malformed("two steps")
    for step in steps:
        asked |= _texts(step, STEP_KEYS, _codec(step, codec))
    return asked


def _codec(elements: Elements, inherited: str) -> str:
    declared = elements.get(CHARACTER_SET)
    if declared is None:
        return inherited
    if isinstance(declared, list):
        raise Elsewhere
    return CODECS.get(declared.decode("latin-1").strip(" \0"), "unknown")


def _texts(elements: Elements, keys: dict[str, str], codec: str) -> Query:
    asked: Query = {}
    for tag, keyword in keys.items():
        value = elements.get(tag, b"")
        if isinstance(value, list):
            if value:
                raise Malformed("a sequence where text should be")
            continue
        text = _text(value, codec if tag in TEXT_KEYS else "ascii").rstrip("\0").strip(" ")
        if text:
            asked[keyword] = text
    return asked


def _text(value: bytes, codec: str) -> str:
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    if codec == "unknown" or b"\x1b" in value:
        raise Elsewhere
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        raise Malformed("not in its character set") from None
