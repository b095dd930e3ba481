"""Text in the letters that somebody can read: only what does not fit is changed, and what can't be is left to others.

By Unicode's own decompositions, least loss first (ǘ becomes ü where that fits, else u), and a table of Latin letters
and signs that have none. Other scripts are not transliterated: a wrong name is worse than one in another encoding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_TABLE = {
    "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d", "Ð": "D", "ð": "d", "Þ": "TH", "þ": "th",
    "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ẞ": "SS", "ß": "ss", "ı": "i", "Ħ": "H", "ħ": "h", "Ŋ": "N", "ŋ": "n",
    "Ŧ": "T", "ŧ": "t", "ĸ": "k", "Ə": "E", "ə": "e", "Ɖ": "D", "ɖ": "d", "Ɗ": "D", "ɗ": "d", "Ɓ": "B", "ɓ": "b",
    "Ƙ": "K", "ƙ": "k", "Ƴ": "Y", "ƴ": "y", "Ɔ": "O", "ɔ": "o", "Ɛ": "E", "ɛ": "e", "Ɣ": "G", "ɣ": "g",
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "ʻ": "'", "ʹ": "'", "′": "'", "´": "'", "“": '"', "”": '"',
    "„": '"', "«": '"', "»": '"', "‹": "'", "›": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-",
    "•": "-", "·": ".", "×": "x", "⁄": "/", "\N{SOFT HYPHEN}": "", "\N{ZERO WIDTH SPACE}": "",
}  # fmt: skip
"""What has no decomposition in Unicode, as a keyboard without it writes it."""

_ACCENTS = range(0x0300, 0x0370)
"""Combining marks of Latin, Greek and Cyrillic letters; other scripts' marks tell letters apart."""


def transliterated(text: str, fits: Callable[[str], bool]) -> str | None:
    """The text in characters that fit; None when one of them has no counterpart that does."""
    characters = [_fitted(character, fits) for character in unicodedata.normalize("NFC", text)]
    return None if None in characters else "".join(character or "" for character in characters)


def _fitted(character: str, fits: Callable[[str], bool]) -> str | None:
    if fits(character):
        return character
    counterpart = _TABLE.get(character)
    if counterpart is None:
        counterpart = _without_accent(character)
    if counterpart is None:
        return None
    parts = [_fitted(part, fits) for part in counterpart]
    return None if None in parts else "".join(part or "" for part in parts)


def _without_accent(character: str) -> str | None:
    """The next simpler form of a character, None when it has none."""
    if ord(character) in _ACCENTS:
        return ""
    _, _, codes = unicodedata.decomposition(character).rpartition("> ")
    return "".join(chr(int(code, 16)) for code in codes.split()) or None
