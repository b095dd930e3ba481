"""Peers at the modalities' door that do what no unit should (PS3.8). None of them sends a whole N-CREATE.

They call from an address of their own; what they open stays open until `end`.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.dicom.dicom_samples import created, query, to_bytes
from tests.dicom.raw_peer import (
    CONTEXTS,
    RELEASE_RQ,
    STEPPING,
    associate_rq,
    cancel,
    command,
    echo,
    find,
    n_create,
    pdu,
    value,
)

_ADDRESS = "127.0.0.3"
_PATIENCE = 2.0
"""Seconds: the gateway may have been killed a moment ago."""

_EVERYTHING = find(to_bytes(query({"Modality": ""}, AccessionNumber="", PatientName="", StudyInstanceUID="")))
_STEP = n_create(to_bytes(created()), "1.2.3.4.5", 2)
_SESSION = b"".join((associate_rq(), echo(), _EVERYTHING, cancel(), _STEP[:-1]))


@dataclass(frozen=True)
class Kind:
    """What one peer does with its connection, which it may close; and how many such peers may come at once."""

    counts: tuple[int, ...]
    act: Callable[[socket.socket, random.Random], object]


def _say_nothing(_: socket.socket, __: random.Random) -> None:
    pass


def _ask_by_half(connection: socket.socket, dice: random.Random) -> None:
    connection.sendall(associate_rq()[: -dice.randint(1, 300)])


def _associate_and_idle(connection: socket.socket, _: random.Random) -> None:
    connection.sendall(associate_rq())
    connection.recv(1024)


def _stop_within_a_message(connection: socket.socket, dice: random.Random) -> None:
    """An N-CREATE whose data set stops within a PDU, or between two."""
    opening = pdu(4, value(STEPPING, 1, command(0x0140, 1, b"", AffectedSOPClassUID=CONTEXTS[STEPPING])))
    closing = pdu(4, value(STEPPING, 2, b"")) + pdu(4, value(STEPPING, 0, dice.randbytes(dice.randint(2, 60_000))))
    connection.sendall(associate_rq() + opening + closing[12 : dice.choice((-7, None))])


def _ask_and_never_read(connection: socket.socket, _: random.Random) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.sendall(associate_rq() + _EVERYTHING * 40)


def _reset(connection: socket.socket, dice: random.Random) -> None:
    """At any byte of a session; sometimes once the first answer is there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.sendall(_SESSION[: dice.randint(0, len(_SESSION))])
    if dice.random() < 0.3:
        connection.settimeout(0.02)
        with suppress(TimeoutError):
            connection.recv(1024)
    connection.close()


def _talk_nonsense(connection: socket.socket, dice: random.Random) -> None:
    """From the first byte, or within an association."""
    greeting = dice.choice((b"", associate_rq(), b"\x01\0\xff\xff\xff\xff", b"GET / HTTP/1.1"))
    connection.sendall(greeting + dice.randbytes(dice.randint(1, 5000)))
    if dice.random() < 0.5:
        connection.close()


def _leave_before_the_answer(connection: socket.socket, _: random.Random) -> None:
    connection.sendall(associate_rq() + echo() + _EVERYTHING + RELEASE_RQ)
    connection.close()


KINDS = {
    "silent connections": Kind((50, 300, 1500), _say_nothing),  # more than are borne, at times
    "half requests": Kind((20, 50, 200), _ask_by_half),
    "idle associations": Kind((50, 100, 300), _associate_and_idle),
    "half messages": Kind((5, 30), _stop_within_a_message),
    "deaf peers": Kind((2, 8), _ask_and_never_read),
    "resets": Kind((20, 80), _reset),
    "nonsense": Kind((5, 40), _talk_nonsense),
    "leavers": Kind((10, 60), _leave_before_the_answer),
}
"""Those that come, by name."""


class BadPeers:
    """Those of one soak."""

    def __init__(self, port: int, dice: random.Random) -> None:
        self._port = port
        self._dice = dice
        self._connections: list[socket.socket] = []

    def begin(self, name: str) -> None:
        """Have some of a kind come; whatever the gateway does to them, or that it is not there, is no matter."""
        kind = KINDS[name]
        for _ in range(self._dice.choice(kind.counts)):
            with suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", self._port), _PATIENCE, (_ADDRESS, 0))
                self._connections.append(connection)
                kind.act(connection, self._dice)

    def end(self) -> None:
        """Leave, all at once."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
