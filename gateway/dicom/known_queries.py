"""Queries as units repeat them all day: read and planned once, with what each found last time.

Nothing here outlives a change: what was found is kept by the version of its row, and looked up by the version that the
store has now.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.dicom.find import FindResponse
from gateway.dicom.identifier import Identifier
from gateway.dicom.matching import MatchingPlan
from gateway.dicom.prepared import Form
from gateway.dicom.profiles import Profile
from projections.worklist import Version

LONGEST = 4096
"""Bytes of an identifier that is remembered; real ones have some hundreds."""
MOST_FOUND = 100
"""Items remembered of one query: the first ones."""

_MOST = 64
_MOST_BYTES = 4 * 1024 * 1024
"""Of all that is remembered of what was found."""
_OF_ONE = 500
"""Bytes of one thing found, about, beside its identifier."""

Question = tuple[bytes, str, str]
"""Identifier, transfer syntax, calling AE title."""

Found = tuple[Version, FindResponse | None]
"""An item at one version, and the response about it, or None when it does not match."""


@dataclass(slots=True, eq=False)
class KnownQuery:
    """A query of one caller, read and planned.

    `keywords` are those of the matching keys. `found` is what the last answer began with. `is_quick` is whether that
    answer was short and its beginning took no time, None before there was one.
    """

    identifier: Identifier
    profile: Profile
    plan: MatchingPlan
    form: Form
    keywords: tuple[str, ...]
    found: dict[Version, Found] = field(default_factory=dict)
    is_quick: bool | None = None
    weight: int = 0


class KnownQueries:
    """The latest queries, each by its question; the least recent gives way. Used by many threads."""

    def __init__(self) -> None:
        self._queries: OrderedDict[Question, KnownQuery] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def of(self, question: Question, read: Callable[[], KnownQuery]) -> KnownQuery:
        """The query that is asked; `read` reads one that is not known. Raises what that raises."""
        with self._lock:
            known = self._queries.get(question)
            if known:
                self._queries.move_to_end(question)
                return known
        query = read()
        if len(question[0]) <= LONGEST:
            with self._lock:
                query = self._queries.setdefault(question, query)  # another thread may have been first
                self._make_room()
        return query

    def remember(self, question: Question, query: KnownQuery, found: dict[Version, Found]) -> None:
        """Keep what the answer to a query began with, in the place of what it began with before."""
        if found == query.found:
            return
        weight = sum(_OF_ONE + len(response.identifier or b"") for _, response in found.values() if response)
        with self._lock:
            if self._queries.get(question) is query:
                self._weight += weight - query.weight
                query.found, query.weight = found, weight
                self._make_room()

    def _make_room(self) -> None:
        while len(self._queries) > _MOST or self._weight > _MOST_BYTES:
            _, left = self._queries.popitem(last=False)
            self._weight -= left.weight
