"""Two websockets become one: every frame and the close code go through."""

from __future__ import annotations

import asyncio

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from relay.emulator.calls import new_id
from relay.emulator.door import Door


class Meeting:
    """A sender that waits, and the listener that may come once."""

    def __init__(self) -> None:
        self.id = new_id()
        self.listener: asyncio.Future[Door] = asyncio.get_running_loop().create_future()
        self.rejected: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._conversing = False
        self._over = asyncio.Event()

    async def listener_came(self, door: Door) -> None:
        """Serve the listener's end until the conversation is over."""
        if self.listener.done():
            return  # the sender left meanwhile
        self.listener.set_result(door)
        await self._over.wait()

    async def converse(self, sender: Door) -> None:
        """Serve the sender's end: carry frames both ways until one side closes."""
        self._conversing = True
        try:
            await join(sender, self.listener.result())
        finally:
            self.end()

    def sender_gone(self) -> None:
        """The sender's connection is lost: over, unless the conversation itself is just noticing that."""
        if not self._conversing:
            self.end()

    def end(self) -> None:
        """It is over, or never began."""
        self.listener.cancel()
        self.rejected.cancel()
        self._over.set()


async def join(one: Connection, other: Connection) -> None:
    """Carry messages both ways, text as text and binary as binary, until one closes; then close the other alike."""
    await asyncio.gather(_carry(one, other), _carry(other, one))


async def _carry(source: Connection, target: Connection) -> None:
    try:
        while True:
            await target.send(await source.recv())  # sends only when the target takes it: that is the backpressure
    except ConnectionClosed:
        pass
    if source.close_code is not None:
        await target.close(*closing_of(source))


def closing_of(connection: Connection) -> tuple[int, str]:
    """How a connection ended, in words that may be sent on."""
    code, reason = connection.close_code, connection.close_reason or ""
    if code == 1005:
        return 1000, reason
    if code is None or code in {1006, 1015}:
        return 1001, "The other side went away."
    return code, reason
