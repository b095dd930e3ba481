"""Faults the emulator can show on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol


class ControlChannelEnd(Protocol):
    """The relay's end of a control channel, as far as faults need it."""

    @property
    def path(self) -> str:
        """The hybrid connection it listens on, as asked for."""
        ...

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

    def deafen_listeners(self, path: str | None = None) -> None:
        """The deaf zombie: whoever listens now stays connected, has its pings answered, and hears of nobody again.

        With ``path``, only on that hybrid connection.
        """
        for channel in self._listening(path):
            channel.deafen()

    def silence_listeners(self, path: str | None = None) -> None:
        """The silent zombie: whoever listens now, there or anywhere, keeps its TCP connection, and nothing else."""
        for channel in self._listening(path):
            channel.silence()

    def _listening(self, path: str | None) -> list[ControlChannelEnd]:
        return [channel for channel in self._channels() if path is None or channel.path.lower() == path.lower()]

    def cut_listeners(self) -> None:
        """Reset the TCP connection of all control channels, without a word."""
        for channel in list(self._channels()):
            channel.cut()

    async def say(self, frame: str | bytes) -> None:
        """Send something on all control channels, however senseless."""
        for channel in list(self._channels()):
            await channel.send(frame)
