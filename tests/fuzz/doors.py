"""What must hold for any bytes at each of three doors; an AssertionError, or any other, is a finding.

Nothing raises, what comes out is bounded by what went in, pieces tell the same as the whole, and what we accept
pynetdicom and pydicom read alike, where they can read it at all.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import VR
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, P_DATA_TF

from gateway.dicom import command_set, data_set, find, identifier, matching, message, mpps, negotiation, performed
from gateway.dicom.command_set import C_CANCEL, NAMES, Command, Unreadable
from gateway.dicom.data_set import DataSet, Undecodable
from gateway.dicom.message import BadFragment
from gateway.dicom.negotiation import Malformed
from gateway.dicom.status import RequestRefused
from gateway.dicom.upper_layer import (
    Aborted,
    AbortReason,
    Acceptor,
    AssociationRequested,
    Event,
    State,
    Violated,
)
from tests.dicom.dicom_samples import samples

config.settings.reading_validation_mode = config.IGNORE  # the second opinion is about structure
config.settings.writing_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module="pydicom")

AE_TITLE = "ORTHANC_MWL"
SYNTAXES = (data_set.IMPLICIT_VR_LITTLE_ENDIAN, data_set.EXPLICIT_VR_LITTLE_ENDIAN)
ROWS = samples()

_VRS = frozenset(VR)
_UID = re.compile("[0-9.]*")

_PDV_OVERHEAD = 6
_LONGEST_ANSWER = 4096
"""Bytes of one answer beside what was asked, echoed: an item of the worklist has some hundred."""


def _must_be_short(text: str) -> None:
    """What is told of bytes does not grow with them."""
    assert len(text) < 200


# --- PDUs


def sessions(data: bytes) -> None:
    """What a peer sends, from its first byte on; the first one here says how the rest is cut."""
    cut, stream = data[:1], data[1:]
    whole = _told(stream, len(stream) or 1)
    assert _told(stream, (cut or b"\0")[0] + 1) == whole
    for pdu in _pdus(stream):
        if pdu[0] == message.P_DATA_TF:
            _compare_values(pdu)


def _told(stream: bytes, size: int) -> list[Event]:
    """All events of a connection that receives the stream in pieces of this size."""
    acceptor, events = Acceptor(), list[Event]()
    for at in range(0, len(stream), size):
        acceptor.receive(stream[at : at + size])
        while (event := acceptor.next_event()) is not None:
            events.append(event)
            if isinstance(event, AssociationRequested):
                _decide(acceptor, event.pdu)
        assert acceptor.held <= at + size
    assert len(events) <= 1 + len(stream) // _PDV_OVERHEAD
    for event in events[:-1]:
        assert not isinstance(event, Aborted | Violated), "something came after the end"
    if events and isinstance(events[-1], Violated):
        assert len(events[-1].abort) == 10
        _must_be_short(events[-1].why)
    if acceptor.state is State.OVER:
        assert acceptor.held == 0
    return events


def _decide(acceptor: Acceptor, pdu: bytes) -> None:
    """As an engine does."""
    try:
        request = negotiation.read(pdu)
        refusal = negotiation.refusal(request, AE_TITLE, accept_any_called_ae=False)
        agreement = negotiation.agree(request)
    except Malformed:
        acceptor.abort(AbortReason.INVALID_PARAMETER_VALUE)
        return
    answer = negotiation.acceptance(request, agreement)
    _compare_agreement(pdu, agreement, answer)
    assert len(answer) <= len(pdu) + _LONGEST_ANSWER
    if refusal:
        assert len(acceptor.reject(refusal.result, refusal.source, refusal.reason)) == 10
    else:
        acceptor.accept(agreement.contexts, answer)


def _compare_agreement(pdu: bytes, agreement: negotiation.Agreement, answer: bytes) -> None:
    """What is accepted was asked for; pynetdicom reads our answer, and the request if it has nothing it can't bear."""
    accepted = A_ASSOCIATE_AC()
    accepted.decode(answer)
    granted = {item.context_id: item.transfer_syntax for item in accepted.presentation_context if item.result == 0}
    assert granted == {number: context.transfer_syntax for number, context in agreement.contexts.items()}
    assert agreement.maximum_length == 0 or agreement.maximum_length >= message.LEAST_PDU_LENGTH
    asked = A_ASSOCIATE_RQ()
    with suppress(Exception):  # an item that it does not know, an empty title: ours to bear, not its
        asked.decode(pdu)
        proposed = {item.context_id: item for item in asked.presentation_context}
        assert {item.context_id for item in accepted.presentation_context} == proposed.keys()
        for number, context in agreement.contexts.items():
            assert context.sop_class_uid == proposed[number].abstract_syntax
            assert context.transfer_syntax in proposed[number].transfer_syntax


def _pdus(stream: bytes) -> Iterator[bytes]:
    at = 0
    while at + 6 <= len(stream):
        end = at + 6 + int.from_bytes(stream[at + 2 : at + 6], "big")
        if end > len(stream):
            return
        yield stream[at:end]
        at = end


def _compare_values(pdu: bytes) -> None:
    try:
        ours = list(message.values(pdu[6:]))
    except BadFragment:
        return
    theirs = P_DATA_TF()
    theirs.decode(pdu)
    items = theirs.presentation_data_value_items
    assert ours == [
        (item.presentation_context_id, item.presentation_data_value[0], item.presentation_data_value[1:])
        for item in items
    ]


# --- command sets


