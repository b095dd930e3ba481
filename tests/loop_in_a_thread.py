"""An asyncio server beside a test that blocks: in a thread of its own, until the `with` ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager


@contextmanager
def served(start: Callable[[], Awaitable[asyncio.Server]]) -> Iterator[int]:
    """The port of the server that `start` opens in that thread's loop."""
    loop = asyncio.new_event_loop()

    async def opened() -> asyncio.Server:
        return await start()

    server = loop.run_until_complete(opened())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
