"""What the second engine can't do: the tests that fail under `pytest --engine=pynetdicom`, and why.

They are run all the same, and have to fail: an entry that passes fails `make second-engine`, and leaves this list.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

KNOWN_DIFFERENCES: dict[str, str] = {}
"""By test, as pytest names it (`*` for any parameters)."""


def reason(test: str) -> str | None:
    """Why the second engine fails this test; None when it must not."""
    return next((why for pattern, why in KNOWN_DIFFERENCES.items() if fnmatchcase(test, _literal(pattern))), None)


def _literal(pattern: str) -> str:
    """Brackets of a parametrised test are no character class."""
    return pattern.replace("[", "[[]")
