"""Data sets as bytes and back (PS3.5 7): little endian, strict, and no value in any error.

pydicom reads what it can and guesses the rest; for an identifier that means *match everything*. Here a data set is
whole or refused: each element complete, nothing after the last, no tag twice. What real units do is tolerated: group
lengths (dropped), undefined lengths, private elements, odd lengths, elements out of order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import VR

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
TRANSFER_SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DELIMITERS = 0xFFFE
_LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
"""Those with a 32 bit length in explicit VR (PS3.5 7.1.2), and any VR still to be invented."""
_SHORT_VRS = frozenset(vr.value for vr in VR if len(vr.value) == len("AE")) - _LONG_VRS
_LONGEST_SHORT = 0xFFFF
"""Bytes that a 16 bit length can announce."""
_IMPLICIT, _SHORT, _LONG = struct.Struct("<HHI"), struct.Struct("<HH2sH"), struct.Struct("<HH2sHI")
"""What stands before a value: in implicit VR, and in explicit VR with a length of 16 or 32 bit (PS3.5 7.1.2, 7.1.3)."""
_LENGTH = struct.Struct("<I")
_NUL_PADDED = frozenset({"UI", "OB", "UN"})
_DEEPEST = 16
"""More nesting than any object has; a limit against data made to exhaust the stack."""


class Undecodable(ValueError):
    """The bytes are no data set. `tag` is the element in which that shows, if any."""

    def __init__(self, message: str, tag: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.tag = tag


class Element(NamedTuple):
    """One data element: `value` as encoded, or the `items` of a sequence."""

    tag: int
    vr: str
    value: bytes = b""
    items: tuple[DataSet, ...] = ()


DataSet = dict[int, Element]


def tag_name(tag: int) -> str:
    """A tag as people write it, `(0010,0020)`."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@lru_cache(maxsize=1024)
def vr_of(tag: int) -> str:
    """The dictionary's VR (the first, where it names two); UN for what it does not know (PS3.6)."""
    try:
        return str(dictionary_VR(tag)).split(" ", 1)[0]
    except KeyError:
        return "UN"


def is_private(tag: int) -> bool:
    """Whether the group is odd (PS3.5 7.8)."""
    return bool(tag >> 16 & 1)


def decode(data: bytes, transfer_syntax: str) -> DataSet:
    """The data set these bytes are, all of them. Raises `Undecodable`."""
    if transfer_syntax not in TRANSFER_SYNTAXES:
        raise Undecodable("the transfer syntax is not supported")
    reader = _Reader(data, explicit=transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN)
    elements, _ = reader.elements(0, len(data))
    return elements


