"""How often pages are made: loaded again and again without a pause, they leave the interpreter to the modalities."""

from __future__ import annotations

import time
from asyncio import Lock, sleep, timeout
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool

_RESTS = 3.0
"""Times as long as a page computed the next one waits, up to `_LONGEST`: a page of a few milliseconds is most of them,
and all of these together have a quarter of one processor."""

_LONGEST = 0.01
"""Seconds it waits at most for the one before: a person waits, too."""

_PATIENCE = 1.0
"""Seconds until a page is made out of turn: the one before may wait for a disk."""

P = ParamSpec("P")
T = TypeVar("T")


class Pace:
    """Makes pages in threads, one after the other, with a rest between those that come without a pause."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._free_at = 0.0

    async def make(self, page: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `page` returns or raises, after those before it have rested."""
        computed = 0.0

        def timed() -> T:
            nonlocal computed
            began = time.thread_time()
            try:
                return page(*args, **named)
            finally:
                computed = time.thread_time() - began

        async with self._in_turn():
            await sleep(max(0.0, self._free_at - time.monotonic()))
            try:
                return await run_in_threadpool(timed)
            finally:
                self._free_at = time.monotonic() + min(_RESTS * computed, _LONGEST)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        try:
            async with timeout(_PATIENCE):
                await self._turn.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._turn.release()
