"""One open control channel: what is known of it, and how it ends. What to do about that is the listener's business."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from websockets.exceptions import ConnectionClosed

from relay.dial import Connection
from relay.errors import ChannelError, Phase
from relay.protocol import ControlChannel, Response, explain_close, tracking_id
from relay.tokens import Token

MISSES: Final = 2
"""Echoes missed in a row that make a channel deaf."""


class Channel:
    """One open control channel.

    Attributes:
        reading: Reads it to its end.
        token: The last one the relay was shown on it.
        token_since: When that was first.
        renewal_error: Why the last try to renew it failed.
        misses: Echoes missed in a row.
        disproven: It was deaf, and has not been heard since.
        unknown: Echoes in a row that reached somebody else.
        put_off: Seconds for which the relay asked us to send no echo.
        told: Senders and requests that were announced on it.
        vouched: Cleared by `doubt`, set when an echo came back or nothing can be said.
    """

    reading: asyncio.Task[ChannelError]

    def __init__(self, websocket: Connection, opened_at: datetime, token: Token) -> None:
        self.websocket = websocket
        self.opened_at = opened_at
        self.token = token
        self.token_since = opened_at
        self.renewal_error: str | None = None
        self.protocol = ControlChannel()
        self.misses = 0
        self.disproven = False
        self.unknown = 0
        self.put_off = 0.0
        self.told = 0
        self.vouched = asyncio.Event()
        self._doubted = asyncio.Event()
        self._opened = asyncio.get_running_loop().time()
        self._proven_since: float | None = None
        self._sending = asyncio.Lock()

    def age(self) -> float:
        """Seconds since it was opened."""
        return asyncio.get_running_loop().time() - self._opened

    def proven_for(self) -> float:
        """Seconds between its first proof and this one."""
        now = asyncio.get_running_loop().time()
        if self._proven_since is None:
            self._proven_since = now
        return now - self._proven_since

    def healthy_for(self) -> float:
        """Seconds since its first proof; 0 for one that was not proven, or missed its last echo."""
        if self._proven_since is None or self.misses or self.disproven:
            return 0.0
        return asyncio.get_running_loop().time() - self._proven_since

    def disprove(self) -> None:
        """It is deaf. It may yet recover; one more miss and it is deaf again."""
        self.misses, self.disproven, self._proven_since = MISSES - 1, True, None

    def doubt(self) -> None:
        """Ask for a proof now."""
        self.vouched.clear()
        self._doubted.set()

    async def until_doubted(self, seconds: float) -> None:
        """Return when a proof is asked for, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._doubted.wait()
        except TimeoutError:
            pass
        self._doubted.clear()

    async def read(self, take: Callable[[str | bytes], None]) -> ChannelError:
        """Give each frame that comes to ``take``, to the end; how it ended is returned."""
        try:
            async for frame in self.websocket:
                take(frame)
        except ConnectionClosed as error:
            return _ending(error)
        return _closed(self.websocket.close_code or 1006, self.websocket.close_reason or "")

    async def send(self, frame: str) -> None:
        """Send a frame, but not between a response and its body."""
        async with self._sending:
            await self.websocket.send(frame)

    async def respond(self, response: Response, body: bytes, seconds: float) -> None:
        """Send a response and, if it has one, its body; within ``seconds`` from when it is its turn.

        Raises:
            ChannelError: the relay took it not, or half of it: then nothing else can be said here, and the channel is
                cut.
        """
        frames: list[str | bytes] = [response.to_text(), *([body] if response.body else [])]
        async with self._sending:
            try:
                async with asyncio.timeout(seconds):
                    for frame in frames:
                        await self.websocket.send(frame)
            except TimeoutError:
                self.websocket.transport.abort()
                raise self._stuck() from None

    def _stuck(self) -> ChannelError:
        return ChannelError(
            "the relay takes no answers on the control channel",
            phase=Phase.REPLY,
            code="stuck",
            address=self.websocket.where,
            remedy="The channel was cut and is dialled again; see whether the way out is overloaded.",
        )


def _ending(error: ConnectionClosed) -> ChannelError:
    if error.sent is not None and error.rcvd is None and "ping" in error.sent.reason:
        return ChannelError(
            "the relay answers no pings: the connection is dead",
            phase=Phase.CONTROL,
            close_code=1006,
            code="silent",
            remedy="A firewall or load balancer may drop idle connections; a shorter ping interval helps.",
        )
    frame = error.rcvd or error.sent
    return _closed(frame.code if frame else 1006, frame.reason if frame else "")


def _closed(code: int, reason: str) -> ChannelError:
    meaning = explain_close(code)
    return ChannelError(
        meaning.meaning,
        phase=Phase.CONTROL,
        close_code=code,
        code=meaning.code,
        tracking_id=tracking_id(reason),
        remedy="It is dialled again.",
    )
