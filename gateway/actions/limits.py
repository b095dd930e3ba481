"""A bound on what strangers can make us write down."""

from __future__ import annotations

import threading
import time


class Allowance:
    """A bucket of `burst` tokens that fills by `per_minute`; safe to use from many threads."""

    def __init__(self, *, burst: int, per_minute: float) -> None:
        self._burst = burst
        self._rate = per_minute / 60
        self._tokens = float(burst)
        self._filled = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one may be spent now."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
