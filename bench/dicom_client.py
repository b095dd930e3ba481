"""A DICOM client of a few lines on a plain socket: it takes no time of its own that a measurement would show."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN

WORKLIST = "1.2.840.10008.5.1.4.31"
STEP = "1.2.840.10008.3.1.2.3.3"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = "1.2.826.0.1.3680043.8.498.1"
_CONTEXTS = {WORKLIST: 1, STEP: 3}
_ASSOCIATE_RQ, _ASSOCIATE_AC, _P_DATA = 0x01, 0x02, 0x04
_C_FIND_RQ, _N_CREATE_RQ = 0x0020, 0x0140
_PENDING = (0xFF00, 0xFF01)
_PATIENCE = 600.0


class Client:
    """One association for worklist queries and performed steps, in Implicit VR Little Endian."""

    def __init__(self, port: int, *, called: str = "ORTHANC_MWL", calling: str = "MAMMO1") -> None:
        """Associate with a server on this machine. Raises OSError when it does not accept."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(_pdu(_ASSOCIATE_RQ, _association(called, calling)))
        kind, _ = self._read()
        if kind != _ASSOCIATE_AC:
            raise ConnectionRefusedError("the association was not accepted")

    def close(self) -> None:
        """Drop the connection."""
        self._file.close()
        self._socket.close()

    @property
    def port(self) -> int:
        """Our own."""
        return int(self._socket.getsockname()[1])

    def find(self, identifier: bytes) -> tuple[int, int]:
        """Ask the worklist; the number of answers and the final status."""
        self.ask(identifier)
        return self.answers()

    def ask(self, identifier: bytes) -> None:
        """Ask the worklist, and read nothing yet."""
        self._send(WORKLIST, _command(WORKLIST, _C_FIND_RQ), identifier)

    def answers(self) -> tuple[int, int]:
        """Read what comes: the number of answers and the final status."""
        for answers, status in enumerate(self._statuses()):
            if status not in _PENDING:
                return answers, status
        raise ConnectionResetError("the server went away")

    def create(self, sop_instance_uid: str, attribute_list: bytes) -> int:
        """Report a performed step; the status."""
        self._send(STEP, _command(STEP, _N_CREATE_RQ, sop_instance_uid), attribute_list)
        return next(self._statuses())

    def _send(self, sop_class: str, command: bytes, data_set: bytes) -> None:
        context = _CONTEXTS[sop_class]
        values = (
            struct.pack(">IBB", len(part) + 2, context, flags) + part for part, flags in ((command, 3), (data_set, 2))
        )
        self._socket.sendall(_pdu(_P_DATA, b"".join(values)))

    def _statuses(self) -> Iterator[int]:
        """The status of each response, as their commands come in; data sets are thrown away."""
        command, status = b"", 0
        while True:
            kind, body = self._read()
            if kind != _P_DATA:
                return
            while body:
                (length,) = struct.unpack_from(">I", body)
                flags, fragment, body = body[5], body[6 : 4 + length], body[4 + length :]
                if flags & 1:
                    command += fragment
                if flags == 3:
                    status, has_data_set = _status(command)
                    command = b""
                    if not has_data_set:
                        yield status
                elif flags == 2:
                    yield status

    def _read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._file.read(6))
        return kind, self._file.read(length)


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _association(called: str, calling: str) -> bytes:
    """The body of an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    contexts = b"".join(
        _item(
            0x20,
            bytes([number, 0, 0, 0]) + _item(0x30, uid.encode()) + _item(0x40, IMPLICIT_VR_LITTLE_ENDIAN.encode()),
        )
        for uid, number in _CONTEXTS.items()
    )
    user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, _IMPLEMENTATION.encode())
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    return (
        struct.pack(">HH", 1, 0)
        + titles
        + bytes(32)
        + _item(0x10, _APPLICATION_CONTEXT.encode())
        + contexts
        + _item(0x50, user)
    )


def _command(sop_class: str, command: int, sop_instance_uid: str = "") -> bytes:
    """The command set of a request with a data set (PS3.7 9.3.2.1, 10.3.5.1)."""
    body = _uid(0x0002, sop_class) + _short(0x0100, command) + _short(0x0110, 1)
    body += _short(0x0700, 0) if command == _C_FIND_RQ else b""
    body += _short(0x0800, 1) + (_uid(0x1000, sop_instance_uid) if sop_instance_uid else b"")
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value


def _short(element: int, value: int) -> bytes:
    return struct.pack("<HHIH", 0, element, 2, value)


def _status(command: bytes) -> tuple[int, bool]:
    """The status of a response, and whether a data set follows."""
    values: dict[int, bytes] = {}
    while command:
        _, element, length = struct.unpack_from("<HHI", command)
        values[element] = command[8 : 8 + length]
        command = command[8 + length :]
    (status,), (data_set,) = (struct.unpack("<H", values[element]) for element in (0x0900, 0x0800))
    return status, data_set != 0x0101
