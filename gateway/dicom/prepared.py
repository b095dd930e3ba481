"""Prepared bytes: the elements of worklist items as they are sent, encoded once (design §3.18).

A `Form` says what a query wants back: bytes that are the same for every item, and fields that are not. A `PreparedItem`
is one row at one version; it encodes a field when it is first asked for in a transfer syntax and character set, and
joins what a form names. Joined bytes are those that encoding the whole data set would give.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from gateway.dicom import character_sets, data_set, keys
from gateway.dicom.character_sets import SPECIFIC_CHARACTER_SET, CharacterSet
from gateway.dicom.identifier import Identifier, Key
from gateway.dicom.profiles import Profile
from gateway.dicom.transliteration import transliterated
from projections.worklist import Version, WorklistRow

_LIMITS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "DA": 8, "TM": 14, "UI": 64}
_PN_GROUP_LIMIT = 64
_CODED = frozenset({"AE", "CS", "DA", "TM", "UI"})
"""VRs without a character set: ASCII (PS3.5 6.1.2.3)."""
_WHOLE_STEP = tuple(Key(tag, attribute.vr, attribute) for tag, attribute in keys.STEP.items())
_WHOLE_CODE = (keys.CODE_VALUE, keys.CODING_SCHEME_DESIGNATOR, keys.CODE_MEANING)

_MOST_ITEMS = 500
"""Items that are kept prepared: a few days of a site."""
_MOST_WAYS = 4
"""Transfer syntaxes and character sets that one item is kept encoded in."""
_MOST_FIELDS = 40
"""Elements that one item is kept encoded of, each way. A unit asks for some twenty."""


class Field(NamedTuple):
    """An element that differs from item to item.

    `is_of_step`: it stands inside the Scheduled Procedure Step Sequence. `stations` are the title that stands for the
    item's own, if any, and the one that an item without any is given; `code` the elements wanted of a code sequence.
    """

    tag: int
    vr: str
    is_of_step: bool = False
    stations: tuple[str, str] = ("", "")
    code: tuple[int, ...] = ()


Part = bytes | Field

_CHARACTER_SET = Field(SPECIFIC_CHARACTER_SET, "CS")


@dataclass(frozen=True, slots=True)
class Form:
    """What a query wants back, in the order of the tags, in one transfer syntax.

    `step` are the parts of the Scheduled Procedure Step Sequence's item, None when that is not wanted. `character_sets`
    are those that the asker reads, plainest first.
    """

    before: tuple[Part, ...]
    step: tuple[Part, ...] | None
    after: tuple[Part, ...]
    is_explicit: bool
    character_sets: tuple[CharacterSet, ...]
    reads_utf8: bool

    @classmethod
    def of(cls, identifier: Identifier, transfer_syntax: str, profile: Profile) -> Form:
        """The form of the answers to this query; `profile` is the caller's."""
        drafting = _Drafting(identifier, transfer_syntax == data_set.EXPLICIT_VR_LITTLE_ENDIAN, profile)
        wanted = [key for key in identifier.keys if key.tag not in profile.omit_keys]
        sequence = next((key for key in wanted if key.tag == keys.SCHEDULED_PROCEDURE_STEP_SEQUENCE), None)
        place = wanted.index(sequence) if sequence else len(wanted)
        step = drafting.parts(sequence.keys or _WHOLE_STEP, is_of_step=True) if sequence else None
        return cls(
            before=drafting.parts(wanted[:place], declares=True),
            step=step,
            after=drafting.parts(wanted[place + 1 :]),
            is_explicit=drafting.is_explicit,
            character_sets=character_sets.sets_of(identifier.character_set),
            reads_utf8=profile.reads_utf8,
        )