def command_sets(data: bytes) -> None:
    """A command set as it is put together from its fragments."""
    try:
        command = command_set.read(data)
    except Unreadable:
        return
    assert command.field in NAMES or command.field == C_CANCEL
    _compare_command(command, data)
    if command.field != C_CANCEL:
        _answer(command, len(data))


def _compare_command(command: Command, data: bytes) -> None:
    theirs = _canonical(data)
    if theirs is None or command.is_mistyped:
        return
    number = "MessageIDBeingRespondedTo" if command.field == C_CANCEL else "MessageID"
    assert (theirs.CommandField, theirs[number].value) == (command.field, command.message_id)
    assert (theirs.CommandDataSetType != 0x0101) == command.has_data_set
    for ours, keyword in ((command.sop_class_uid, "SOPClassUID"), (command.sop_instance_uid, "SOPInstanceUID")):
        value = (
            theirs.get(f"Requested{keyword}") if f"Requested{keyword}" in theirs else theirs.get(f"Affected{keyword}")
        )
        if _UID.fullmatch(ours):  # of anything else pydicom strips what it takes for a space
            assert ours == str(value or "")
    assert list(command.attribute_identifiers) == _several(theirs.get("AttributeIdentifierList"))


def _canonical(data: bytes) -> Dataset | None:
    """What pydicom makes of it, if it makes the same bytes of that again: then there is no doubt about it."""
    try:
        found = decode(BytesIO(data), True, True)
        same = encode(found, True, True) == data
        one_each = all(element.VM <= 1 or element.keyword == "AttributeIdentifierList" for element in found)
    except Exception:  # noqa: BLE001  whatever it is: it can't judge
        return None
    return found if same and one_each else None


def _several(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(value)] if isinstance(value, int) else [int(each) for each in value]


def _answer(command: Command, asked: int) -> None:
    response = command_set.response(
        command,
        0xA900,
        has_data_set=True,
        sop_instance_uid=command.sop_instance_uid,
        error_comment="(0040,0002) is no date",
        offending_elements=(0x00400002,),
        attribute_identifiers=command.attribute_identifiers,
    )
    assert len(response) <= asked + _LONGEST_ANSWER
    read = decode(BytesIO(response), True, True)
    assert (read.CommandField, read.MessageIDBeingRespondedTo) == (command.field | 0x8000, command.message_id)
    assert read.CommandGroupLength == len(response) - 12
    attributes = b"\x08\x00\x50\x00\x02\x00\x00\x00A "
    for maximum in (message.LEAST_PDU_LENGTH, 67, 0):
        sent = message.pdus(3, response, attributes, maximum)
        fragments = [value for pdu in _pdus(sent) for value in message.values(pdu[6:])]
        assert maximum == 0 or max(len(pdu) - 6 for pdu in _pdus(sent)) <= maximum
        assert b"".join(part for _, control, part in fragments if control & 1) == response
        assert b"".join(part for _, control, part in fragments if not control & 1) == attributes
        assert [control for _, control, _ in fragments if control & 2] == [3, 2]


# --- data sets


def data_sets(data: bytes) -> None:
    """An identifier or an attribute list; the first byte says in which transfer syntax."""
    syntax, body = SYNTAXES[(data[:1] or b"\0")[0] & 1], data[1:]
    try:
        elements = data_set.decode(body, syntax)
    except Undecodable as error:
        _must_be_short(error.message)
        elements = None
    if elements is not None:
        _compare_elements(elements, body, syntax)
    _query(body, syntax)
    _report(body, syntax, is_readable=elements is not None)


def _compare_elements(elements: DataSet, body: bytes, syntax: str) -> None:
    try:
        theirs = read_dataset(BytesIO(body), syntax == SYNTAXES[0], True)
    except Exception:  # noqa: BLE001  as above
        return
    if any(element.VR not in _VRS for element in theirs._dict.values()):
        return  # of a VR still to be invented it takes the length for a short one (PS3.5 7.1.2)
    for tag, element in elements.items():
        if element.vr == "SQ":
            continue
        raw = theirs._dict.get(BaseTag(tag))
        assert raw is not None, f"pydicom does not find {data_set.tag_name(tag)}"
        if isinstance(raw, RawDataElement) and raw.value:
            assert raw.value == element.value, data_set.tag_name(tag)


def _query(body: bytes, syntax: str) -> None:
    try:
        asked = identifier.read(body, syntax)
        plan = matching.plan(asked, listed_statuses=("SCHEDULED",), test_items=False)
    except RequestRefused as refused:
        _must_be_short(refused.comment)
        return
    for row in filter(plan.matches, ROWS):
        answer = find.answer(row, asked, syntax).identifier
        assert len(answer) <= 4 * len(body) + _LONGEST_ANSWER
        data_set.decode(answer, syntax)


def _report(body: bytes, syntax: str, *, is_readable: bool) -> None:
    kept = []
    for read in _READERS:
        try:
            report = read("1.2.3.4.5", body, syntax)
        except RequestRefused as refused:
            _must_be_short(refused.comment)
            continue
        assert is_readable
        assert report.attribute_list == body
        assert sum(map(len, report.warnings)) < _LONGEST_ANSWER
        kept.append((report.attribute_list, report.transfer_syntax))
    if kept:
        held = performed.retrieve(kept, (), syntax)
        assert len(held.attribute_list or b"") <= 4 * len(body) + _LONGEST_ANSWER
        data_set.decode(held.attribute_list or b"", syntax)


_READERS: tuple[Callable[[str, bytes, str], Any], ...] = (mpps.read_create, mpps.read_set)

DOORS: dict[str, Callable[[bytes], None]] = {
    "sessions": sessions,
    "command_sets": command_sets,
    "data_sets": data_sets,
}
