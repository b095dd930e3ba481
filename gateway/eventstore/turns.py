"""Turns, so that reading very much never holds up those who read little or save.

Two things are scarce in one process: processors, which a scan in SQLite takes whole, and the interpreter, which one
thread has at a time and keeps for milliseconds (`sys.getswitchinterval`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from gateway.errors import TooMuchAsked

_PATIENCE = 20.0
"""Seconds a scan waits its turn: less than a unit waits for an answer (30 s is common)."""

_RESTS = 3.0
"""Times as long as it computed a long answer rests, and all of them together: a quarter of one processor is theirs."""

_STRETCH = 0.001
"""Seconds a long answer computes before it rests."""

_TAKING = 0.005
"""Seconds of computing that taking one thing is believed to cost, at most."""

T = TypeVar("T")


class Turns:
    """Whose turn it is to scan, and when long answers rest. Used by many threads."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._scanning = threading.Lock()
        self._resting = threading.Lock()
        self._free_at = 0.0

    @contextmanager
    def scan(self) -> Iterator[None]:
        """One scan at a time. Raises `TooMuchAsked` when its turn does not come."""
        if not self._scanning.acquire(timeout=self._patience):
            raise TooMuchAsked(
                "too many queries at once that no index serves",
                remedy="ask by date, accession number, Patient ID, or how a name begins",
            )
        try:
            yield
        finally:
            self._scanning.release()

    def slowly(self, things: Iterable[T]) -> Iterator[T]:
        """The same things, with rests between them, by what making and taking them computes.

        They may be taken by one thread after another. What those did between two things is not told from taking one.
        """
        worked, began = 0.0, time.thread_time()
        for thing in things:
            made = time.thread_time()
            yield thing
            worked, began = worked + made - began, time.thread_time()
            worked += min(max(0.0, began - made), _TAKING)
            if worked >= _STRETCH:
                time.sleep(self._rest(worked))
                worked, began = 0.0, time.thread_time()

    def _rest(self, worked: float) -> float:
        """Seconds until all that rest may go on: after each other, not at once."""
        with self._resting:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + _RESTS * worked
            return self._free_at - now