class _Drafting:
    """Makes parts of keys."""

    def __init__(self, identifier: Identifier, is_explicit: bool, profile: Profile) -> None:
        self.is_explicit = is_explicit
        self.profile = profile
        self.stations = (_station(identifier), profile.ae_title)

    def parts(self, asked: Iterable[Key], *, is_of_step: bool = False, declares: bool = False) -> tuple[Part, ...]:
        """Parts in the order of their tags; `declares`: the character set among them."""
        parts = {
            key.tag: self._part(key, is_of_step=is_of_step) for key in asked if key.tag not in self.profile.omit_keys
        }
        if declares:
            parts[SPECIFIC_CHARACTER_SET] = _CHARACTER_SET
        return tuple(_merged(parts[tag] for tag in sorted(parts)))

    def _part(self, key: Key, *, is_of_step: bool) -> Part:
        if key.tag == keys.SCHEDULED_STATION_AE_TITLE:
            return Field(key.tag, key.vr, is_of_step, stations=self.stations)
        if key.tag in keys.CODE_SEQUENCES:
            asked = tuple(nested.tag for nested in key.keys) or _WHOLE_CODE
            wanted = tuple(tag for tag in _WHOLE_CODE if tag in asked and tag not in self.profile.omit_keys)
            return Field(key.tag, key.vr, is_of_step, code=wanted)
        if key.tag == keys.TIMEZONE_OFFSET_FROM_UTC or (key.attribute and key.attribute.values):
            return Field(key.tag, key.vr, is_of_step)
        return data_set.encode_value(key.tag, key.vr, b"", explicit=self.is_explicit)


def _merged(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts with bytes that follow each other in one piece."""
    constant = b""
    for part in parts:
        if isinstance(part, bytes):
            constant += part
            continue
        if constant:
            yield constant
        yield part
        constant = b""
    if constant:
        yield constant


def _station(identifier: Identifier) -> str:
    """The one station title that was asked for, "" when it was left open."""
    asked = next((key.text for key in identifier.step if key.tag == keys.SCHEDULED_STATION_AE_TITLE), "")
    return "" if any(c in asked for c in "*?\\") or len(asked) > _LIMITS["AE"] else asked


# --- items


class PreparedItem:
    """One row and, as far as it was asked for, its encoded elements; `zone` is the site's. Used by many threads."""

    __slots__ = ("_encoded", "_fitted", "_zone", "row")

    def __init__(self, row: WorklistRow, zone: tzinfo | None = None) -> None:
        self.row = row
        self._zone = zone
        self._encoded: dict[tuple[bool, CharacterSet], _Encoded] = {}
        self._fitted: dict[CharacterSet, PreparedItem] = {}

    def joined(self, form: Form, character_set: CharacterSet) -> bytes:
        """The identifier of a response. Raises UnicodeEncodeError when the set lacks a character of what is wanted."""
        encoded = self._in(form.is_explicit, character_set)
        before, after = _joined(form.before, encoded), _joined(form.after, encoded)
        if form.step is None:
            return before + after
        tag, item = keys.SCHEDULED_PROCEDURE_STEP_SEQUENCE, _joined(form.step, encoded)
        return before + data_set.encode_items(tag, (item,), explicit=form.is_explicit) + after

    def fitted(self, character_set: CharacterSet) -> PreparedItem:
        """The item with names and descriptions in the letters of this set, as far as they can be."""
        found = self._fitted.get(character_set)
        if found is None:
            found = PreparedItem(_transliterated(self.row, character_set), self._zone)
            self._fitted = {character_set: found}
        return found

    def _in(self, is_explicit: bool, character_set: CharacterSet) -> _Encoded:
        encoded = self._encoded.get((is_explicit, character_set))
        if encoded is None:
            if len(self._encoded) >= _MOST_WAYS:
                self._encoded = {}
            encoded = self._encoded[is_explicit, character_set] = _Encoded(
                self.row, self._zone, character_set, explicit=is_explicit
            )
        return encoded


def _joined(parts: Sequence[Part], encoded: _Encoded) -> bytes:
    return b"".join([part if isinstance(part, bytes) else encoded[part] for part in parts])


class _Encoded(dict[Field, bytes]):
    """The elements of one row in one transfer syntax and character set, each encoded when it is first looked up."""

    def __init__(self, row: WorklistRow, zone: tzinfo | None, character_set: CharacterSet, *, explicit: bool) -> None:
        super().__init__()
        self._row = row
        self._zone = zone
        self._character_set = character_set
        self._explicit = explicit
        self._beyond: set[Field] = set()
        """What this set lacks a character of."""

    def __missing__(self, field: Field) -> bytes:
        if field in self._beyond:
            raise UnicodeEncodeError(str(self._character_set), "", 0, 0, "no such character in this set")
        if len(self) + len(self._beyond) >= _MOST_FIELDS:
            self.clear()
            self._beyond = set()
        try:
            element = self[field] = self._element(field)
        except UnicodeEncodeError:
            self._beyond.add(field)
            raise
        return element

    def _element(self, field: Field) -> bytes:
        if field is _CHARACTER_SET:
            return self._declaration()
        if field.vr == "SQ":
            return data_set.encode_items(field.tag, self._items(field), explicit=self._explicit)
        return self._text(field.tag, field.vr, "\\".join(_fitting(self._values(field), field.vr)))

    def _declaration(self) -> bytes:
        """The Specific Character Set, unless it is ASCII."""
        return self._text(SPECIFIC_CHARACTER_SET, "CS", str(self._character_set)) if self._character_set.values else b""

    def _text(self, tag: int, vr: str, text: str) -> bytes:
        return data_set.encode_value(tag, vr, self._character_set.encode(text, vr), explicit=self._explicit)

    def _values(self, field: Field) -> keys.Values:
        attribute = (keys.STEP if field.is_of_step else keys.ROOT).get(field.tag)
        values = attribute.values(self._row) if attribute and attribute.values else ()
        if field.tag == keys.SCHEDULED_STATION_AE_TITLE:
            return _stations(values, *field.stations)
        return _offset(self._row, self._zone) if field.tag == keys.TIMEZONE_OFFSET_FROM_UTC else values

    def _items(self, field: Field) -> tuple[bytes, ...]:
        """The procedure code as far as it was asked for; an incomplete code is none (PS3.3 8.8)."""
        known = keys.code_of(self._row)
        code = b"".join(self._text(tag, data_set.vr_of(tag), known[tag]) for tag in field.code if tag in known)
        return (code,) if code else ()


def _stations(own: keys.Values, asked: str, otherwise: str) -> keys.Values:
    """All of the item's; a title that stands for them, or for none, as asked: units filter by it (design §3.15)."""
    if asked and asked not in own:
        return (asked,)
    return own or ((otherwise,) if otherwise else ())


def _offset(row: WorklistRow, zone: tzinfo | None) -> keys.Values:
    """The site's offset from UTC at the start of the step, as `+0100` (PS3.3 C.12.1.1.8)."""
    if zone is None:
        return ()
    text = row.scheduled_date + row.scheduled_time[:6].ljust(6, "0")
    try:
        return (datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=zone).strftime("%z"),)
    except ValueError:
        return ()


