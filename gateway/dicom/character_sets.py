"""Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1): text never loses a character unnoticed on its way in or out.

Read and written strictly in what is declared, code extensions (ISO 2022, PS3.5 6.1.2.5) included. Nothing is ever
replaced by a question mark, nothing goes out undeclared. The tables of characters are Python's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from gateway.dicom.data_set import DataSet

SPECIFIC_CHARACTER_SET = 0x00080005

_ESCAPE = 0x1B
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs that the Specific Character Set governs (PS3.5 6.1.2.3); the others are ASCII."""

_CONTROLS = frozenset(b"\t\n\f\r")
_DELIMITERS = {"PN": _CONTROLS | frozenset(b"^=\\"), "LO": _CONTROLS | frozenset(b"\\")}
"""Where the first set is in force again (PS3.5 6.1.2.5.3)."""
_SEGMENTS = re.compile(r"([\^=\\\t\n\f\r]+)")


@dataclass(frozen=True, slots=True)
class _Graphics:
    """A set of graphic characters that an escape sequence designates (PS3.3 Tables C.12-3 and C.12-4).

    `upper`: into G1, bytes from A0; else into G0, where it takes ASCII's place. Each character is `width` bytes, in
    Python's codec with `prefix` before them and the high bits set.
    """

    escape: bytes
    codec: str
    width: int = 1
    upper: bool = True
    prefix: bytes = b""

    def encoded(self, character: str) -> bytes | None:
        """The bytes of a character, None when the set has no such."""
        try:
            code = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        code, prefix = code[len(self.prefix) :], code[: len(self.prefix)]
        if prefix != self.prefix or len(code) != self.width or min(code) < 0xA0:
            return None
        return code if self.upper else bytes(byte & 0x7F for byte in code)

    def decoded(self, code: bytes) -> str:
        """The character of these bytes. Raises UnicodeError."""
        high = code if self.upper else bytes(byte | 0x80 for byte in code)
        if len(high) != self.width or min(high) < 0xA0:
            raise UnicodeError("no character")
        return (self.prefix + high).decode(self.codec)


_GRAPHICS = {
    13: _Graphics(b"\x1b)I", "shift_jis"),
    100: _Graphics(b"\x1b-A", "iso8859_1"),
    101: _Graphics(b"\x1b-B", "iso8859_2"),
    109: _Graphics(b"\x1b-C", "iso8859_3"),
    110: _Graphics(b"\x1b-D", "iso8859_4"),
    126: _Graphics(b"\x1b-F", "iso8859_7"),
    127: _Graphics(b"\x1b-G", "iso8859_6"),
    138: _Graphics(b"\x1b-H", "iso8859_8"),
    144: _Graphics(b"\x1b-L", "iso8859_5"),
    148: _Graphics(b"\x1b-M", "iso8859_9"),
    166: _Graphics(b"\x1b-T", "tis_620"),
    203: _Graphics(b"\x1b-b", "iso8859_15"),
    87: _Graphics(b"\x1b$B", "euc_jp", 2, upper=False),
    159: _Graphics(b"\x1b$(D", "euc_jp", 2, upper=False, prefix=b"\x8f"),
    149: _Graphics(b"\x1b$)C", "euc_kr", 2),
    58: _Graphics(b"\x1b$)A", "gb2312", 2),
}
"""By ISO registration number, as in the defined terms."""
_KATAKANA = _GRAPHICS[13]
_TO_ASCII, _TO_ROMAJI = b"\x1b(B", b"\x1b(J"

