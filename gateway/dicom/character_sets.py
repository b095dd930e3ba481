"""Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1): text never loses a character on its way in or out.

In: decoded strictly in the set that the data set declares. Out: ASCII without the element when it suffices, else the
asker's own set when every character fits, else ISO_IR 192 (UTF-8). Nothing is replaced, nothing goes out undeclared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.charset import decode_bytes, python_encoding

from gateway.dicom.data_set import DataSet

SPECIFIC_CHARACTER_SET = 0x00080005

_ESCAPE = 0x1B
_ASCII_SETS = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
_DELIMITERS = {ord(character) for character in "^=\\\t\n\f\r"}
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs that the Specific Character Set governs (PS3.5 6.1.2.3); the others are ASCII."""

_REGISTRATIONS = (100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 192)
_ANSWERABLE = frozenset({*(f"ISO_IR {number}" for number in _REGISTRATIONS), "GB18030", "GBK"})
"""Sets without code extensions, which we can also write."""


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The values of (0008,0005); none means ASCII."""

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> CharacterSet:
        """The set that a value of (0008,0005), such as `ISO_IR 100`, names."""
        values = tuple(value.strip(" \0") for value in text.split("\\"))
        return cls(values if any(values) else ())

    def decode(self, value: bytes, vr: str) -> str:
        """The text, or UnicodeError when it is not in this set. Insignificant padding stays."""
        if vr not in _TEXT_VRS:
            return value.decode("ascii")
        if len(self.values) > 1 and _ESCAPE in value:
            return self._decode_extended(value)
        return value.decode(_codec(self.values[0] if self.values else ""))

    def _decode_extended(self, value: bytes) -> str:
        """Text with code extensions (ISO 2022, PS3.5 6.1.2.5)."""
        codecs = [python_encoding[name] for name in self.values if name in python_encoding]
        text = str(decode_bytes(value, codecs or ["ascii"], _DELIMITERS))
        if "\N{REPLACEMENT CHARACTER}" in text or "\x1b" in text:
            raise UnicodeError("the text is not in its declared character set")
        return text


ASCII = CharacterSet()


def declared(data_set: DataSet, inherited: CharacterSet = ASCII) -> CharacterSet:
    """The set that governs a data set or an item: its own, else the one it inherits (PS3.3 C.12.1.1.2)."""
    element = data_set.get(SPECIFIC_CHARACTER_SET)
    if element is None:
        return inherited
    return CharacterSet.of(element.value.decode("ascii", "ignore"))


def governs(vr: str) -> bool:
    """Whether the Specific Character Set governs values of this VR; the others are ASCII (PS3.5 6.1.2.3)."""
    return vr in _TEXT_VRS


def answers(asked: CharacterSet) -> Iterator[tuple[str, str]]:
    """The sets to answer in, best first, as the value of (0008,0005) ("" for none) and Python's codec."""
    yield "", "ascii"
    own = asked.values[0].replace("ISO 2022 IR", "ISO_IR") if asked.values else ""
    if own in _ANSWERABLE:
        yield own, _codec(own)
    if own != "ISO_IR 192":
        yield "ISO_IR 192", "utf-8"


def _codec(name: str) -> str:
    """Python's codec; an unknown set can still carry ASCII."""
    if name in _ASCII_SETS:
        return "ascii"
    return str(python_encoding.get(name, "ascii"))
