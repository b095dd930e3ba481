"""A connection at the ops port: uvicorn's own, which waits for nobody for ever.

uvicorn times out connections that are idle between two requests, but neither half a request nor an answer that is
not read. Each of them would keep a file of this process, and files are what modalities connect with.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
"""Open at a time; more are closed at once. A browser has up to six, one of them to watch the clinic."""


class OpsConnection(H11Protocol):
    """HTTP/1.1 with a deadline for each whole request, and for an answer to be read on."""

    patience = 20.0
    """Seconds from the connection, or from a request's first byte, to the request's last; and for which a peer may
    read nothing of an answer that waits for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take it, if there is room."""
        super().connection_made(transport)
        self._asking = _Deadline(transport, self.patience)
        self._reading = _Deadline(transport, self.patience)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            transport.set_write_buffer_limits(high=0)  # what is left for a peer to read is told from the first byte on
            self._asking.begin()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._asking.begin()
        else:
            self._asking.end()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it is answered."""
        super().pause_writing()
        self._reading.begin()

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        self._reading.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._asking.end()
        self._reading.end()
        super().connection_lost(exc)


class _Deadline:
    """Ends a connection some seconds after `begin`, unless `end` comes first; to begin again does not put it off."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
