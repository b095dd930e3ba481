"""Answers on their way from the thread that makes them to the event loop that sends them."""

from __future__ import annotations

import threading
from collections.abc import Callable

_FULL = 64 * 1024
"""Bytes of answers that are made ahead of what is taken."""


class Handover:
    """The answers to one operation that were made and not taken; `tell` is called in the thread when there are some."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._room = threading.Condition()
        self._made: list[bytes] = []
        self._length = 0
        self._is_told = self._is_last = self._is_closed = False

    def put(self, pdus: bytes, *, is_last: bool) -> bool:
        """Hand over, and wait while it is full; False when nobody wants more."""
        with self._room:
            self._made.append(pdus)
            self._length += len(pdus)
            self._is_last = is_last
            if not self._is_told and not self._is_closed:
                self._is_told = True
                self._tell()
            self._room.wait_for(lambda: is_last or self._is_closed or self._length < _FULL)
            return not self._is_closed

    def take(self) -> tuple[bytes, bool]:
        """All there is, and whether it is the last."""
        with self._room:
            made = b"".join(self._made)
            self._made.clear()
            self._length, self._is_told = 0, False
            self._room.notify()
            return made, self._is_last

    def close(self) -> None:
        """Nobody takes any more."""
        with self._room:
            self._is_closed = True
            self._room.notify()
