"""Command sets are read and written as pynetdicom reads and writes them (PS3.7 6.3.1, 9.3, 10.3)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom import dimse_messages
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import (
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    N_ACTION,
    N_CREATE,
    N_DELETE,
    N_EVENT_REPORT,
    N_GET,
    N_SET,
)
from pynetdicom.dsutils import encode
from raw_peer import encoded

from gateway.dicom import command_set
from gateway.dicom.command_set import C_CANCEL, NAMES, Command, Unreadable

UIDS = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, parts)))
NUMBERS = st.integers(0, 0xFFFF)
TAGS = st.lists(st.integers(0, 0xFFFFFFFF), max_size=5)
COMMENTS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"), max_size=64)
REQUESTS = {
    0x0001: C_STORE, 0x0010: C_GET, 0x0020: C_FIND, 0x0021: C_MOVE, 0x0030: C_ECHO, 0x0100: N_EVENT_REPORT,
    0x0110: N_GET, 0x0120: N_SET, 0x0130: N_ACTION, 0x0140: N_CREATE, 0x0150: N_DELETE,
}  # fmt: skip


def requested(field: int) -> str:
    """How the request names what it is about (PS3.7 E.1)."""
    return "Requested" if field in (0x0110, 0x0120, 0x0130, 0x0150) else "Affected"


@given(
    field=st.sampled_from(sorted(NAMES)),
    message_id=NUMBERS,
    sop_class=UIDS,
    instance=st.one_of(st.none(), UIDS),
    tags=TAGS,
    has_data_set=st.booleans(),
)
def test_a_request_that_pydicom_wrote_is_read(
    field: int, message_id: int, sop_class: str, instance: str | None, tags: list[int], has_data_set: bool
) -> None:
    written = Dataset()
    written.CommandField, written.MessageID, written.Priority = field, message_id, 2
    written.CommandDataSetType = 1 if has_data_set else 0x0101
    setattr(written, f"{requested(field)}SOPClassUID", sop_class)
    if instance:
        setattr(written, f"{requested(field)}SOPInstanceUID", instance)
    if tags:
        written.AttributeIdentifierList = tags
    expected = Command(field, message_id, has_data_set, sop_class, instance or "", tuple(tags))
    assert command_set.read(encoded(written)) == expected


def test_an_element_of_another_group_is_none_of_the_command_s() -> None:
    written = Dataset()
    written.CommandField, written.MessageID, written.CommandDataSetType = 0x0030, 7, 0x0101
    stranger = bytes.fromhex("08001001020000000900")  # (0008,0110), where (0000,0110) is the Message ID
    assert command_set.read(encoded(written) + stranger) == Command(0x0030, 7, has_data_set=False)


@given(
    field=st.sampled_from(sorted(NAMES)),
    message_id=NUMBERS,
    status=NUMBERS,
    sop_class=UIDS,
    has_data_set=st.booleans(),
    values=st.fixed_dictionaries(
        {},
        optional={
            "sop_instance_uid": UIDS,
            "error_comment": COMMENTS.filter(bool),
            "error_id": NUMBERS,
            "offending_elements": TAGS.filter(bool),
            "attribute_identifiers": TAGS.filter(bool),
        },
    ),
)
def test_a_response_is_what_pydicom_writes(
    field: int, message_id: int, status: int, sop_class: str, has_data_set: bool, values: dict[str, Any]
) -> None:
    keywords = {
        "sop_instance_uid": "AffectedSOPInstanceUID",
        "error_comment": "ErrorComment",
        "error_id": "ErrorID",
        "offending_elements": "OffendingElement",
        "attribute_identifiers": "AttributeIdentifierList",
    }
    expected = Dataset()
    expected.AffectedSOPClassUID, expected.CommandField = sop_class, field | 0x8000
    expected.MessageIDBeingRespondedTo, expected.Status = message_id, status
    expected.CommandDataSetType = 1 if has_data_set else 0x0101
    for name, element in values.items():
        setattr(expected, keywords[name], element)
    request = Command(field, message_id, False, sop_class)
    assert command_set.response(request, status, has_data_set=has_data_set, **values) == encoded(expected)


@pytest.mark.parametrize("field", [0x0020, 0x0030, 0x0110, 0x0120, 0x0140])
def test_the_least_response_is_what_pynetdicom_sends(field: int) -> None:
    primitive = REQUESTS[field]()
    primitive.MessageIDBeingRespondedTo, primitive.AffectedSOPClassUID, primitive.Status = 7, "1.2.3", 0
    name = type(primitive).__name__
    message: DIMSEMessage = getattr(dimse_messages, f"{name}_RSP")()
    message.primitive_to_message(primitive)
    assert command_set.response(Command(field, 7, False, "1.2.3"), 0) == encode(message.command_set, True, True)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_command_or_unreadable(data: bytes) -> None:
    with suppress(Unreadable):
        assert command_set.read(data).field in (*NAMES, C_CANCEL)


PROPER = encoded(Dataset.from_json({"00000100": {"vr": "US", "Value": [0x20]}, "00000110": {"vr": "US", "Value": [9]},
                                    "00000800": {"vr": "US", "Value": [0x101]}}))  # fmt: skip


@pytest.mark.parametrize("end", range(len(PROPER)))
def test_a_command_set_cut_anywhere_is_unreadable(end: int) -> None:
    with pytest.raises(Unreadable):
        command_set.read(PROPER[:end])


@pytest.mark.parametrize(
    ("element", "damaged"),
    [
        ("a UID that is no text", bytes.fromhex("00000200020000003180")),
        ("half a tag in the list", bytes.fromhex("000005100200000008 00")),
    ],
)
def test_what_a_response_can_be_made_of_is_mistyped_not_unreadable_ps3_7_c_5_15(element: str, damaged: bytes) -> None:
    command = command_set.read(PROPER + damaged)
    assert (command.message_id, command.is_mistyped) == (9, True), element


def test_a_response_of_the_peer_is_unreadable_since_nothing_was_asked() -> None:
    response = Dataset()
    response.CommandField, response.MessageID, response.CommandDataSetType = 0x8020, 1, 0x0101
    with pytest.raises(Unreadable, match="no request"):
        command_set.read(encoded(response))
