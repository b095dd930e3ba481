"""How often we may knock: back-off with full jitter, and a hard ceiling on dials."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_random_exponential

JITTER = random.SystemRandom()
"""Spreads many gateways over time; never for secrets."""


class Backoff:
    """Waits between attempts: uniform from ``least`` to a ceiling that doubles from ``first`` to ``longest`` s."""

    def __init__(self, first: float = 0.5, longest: float = 30.0, least: float = 0.0) -> None:
        self._wait = wait_random_exponential(multiplier=first, max=longest, min=least)
        self._state = RetryCallState(Retrying(), None, (), {})
        self._state.attempt_number = 0

    @property
    def attempt(self) -> int:
        """How many waits were taken since the last reset."""
        return self._state.attempt_number

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        self._state.attempt_number += 1
        return self._wait(self._state)

    def reset(self) -> None:
        """All is well again: the next wait is short."""
        self._state.attempt_number = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``dials`` in any ``seconds``."""

    dials: int
    seconds: float


class DialRate:
    """Keeps dials under every limit, whatever went wrong before (no storm like hyco-ws: 15,000 dials in 6 s)."""

    def __init__(self, limits: tuple[Limit, ...]) -> None:
        self._limits = limits
        self._dials: deque[float] = deque(maxlen=max((limit.dials for limit in limits), default=1))

    def wait(self, now: float) -> float:
        """Seconds from ``now`` until the next dial is allowed."""
        return max((self._wait(limit, now) for limit in self._limits), default=0.0)

    async def turn(self) -> None:
        """Wait until the next dial is allowed, and count it."""
        loop = asyncio.get_running_loop()
        while (wait := self.wait(loop.time())) > 0:  # noqa: ASYNC110  only time gives leave; another may take it first
            await asyncio.sleep(wait)
        self.dialled(loop.time())

    def dialled(self, now: float) -> None:
        """Remember a dial."""
        self._dials.append(now)

    def _wait(self, limit: Limit, now: float) -> float:
        if len(self._dials) < limit.dials:
            return 0.0
        return max(0.0, self._dials[-limit.dials] + limit.seconds - now)
