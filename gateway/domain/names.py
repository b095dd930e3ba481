"""Person names as they are compared: case, accents and trailing empty components do not count (PS3.4 C.2.2.2.1).

The worklist keeps names folded so that an index finds them; queries fold what they ask for in the same way.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from gateway.domain.letters import ACCENTS, COUNTERPARTS

_ACCENTS = re.compile(f"[{ACCENTS}]")
_PLAIN = str.maketrans({letter: plain.casefold() for letter, plain in COUNTERPARTS.items()})


@lru_cache(maxsize=4096)
def folded(name: str) -> tuple[str, ...]:
    """The groups of a name, or of a key for names: alphabetic, ideographic, phonetic. An empty one is ""."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", name).translate(_PLAIN))
    text = unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed).casefold()).translate(_PLAIN)
    groups = ("^".join(part.strip(" ") for part in group.split("^")).rstrip("^") for group in text.split("="))
    return tuple(groups)
