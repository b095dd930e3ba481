"""Faults the emulator can show on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol


class ControlChannelEnd(Protocol):
    """The relay's end of a control channel, as far as faults need it."""

    async def send(self, *frames: str | bytes) -> None:
        """Send frames, nothing in between."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close politely."""
        ...

    def cut(self) -> None:
        """Reset the TCP connection."""
        ...

    def deafen(self) -> None:
        """From now on it is told of nobody."""
        ...

    def silence(self) -> None:
        """From now on what it says is not heard, and nothing is said to it: no pong either."""
        ...


class Faults:
    """What goes wrong from now on. Everything is off at first.

    Attributes:
        refuse_listen: HTTP status that answers every listener, such as 401 or 503.
        deaf: Accepts and requests are kept from all listeners, those to come as well.
        delay: Seconds that each accept and request is late.
        accept_address: Rewrites the address of every accept, such as into one where nobody is.
    """

    def __init__(self, channels: Callable[[], Iterable[ControlChannelEnd]]) -> None:
        self._channels = channels
        self.refuse_listen: int | None = None
        self.deaf = False
        self.delay = 0.0
        self.accept_address: Callable[[str], str] | None = None

    async def drop_listeners(self, code: int = 1001, reason: str = "") -> None:
        """Close all control channels with this close code."""
        await asyncio.gather(*(channel.close(code, reason) for channel in list(self._channels())))

    def deafen_listeners(self) -> None:
        """The deaf zombie: whoever listens now stays connected, has its pings answered, and hears of nobody again."""
        for channel in list(self._channels()):
            channel.deafen()

    def silence_listeners(self) -> None:
        """The silent zombie: whoever listens now keeps its TCP connection, and nothing else."""
        for channel in list(self._channels()):
            channel.silence()

    def cut_listeners(self) -> None:
        """Reset the TCP connection of all control channels, without a word."""
        for channel in list(self._channels()):
            channel.cut()

    async def say(self, frame: str | bytes) -> None:
        """Send something on all control channels, however senseless."""
        for channel in list(self._channels()):
            await channel.send(frame)
