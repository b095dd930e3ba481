"""The engine on asyncio: one event loop in a thread of its own serves all associations through a `Responder`.

The loop is nobody else's, so that whatever is stuck elsewhere silences no modality. What takes long or waits for the
store has threads; what an index answers at once is answered where it is read.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from gateway.dicom import negotiation
from gateway.dicom.association import DEFAULTS, AcceptorOptions
from gateway.dicom.caller import Caller, place_of
from gateway.dicom.connection import Connection
from gateway.dicom.deadlines import Times
from gateway.dicom.handshake import Handshake
from gateway.dicom.negotiation import Refusal, Request
from gateway.dicom.operations import Place
from gateway.dicom.responder import Responder
from gateway.dicom.tls import TlsDoor, TlsPortUnusable
from gateway.dicom.waiting_room import WaitingRoom
from gateway.log import get_logger

_log = get_logger(__name__)

_BACKLOG = 512
"""Connections that wait to be accepted: what 64 units open at once, and more."""

_SILENT = 1024
"""Connections without an association: more than a backlog of those whose request has come and is still to be read."""

_THREADS = 16
"""Threads that wait for the store, so that what comes together shares a commit."""

_LONG_ANSWERS = 256
"""Threads for answers that may be long. Those rest most of the time, and a short one must not wait for their end."""

_OWN_SHARE = 64 * 1024
"""Bytes that each connection may hold of what is not yet answered."""

_SHARED = 32 * 1024 * 1024
"""Bytes that all of them may hold together beyond that."""

_LAST_MOMENT = 1.0
"""Seconds in which what was dropped is gone."""


class AsyncioServer:
    """Listens for associations and answers them by `responder`."""

    def __init__(self, responder: Responder, options: AcceptorOptions = DEFAULTS) -> None:
        self.responder = responder
        self.times = Times(options.acse_timeout, options.stall_timeout, options.idle_timeout)
        self.loop: asyncio.AbstractEventLoop
        self._options = options
        self._tls = options.tls
        self._doors: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._thread: threading.Thread | None = None
        self._pools: dict[Place, ThreadPoolExecutor] = {}
        self._lent: set[Future[None]] = set()
        """What threads are at."""
        self._connections: dict[Connection, int] = {}
        """All that are open, with the bytes they hold beyond their own share."""
        self._shared = 0
        self._silent: WaitingRoom[Connection | Handshake] = WaitingRoom(_SILENT)
        self._handshakes: set[Handshake] = set()
        """Those that are not yet within TLS."""
        self._established: set[Connection] = set()
        self._from_address: Counter[str] = Counter()
        self._is_empty: asyncio.Event
        self._is_closing = False

    @property
    def port(self) -> int:
        """The port it listens on; before `start` the one asked for."""
        return int(self._doors[0].getsockname()[1]) if self._doors else self._options.port

    @property
    def tls_port(self) -> int | None:
        """The port it listens on for TLS; None without TLS."""
        if self._tls is None:
            return None
        return int(self._doors[1].getsockname()[1]) if self._doors else self._tls.port

    @property
    def listening(self) -> bool:
        """Whether associations are accepted."""
        return bool(self._doors)

    @property
    def open_associations(self) -> int:
        """How many connections there are, silent ones included."""
        return len(self._connections)

    def start(self) -> None:
        """Listen at all doors, or at none. Raises OSError, `TlsPortUnusable` for the TLS port, when it can't be had."""
        doors = [self._door(self._options.port)]
        try:
            if self._tls:
                doors.append(self._door(self._tls.port))
        except OSError as error:
            doors[0].close()
            raise TlsPortUnusable(error.errno, error.strerror) from error
        self._pools = {
            place: ThreadPoolExecutor(threads, f"dicom-{place.name.lower()}")
            for place, threads in ((Place.COMMIT, _THREADS), (Place.SCAN, _LONG_ANSWERS))
        }
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_failed)
        self._thread = threading.Thread(target=self._run, name="dicom-loop", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(doors), self.loop).result()
        self._doors = doors

    def stop(self, deadline: float = 5.0) -> None:
        """Accept no more, let every association finish its present operation, close them; in `deadline` seconds."""
        if self._thread is None:
            return
        thread, self._thread, self._doors = self._thread, None, []
        asyncio.run_coroutine_threadsafe(self._close(deadline), self.loop)
        end = time.monotonic() + deadline + 2 * _LAST_MOMENT
        thread.join(deadline + 2 * _LAST_MOMENT)
        futures.wait(set(self._lent), max(0.0, end - time.monotonic()))

    # --- what the connections ask and tell, on the loop

    def opened(self, connection: Connection) -> None:
        """A peer connected; it says nothing yet."""
        self._connections[connection] = 0
        self._wait(connection)

    def shaking(self, handshake: Handshake) -> None:
        """A peer connected at the door for TLS."""
        self._handshakes.add(handshake)
        self._wait(handshake)

    def shaken(self, handshake: Handshake) -> None:
        """Its handshake is over."""
        self._handshakes.discard(handshake)
        self._silent.leave(handshake)
        self._note_empty()

    def handshake_failed(self, address: str, reason: str) -> None:
        """A peer did not come within TLS."""
        self.responder.connection_broken(address, reason=reason)

    def refusal(self, request: Request, caller: Caller) -> Refusal | None:
        """Why this association is to be rejected (PS3.8 9.3.4); None when it may be accepted."""
        options = self._options
        any_called = options.accept_any_called_ae
        refusal = negotiation.refusal(request, options.ae_title, accept_any_called_ae=any_called)
        if refusal:
            return refusal
        rejection = self.responder.rejection(caller)
        if rejection:
            return Refusal(1, rejection.source, rejection.reason, rejection.why, rejection.remedy)
        if len(self._established) >= options.maximum_associations:
            return Refusal(2, 3, 2, f"{options.maximum_associations} associations are open", "close what no unit needs")
        if self._from_address[caller.address] >= options.maximum_associations_per_address:
            why = f"{options.maximum_associations_per_address} associations from this address are open"
            return Refusal(2, 3, 2, why, "see why it opens so many")
        return None

    def accepted(self, connection: Connection) -> None:
        """Its association was accepted."""
        self._silent.leave(connection)
        self._established.add(connection)
        self._from_address[connection.address] += 1

    def bears(self, connection: Connection, held: int) -> bool:
        """Whether it may hold so many bytes for the peer: a share of its own, and beyond it what the others leave."""
        beyond = max(0, held - _OWN_SHARE)
        self._shared += beyond - self._connections.get(connection, 0)
        self._connections[connection] = beyond
        return not beyond or self._shared <= _SHARED

    def lend(self, place: Place, work: Callable[[], None]) -> Future[None]:
        """Have a thread do the work."""
        future = self._pools[place].submit(work)
        self._lent.add(future)
        future.add_done_callback(self._lent.discard)
        return future

    def ended(self, connection: Connection) -> None:
        """Its association is over, or will never be."""
        self._silent.leave(connection)
        if connection in self._established:
            self._established.remove(connection)
            self._from_address[connection.address] -= 1
            if not self._from_address[connection.address]:
                del self._from_address[connection.address]

    def closed(self, connection: Connection) -> None:
        """The peer is gone."""
        self.ended(connection)
        self._shared -= self._connections.pop(connection, 0)
        self._note_empty()

    def _note_empty(self) -> None:
        if not (self._connections or self._handshakes):
            self._is_empty.set()

    def _wait(self, peer: Connection | Handshake) -> None:
        if self._is_closing:  # the door was open when it came
            peer.drop()
        if another := self._silent.enter(peer, peer.address):
            another.drop()

    # --- the loop's thread

    def _door(self, port: int) -> socket.socket:
        host = self._options.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    async def _open(self, doors: list[socket.socket]) -> None:
        """Listen at all doors."""
        self._is_empty, self._is_closing = asyncio.Event(), False  # an event is of one loop
        self._servers = [await self.loop.create_server(self._connection, sock=doors[0], backlog=_BACKLOG)]
        if self._tls:
            shaking = partial(self._handshake, self._tls)
            self._servers.append(await self.loop.create_server(shaking, sock=doors[1], backlog=_BACKLOG))

    def _connection(self) -> Connection:
        return Connection(self)

    def _handshake(self, tls: TlsDoor) -> Handshake:
        return Handshake(self, tls.context, self.times.acse, self._connection)

    async def _close(self, deadline: float) -> None:
        self._is_closing = True
        for server in self._servers:
            server.close()
        for handshake in list(self._handshakes):
            handshake.drop()
        for connection in list(self._connections):
            connection.stop()
        await self._wait_for_all(deadline)
        for connection in list(self._connections):
            connection.drop()
        await self._wait_for_all(_LAST_MOMENT)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self.loop.call_soon(self.loop.stop)

    async def _wait_for_all(self, seconds: float) -> None:
        """Until all connections are closed, but not longer."""
        self._is_empty.clear()
        if self._connections or self._handshakes:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_empty.wait(), seconds)


def _failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log our own failure, without its text: nobody knows whom it names."""
    error = context.get("exception")
    _log.error("engine_failed", error=type(error).__name__, where=place_of(error))
