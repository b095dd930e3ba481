"""The sockets of the engine on pynetdicom's threads, set right: what that library leaves to chance on the wire.

Nothing waits for the peer's delayed acknowledgement; a TLS handshake, an A-ASSOCIATE-RQ and each PDU have total
deadlines, however slowly their bytes drip in; what a peer may make us hold is bounded.
"""

from __future__ import annotations

import contextlib
import math
import socket
import socketserver
import ssl
import time
from collections.abc import Callable
from typing import Any, NoReturn

from pynetdicom.transport import ThreadedAssociationServer

from gateway.dicom.association import MAXIMUM_MESSAGE_LENGTH, MAXIMUM_PDU_LENGTH
from gateway.dicom.tls import handshake_failure
from gateway.log import get_logger

Broken = Callable[[str, str], None]
"""Told the address of a connection that broke, and why."""

_ROOM_TO_REJECT = 50
"""Connections beyond the limit that still hear that it is reached; further ones are closed unheard."""

_PIECE = 65_536
"""Bytes read at a time."""

_SOON = 0.001
"""Seconds that a read may take whose time is over: none at all would mean not to wait, which raises another error."""

_log = get_logger(__name__)


class Sockets(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is untyped to us
    """pynetdicom's threaded server; a client that says nothing, within TLS or not, blocks nobody else."""

    request_queue_size = 512
    tls: ssl.SSLContext | None = None
    handshake_timeout: float
    stall_timeout: float
    broken: Broken

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  pynetdicom's own
        super().__init__(*arguments, **named)
        self._handshaking: set[ssl.SSLSocket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Without TCP_NODELAY every query waits 40 ms for an acknowledgement that the peer delays."""
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.stall_timeout)
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: socket.socket, client_address: Any) -> bool:  # noqa: ANN401, ARG002
        """Whether there is room for this one: each takes three threads."""
        if len(self.ae.active_associations) + len(self._handshaking) < self.ae.maximum_associations + _ROOM_TO_REJECT:
            return True
        self.broken(str(client_address[0]), "came when there were far too many connections")
        return False

    def finish_request(self, request: socket.socket, client_address: Any) -> None:  # noqa: ANN401
        """In a thread of this connection's own: the TLS handshake, if there is one, then its association begins."""
        if isinstance(request, ssl.SSLSocket) and not self._shake_hands(request, str(client_address[0])):
            self.shutdown_request(request)
            return
        super().finish_request(request, client_address)

    def _shake_hands(self, request: ssl.SSLSocket, address: str) -> bool:
        self._handshaking.add(request)
        try:
            request.settimeout(self.handshake_timeout)  # for the handshake as a whole
            request.do_handshake()
            request.settimeout(self.stall_timeout)
        except OSError as error:
            if reason := handshake_failure(error):
                self.broken(address, reason)
            return False
        finally:
            self._handshaking.discard(request)
        return True

    def handle_error(self, request: socket.socket, client_address: Any) -> None:  # noqa: ANN401, ARG002
        """In place of a traceback on standard error."""
        _log.exception("connection_failed", address=str(client_address[0]))

    def shutdown(self) -> None:
        """Stop accepting, close the listening socket, and wait for nobody's handshake."""
        socketserver.BaseServer.shutdown(self)
        for request in list(self._handshaking):
            with contextlib.suppress(OSError):  # it has closed just now
                socket.socket.shutdown(request, socket.SHUT_RDWR)
        self.server_close()


class Intake:
    """What is read of one connection, within bounds of size and time.

    pynetdicom believes a PDU's announced length, keeps all fragments, and waits for the next byte for ever. The first
    PDU has to be whole `first_within` seconds after the connection; of each other one the header, and then the rest,
    may take `patience` seconds.
    """

    def __init__(
        self,
        association_socket: Any,  # noqa: ANN401
        refused: Callable[[str], None],
        *,
        first_within: float,
        patience: float,
    ) -> None:
        self._patience = patience
        self._connection: socket.socket = association_socket.socket
        self._refused = refused
        self._held = 0
        self._first_until: float | None = time.monotonic() + first_within
        association_socket.recv = self.recv

    def recv(self, length: int) -> bytearray:
        """So many bytes, fewer when the peer has left. Raises OSError, which closes the connection, when they would be
        too many or come too slowly.
        """
        self._held += length
        if length > MAXIMUM_PDU_LENGTH:
            self._refuse(f"announced a PDU of {length} bytes")
        if self._held > MAXIMUM_MESSAGE_LENGTH:
            self._refuse(f"sent a message of more than {MAXIMUM_MESSAGE_LENGTH} bytes")
        until = min(time.monotonic() + self._patience, self._first_until or math.inf)
        try:
            return self._read(length, until)
        except TimeoutError:
            self._refuse("stopped in the middle of a PDU")
        finally:
            with contextlib.suppress(OSError):  # it has been closed
                self._connection.settimeout(self._patience)

    def _read(self, length: int, until: float) -> bytearray:
        received = bytearray()
        while len(received) < length:
            self._connection.settimeout(max(_SOON, until - time.monotonic()))
            piece = self._connection.recv(min(length - len(received), _PIECE))
            if not piece:
                break
            received += piece
        return received

    def requested(self) -> None:
        """The first PDU has come."""
        self._first_until = None

    def message_received(self) -> None:
        """A whole message has been taken: begin to count anew."""
        self._held = 0

    def give_up(self, patience: float) -> None:
        """Why has been told: what else comes has this little time, and nobody hears of it."""
        self._patience, self._refused = patience, lambda _: None

    def _refuse(self, reason: str) -> NoReturn:
        self._refused(reason)
        raise OSError(reason)
