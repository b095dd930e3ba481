"""From an A-ASSOCIATE-RQ to what is agreed (PS3.8 9.3.2, 9.3.3, PS3.7 Annex D), by pynetdicom's negotiation.

Declined by saying nothing about them, as PS3.7 Annex D has it: an asynchronous operations window (one operation at a
time, D.3.3.3), roles other than the default (D.3.3.4), extended negotiation (D.3.3.5 and D.3.3.6), user identity
(D.3.3.7; nobody looks at it). They are taken out before anything is decoded, as is what we know nothing of.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context, negotiate_as_acceptor

from gateway.dicom import toolkit  # noqa: F401  it sets pynetdicom right
from gateway.dicom.association import (
    ANNOUNCED_PDU_LENGTH,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    SOP_CLASSES,
)
from gateway.dicom.data_set import TRANSFER_SYNTAXES
from gateway.dicom.message import LEAST_PDU_LENGTH

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"

_FIXED = struct.Struct(">BxIHxx16s16s32s")
"""Before the items: type, length, protocol version, called and calling AE title, reserved (PS3.8 Table 9-11)."""

_ITEM = struct.Struct(">BxH")
_APPLICATION, _PRESENTATION_CONTEXT, _USER_INFORMATION = 0x10, 0x20, 0x50
_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS_UID, _IMPLEMENTATION_VERSION_NAME = 0x51, 0x52, 0x55
_CONTEXT_HEADER = _ITEM.size + 4
"""Bytes of a presentation context before its abstract and transfer syntaxes (PS3.8 Table 9-13)."""

_MOST_CONTEXTS = 128
"""Presentation contexts of one request: as many as there are odd IDs in a byte (PS3.8 Table 9-13)."""

_MOST_SUB_ITEMS = 100
"""Sub-items of one presentation context; there are some 60 transfer syntaxes, and the time grows with their square."""

_SUB_ITEMS = (_MAXIMUM_LENGTH, _IMPLEMENTATION_CLASS_UID, _IMPLEMENTATION_VERSION_NAME)
"""User information that is looked at."""

_VERSION_1 = 0x0001
"""The one bit of the protocol version that is looked at (PS3.8 Table 9-11)."""

_KEPT = 256
"""Requests of so many kinds are remembered: a unit asks for the same contexts each time."""

_LONGEST_KEPT = 4096
"""Bytes of a request that is remembered."""

_UNTOLD_PDU_LENGTH = 16 * 1024
"""Bytes of a PDU for a peer which does not tell its maximum, as it must (PS3.8 D.1)."""

_SUPPORTED = [build_context(sop_class.uid, list(TRANSFER_SYNTAXES)) for sop_class in SOP_CLASSES]


class Malformed(Exception):
    """The request is no proper A-ASSOCIATE-RQ. The text says why and never quotes it."""


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ as far as it concerns us; `items` are those of its items that do."""

    protocol_version: int
    called: bytes
    calling: bytes
    reserved: bytes
    application_context: bytes
    items: bytes

    @property
    def called_ae_title(self) -> str:
        """The AE title without the spaces around it."""
        return _title(self.called)

    @property
    def calling_ae_title(self) -> str:
        """The AE title without the spaces around it."""
        return _title(self.calling)


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    sop_class_uid: str
    sop_class_name: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """What is accepted, by presentation context ID; the names of abstract syntaxes that are not; the items that say so.

    `maximum_length` is that of the peer's PDUs in bytes, 0 for any.
    """

    contexts: Mapping[int, Context]
    refused: tuple[str, ...]
    maximum_length: int
    items: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4), and why, for the site's people."""

    result: int
    source: int
    reason: int
    why: str
    remedy: str = ""


def read(pdu: bytes) -> Request:
    """The request that a whole A-ASSOCIATE-RQ is. Raises `Malformed`."""
    _, _, version, called, calling, reserved = _FIXED.unpack_from(pdu)
    application_context, kept, contexts = b"", [], 0
    for kind, item in _items(pdu[_FIXED.size :]):
        if kind == _APPLICATION:
            application_context = item[_ITEM.size :]
            kept.append(item)
        elif kind == _PRESENTATION_CONTEXT:
            contexts += 1
            if contexts > _MOST_CONTEXTS:
                raise Malformed("more presentation contexts than there are IDs")
            if sum(1 for _ in _items(item[_CONTEXT_HEADER:])) > _MOST_SUB_ITEMS:
                raise Malformed("a presentation context with more transfer syntaxes than there are")
            kept.append(item)
        elif kind == _USER_INFORMATION:
            subs = b"".join(sub for kind, sub in _items(item[_ITEM.size :]) if kind in _SUB_ITEMS)
            kept.append(_ITEM.pack(kind, len(subs)) + subs)
    return Request(version, called, calling, reserved, application_context.rstrip(b"\0 "), b"".join(kept))