class _Reader:
    """Reads elements out of `data`; each method takes a position and returns what it read and the position after it."""

    def __init__(self, data: bytes, *, explicit: bool, depth: int = 0) -> None:
        if depth > _DEEPEST:
            raise Undecodable("sequences are nested too deeply")
        self.data = data
        self.explicit = explicit
        self.depth = depth

    def elements(self, position: int, end: int, *, delimited: bool = False) -> tuple[DataSet, int]:
        """The elements up to `end`, or up to the Item Delimitation Item of an item of undefined length."""
        elements: DataSet = {}
        while position < end:
            tag, vr, length, position = self._header(position, end)
            if delimited and tag == _ITEM_END:
                return elements, position
            element, position = self._element(tag, vr, length, position, end)
            if tag in elements:
                raise Undecodable("an element occurs twice", tag)
            if tag & 0xFFFF:
                elements[tag] = element
        if delimited:
            raise Undecodable("an item does not end")
        return elements, position

    def _header(self, position: int, end: int) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value starts (PS3.5 7.1.1)."""
        group, number, length = self._unpack(_IMPLICIT, position, end)
        tag = group << 16 | number
        if group == _DELIMITERS:
            return tag, "", length, position + 8
        if not self.explicit:
            return tag, vr_of(tag), length, position + 8
        code = self.data[position + 4 : position + 6]
        if not (code.isalpha() and code.isupper()):
            raise Undecodable("an element has no value representation", tag)
        vr = code.decode("ascii")
        if vr in _SHORT_VRS:
            return tag, vr, length >> 16, position + 8
        (length,) = self._unpack(_LENGTH, position + 8, end)
        return tag, vr, length, position + 12

    def _element(self, tag: int, vr: str, length: int, position: int, end: int) -> tuple[Element, int]:
        if tag >> 16 == _DELIMITERS:
            raise Undecodable("a delimiter stands where an element should", tag)
        known = vr_of(tag) if vr == "UN" else vr
        if known == "SQ" or length == _UNDEFINED:
            # a sequence sent as UN is encoded in Implicit VR Little Endian (PS3.5 6.2.2)
            reader = _Reader(self.data, explicit=self.explicit and vr != "UN", depth=self.depth + 1)
            items, position = reader.items(position, end if length == _UNDEFINED else position + length, end, length)
            return Element(tag, "SQ", items=items), position
        if position + length > end:
            raise Undecodable("an element is longer than the data", tag)
        return Element(tag, known, self.data[position : position + length]), position + length

    def items(self, position: int, end: int, limit: int, length: int) -> tuple[tuple[DataSet, ...], int]:
        """The items of a sequence, of defined or undefined length (PS3.5 7.5)."""
        if end > limit:
            raise Undecodable("a sequence is longer than the data")
        items: list[DataSet] = []
        while position < end:
            group, number, item_length = self._unpack(_IMPLICIT, position, end)
            tag, position = group << 16 | number, position + 8
            if tag == _SEQUENCE_END and length == _UNDEFINED:
                return tuple(items), position
            if tag != _ITEM:
                raise Undecodable("a sequence holds something that is no item", tag)
            item_end = end if item_length == _UNDEFINED else position + item_length
            if item_end > end:
                raise Undecodable("an item is longer than its sequence")
            item, position = self.elements(position, item_end, delimited=item_length == _UNDEFINED)
            items.append(item)
        if length == _UNDEFINED:
            raise Undecodable("a sequence does not end")
        return tuple(items), position

    def _unpack(self, layout: struct.Struct, position: int, end: int) -> tuple[int, ...]:
        if position + layout.size > end:
            raise Undecodable("the data ends inside an element")
        return layout.unpack_from(self.data, position)


def encode(elements: Iterable[Element], transfer_syntax: str) -> bytes:
    """Elements in the order of their tags, every length defined."""
    explicit = transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN
    return b"".join(_encoded(element, explicit=explicit) for element in sorted(elements, key=lambda e: e.tag))


def _encoded(element: Element, *, explicit: bool) -> bytes:
    if element.vr != "SQ":
        return encode_value(element.tag, element.vr, element.value, explicit=explicit)
    syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
    return encode_items(element.tag, [encode(item.values(), syntax) for item in element.items], explicit=explicit)


def encode_value(tag: int, vr: str, value: bytes, *, explicit: bool) -> bytes:
    """One element that is no sequence; the value is padded to an even length (PS3.5 7.1)."""
    if len(value) % 2:
        value += b"\0" if vr in _NUL_PADDED else b" "
    if not explicit:
        return _IMPLICIT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
    if vr not in _SHORT_VRS:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, len(value)) + value
    if len(value) > _LONGEST_SHORT:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, b"UN", 0, len(value)) + value  # PS3.5 6.2.2, note on UN
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode("ascii"), len(value)) + value


def encode_items(tag: int, items: Iterable[bytes], *, explicit: bool) -> bytes:
    """A sequence of these items, each the encoding of its elements."""
    value = b"".join(_IMPLICIT.pack(0xFFFE, 0xE000, len(item)) + item for item in items)
    return encode_value(tag, "SQ", value, explicit=explicit)
