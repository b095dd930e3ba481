"""What persons are called, and pseudonyms for it in texts that were not meant to name anybody.

Found are Patient IDs, written with blanks or hyphens too, and each word of a name, whatever its case and accents. Not
found are nicknames and misspellings.
"""

from __future__ import annotations

import re

from gateway.domain.names import folded
from gateway.domain.pseudonyms import Pseudonyms

_A_WORD, _AN_ID = 3, 6
"""Letters of a word, and digits of an id inside of others, that tell something."""
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d(?:[ -]?\d)+")
_BETWEEN_BLANKS = re.compile(r"\S+")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class KnownPersons:
    """Learns names and ids first; then takes them out of texts."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._words: set[str] = set()
        self._ids: set[str] = set()
        self._lengths: set[int] = set()

    def learn_name(self, name: str) -> None:
        """Somebody is called so."""
        words = (_plain(word) for word in _LETTERS.findall(name))
        self._words |= {word for word in words if len(word) >= _A_WORD}

    def learn_id(self, patient_id: str) -> None:
        """Somebody has this Patient ID."""
        known = patient_id.strip(" \0")
        if len(known) >= _A_WORD:
            self._ids.add(known)
        if known.isdecimal() and len(known) >= _AN_ID:
            self._lengths.add(len(known))

    def taken_out(self, text: str) -> str:
        """The text with pseudonyms in their places; a UID stays."""
        if _UID.fullmatch(text):
            return text
        text = _BETWEEN_BLANKS.sub(lambda found: self._id(found[0]), text)
        text = _DIGITS.sub(lambda found: self._digits(found[0]), text)
        return _LETTERS.sub(lambda found: self._word(found[0]), text)

    def _id(self, text: str) -> str:
        return self._pseudonyms.patient_id(text) if text in self._ids else text

    def _word(self, word: str) -> str:
        return self._pseudonyms.name(word) if _plain(word) in self._words else word

    def _digits(self, text: str) -> str:
        """Each id in a run of digits, its blanks and hyphens kept where they were."""
        signs, places = list(text), [place for place, sign in enumerate(text) if sign.isdigit()]
        digits, first = "".join(signs[place] for place in places), 0
        while first < len(digits):
            known = next((n for n in self._lengths if digits[first : first + n] in self._ids), 0)
            if known:
                other = self._pseudonyms.patient_id(digits[first : first + known])
                for place, sign in zip(places[first : first + known], other, strict=True):
                    signs[place] = sign
            first += known or 1
        return "".join(signs)


def _plain(word: str) -> str:
    return "=".join(folded(word))
