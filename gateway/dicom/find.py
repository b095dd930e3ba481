"""Modality Worklist C-FIND (PS3.4 K.4): from the bytes of an identifier to the responses, without a network.

One response per scheduled procedure step, with exactly the requested keys: nested ones too, a zero-length sequence as
a whole, what we do not hold at zero length. Every response is 0xFF00: with each optional key returned, if only empty,
none is unsupported for existence. Private elements are nobody's optional keys: they are left out (PS3.5 7.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from enum import Enum
from typing import Any

from gateway.dicom import character_sets, data_set, keys
from gateway.dicom.character_sets import UTF_8, CharacterSet
from gateway.dicom.data_set import DataSet, Element
from gateway.dicom.identifier import Identifier, Key
from gateway.dicom.profiles import DEFAULT, Profile
from gateway.dicom.status import CANCELLED, OUT_OF_RESOURCES, PENDING, SUCCESS
from gateway.dicom.transliteration import transliterated
from projections.worklist import WorklistRow

_LIMITS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "DA": 8, "TM": 14, "UI": 64}
_PN_GROUP_LIMIT = 64
_CODED = frozenset({"AE", "CS", "DA", "TM", "UI"})
"""VRs without a character set: ASCII (PS3.5 6.1.2.3)."""
_WHOLE_STEP = tuple(Key(tag, attribute.vr, attribute) for tag, attribute in keys.STEP.items())


class Writing(Enum):
    """How the text of an item fared on its way into what the asker can read."""

    WHOLE = "each character as it is"
    TRANSLITERATED = "into the letters of the asker's character set"
    BEYOND = "in ISO_IR 192, which the asker may not read: nothing else has the characters"


@dataclass(frozen=True, slots=True)
class FindResponse:
    """One C-FIND response. `identifier` is encoded in the transfer syntax of the request; only pending ones have it.

    `accession_number` is that of the item which a pending response is about; `is_cut` says of the final one that the
    caller's answer limit left items out.
    """

    status: int
    identifier: bytes | None = None
    error_comment: str = ""
    offending_elements: tuple[int, ...] = ()
    accession_number: str = ""
    writing: Writing = Writing.WHOLE
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One item as it is sent: the encoded identifier and what became of its text."""

    identifier: bytes
    writing: Writing = Writing.WHOLE


def answerable(row: WorklistRow) -> bool:
    """Whether the item has all its type 1 values; without a Study Instance UID a unit would invent one."""
    return all((row.study_instance_uid, row.patient_id, row.patient_name, row.scheduled_date, row.scheduled_time))


def responses(
    rows: Iterable[WorklistRow],
    identifier: Identifier,
    transfer_syntax: str,
    *,
    profile: Profile,
    is_cancelled: Callable[[], bool],
    zone: tzinfo | None = None,
) -> Iterator[FindResponse]:
    """Pending responses and the final one; a C-CANCEL is looked for before each (PS3.7 9.1.2.1.7).

    `profile` is the caller's; of more rows than it takes, the last are cut. `zone` is the site's.
    """
    for number, row in enumerate(rows):
        if is_cancelled():
            break
        if number == profile.answer_limit:
            yield _cut(profile)
            return
        found = answer(row, identifier, transfer_syntax, profile=profile, zone=zone)
        yield FindResponse(PENDING, found.identifier, accession_number=row.accession_number, writing=found.writing)
    yield FindResponse(CANCELLED if is_cancelled() else SUCCESS)


def _cut(profile: Profile) -> FindResponse:
    """The end of a list that was cut, as the profile wants it: there is no status for *more exist*."""
    if profile.limit_status == "success":
        return FindResponse(SUCCESS, is_cut=True)
    comment = f"more items match: {profile.answer_limit} shown, narrow the query"
    return FindResponse(OUT_OF_RESOURCES, None, comment, is_cut=True)


def answer(
    row: WorklistRow,
    identifier: Identifier,
    transfer_syntax: str,
    *,
    profile: Profile = DEFAULT,
    zone: tzinfo | None = None,
) -> Answer:
    """The identifier of one response, in the plainest character set that the asker reads and that holds its text."""
    station = _station(identifier)
    for written, character_set, writing in _writings(row, identifier.character_set, profile):
        try:
            elements = _Answer(written, character_set, profile, station, zone).elements(identifier.keys)
        except UnicodeEncodeError:
            continue
        if character_set.values:
            tag = character_sets.SPECIFIC_CHARACTER_SET
            elements[tag] = Element(tag, "CS", str(character_set).encode("ascii"))
        return Answer(data_set.encode(elements.values(), transfer_syntax), writing)
    raise AssertionError("UTF-8 holds every text")