def refusal(request: Request, ae_title: str, *, accept_any_called_ae: bool) -> Refusal | None:
    """Why nobody may associate so (PS3.8 9.3.4); None when it depends on who asks."""
    if not request.protocol_version & _VERSION_1:
        return Refusal(1, 2, 2, f"protocol version 0x{request.protocol_version:04X} is not supported")
    if request.application_context != _APPLICATION_CONTEXT:
        return Refusal(1, 1, 2, "the application context name is not supported")
    if not accept_any_called_ae and request.called_ae_title != ae_title.strip():
        return Refusal(1, 1, 7, "Called AE title not recognised", f"call {ae_title.strip()}, or set GATEWAY_AE_TITLE")
    if not request.calling_ae_title:
        return Refusal(1, 1, 3, "the calling AE title is empty", "set the AE title of the modality")
    return None


def agree(request: Request) -> Agreement:
    """What we accept of a request. Raises `Malformed`."""
    return (_agreed if len(request.items) <= _LONGEST_KEPT else _agreed.__wrapped__)(request.items)


def acceptance(request: Request, agreement: Agreement) -> bytes:
    """The A-ASSOCIATE-AC (PS3.8 9.3.3); what is reserved is sent back as it came (Table 9-17)."""
    length = _FIXED.size - 6 + len(agreement.items)
    fixed = _FIXED.pack(0x02, length, _VERSION_1, request.called, request.calling, request.reserved)
    return fixed + agreement.items


@lru_cache(maxsize=_KEPT)
def _agreed(items: bytes) -> Agreement:
    asked = _decoded(items)
    contexts = asked.presentation_context_definition_list
    if len({context.context_id for context in contexts}) < len(contexts):
        raise Malformed("one presentation context ID twice in the request")
    if any(not context.abstract_syntax or not context.transfer_syntax for context in contexts):
        raise Malformed("a presentation context without abstract or transfer syntax in the request")
    if not contexts:
        raise Malformed("no presentation context in the request")
    results, _ = negotiate_as_acceptor(contexts, _SUPPORTED)
    maximum_length = next(
        (
            item.maximum_length_received
            for item in asked.user_information
            if isinstance(item, MaximumLengthNotification)
        ),
        _UNTOLD_PDU_LENGTH,
    )
    if 0 < maximum_length < LEAST_PDU_LENGTH:
        raise Malformed(f"a maximum PDU length of {maximum_length} bytes in the request: no fragment fits")
    return Agreement(
        {
            result.context_id: Context(
                str(result.abstract_syntax), str(result.abstract_syntax.name), str(result.transfer_syntax[0])
            )
            for result in results
            if result.result == 0
        },
        tuple(str(result.abstract_syntax.name) for result in results if result.result != 0),
        maximum_length,
        _answer_items(results),
    )


def _decoded(items: bytes) -> Any:  # noqa: ANN401  pynetdicom is untyped to us
    """The request's primitive, by pynetdicom. Raises `Malformed`."""
    pdu = A_ASSOCIATE_RQ()
    try:
        # The titles are ours to judge, and pynetdicom takes no empty one.
        pdu.decode(_FIXED.pack(0x01, 68 + len(items), 1, b"CALLED".ljust(16), b"CALLING".ljust(16), bytes(32)) + items)
        return pdu.to_primitive()
    except Exception as error:  # pynetdicom has no error of its own
        raise Malformed("an A-ASSOCIATE-RQ that can't be read") from error


def _answer_items(results: list[Any]) -> bytes:
    answer = A_ASSOCIATE()
    answer.application_context_name = _APPLICATION_CONTEXT.decode()
    answer.calling_ae_title = answer.called_ae_title = "ANY"
    answer.presentation_context_definition_results_list = results
    answer.result = 0
    maximum_length = MaximumLengthNotification()
    maximum_length.maximum_length_received = ANNOUNCED_PDU_LENGTH
    class_uid = ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    answer.user_information = [maximum_length, class_uid, version]
    encoded: bytes = A_ASSOCIATE_AC(answer).encode()
    return encoded[_FIXED.size :]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and whole bytes of each item."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _ITEM.size:
            raise Malformed("an item that ends within its header in the request")
        kind, length = _ITEM.unpack_from(data, at)
        after = at + _ITEM.size + length
        if after > end:
            raise Malformed("an item longer than the request")
        yield kind, data[at:after]
        at = after


def _title(field: bytes) -> str:
    return field.decode("ascii", "replace").strip(" \0")
