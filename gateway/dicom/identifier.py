"""The identifier of a C-FIND request, decoded once and strictly (PS3.4 K.4.1.1.3): what is asked, and what of.

What can't be read is refused with the offending element; it never turns into a key that matches everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.dicom import character_sets, data_set
from gateway.dicom.character_sets import ASCII, SPECIFIC_CHARACTER_SET, CharacterSet
from gateway.dicom.data_set import DataSet, Element, Undecodable
from gateway.dicom.keys import (
    QUERY_RETRIEVE_LEVEL,
    ROOT,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    STEP,
    Attribute,
    Matching,
)
from gateway.dicom.status import IDENTIFIER_DOES_NOT_MATCH, RequestRefused

_FIRST_GROUP = 0x0008
"""Groups below are command set and file meta information, never part of an identifier."""

_TRAILING_PADDING = 0xFFFCFFFC

_LONGEST = 64 * 1024
"""Bytes of an identifier: room for a thousand UIDs; real ones have some hundreds."""

_LONGEST_TEXT = 1024
_MOST_VALUES = 100
"""Characters and values of one key that is no list of UIDs. Each item is held against all of them."""


@dataclass(frozen=True, slots=True)
class Key:
    """One requested attribute.

    `text` is its matching value without padding, "" for a key that only wants an answer; `is_ignored`: it came with a
    value that nothing is matched by (PS3.4 K.2.2.1.1.2). `keys` are those of the item of a sequence, none of them when
    the whole item is wanted. `attribute` is its row of Table K.6-1, if it has one.
    """

    tag: int
    vr: str
    attribute: Attribute | None = None
    text: str = ""
    keys: tuple[Key, ...] = ()
    is_ignored: bool = False


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a query asks. `step` are the keys inside the Scheduled Procedure Step Sequence."""

    keys: tuple[Key, ...]
    character_set: CharacterSet = ASCII
    step: tuple[Key, ...] = field(default=())

    def matched(self) -> Iterator[Key]:
        """The keys that have something to match."""
        return (key for key in (*self.keys, *self.step) if key.text)

    def ignored(self) -> Iterator[Key]:
        """The keys whose value is not matched by, such as a modality outside of the step's sequence."""
        return (key for key in (*self.keys, *self.step) if key.is_ignored)


def read(data: bytes | None, transfer_syntax: str, default: CharacterSet = ASCII) -> Identifier:
    """The identifier these bytes are. `default` is the character set of a modality that declares none.

    Raises `RequestRefused` with 0xA900 and the Offending Element.
    """
    if not data:
        raise _refused("the identifier is absent")
    if len(data) > _LONGEST:
        raise _refused(f"the identifier is longer than {_LONGEST} bytes")
    try:
        elements = data_set.decode(data, transfer_syntax)
    except Undecodable as error:
        raise _refused(f"identifier: {error.message}", error.tag) from None
    character_set = character_sets.declared(elements, default)
    keys = tuple(_keys(elements, ROOT, character_set))
    if not any(key.attribute for key in keys):
        raise _refused("the identifier has no key of the worklist model")
    step = next((key.keys for key in keys if key.tag == SCHEDULED_PROCEDURE_STEP_SEQUENCE), ())
    return Identifier(keys, character_set, step)


def _keys(elements: DataSet, table: dict[int, Attribute], character_set: CharacterSet) -> Iterator[Key]:
    for tag, element in sorted(elements.items()):
        if (
            tag in (SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, _TRAILING_PADDING)
            or tag >> 16 < _FIRST_GROUP
            or data_set.is_private(tag)
        ):
            continue
        attribute = table.get(tag)
        vr = _vr(element, attribute)
        if vr == "SQ":
            yield Key(tag, vr, attribute, keys=tuple(_item(element, character_set)))
        elif element.items:
            raise _refused("a sequence stands where a value should", tag)
        else:
            is_matched = attribute is not None and attribute.matching is not Matching.NONE
            text = _text(element, attribute, character_set) if attribute and is_matched else ""
            yield Key(tag, vr, attribute, text, is_ignored=not is_matched and bool(element.value.strip(b" \0")))


def _vr(element: Element, attribute: Attribute | None) -> str:
    """The standard's for what it knows, whatever was sent, so that no key is taken for what it is not."""
    if attribute:
        return attribute.vr
    return "SQ" if data_set.vr_of(element.tag) == "SQ" else element.vr


def _item(element: Element, character_set: CharacterSet) -> Iterator[Key]:
    """The keys of the one item of a key sequence (PS3.4 C.2.2.2.6)."""
    if element.value:
        raise _refused("a sequence holds something that is no item", element.tag)
    if len(element.items) > 1:
        raise _refused("a key sequence has more than one item", element.tag)
    table = STEP if element.tag == SCHEDULED_PROCEDURE_STEP_SEQUENCE else {}
    for item in element.items:
        yield from _keys(item, table, character_sets.declared(item, character_set))


def _text(element: Element, attribute: Attribute, character_set: CharacterSet) -> str:
    try:
        text = character_set.decode(element.value.rstrip(b"\0"), attribute.vr).strip(" ")
    except (UnicodeError, LookupError):
        raise _refused("a key is not in the declared character set", element.tag) from None
    if attribute.matching is not Matching.UID and (len(text) > _LONGEST_TEXT or text.count("\\") >= _MOST_VALUES):
        raise _refused(f"a key of more than {_LONGEST_TEXT} characters or {_MOST_VALUES} values", element.tag)
    return text


def _refused(comment: str, tag: int | None = None) -> RequestRefused:
    return RequestRefused(IDENTIFIER_DOES_NOT_MATCH, comment, tags=(tag,) if tag is not None else ())
