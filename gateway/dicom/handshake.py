"""The TLS handshake of one connection of the asyncio engine: a deadline for all of it, and why it failed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from gateway.dicom.tls import handshake_failure


class Handshakes(Protocol):
    """What a handshake needs of the server it belongs to."""

    def shaking(self, handshake: Handshake) -> None:
        """A peer connected at the door for TLS."""

    def shaken(self, handshake: Handshake) -> None:
        """It is over, well or not."""

    def handshake_failed(self, address: str, reason: str) -> None:
        """No association comes of it."""


class Handshake(asyncio.Protocol):
    """Takes a connection until it is within TLS, then hands it, and what has come by then, to what `inside` makes."""

    def __init__(
        self, server: Handshakes, context: ssl.SSLContext, seconds: float, inside: Callable[[], asyncio.Protocol]
    ) -> None:
        self.address = ""
        self._server = server
        self._context = context
        self._seconds = seconds
        self._inside = inside
        self._transport = cast("asyncio.Transport", None)
        self._task: asyncio.Task[None] | None = None
        self._came = b""
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer connected; what it says from now on is TLS."""
        if self._task is None:
            self._transport = cast("asyncio.Transport", transport)
            self.address = str((transport.get_extra_info("peername") or ("",))[0])
            self._transport.pause_reading()  # until somebody listens who knows TLS
            self._server.shaking(self)
            self._task = asyncio.get_running_loop().create_task(self._shake())

    def data_received(self, data: bytes) -> None:
        """Its first words within TLS, which came with the end of the handshake."""
        self._came += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it is gone changes nothing
        """It left right after the handshake."""
        self._is_lost = True

    def drop(self) -> None:
        """Close the connection without a word."""
        self._transport.abort()

    async def _shake(self) -> None:
        try:
            if self._is_lost:  # it was dropped at the door
                return
            async with asyncio.timeout(self._seconds):
                secured = await asyncio.get_running_loop().start_tls(
                    self._transport, self, self._context, server_side=True, ssl_handshake_timeout=2 * self._seconds
                )
        except OSError as error:
            if reason := handshake_failure(error):
                self._server.handshake_failed(self.address, reason)
        else:
            self._hand_over(secured)
        finally:
            self._server.shaken(self)

    def _hand_over(self, secured: asyncio.Transport | None) -> None:
        if secured is None or self._is_lost:
            return
        connection = self._inside()
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._came:
            connection.data_received(self._came)
