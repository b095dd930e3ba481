"""Two websockets become one: every frame and the close code go through."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from relay.emulator.calls import new_id
from relay.emulator.door import Door


class Handling(Protocol):
    """What is done with frames on their way; faults strike here."""

    async def asked(self, frame: str | bytes) -> None:
        """The sender has said this, and it was passed on."""
        ...

    async def may_answer(self, sender: Door) -> bool:
        """Whether the listener's answer is passed on."""
        ...


class AsTheyCome:
    """Frames are passed on untouched."""

    async def asked(self, frame: str | bytes) -> None:
        """Nothing more is done."""

    async def may_answer(self, sender: Door) -> bool:  # noqa: ARG002 - all may
        """It is."""
        return True


AS_THEY_COME: Final = AsTheyCome()


class Meeting:
    """A sender that waits, and the listener that may come once."""

    def __init__(self, handling: Handling = AS_THEY_COME) -> None:
        self._handling = handling
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
            await join(sender, self.listener.result(), self._handling)
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


async def join(sender: Door, listener: Door, handling: Handling = AS_THEY_COME) -> None:
    """Carry messages both ways, text as text and binary as binary, until one closes; then close the other alike."""
    await asyncio.gather(_ask(sender, listener, handling), _answer(listener, sender, handling))


async def _ask(sender: Door, listener: Door, handling: Handling) -> None:
    try:
        while True:
            frame = await sender.recv()
            await listener.send(frame)  # sends only when the listener takes it: that is the backpressure
            await handling.asked(frame)
    except ConnectionClosed:
        await _close_alike(sender, listener)


async def _answer(listener: Door, sender: Door, handling: Handling) -> None:
    try:
        while True:
            frame = await listener.recv()
            if await handling.may_answer(sender):
                await sender.send(frame)
    except ConnectionClosed:
        await _close_alike(listener, sender)


async def _close_alike(gone: Connection, other: Connection) -> None:
    if gone.close_code is not None:
        await other.close(*closing_of(gone))


def closing_of(connection: Connection) -> tuple[int, str]:
    """How a connection ended, in words that may be sent on."""
    code, reason = connection.close_code, connection.close_reason or ""
    if code == 1005:
        return 1000, reason
    if code is None or code in {1006, 1015}:
        return 1001, "The other side went away."
    return code, reason
