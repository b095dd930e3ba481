"""Command sets (PS3.7 6.3.1 and Annex E): what a peer asks, and the bytes of what it is answered.

Always Implicit VR Little Endian, and small: read and written here, as pynetdicom would, in a twentieth of its time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030
N_EVENT_REPORT, N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE = 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150
C_CANCEL = 0x0FFF

NAMES = {
    C_STORE: "C-STORE",
    C_GET: "C-GET",
    C_FIND: "C-FIND",
    C_MOVE: "C-MOVE",
    C_ECHO: "C-ECHO",
    N_EVENT_REPORT: "N-EVENT-REPORT",
    N_GET: "N-GET",
    N_SET: "N-SET",
    N_ACTION: "N-ACTION",
    N_CREATE: "N-CREATE",
    N_DELETE: "N-DELETE",
}
"""Requests by Command Field (PS3.7 E.1)."""

_RESPONSE = 0x8000
"""The bit of a Command Field that makes a response of a request."""

_NO_DATA_SET, _SOME_DATA_SET = 0x0101, 0x0001

_GROUP_LENGTH = 0x0000
_AFFECTED_SOP_CLASS_UID, _REQUESTED_SOP_CLASS_UID = 0x0002, 0x0003
_COMMAND_FIELD = 0x0100
_MESSAGE_ID, _MESSAGE_ID_RESPONDED_TO = 0x0110, 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS, _OFFENDING_ELEMENT, _ERROR_COMMENT, _ERROR_ID = 0x0900, 0x0901, 0x0902, 0x0903
_AFFECTED_SOP_INSTANCE_UID, _REQUESTED_SOP_INSTANCE_UID = 0x1000, 0x1001
_ATTRIBUTE_IDENTIFIER_LIST = 0x1005

_HEADER = struct.Struct("<HHI")
_US = struct.Struct("<H")
_HEADED_LENGTH = struct.Struct("<HHII")
_FOUR_NUMBERS = struct.Struct("<" + "HHIH" * 4)


class Unreadable(Exception):
    """These bytes are no command set, or so little of one that no response can be made."""


class _Mistyped(Exception):
    """A value is not what its element holds."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request, or a C-CANCEL of one; `message_id` is then that of the request it cancels.

    `sop_class_uid` and `sop_instance_uid` are those it names, affected or requested, "" when it names none.
    `is_mistyped`: a value that is not needed for a response can't be read.
    """

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    attribute_identifiers: tuple[int, ...] = ()
    is_mistyped: bool = False


def read(data: bytes) -> Command:
    """The command these bytes are. Raises `Unreadable`."""
    elements = _elements(data)
    try:
        field = _number(elements, _COMMAND_FIELD)
        message_id = _number(elements, _MESSAGE_ID_RESPONDED_TO if field == C_CANCEL else _MESSAGE_ID)
        has_data_set = _number(elements, _DATA_SET_TYPE) != _NO_DATA_SET
    except _Mistyped as error:
        raise Unreadable("a command set without a command field, a message ID or a data set type") from error
    if field not in NAMES and field != C_CANCEL:
        raise Unreadable(f"the command field 0x{field:04X}, which is no request")
    try:
        return Command(
            field,
            message_id,
            has_data_set,
            _uid(elements, _REQUESTED_SOP_CLASS_UID, _AFFECTED_SOP_CLASS_UID),
            _uid(elements, _REQUESTED_SOP_INSTANCE_UID, _AFFECTED_SOP_INSTANCE_UID),
            _tags(elements.get(_ATTRIBUTE_IDENTIFIER_LIST, b"")),
        )
    except _Mistyped:
        return Command(field, message_id, has_data_set, is_mistyped=True)


def _elements(data: bytes) -> dict[int, bytes]:
    """The values by element number; of another group than 0000 none belongs here, and is passed over."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        if end - at < _HEADER.size:
            raise Unreadable("a command set that ends within an element")
        group, element, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if length > end - at:
            raise Unreadable("a command set that ends within a value")
        if group == 0:
            found[element] = data[at : at + length]
        at += length
    return found


def _number(elements: Mapping[int, bytes], element: int) -> int:
    """A US; of several values the first."""
    value = elements.get(element, b"")
    if not value or len(value) % _US.size:
        raise _Mistyped
    number: int = _US.unpack_from(value)[0]
    return number


def _uid(elements: Mapping[int, bytes], requested: int, affected: int) -> str:
    """A UI without its padding; of several values the first."""
    value = elements.get(requested)
    if value is None:
        value = elements.get(affected, b"")
    try:
        return value.decode("ascii").split("\\", 1)[0].rstrip("\0 ")
    except UnicodeDecodeError as error:
        raise _Mistyped from error


def _tags(value: bytes) -> tuple[int, ...]:
    if len(value) % 4:
        raise _Mistyped
    numbers = struct.unpack(f"<{len(value) // 2}H", value)
    return tuple(group << 16 | element for group, element in zip(numbers[::2], numbers[1::2], strict=True))


def response(
    request: Command,
    status: int,
    *,
    has_data_set: bool = False,
    sop_instance_uid: str = "",
    error_comment: str = "",
    error_id: int | None = None,
    offending_elements: Sequence[int] = (),
    attribute_identifiers: Sequence[int] = (),
) -> bytes:
    """The command set of a response to `request` (PS3.7 9.3 and 10.3): what is empty is left out."""
    told = _FOUR_NUMBERS.pack(
        *(0, _COMMAND_FIELD, 2, request.field | _RESPONSE),
        *(0, _MESSAGE_ID_RESPONDED_TO, 2, request.message_id),
        *(0, _DATA_SET_TYPE, 2, _SOME_DATA_SET if has_data_set else _NO_DATA_SET),
        *(0, _STATUS, 2, status),
    )
    command = b"".join(
        (
            _text(_AFFECTED_SOP_CLASS_UID, request.sop_class_uid, b"\0"),
            told,
            _at(_OFFENDING_ELEMENT, offending_elements),
            _text(_ERROR_COMMENT, error_comment, b" "),
            b"" if error_id is None else _element(_ERROR_ID, _US.pack(error_id)),
            _text(_AFFECTED_SOP_INSTANCE_UID, sop_instance_uid, b"\0"),
            _at(_ATTRIBUTE_IDENTIFIER_LIST, attribute_identifiers),
        )
    )
    return _HEADED_LENGTH.pack(0, _GROUP_LENGTH, 4, len(command)) + command


def _element(element: int, value: bytes) -> bytes:
    return _HEADER.pack(0, element, len(value)) + value


def _text(element: int, text: str, padding: bytes) -> bytes:
    if not text:
        return b""
    value = text.encode("ascii", "replace")
    return _element(element, value + padding * (len(value) % 2))


def _at(element: int, tags: Sequence[int]) -> bytes:
    if not tags:
        return b""
    return _element(element, b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in tags))
