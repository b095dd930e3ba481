"""The acceptor's side of the DICOM upper layer (PS3.8 9.2 and 9.3): bytes in, events out; no socket and no clock.

An engine gives what it received to `receive`, takes `next_event` until there is none, and sends the bytes that
`accept`, `reject`, `release` and `abort` return. Any bytes in any pieces give events, never an exception.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Container
from dataclasses import dataclass
from enum import Enum

from gateway.dicom import message
from gateway.dicom.association import MAXIMUM_PDU_LENGTH
from gateway.dicom.message import P_DATA_TF, Assembler, BadFragment, Message

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ = 0x01, 0x02, 0x03
A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 0x05, 0x06, 0x07

_NAMES = {
    A_ASSOCIATE_RQ: "A-ASSOCIATE-RQ",
    A_ASSOCIATE_AC: "A-ASSOCIATE-AC",
    A_ASSOCIATE_RJ: "A-ASSOCIATE-RJ",
    P_DATA_TF: "P-DATA-TF",
    A_RELEASE_RQ: "A-RELEASE-RQ",
    A_RELEASE_RP: "A-RELEASE-RP",
    A_ABORT: "A-ABORT",
}

_HEADER = struct.Struct(">BxI")
_LENGTHS = {
    A_ASSOCIATE_RQ: range(68, 64 * 1024),
    P_DATA_TF: range(MAXIMUM_PDU_LENGTH + 1),
    A_RELEASE_RQ: range(4, 5),
    A_RELEASE_RP: range(4, 5),
    A_ABORT: range(4, 5),
}
"""What may follow the first six bytes of a PDU; the contexts that can be proposed (128) need less than 64 KiB."""


class AbortReason(Enum):
    """Reason of an A-ABORT that the service provider sends (PS3.8 9.3.8, Table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER_VALUE = 6


class State(Enum):
    """Where an association is (PS3.8 9.2.3, Table 9-3 and following)."""

    AWAITING_REQUEST = "Sta2"
    DECIDING = "Sta3"
    ESTABLISHED = "Sta6"
    RELEASING = "Sta8"
    OVER = "Sta13"


@dataclass(frozen=True, slots=True)
class AssociationRequested:
    """An A-ASSOCIATE-RQ came, whole; nothing more is read until it is accepted or rejected."""

    pdu: bytes


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A DIMSE message is whole."""

    message: Message


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """The peer has nothing more to ask; what it asked before may still be answered."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer sent an A-ABORT."""


@dataclass(frozen=True, slots=True)
class Violated:
    """The peer broke the protocol: the association is over once `abort` is sent. `why` never quotes what it sent."""

    why: str
    abort: bytes


Event = AssociationRequested | MessageReceived | ReleaseRequested | Aborted | Violated


class Acceptor:
    """One association. What comes after its end is thrown away."""

    def __init__(self) -> None:
        self.state = State.AWAITING_REQUEST
        self._received = bytearray()
        self._events: deque[Event] = deque()
        self._messages = Assembler()
        self._contexts: Container[int] = ()
        self.pdus = self.messages = 0
        """How many were whole."""

    @property
    def held(self) -> int:
        """Bytes that were received and are not yet part of an event."""
        return len(self._received) + self._messages.held

    @property
    def is_within_pdu(self) -> bool:
        """Whether a PDU has begun and is not whole; of use when there is no next event."""
        return bool(self._received)

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self._messages.has_begun

    def receive(self, data: bytes) -> None:
        """Take what the peer sent."""
        if self.state is not State.OVER:
            self._received += data

    def next_event(self) -> Event | None:
        """What happened next; None when more must be received first, or the request be decided on."""
        while not self._events:
            if self.state in (State.DECIDING, State.OVER):
                return None
            try:
                pdu = self._next_pdu()
                if pdu is None:
                    return None
                self._take(*pdu)
            except _Violation as violation:
                self._events.append(Violated(violation.why, self.abort(violation.reason)))
            except BadFragment as error:
                self._events.append(Violated(str(error), self.abort(AbortReason.INVALID_PARAMETER_VALUE)))
        return self._events.popleft()

    # --- what the engine decides

    def accept(self, contexts: Container[int], answer: bytes) -> bytes:
        """Accept the association for these presentation contexts; the bytes to send are the `answer`."""
        self._contexts = contexts
        self.state = State.ESTABLISHED
        return answer

    def reject(self, result: int, source: int, reason: int) -> bytes:
        """Reject the association (PS3.8 9.3.4); the bytes to send."""
        self._end()
        return bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))

    def release(self) -> bytes:
        """Let the peer go that asked for it (PS3.8 9.3.7); the bytes to send."""
        self._end()
        return bytes((A_RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))

    def abort(self, reason: AbortReason = AbortReason.NOT_SPECIFIED) -> bytes:
        """End the association whatever its state, as the service provider (PS3.8 9.3.8); the bytes to send."""
        self._end()
        return bytes((A_ABORT, 0, 0, 0, 0, 4, 0, 0, 2, reason.value))

    def _end(self) -> None:
        self.state = State.OVER
        self._received.clear()
        self._messages = Assembler()

    # --- what the peer sent

    def _next_pdu(self) -> tuple[int, bytes] | None:
        """The type of the next PDU and all its bytes, once it is whole. Raises `_Violation` as soon as it is known."""
        if len(self._received) < _HEADER.size:
            self._check_type()
            return None
        kind, length = _HEADER.unpack_from(self._received)
        self._check_type()
        if length not in _LENGTHS.get(kind, (length,)):
            why = f"announced a PDU of {length} bytes as {_NAMES[kind]}"
            raise _Violation(why, AbortReason.INVALID_PARAMETER_VALUE)
        if kind not in self._expected():
            raise _Violation(f"sent {_NAMES[kind]} {self._where()}", AbortReason.UNEXPECTED_PDU)
        end = _HEADER.size + length
        if len(self._received) < end:
            return None
        pdu = bytes(self._received[:end])
        del self._received[:end]
        self.pdus += 1
        return kind, pdu

    def _check_type(self) -> None:
        if self._received and self._received[0] not in _NAMES:
            raise _Violation("sent what is no DICOM PDU", AbortReason.UNRECOGNIZED_PDU)

    def _expected(self) -> tuple[int, ...]:
        if self.state is State.AWAITING_REQUEST:
            return (A_ASSOCIATE_RQ, A_ABORT)
        if self.state is State.ESTABLISHED:
            return (P_DATA_TF, A_RELEASE_RQ, A_ABORT)
        return (A_ABORT,)

    def _where(self) -> str:
        if self.state is State.AWAITING_REQUEST:
            return "before any association"
        return "within an association" if self.state is State.ESTABLISHED else "after it asked for the release"

    def _take(self, kind: int, pdu: bytes) -> None:
        if kind == P_DATA_TF:
            self._take_values(pdu[_HEADER.size :])
        elif kind == A_ASSOCIATE_RQ:
            self.state = State.DECIDING
            self._events.append(AssociationRequested(pdu))
        elif kind == A_ABORT:
            self._end()
            self._events.append(Aborted())
        elif self._messages.has_begun:
            raise BadFragment("asked for the release within a message")
        else:
            self.state = State.RELEASING
            self._events.append(ReleaseRequested())

    def _take_values(self, body: bytes) -> None:
        for context_id, control, fragment in message.values(body):
            if context_id not in self._contexts:
                raise BadFragment("sent data in a presentation context that was not accepted")
            whole = self._messages.add(context_id, control, fragment)
            if whole:
                self.messages += 1
                self._events.append(MessageReceived(whole))


class _Violation(Exception):
    def __init__(self, why: str, reason: AbortReason) -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason
