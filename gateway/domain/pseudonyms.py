"""Other names, ids and dates in place of a person's: the same for the same, for as long as one `Pseudonyms` lives.

A value keeps its shape: length, case, script, separators, and what makes it valid. Which value stands for which depends
on a random key that is kept nowhere, so that nobody can try values until one fits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache

import nhs_number

from gateway.domain import values
from gateway.domain.names import folded
from gateway.errors import InvalidValue

_LETTERS, _DIGITS, _NONZERO = "abcdefghijklmnopqrstuvwxyz", "0123456789", "123456789"
_POOLS = {
    "LATIN": "àéöü",
    "GREEK": "αβγδεζηθ",
    "CYRILLIC": "абвгдежз",
    "HEBREW": "אבגדהוזח",
    "ARABIC": "ابتثجحخد",
    "THAI": "กขคงจฉชซ",
    "HIRAGANA": "あいうえおかきく",
    "KATAKANA": "アイウエオカキク",
    "HALFWIDTH": "ｱｲｳｴｵｶｷｸ",
    "FULLWIDTH": "ａｂｃｄｅｆｇｈ",
    "HANGUL": "가나다라마바사아",
    "CJK": "一二三四五六七八",
}
"""Letters that stand for others of their script: such as the character sets of that script have (PS3.3 C.12.1.1.2)."""

_STRANGE = "x"
"""Stands for a letter of any other script."""

_FIRST_BIRTH_DATE, _BIRTH_DAYS = date(1930, 1, 1), 27_000
_SYNTHETIC = "999"
"""How NHS numbers begin that nobody has."""
_TRIES = 200
"""After so many a value shares its pseudonym with another one: there are too few of its shape."""


class Pseudonyms:
    """The other names of one export. No two values of a kind have one pseudonym, if there are enough of the shape."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._given: dict[tuple[str, str], str] = {}
        self._taken: set[tuple[str, str]] = set()

    def patient_id(self, value: str) -> str:
        """For an NHS number another one, of the 999 range and as valid; for any other id one of its shape."""
        text = value.strip(" \0")
        if re.fullmatch(r"[0-9]{10}", text):
            off = 0 if nhs_number.is_valid(text) else 1
            other = self._for("id", text, lambda seed: self._nhs_number(seed, off))
        else:
            other = self._for("id", text, lambda seed: self._shaped(text, seed, digits=_DIGITS))
        return self._placed(value, text, other)

    def name(self, value: str) -> str:
        """For a person's name; names that differ in case or in empty ends only get ones that do."""
        text = value.strip(" ")
        if not text.strip("^= "):
            return value
        key = "=".join(folded(text))
        attempt = self._for("name", key, lambda seed: self._shaped(key, seed, digits=_DIGITS), keep_seed=True)
        return self._placed(value, text, self._shaped(text, attempt, digits=_DIGITS))

    def birth_date(self, value: str) -> str:
        """For a date `YYYYMMDD` another one that exists; what is none keeps its shape."""
        text = value.strip(" \0")
        try:
            values.date_of(text, "date")
        except InvalidValue:
            return shape_of(value)
        number = int.from_bytes(self._stream(f"date/{text}", 8))
        other = (_FIRST_BIRTH_DATE + timedelta(days=number % _BIRTH_DAYS)).strftime("%Y%m%d")
        return self._placed(value, text, other)

    def uid(self, value: str) -> str:
        """For a UID another one of its shape, without a registered root."""
        return self._for("uid", value, lambda seed: self._shaped(value, seed, digits=_NONZERO))

    def token(self, value: str) -> str:
        """For a word that somebody is known by, such as a log-in: one of its shape."""
        return self._for("token", value, lambda seed: self._shaped(value, seed, digits=_DIGITS))

    def digest(self, value: str) -> str:
        """For a digest in hexadecimal digits: whoever has the content could else try whether it is that one."""
        return self._stream(f"digest/{value}", (len(value) + 1) // 2).hex()[: len(value)]

    def _for(self, kind: str, key: str, make: Callable[[str], str], *, keep_seed: bool = False) -> str:
        """The pseudonym of this key, or the seed that makes it."""
        known = self._given.get((kind, key))
        if known is None:
            for attempt in range(_TRIES):
                seed = f"{kind}/{attempt}/{key}"
                made = make(seed)
                if (kind, made) not in self._taken and made != key:
                    break
            self._taken.add((kind, made))
            known = self._given[kind, key] = seed if keep_seed else made
        return known

    def _nhs_number(self, seed: str, off: int) -> str:
        """One whose check digit is off by so much; nine digits that have no check digit are passed over."""
        check, attempt, digits = len(_DIGITS), 0, ""
        while check >= len(_DIGITS):
            digits = _SYNTHETIC + "".join(_DIGITS[byte % 10] for byte in self._stream(f"{seed}/{attempt}", 6))
            check = nhs_number.calculate_checksum(digits)
            attempt += 1
        return f"{digits}{(check + off) % 10}"

    def _shaped(self, text: str, seed: str, *, digits: str) -> str:
        numbers = self._stream(seed, 2 * len(text))
        pairs = zip(text, numbers[::2], numbers[1::2], strict=True)
        return "".join(_like(sign, high << 8 | low, digits) for sign, high, low in pairs)

    def _stream(self, seed: str, length: int) -> bytes:
        return hashlib.shake_256(self._key + seed.encode("utf-8", "surrogatepass")).digest(length)

    @staticmethod
    def _placed(value: str, text: str, other: str) -> str:
        """With the blanks around it that the value has."""
        return value.replace(text, other, 1) if text else value


def shape_of(text: str) -> str:
    """What is left of a text that nobody may read: `Xx 00-00`."""
    return re.sub(r"\d", "0", "".join(_blank(sign) for sign in text))


@lru_cache(maxsize=4096)
def _blank(sign: str) -> str:
    if not sign.isalpha() and not sign.isnumeric():
        return sign
    if sign.isnumeric():
        return "0"
    return "X" if sign.isupper() else "x"


def _like(sign: str, number: int, digits: str) -> str:
    """Another sign of its kind; separators and accents on their own stay."""
    if sign.isnumeric():
        return digits[number % len(digits)]
    if not sign.isalpha():
        return sign
    pool = _LETTERS if sign.isascii() else _pool(sign)
    other = pool[number % len(pool)]
    return other.upper() if sign.isupper() else other


@lru_cache(maxsize=4096)
def _pool(sign: str) -> str:
    return _POOLS.get(unicodedata.name(sign, "").split(" ", 1)[0].split("-", 1)[0], _STRANGE)
