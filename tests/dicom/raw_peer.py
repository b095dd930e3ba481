"""PDUs as bytes and a peer on a plain socket: what no toolkit would send, and exactly what came back."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from gateway.dicom.association import PERFORMED_STEP, RETRIEVE, VERIFICATION, WORKLIST
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ECHOING, FINDING, STEPPING, RETRIEVING = 1, 3, 5, 7
CONTEXTS = {
    ECHOING: VERIFICATION.uid,
    FINDING: WORKLIST.uid,
    STEPPING: PERFORMED_STEP.uid,
    RETRIEVING: RETRIEVE.uid,
}
"""The presentation contexts that are asked for unless others are named."""

RELEASE_RQ, RELEASE_RP = bytes.fromhex("05000000000400000000"), bytes.fromhex("06000000000400000000")
ABORT = bytes.fromhex("07000000000400000000")
PATIENCE = 30.0


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def proposed(number: int, abstract: str, *syntaxes: str) -> bytes:
    names = b"".join(item(0x40, syntax.encode()) for syntax in syntaxes)
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, abstract.encode()) + names)


def associate_rq(
    *,
    called: bytes = b"ORTHANC_MWL",
    calling: bytes = b"MAMMO1",
    version: int = 1,
    application_context: str = APPLICATION_CONTEXT,
    contexts: list[bytes] | None = None,
    maximum_length: int | None = 16384,
    user: bytes = b"",
    more: bytes = b"",
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2); `user` are further user information sub-items, `more` further items."""
    if contexts is None:
        contexts = [
            proposed(number, uid, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)
            for number, uid in CONTEXTS.items()
        ]
    told = b"" if maximum_length is None else item(0x51, struct.pack(">I", maximum_length))
    told += item(0x52, b"1.2.826.0.1.3680043.8.498.1") + user
    return pdu(
        1,
        struct.pack(">HH", version, 0)
        + called.ljust(16)
        + calling.ljust(16)
        + bytes(32)
        + item(0x10, application_context.encode())
        + b"".join(contexts)
        + item(0x50, told)
        + more,
    )


def value(context: int, control: int, fragment: bytes) -> bytes:
    """A presentation data value (PS3.8 9.3.5.1)."""
    return struct.pack(">IBB", len(fragment) + 2, context, control) + fragment


def command(field: int, message_id: int = 1, data_set: bytes | None = None, **elements: Any) -> bytes:
    """A command set, by pynetdicom."""
    known = Dataset()
    known.CommandField = field
    known.CommandDataSetType = 0x0101 if data_set is None else 0x0001
    if field == 0x0FFF:
        known.MessageIDBeingRespondedTo = message_id
    else:
        known.MessageID = message_id
    for keyword, element in elements.items():
        setattr(known, keyword, element)
    return encoded(known)


def encoded(command_set: Dataset) -> bytes:
    """With its group length."""
    command_set.CommandGroupLength = 0
    length = len(encode(command_set, True, True) or b"") - 12
    command_set.CommandGroupLength = length
    return encode(command_set, True, True) or b""


def message(context: int, field: int, message_id: int = 1, data_set: bytes | None = None, **elements: Any) -> bytes:
    """A whole message in one P-DATA-TF."""
    values = value(context, 3, command(field, message_id, data_set, **elements))
    if data_set is not None:
        values += value(context, 2, data_set)
    return pdu(4, values)


def echo(message_id: int = 1) -> bytes:
    return message(ECHOING, 0x0030, message_id, AffectedSOPClassUID=VERIFICATION.uid)


def find(data_set: bytes, message_id: int = 1) -> bytes:
    return message(FINDING, 0x0020, message_id, data_set, AffectedSOPClassUID=WORKLIST.uid, Priority=2)


def cancel(message_id: int = 1) -> bytes:
    return message(FINDING, 0x0FFF, message_id)


def n_create(data_set: bytes, uid: str, message_id: int = 1) -> bytes:
    uids = {"AffectedSOPClassUID": PERFORMED_STEP.uid, "AffectedSOPInstanceUID": uid}
    return message(STEPPING, 0x0140, message_id, data_set, **uids)


class RawPeer:
    """A socket, and what came on it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, *pdus: bytes) -> None:
        """In one segment, if it can be."""
        self.socket.sendall(b"".join(pdus))

    def read(self) -> bytes:
        """The next PDU; b"" when the other side has closed."""
        try:
            header = self._file.read(6)
            return header + self._file.read(struct.unpack(">BxI", header)[1]) if len(header) == 6 else b""
        except ConnectionError:
            return b""

    def response(self) -> Dataset:
        """The command set of the next message, its data set thrown away; all of it must come in single fragments."""
        received = self.read()
        assert received[:1] == b"\x04", received.hex()
        length, _, control = struct.unpack_from(">IBB", received, 6)
        assert control == 3
        command_set = decode(BytesIO(received[12 : 10 + length]), True, True)
        if command_set.CommandDataSetType != 0x0101 and len(received) == 10 + length:
            self.read()
        return command_set

    def statuses(self) -> list[int]:
        """Of the responses to one query."""
        found = []
        while True:
            found.append(self.response().Status)
            if found[-1] != 0xFF00:
                return found

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def connected(port: int) -> Iterator[RawPeer]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = RawPeer(connection)
        yield peer
        peer.close()


def rejection(port: int, **request: Any) -> tuple[int, int, int] | None:
    """Result, source and reason of the A-ASSOCIATE-RJ; None when the association is accepted, and can be used.

    Not by pynetdicom: when its rejection comes at once, its two threads may disagree on whether there was any answer.
    """
    with connected(port) as peer:
        peer.send(associate_rq(**request))
        answer = peer.read()
        if answer[:1] == b"\x03":
            return answer[7], answer[8], answer[9]
        peer.send(echo(), RELEASE_RQ)
        assert peer.response().Status == 0x0000
        assert peer.read() == RELEASE_RP
        return None


@contextmanager
def associated(port: int, **request: Any) -> Iterator[RawPeer]:
    with connected(port) as peer:
        peer.send(associate_rq(**request))
        answer = peer.read()
        assert answer[:1] == b"\x02", answer.hex()
        yield peer