def _writings(
    row: WorklistRow, asked: CharacterSet, profile: Profile
) -> Iterator[tuple[WorklistRow, CharacterSet, Writing]]:
    """The ways to write an item, best first."""
    own = character_sets.sets_of(asked)
    for character_set in own:
        yield row, character_set, Writing.WHOLE
    if profile.reads_utf8:
        yield row, UTF_8, Writing.WHOLE
    fitted = _transliterated(row, own[-1])
    for character_set in own:
        yield fitted, character_set, Writing.TRANSLITERATED
    yield row, UTF_8, Writing.BEYOND


_PROSE = (
    "patient_name",
    "performing_physician",
    "study_description",
    "procedure_code_meaning",
    "location",
)
"""What may be written in other letters; an identifier in other letters is another identifier."""


def _transliterated(row: WorklistRow, character_set: CharacterSet) -> WorklistRow:
    """The item with names and descriptions in this set, as far as they can be."""
    texts = {name: getattr(row, name) for name in _PROSE}
    fitted: dict[str, Any] = {name: transliterated(text, character_set.has) for name, text in texts.items() if text}
    return replace(row, **{name: text for name, text in fitted.items() if text is not None})


def _station(identifier: Identifier) -> str:
    """The one station title that was asked for, "" when it was left open."""
    asked = next((key.text for key in identifier.step if key.tag == keys.SCHEDULED_STATION_AE_TITLE), "")
    return "" if any(c in asked for c in "*?\\") or len(asked) > _LIMITS["AE"] else asked


class _Answer:
    """Renders one row in one character set; `station` is the title asked for, if one was."""

    def __init__(
        self, row: WorklistRow, character_set: CharacterSet, profile: Profile, station: str, zone: tzinfo | None
    ) -> None:
        self.row = row
        self.character_set = character_set
        self.profile = profile
        self.station = station
        self.zone = zone

    def elements(self, asked: Iterable[Key]) -> DataSet:
        return {key.tag: self._element(key) for key in asked if key.tag not in self.profile.omit_keys}

    def _element(self, key: Key) -> Element:
        if key.vr == "SQ":
            return Element(key.tag, "SQ", items=self._items(key))
        values = self._values(key)
        return Element(key.tag, key.vr, self.character_set.encode("\\".join(values), key.vr))

    def _values(self, key: Key) -> keys.Values:
        values = key.attribute.values(self.row) if key.attribute and key.attribute.values else ()
        if key.tag == keys.SCHEDULED_STATION_AE_TITLE:
            values = self._stations(values)
        elif key.tag == keys.TIMEZONE_OFFSET_FROM_UTC:
            values = _offset(self.row, self.zone)
        return tuple(value for value in values if _fits(value, key.vr))

    def _stations(self, values: keys.Values) -> keys.Values:
        """All of the item's; a title that stands for them, or for none, as asked: units filter by it (design §3.15)."""
        if self.station and self.station not in values:
            return (self.station,)
        return values or ((self.profile.ae_title,) if self.profile.ae_title else ())

    def _items(self, key: Key) -> tuple[DataSet, ...]:
        if key.tag == keys.SCHEDULED_PROCEDURE_STEP_SEQUENCE:
            return (self.elements(key.keys or _WHOLE_STEP),)
        if key.tag in keys.CODE_SEQUENCES:
            return self._code(key)
        return ()

    def _code(self, key: Key) -> tuple[DataSet, ...]:
        """The procedure code as far as it was asked for; an incomplete code is none (PS3.3 8.8)."""
        known = keys.code_of(self.row)
        asked = {nested.tag for nested in key.keys} or known.keys()
        code = {tag: text for tag, text in known.items() if tag in asked and tag not in self.profile.omit_keys}
        vrs = {tag: data_set.vr_of(tag) for tag in code}
        elements = {
            tag: Element(tag, vrs[tag], self.character_set.encode(text, vrs[tag])) for tag, text in code.items()
        }
        return (elements,) if elements else ()


def _offset(row: WorklistRow, zone: tzinfo | None) -> keys.Values:
    """The site's offset from UTC at the start of the step, as `+0100` (PS3.3 C.12.1.1.8)."""
    if zone is None:
        return ()
    text = row.scheduled_date + row.scheduled_time[:6].ljust(6, "0")
    try:
        return (datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=zone).strftime("%z"),)
    except ValueError:
        return ()


def _fits(value: str, vr: str) -> bool:
    """Whether a strict unit takes the value (PS3.5 6.2); what does not fit is better unknown than refused."""
    if vr in _CODED and not value.isascii():
        return False
    if vr == "PN":
        return all(len(group) <= _PN_GROUP_LIMIT for group in value.split("="))
    return len(value) <= _LIMITS.get(vr, len(value))
