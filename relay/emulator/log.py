"""What happened at the emulator, for tests that want to know."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal

What = Literal["listen", "connect", "accept", "request", "http", "renew", "listener gone"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        number: Its place among all that ever happened, from 1 on without gaps.
        at: ``time.monotonic()`` seconds; for a handshake, when it was answered.
        what: What was asked, or that a control channel ended.
        path: Hybrid connection, as asked for.
        status: HTTP status of the answer (101 and 200 are good), or a close code when a listener is gone; 404 when its
            control channel is open and counts no more.
        took: Seconds from asking to the answer, for a handshake: faults may hold it up.
    """

    number: int
    at: float
    what: What
    path: str
    status: int
    took: float = 0.0


class RelayLog:
    """The last things that happened, oldest first."""

    def __init__(self, size: int = 100_000) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)
        self._numbers = count(1)

    def note(self, what: What, path: str, status: int, took: float = 0.0) -> None:
        """Remember something."""
        self.entries.append(Entry(next(self._numbers), time.monotonic(), what, path.lower(), status, took))

    def after(self, number: int, most: int) -> list[Entry]:
        """The first entries, at most so many, that came after the one with this number."""
        first = self.entries[0].number if self.entries else 1
        start = max(0, number - first + 1)
        return list(islice(self.entries, start, start + most))

    def times(self, what: What) -> list[float]:
        """When this happened."""
        return [entry.at for entry in self.entries if entry.what == what]

    def count(self, what: What, status: int | None = None) -> int:
        """How often this happened."""
        return sum(1 for entry in self.entries if entry.what == what and status in {None, entry.status})

    def outages(self, path: str) -> list[float]:
        """Seconds without any listener, each time, from the first listener of this hybrid connection on."""
        listeners, since, outages = 0, 0.0, []
        for entry in self.entries:
            if entry.path != path.lower():
                continue
            if entry.what == "listen" and entry.status == 101:
                if listeners == 0 and since:
                    outages.append(entry.at - since)
                listeners += 1
            elif entry.what == "listener gone":
                listeners, since = listeners - 1, entry.at
        return outages
