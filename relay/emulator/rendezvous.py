"""Two websockets become one: every frame and the close code go through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from relay.emulator.calls import new_id
from relay.emulator.door import Door


class Handling(Protocol):
    """What is done with messages on their way; faults strike here."""

    async def ask(self, listener: Door, message: str | bytes) -> None:
        """Pass on what the sender has said."""
        ...

    async def answer(self, sender: Door, message: str | bytes) -> None:
        """Pass on what the listener has said."""
        ...


class AsTheyCome:
    """Messages are passed on untouched."""

    async def ask(self, listener: Door, message: str | bytes) -> None:
        """Pass it on."""
        await listener.send(message)

    async def answer(self, sender: Door, message: str | bytes) -> None:
        """Pass it on."""
        await sender.send(message)


AS_THEY_COME: Final = AsTheyCome()


class Meeting:
    """A sender that waits, and the listener that may come once. Each one's own task carries what it says."""

    def __init__(self, handling: Handling = AS_THEY_COME) -> None:
        loop = asyncio.get_running_loop()
        self._handling = handling
        self.id = new_id()
        self.listener: asyncio.Future[Door] = loop.create_future()
        self.rejected: asyncio.Future[tuple[int, str]] = loop.create_future()
        self._sender: asyncio.Future[Door] = loop.create_future()

    async def listener_came(self, door: Door) -> None:
        """Serve the listener's end, as soon as the sender's is open, until one side closes."""
        if self.listener.done():
            return  # the sender left meanwhile
        self.listener.set_result(door)
        gone = asyncio.ensure_future(door.wait_closed())
        either: set[asyncio.Future[Any]] = {self._sender, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if self._sender.done() and not self._sender.cancelled():
            await carry(door, self._sender.result(), self._handling.answer)

    async def converse(self, sender: Door) -> None:
        """Serve the sender's end until one side closes."""
        if self._sender.done():
            return  # it vanished before its first frame
        self._sender.set_result(sender)
        await carry(sender, self.listener.result(), self._handling.ask)

    def end(self) -> None:
        """It is over, or never began. Nothing happens to a conversation that goes on."""
        for awaited in (self.listener, self.rejected, self._sender):
            awaited.cancel()


async def carry(source: Door, target: Door, pass_on: Callable[[Door, str | bytes], Awaitable[None]]) -> None:
    """Carry one side's messages, text as text and binary as binary, until one side closes; then both close alike."""
    try:
        while True:
            await pass_on(target, await source.recv())  # waits until the target takes it: that is the backpressure
    except ConnectionClosed:
        pass
    if source.close_code is None:
        await source.wait_closed()  # the target closed first: whoever carries its messages closes the source alike
    elif target.state is State.OPEN:
        await target.close(*closing_of(source))


def closing_of(connection: Connection) -> tuple[int, str]:
    """How a connection ended, in words that may be sent on."""
    code, reason = connection.close_code, connection.close_reason or ""
    if code == 1005:
        return 1000, reason
    if code is None or code in {1006, 1015}:
        return 1001, "The other side went away."
    return code, reason
