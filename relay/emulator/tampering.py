"""What faults do to addresses and frames on their way through the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

from relay.emulator.calls import Call
from relay.emulator.door import Door
from relay.emulator.faults import Faults
from relay.emulator.rendezvous import Handling

Repeat = Callable[[Call, str | bytes], Awaitable[None]]


class Tampering:
    """Applies the faults that are in force.

    Args:
        faults: Which are.
        repeat: Delivers a frame once more.
    """

    def __init__(self, faults: Faults, repeat: Repeat) -> None:
        self._faults = faults
        self._repeat = repeat

    def accept_address(self, address: str, path: str) -> str:
        """The address that the listener is told."""
        if self._faults.accept_address is not None:
            return self._faults.accept_address(address)
        if self._faults.strike("dead-address", path):
            return _led_to(address, port=1)  # tcpmux: nobody has listened there for decades
        if self._faults.strike("stray-address", path):
            return _led_to(address, host="stray.example")
        return address

    def with_frames_of(self, call: Call) -> Handling:
        """What is done with the frames of one sender."""
        return _Frames(call, self._faults, self._repeat)


class _Frames:
    """The frames of one rendezvous."""

    def __init__(self, call: Call, faults: Faults, repeat: Repeat) -> None:
        self._call = call
        self._faults = faults
        self._repeat = repeat
        self._first = True

    async def ask(self, listener: Door, message: str | bytes) -> None:
        """Pass it on; the first one late or twice, if one of those faults is in force."""
        first, self._first = self._first, False
        late = self._faults.strike("late-message", self._call.path) if first else None
        if late is not None:
            await asyncio.sleep(late.seconds())
        await listener.send(message)
        if first and self._faults.strike("duplicate", self._call.path):
            await self._repeat(self._call, message)

    async def answer(self, sender: Door, message: str | bytes) -> None:
        """Pass it on, late or not at all, if one of those faults is in force."""
        late = self._faults.strike("late-reply", self._call.path)
        if late is not None:
            await asyncio.sleep(late.seconds())
        lost = self._faults.strike("lost-reply", self._call.path)
        if lost is None:
            await sender.send(message)
        elif lost.details["cut"]:
            sender.transport.abort()


def _led_to(address: str, *, host: str | None = None, port: int | None = None) -> str:
    """The address with another host or port."""
    parts = urlsplit(address)
    authority = f"{host or parts.hostname}:{port or parts.port or (443 if parts.scheme == 'wss' else 80)}"
    return urlunsplit(parts._replace(netloc=authority))
