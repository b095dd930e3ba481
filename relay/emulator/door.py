"""The door: one port for websockets and plain HTTP.

The websockets library refuses requests that are not handshakes as soon as they have a body, so the door reads the head
of each connection itself and then hands it on: to the library, or to asyncio's streams.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from websockets.asyncio.server import ServerConnection

HttpServer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MAX_HEAD: Final = 128 * 1024
"""Largest request head in bytes; the protocol guide limits header metadata to 32 KiB."""

HEAD_TIMEOUT: Final = 10.0

_UPGRADE: Final = re.compile(rb"^upgrade:[ \t]*websocket[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


_TLS_HANDSHAKE: Final = b"\x16"
"""The first byte of a TLS handshake (RFC 8446 section 5.1): no request begins so."""


class Door(ServerConnection):
    """A connection that has not said yet what it is."""

    def __init__(self, *arguments: Any, http: HttpServer, waiting: set[Door], **named: Any) -> None:  # noqa: ANN401 - passed through
        super().__init__(*arguments, **named)
        self._http = http
        self._waiting = waiting
        self._head: bytearray | None = bytearray()
        self._pending: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self.silent = False
        self.serve: Callable[[], Awaitable[None]] | None = None
        self._lost = False
        self._when_lost: Callable[[], None] = lambda: None
        self.subprotocol_offered: Callable[[list[str]], str | None] = lambda _offered: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head."""
        self._pending = cast(asyncio.Transport, transport)
        self._waiting.add(self)
        self._patience = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self.turn_away)

    def data_received(self, data: bytes) -> None:
        """Collect the head; afterwards all is the library's business."""
        if self.silent:
            return
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        if self._head.startswith(_TLS_HANDSHAKE):
            self._decline_tls()
            return
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            self._decide(bytes(self._head), bytes(self._head[:end]))
        elif len(self._head) > MAX_HEAD:
            self.turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody to tell while the head is not there."""
        self._stop_waiting()
        if self._head is None:
            super().connection_lost(exc)
            self._lost = True
            self._when_lost()

    def when_lost(self, act: Callable[[], None]) -> None:
        """Do this once the connection is lost; at once if it was before anybody could ask."""
        self._when_lost = act
        if self._lost:
            act()

    def eof_received(self) -> None:
        """Half a head is none."""
        if self._head is None:
            super().eof_received()

    def _decide(self, received: bytes, head: bytes) -> None:
        assert self._pending is not None  # noqa: S101 - connection_made came first
        self._stop_waiting()
        transport, self._pending, self._head = self._pending, None, None
        if _UPGRADE.search(head):
            super().connection_made(transport)
            super().data_received(received)
        else:
            loop = asyncio.get_running_loop()
            streams = asyncio.StreamReaderProtocol(asyncio.StreamReader(MAX_HEAD, loop), self._http, loop=loop)
            transport.set_protocol(streams)
            streams.connection_made(transport)
            streams.data_received(received)

    def _decline_tls(self) -> None:
        """Somebody speaks TLS to a door without: an answer that is none tells them at once, silence after seconds."""
        if self._pending is not None:
            self._pending.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self._pending.close()

    def turn_away(self) -> None:
        """Cut a connection that has not said what it wants."""
        if self._pending is not None:
            self._pending.abort()

    def _stop_waiting(self) -> None:
        self._waiting.discard(self)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