def _fitting(values: keys.Values, vr: str) -> keys.Values:
    return tuple(value for value in values if _fits(value, vr))


def _fits(value: str, vr: str) -> bool:
    """Whether a strict unit takes the value (PS3.5 6.2); what does not fit is better unknown than refused."""
    if vr in _CODED and not value.isascii():
        return False
    if vr == "PN":
        return all(len(group) <= _PN_GROUP_LIMIT for group in value.split("="))
    return len(value) <= _LIMITS.get(vr, len(value))


_PROSE = (
    "patient_name",
    "performing_physician",
    "study_description",
    "procedure_code_meaning",
    "location",
)
"""What may be written in other letters; an identifier in other letters is another identifier."""


def _transliterated(row: WorklistRow, character_set: CharacterSet) -> WorklistRow:
    texts = {name: getattr(row, name) for name in _PROSE}
    fitted: dict[str, Any] = {name: transliterated(text, character_set.has) for name, text in texts.items() if text}
    return replace(row, **{name: text for name, text in fitted.items() if text is not None})


# --- what is kept


class PreparedItems:
    """The items that units ask for all day, each at one version. The least asked for gives way. For many threads."""

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self._items: OrderedDict[str, PreparedItem] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, version: Version) -> PreparedItem | None:
        """The item at this version, if it is kept."""
        accession_number, row_version = version
        with self._lock:
            item = self._items.get(accession_number)
            if item is None or item.row.row_version != row_version:
                return None
            self._items.move_to_end(accession_number)
            return item

    def of(self, row: WorklistRow, *, kept: bool) -> PreparedItem:
        """The item of a row that was read; `kept` from now on, in the place of another version."""
        found = self.get((row.accession_number, row.row_version))
        if found:
            return found
        item = PreparedItem(row, self._zone)
        if kept and row.row_version:
            with self._lock:
                self._items[row.accession_number] = item
                self._items.move_to_end(row.accession_number)
                if len(self._items) > _MOST_ITEMS:
                    self._items.popitem(last=False)
        return item
