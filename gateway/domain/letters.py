"""Letters and signs that Unicode can't take apart, as a keyboard without them writes them.

Names are written so for units that can't show these letters (`gateway.dicom.transliteration`), and compared so
(`gateway.domain.names`): what a unit was shown finds the name again.
"""

from __future__ import annotations

COUNTERPARTS = {
    "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d", "Ð": "D", "ð": "d", "Þ": "TH", "þ": "th",
    "Æ": "AE", "æ": "ae", "Œ": "OE", "œ": "oe", "ẞ": "SS", "ß": "ss", "ı": "i", "Ħ": "H", "ħ": "h", "Ŋ": "N", "ŋ": "n",
    "Ŧ": "T", "ŧ": "t", "ĸ": "k", "Ə": "E", "ə": "e", "Ɖ": "D", "ɖ": "d", "Ɗ": "D", "ɗ": "d", "Ɓ": "B", "ɓ": "b",
    "Ƙ": "K", "ƙ": "k", "Ƴ": "Y", "ƴ": "y", "Ɔ": "O", "ɔ": "o", "Ɛ": "E", "ɛ": "e", "Ɣ": "G", "ɣ": "g",
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "ʻ": "'", "ʹ": "'", "′": "'", "´": "'", "“": '"', "”": '"',
    "„": '"', "«": '"', "»": '"', "‹": "'", "›": "'", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-",
    "•": "-", "·": ".", "×": "x", "⁄": "/", "\N{SOFT HYPHEN}": "", "\N{ZERO WIDTH SPACE}": "",
}  # fmt: skip

ACCENTS = "\u0300-\u036f"
"""Combining marks of Latin, Greek and Cyrillic letters; other scripts' marks tell letters apart."""
