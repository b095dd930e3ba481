"""What the second engine can't do: the tests that fail under `pytest --engine=pynetdicom`, and why.

They are run all the same, and have to fail: an entry that passes fails `make second-engine`, and leaves this list.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

KNOWN_DIFFERENCES: dict[str, str] = {
    "tests/dicom/test_named_sop_class.py::test_it_is_0211_and_the_association_goes_on_c_5_23*": (
        "it aborts the association at an operation that the presentation context's SOP class does not have"
    ),
}
"""By test, as pytest names it (`*` for any parameters)."""


def reason(test: str) -> str | None:
    """Why the second engine fails this test; None when it must not."""
    return next((why for pattern, why in KNOWN_DIFFERENCES.items() if fnmatchcase(test, _literal(pattern))), None)


def _literal(pattern: str) -> str:
    """Brackets of a parametrised test are no character class."""
    return pattern.replace("[", "[[]")


SESSIONS: dict[str, str] = {
    "no maximum length": "it aborts at the first data set for a peer that told none, which PS3.8 D.1 asks of it",
    "an unknown item of user information": "it aborts; PS3.7 D.3.3 has it ignored",
    "an empty calling AE title": "it closes the connection; PS3.8 9.3.4 has a reason for refusing it (1/3)",
    "an unknown application context": "it accepts the association; PS3.8 9.3.4 has a reason for refusing it (1/2)",
    "protocol versions 1 and 2": "it rejects what has more than bit 0 set; PS3.8 9.3.2 has only that bit tested",
    "a query of another SOP class": "its response names the class of the presentation context, not the request's",
    "N-ACTION": "it aborts; PS3.7 C.5.23 has 0x0211 for it",
    "N-DELETE": "it aborts; PS3.7 C.5.23 has 0x0211 for it",
}
"""Sessions of `tests/properties/test_two_engines.py` that the two engines answer differently, and how."""
