"""Text in the letters that somebody can read: only what does not fit is changed, and what can't be is left to others.

By Unicode's own decompositions, least loss first (ǘ becomes ü where that fits, else u), and a table of Latin letters
and signs that have none. Other scripts are not transliterated: a wrong name is worse than one in another encoding.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from gateway.domain.letters import ACCENTS, COUNTERPARTS

_ACCENT = re.compile(f"[{ACCENTS}]")
_DELIMITERS = frozenset("^=\\")
"""Those of DICOM's values; a full-width one must not become one of them."""


def transliterated(text: str, fits: Callable[[str], bool]) -> str | None:
    """The text in characters that fit; None when one of them has no counterpart that does."""
    characters = [_fitted(character, fits) for character in unicodedata.normalize("NFC", text)]
    return None if None in characters else "".join(character or "" for character in characters)


def _fitted(character: str, fits: Callable[[str], bool]) -> str | None:
    if fits(character):
        return character
    counterpart = COUNTERPARTS.get(character)
    if counterpart is None:
        counterpart = _without_accent(character)
    if counterpart is None or _DELIMITERS.intersection(counterpart):
        return None
    parts = [_fitted(part, fits) for part in counterpart]
    return None if None in parts else "".join(part or "" for part in parts)


def _without_accent(character: str) -> str | None:
    """The next simpler form of a character, None when it has none."""
    if _ACCENT.match(character):
        return ""
    _, _, codes = unicodedata.decomposition(character).rpartition("> ")
    return "".join(chr(int(code, 16)) for code in codes.split()) or None
