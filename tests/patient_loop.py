"""A clock that stands still while the machine does, and an event loop that goes by it.

Tests scale minutes down to tenths of a second: on a machine that stalls for a second every deadline would pass,
although nobody had a chance to act. By this clock only those moments count in which the process could run.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

_TICK = 0.005
_MOST = 0.02
"""Seconds that may pass between two ticks; what is beyond them was taken by the machine."""

T = TypeVar("T")


class PatientClock:
    """Never ahead of `time.monotonic`, and never goes back. Ticks from its beginning to its end."""

    def __init__(self) -> None:
        self._ticked, self._lost = time.monotonic(), 0.0
        self._lock, self._over = threading.Lock(), threading.Event()
        self._ticking = threading.Thread(target=self._tick, name="patient-clock", daemon=True)
        self._ticking.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def time(self) -> float:
        """Seconds in which this process could run, as far as the last tick knows."""
        with self._lock:
            return min(time.monotonic(), self._ticked + _MOST) - self._lost

    def end(self) -> None:
        """Tick no more."""
        self._over.set()
        self._ticking.join()

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            with self._lock:
                now = time.monotonic()
                self._lost += max(0.0, now - self._ticked - _MOST)
                self._ticked = now


class PatientLoop(asyncio.SelectorEventLoop):
    """Like any other, but for its `time`; the time of day by the same clock is `now`."""

    def __init__(self) -> None:
        self._clock = PatientClock()
        self._began, self._began_at = datetime.now(UTC), self._clock.time()
        super().__init__()

    def time(self) -> float:
        return self._clock.time()

    def now(self) -> datetime:
        """For whoever has a clock of its own, as those have who judge tokens."""
        return self._began + timedelta(seconds=self.time() - self._began_at)

    def close(self) -> None:
        self._clock.end()
        super().close()


def clock_of_day() -> Callable[[], datetime]:
    """The running loop's, where that is patient."""
    loop = asyncio.get_running_loop()
    return loop.now if isinstance(loop, PatientLoop) else lambda: datetime.now(UTC)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run` does it, on such a loop."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(coroutine)
