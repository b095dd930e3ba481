"""Work in a thread that is waited for, also by whoever is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(do: Callable[[], T], asked_to_end: Callable[[], None]) -> T:
    """What `do` returns. Cancelled, it asks the work to end and waits for it: the store closes after the last save."""
    work = asyncio.ensure_future(asyncio.to_thread(do))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        asked_to_end()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not tell of it: nobody waits for the result any more
        raise
