"""How often pages are made: loaded again and again without a pause, they leave the interpreter to the modalities."""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

_RESTS = 3.0
"""Times as long as a page computed the next one waits: a quarter of one processor is theirs."""

_LONGEST = 0.01
"""Seconds it waits at most, whoever else loads pages: a person waits, too."""

P = ParamSpec("P")
T = TypeVar("T")


class Pace:
    """Makes pages in threads, and waits between them when they come without a pause."""

    def __init__(self) -> None:
        self._free_at = 0.0

    async def make(self, page: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `page` returns or raises, after those before it have rested."""
        await sleep(max(0.0, self._free_at - time.monotonic()))
        computed = 0.0

        def timed() -> T:
            nonlocal computed
            began = time.thread_time()
            try:
                return page(*args, **named)
            finally:
                computed = time.thread_time() - began

        try:
            return await run_in_threadpool(timed)
        finally:
            now = time.monotonic()
            self._free_at = min(max(self._free_at, now) + _RESTS * computed, now + _LONGEST)