_ALONE = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
"""Sets that take no code extensions (PS3.3 Table C.12-5), with Python's codecs."""
_TERM = re.compile(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The values of (0008,0005) by their defined terms; none means ASCII, and so does one that nobody knows."""

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> CharacterSet:
        r"""The set that a value of (0008,0005) names, such as `ISO_IR 100` or `\ISO 2022 IR 87`."""
        values = tuple(_term(value.strip(" \0")) for value in text.split("\\"))
        return cls(values if any(values) else ())

    def __str__(self) -> str:
        return "\\".join(self.values)

    @property
    def is_known(self) -> bool:
        """Whether every value is a defined term that we can read and write."""
        alone = len(self.values) == 1 and self.values[0] in _ALONE
        return alone or all(not value or _number(value) in (6, *_GRAPHICS) for value in self.values)

    def decode(self, value: bytes, vr: str) -> str:
        """The text, or UnicodeError when it is not in this set. Insignificant padding stays."""
        if vr not in _TEXT_VRS:
            return value.decode("ascii")
        if value.isascii() and _ESCAPE not in value:
            return value.decode("ascii")
        codec = _alone(self)
        return value.decode(codec) if codec else "".join(_decoded(value, self, _DELIMITERS.get(vr, _DELIMITERS["LO"])))

    def encode(self, text: str, vr: str) -> bytes:
        """The bytes of a text, without padding, or UnicodeEncodeError when a character is not in this set."""
        codec = _alone(self)
        if text.isascii() or vr not in _TEXT_VRS:
            return text.encode("ascii")
        if codec:
            return text.encode(codec)
        segments = _SEGMENTS.split(unicodedata.normalize("NFC", text))
        return b"".join(b"".join(_encoded(segment, self)) for segment in segments)

    def has(self, character: str) -> bool:
        """Whether it can be written in this set."""
        try:
            self.encode(character, "LO")
        except UnicodeEncodeError:
            return False
        return True


ASCII = CharacterSet()
UTF_8 = CharacterSet(("ISO_IR 192",))


def declared(data_set: DataSet, inherited: CharacterSet = ASCII) -> CharacterSet:
    """The set that governs a data set or an item: its own, else the one it inherits (PS3.3 C.12.1.1.2)."""
    element = data_set.get(SPECIFIC_CHARACTER_SET)
    if element is None:
        return inherited
    named = CharacterSet.of(element.value.decode("ascii", "ignore"))
    return named if named.values else inherited


def governs(vr: str) -> bool:
    """Whether the Specific Character Set governs values of this VR; the others are ASCII (PS3.5 6.1.2.3)."""
    return vr in _TEXT_VRS


@lru_cache(maxsize=64)
def sets_of(asked: CharacterSet) -> tuple[CharacterSet, ...]:
    """What one who asks in this set can read, plainest first: ASCII, its first value alone, all of it."""
    if _alone(asked):
        return ASCII, CharacterSet(asked.values[:1])
    numbers = [_number(value) for value in asked.values]
    known = [number for number in numbers if number in _GRAPHICS]
    if not known:
        return (ASCII,)
    first = numbers[0] if numbers[0] in _GRAPHICS and _GRAPHICS[numbers[0]].width == 1 else None
    alone = (CharacterSet((f"ISO_IR {first}",)),) if first else ()
    extensions = tuple(f"ISO 2022 IR {number}" for number in dict.fromkeys(known) if number != first)
    whole = (CharacterSet((f"ISO 2022 IR {first}" if first else "", *extensions)),) if extensions else ()
    return (ASCII, *alone, *whole)


def _term(value: str) -> str:
    """A defined term as the standard spells it: old units write `ISO-IR 100`, `iso_ir_100`."""
    found = _TERM.fullmatch(value)
    if not found:
        return value.upper() if value.upper() in _ALONE else value
    return f"ISO 2022 IR {int(found[2])}" if found[1] else f"ISO_IR {int(found[2])}"


@lru_cache(maxsize=64)
def _number(value: str) -> int:
    """The registration number of a defined term, 0 for what is none."""
    found = _TERM.fullmatch(value)
    return int(found[2]) if found else 0


def _alone(character_set: CharacterSet) -> str | None:
    return _ALONE.get(character_set.values[0]) if character_set.values else None


@lru_cache(maxsize=64)
def _graphics(character_set: CharacterSet) -> tuple[_Graphics | None, tuple[_Graphics, ...]]:
    """What is in G1 to begin with, and all that may be designated."""
    found = [_GRAPHICS.get(_number(value)) for value in character_set.values]
    first = found[0] if found else None
    return (first if first and first.upper else None), tuple(graphics for graphics in found if graphics)


def _decoded(value: bytes, character_set: CharacterSet, delimiters: frozenset[int]) -> Iterator[str]:
    """The characters of text with code extensions. Raises UnicodeError."""
    first, declared_graphics = _graphics(character_set)
    by_escape: dict[bytes, _Graphics | None] = {graphics.escape: graphics for graphics in declared_graphics}
    by_escape |= {_TO_ASCII: None, _TO_ROMAJI: None}
    g0, g1, position = None, first, 0
    while position < len(value):
        byte = value[position]
        if byte == _ESCAPE:
            escape = next((known for known in by_escape if value.startswith(known, position)), None)
            if escape is None:
                raise UnicodeError("an escape sequence is not of the declared character set")
            graphics = by_escape[escape]
            g0, g1 = (g0, graphics) if graphics and graphics.upper else (graphics, g1)
            position += len(escape)
        elif byte <= 0x20 or (byte < 0x80 and g0 is None):
            if byte in delimiters:
                g0, g1 = None, first or g1
            yield chr(byte)
            position += 1
        else:
            graphics = g0 if byte < 0x80 else g1
            if graphics is None:
                raise UnicodeError("the text is not in its declared character set")
            yield graphics.decoded(value[position : position + graphics.width])
            position += graphics.width


def _encoded(text: str, character_set: CharacterSet) -> Iterator[bytes]:
    """Text without delimiters, with code extensions where the first set does not suffice.

    Each run of another set begins with its escape sequence, also where the state would not need it: simple readers take
    a run for what its escape sequence says. In the end the first set is in force again (PS3.5 6.1.2.5.3).
    """
    first, all_graphics = _graphics(character_set)
    to_g0 = _TO_ROMAJI if first is _KATAKANA else _TO_ASCII
    run, g1 = first, first
    for character in text:
        graphics = run if character.isascii() else _holder(character, run, all_graphics)
        if run and not run.upper and (character.isascii() or graphics is not run):
            yield to_g0
            run = None
        if character.isascii():
            yield character.encode("ascii")
            continue
        if graphics is None:
            raise UnicodeEncodeError(str(character_set), character, 0, 1, "no such character in this set")
        if graphics is not run:
            yield graphics.escape
            run, g1 = graphics, graphics if graphics.upper else g1
        yield graphics.encoded(character) or b""
    if run and not run.upper:
        yield to_g0
    if first and g1 is not first:
        yield first.escape


def _holder(character: str, run: _Graphics | None, others: tuple[_Graphics, ...]) -> _Graphics | None:
    """The set to write a character in: the one in use if it has it, else the first declared that does."""
    candidates = (run, *others) if run else others
    return next((graphics for graphics in candidates if graphics.encoded(character) is not None), None)
