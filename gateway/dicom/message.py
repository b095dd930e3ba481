"""DIMSE messages in fragments (PS3.7 6.3.1, PS3.8 9.3.5 and Annex E): put together from a peer, cut for it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dicom import command_set
from gateway.dicom.association import MAXIMUM_MESSAGE_LENGTH
from gateway.dicom.command_set import Command, Unreadable

P_DATA_TF = 0x04

_COMMAND, _LAST = 0x01, 0x02
"""Bits of a message control header (PS3.8 E.2)."""

_PDV_OVERHEAD = 6
"""Bytes of a presentation data value beside its fragment."""

LEAST_PDU_LENGTH = _PDV_OVERHEAD + 2
"""Bytes of the smallest P-DATA-TF that holds a fragment: fragments are even (PS3.8 9.3.1 D.1)."""

_LONGEST_COMMAND = 64 * 1024
"""Bytes of a command set; the longest honest one, an N-GET of very many attributes, has a tenth of it."""

_WRITTEN_PDU_LENGTH = 128 * 1024
"""Bytes of one PDU that we send to a peer which bears any length."""

_PDV = struct.Struct(">IBB")
_PDU = struct.Struct(">BxI")
_SMALL_MESSAGE = struct.Struct(">BxIIBB")


class BadFragment(Exception):
    """The fragment does not belong where it stands. The text says why and never quotes it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message. `data_set` is as it was received, None when the command announced none."""

    context_id: int
    command: Command
    data_set: bytes | None


class Assembler:
    """Puts one association's messages together, one after the other."""

    def __init__(self) -> None:
        self._context_id = 0
        self._command_bytes = bytearray()
        self._command: Command | None = None
        self._data_set = bytearray()
        self.has_begun = False
        """Whether a message has begun and is not whole."""

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._command_bytes) + len(self._data_set)

    def add(self, context_id: int, control: int, fragment: bytes) -> Message | None:
        """Take one fragment; the message that it completes. Raises `BadFragment`."""
        if self.has_begun and context_id != self._context_id:
            raise BadFragment("sent a fragment in another presentation context than its message began in")
        if self.held + len(fragment) > MAXIMUM_MESSAGE_LENGTH:
            raise BadFragment(f"sent a message of more than {MAXIMUM_MESSAGE_LENGTH} bytes")
        self._context_id, self.has_begun = context_id, True
        is_last = bool(control & _LAST)
        return self._add_command(fragment, is_last) if control & _COMMAND else self._add_data(fragment, is_last)

    def _add_command(self, fragment: bytes, is_last: bool) -> Message | None:
        if self._command is not None:
            raise BadFragment("announced a data set and sent another command instead")
        self._command_bytes += fragment
        if len(self._command_bytes) > _LONGEST_COMMAND:
            raise BadFragment(f"sent a command set of more than {_LONGEST_COMMAND} bytes")
        if not is_last:
            return None
        try:
            self._command = command_set.read(bytes(self._command_bytes))
        except Unreadable as error:
            raise BadFragment(f"sent {error}") from error
        return None if self._command.has_data_set else self._whole(self._command, None)

    def _add_data(self, fragment: bytes, is_last: bool) -> Message | None:
        if self._command is None:
            raise BadFragment("sent a data set that no command announced")
        self._data_set += fragment
        return self._whole(self._command, bytes(self._data_set)) if is_last else None

    def _whole(self, command: Command, data_set: bytes | None) -> Message:
        self._command, self.has_begun = None, False
        self._command_bytes.clear()
        self._data_set.clear()
        return Message(self._context_id, command, data_set)


def values(pdu_body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Context ID, message control header and fragment of each presentation data value. Raises `BadFragment`."""
    at, end = 0, len(pdu_body)
    if not end:
        raise BadFragment("sent a P-DATA-TF without a presentation data value")
    while at < end:
        if end - at < _PDV_OVERHEAD:
            raise BadFragment("sent a presentation data value that ends within its header")
        length, context_id, control = _PDV.unpack_from(pdu_body, at)
        after = at + 4 + length
        if length < _PDV_OVERHEAD - 4 or after > end:
            raise BadFragment("sent a presentation data value of a length that its PDU has no room for")
        yield context_id, control, pdu_body[at + _PDV_OVERHEAD : after]
        at = after


def pdus(context_id: int, command: bytes, data_set: bytes | None, maximum_length: int) -> bytes:
    """A message as P-DATA-TF PDUs no longer than the peer bears; 0 is any length (PS3.8 D.1).

    A message that fits is one PDU, and no PDU holds parts of two messages: not all toolkits look for a second one.
    """
    limit = maximum_length if 0 < maximum_length < _WRITTEN_PDU_LENGTH else _WRITTEN_PDU_LENGTH
    data_set = data_set or b""
    length = len(command) + len(data_set) + (2 * _PDV_OVERHEAD if data_set else _PDV_OVERHEAD)
    if length > limit:
        return b"".join(_cut(context_id, command, data_set, limit))
    head = _SMALL_MESSAGE.pack(P_DATA_TF, length, len(command) + 2, context_id, _COMMAND | _LAST)
    if not data_set:
        return head + command
    return b"".join((head, command, _PDV.pack(len(data_set) + 2, context_id, _LAST), data_set))


def _cut(context_id: int, command: bytes, data_set: bytes, limit: int) -> Iterator[bytes]:
    """One fragment in each PDU."""
    room = (limit - _PDV_OVERHEAD) & ~1
    for part, control in ((command, _COMMAND), (data_set, 0)):
        for at in range(0, len(part), room):
            fragment = part[at : at + room]
            last = _LAST if at + room >= len(part) else 0
            yield _PDU.pack(P_DATA_TF, len(fragment) + _PDV_OVERHEAD)
            yield _PDV.pack(len(fragment) + 2, context_id, control | last) + fragment
