"""Answers on their way from the thread that makes them to the event loop that sends them."""

from __future__ import annotations

import threading
from collections.abc import Callable

_FULL = 64 * 1024
"""Bytes of answers that are made ahead of what is taken."""


class Handover:
    """The answers to one operation that were made and not taken; `tell` is called in the thread when there are some."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.is_closed = False
        """Whether nobody takes any more."""
        self.is_over = False
        """Whether the last answer was made."""
        self._tell = tell
        self._lock = threading.Lock()
        self._made: list[bytes] = []
        self._length = 0
        self._is_told = False

    def put(self, pdus: bytes, *, is_last: bool) -> bool:
        """Hand over; False when no more is to be made, for now or for ever. Nobody waits here: a thread is scarce."""
        with self._lock:
            self._made.append(pdus)
            self._length += len(pdus)
            self.is_over = is_last
            if not self._is_told and not self.is_closed:
                self._is_told = True
                self._tell()
            return is_last or not (self.is_closed or self._length >= _FULL)

    def take(self) -> tuple[bytes, bool]:
        """All there is, and whether it is the last."""
        with self._lock:
            made = b"".join(self._made)
            self._made.clear()
            self._length, self._is_told = 0, False
            return made, self.is_over

    def close(self) -> None:
        """Nobody takes any more."""
        with self._lock:
            self.is_closed = True
