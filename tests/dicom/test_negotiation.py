"""What an A-ASSOCIATE-RQ is answered (PS3.8 9.3.2 to 9.3.4, PS3.7 Annex D), read back by pynetdicom."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC
from raw_peer import CONTEXTS, associate_rq, item, proposed

from gateway.dicom import negotiation
from gateway.dicom.association import (
    ANNOUNCED_PDU_LENGTH,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    VERIFICATION,
    WORKLIST,
)
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.negotiation import Agreement, Malformed

BIG_ENDIAN, STUDY_ROOT = "1.2.840.10008.1.2.2", "1.2.840.10008.5.1.4.1.2.2.1"
ASYNCHRONOUS = item(0x53, struct.pack(">HH", 8, 8))
ROLE = item(0x54, struct.pack(">H", len(WORKLIST.uid)) + WORKLIST.uid.encode() + b"\1\0")
EXTENDED = item(0x56, struct.pack(">H", len(WORKLIST.uid)) + WORKLIST.uid.encode() + b"\1\1\1")
IDENTITY = item(0x58, bytes((2, 1)) + struct.pack(">H", 6) + b"nobody" + struct.pack(">H", 6) + b"secret")
UNKNOWN = item(0x5F, b"of some later edition")


def agreed(pdu: bytes) -> tuple[Agreement, A_ASSOCIATE_AC]:
    request = negotiation.read(pdu)
    agreement = negotiation.agree(request)
    answer = A_ASSOCIATE_AC()
    answer.decode(negotiation.acceptance(request, agreement))
    return agreement, answer


def results(answer: A_ASSOCIATE_AC) -> list[tuple[int, int, str]]:
    return [(c.context_id, c.result, c.transfer_syntax) for c in answer.presentation_context]


def refused(pdu: bytes, *, any_called: bool = False) -> tuple[int, int, int] | None:
    refusal = negotiation.refusal(negotiation.read(pdu), "ORTHANC_MWL", accept_any_called_ae=any_called)
    return (refusal.result, refusal.source, refusal.reason) if refusal else None


def test_all_that_is_offered_is_accepted_in_implicit_first() -> None:
    agreement, answer = agreed(associate_rq())
    assert results(answer) == [(number, 0, IMPLICIT) for number in CONTEXTS]
    assert {number: context.sop_class_uid for number, context in agreement.contexts.items()} == CONTEXTS
    assert agreement.refused == ()
    user = answer.user_information
    assert user.maximum_length == ANNOUNCED_PDU_LENGTH
    assert user.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert user.implementation_version_name == IMPLEMENTATION_VERSION_NAME


def test_each_context_gets_its_own_result_and_none_accepted_is_an_association_too() -> None:
    contexts = [
        proposed(1, VERIFICATION.uid, BIG_ENDIAN),
        proposed(3, STUDY_ROOT, IMPLICIT),
        proposed(255, WORKLIST.uid, BIG_ENDIAN, EXPLICIT),
    ]
    agreement, answer = agreed(associate_rq(contexts=contexts))
    assert [result[:2] for result in results(answer)] == [(1, 4), (3, 3), (255, 0)]
    assert agreement.contexts[255].transfer_syntax == EXPLICIT
    assert len(agreement.refused) == 2
    agreement, answer = agreed(associate_rq(contexts=contexts[:2]))
    assert [result[1] for result in results(answer)] == [4, 3]
    assert agreement.contexts == {}


def test_of_several_transfer_syntaxes_ours_decides_the_order() -> None:
    _, answer = agreed(associate_rq(contexts=[proposed(1, WORKLIST.uid, BIG_ENDIAN, EXPLICIT, IMPLICIT)]))
    assert results(answer) == [(1, 0, IMPLICIT)]


def test_titles_and_reserved_bytes_come_back_as_they_were_table_9_17() -> None:
    pdu = bytearray(associate_rq(called=b"  ORTHANC_MWL", calling=b"MAMMO1\0\0"))
    pdu[42:74] = bytes(range(32))
    request = negotiation.read(bytes(pdu))
    assert (request.called_ae_title, request.calling_ae_title) == ("ORTHANC_MWL", "MAMMO1")
    assert negotiation.acceptance(request, negotiation.agree(request))[10:74] == pdu[10:74]


@pytest.mark.parametrize(
    "user", [ASYNCHRONOUS, ROLE, EXTENDED, IDENTITY, UNKNOWN, ASYNCHRONOUS + ROLE + EXTENDED + IDENTITY + UNKNOWN]
)
def test_what_else_is_to_be_negotiated_is_declined_by_silence_ps3_7_annex_d(user: bytes) -> None:
    agreement, answer = agreed(associate_rq(user=user))
    assert set(agreement.contexts) == set(CONTEXTS)
    assert len(answer.user_information.user_data) == 3
    assert answer.user_information.async_ops_window is None


def test_a_user_identity_is_not_even_kept() -> None:
    request = negotiation.read(associate_rq(user=IDENTITY))
    assert b"secret" not in request.items
    assert request == negotiation.read(associate_rq())


def test_items_that_nobody_knows_are_passed_over_ps3_8_9_3_1() -> None:
    assert agreed(associate_rq(more=item(0x7A, b"?")))[0] == agreed(associate_rq())[0]


@pytest.mark.parametrize(("version", "refusal"), [(1, None), (3, None), (0xFFFF, None), (0, (1, 2, 2)), (2, (1, 2, 2))])
def test_of_the_protocol_version_one_bit_counts_table_9_11(version: int, refusal: tuple[int, int, int] | None) -> None:
    assert refused(associate_rq(version=version)) == refusal


@pytest.mark.parametrize("name", ["", "1.2.840.10008.3.1.1.2", "x"])
def test_another_application_context_is_rejected_1_1_2(name: str) -> None:
    assert refused(associate_rq(application_context=name)) == (1, 1, 2)


def test_titles_are_judged_1_1_7_and_1_1_3() -> None:
    assert refused(associate_rq(called=b"NOBODY")) == (1, 1, 7)
    assert refused(associate_rq(called=b"NOBODY"), any_called=True) is None
    assert refused(associate_rq(calling=b"")) == (1, 1, 3)


@pytest.mark.parametrize(
    ("told", "agreed_on"), [(0, 0), (8, 8), (16384, 16384), (0xFFFFFFFF, 0xFFFFFFFF), (None, 16384)]
)
def test_the_maximum_length_of_the_peer_is_taken_as_it_says_ps3_8_d_1(told: int | None, agreed_on: int) -> None:
    assert agreed(associate_rq(maximum_length=told))[0].maximum_length == agreed_on


@pytest.mark.parametrize(
    "pdu",
    [
        associate_rq(contexts=[]),
        associate_rq(contexts=[proposed(2, WORKLIST.uid, IMPLICIT)]),
        associate_rq(contexts=[proposed(1, WORKLIST.uid, IMPLICIT), proposed(1, VERIFICATION.uid, IMPLICIT)]),
        associate_rq(contexts=[proposed(1, WORKLIST.uid)]),
        associate_rq(contexts=[item(0x20, bytes((1, 0, 0, 0)) + item(0x40, IMPLICIT.encode()))]),
        associate_rq(contexts=[item(0x20, b"\1")]),
        associate_rq(contexts=[proposed(1, WORKLIST.uid, *(f"1.{number}" for number in range(6000)))]),
        associate_rq(maximum_length=7),
        associate_rq(more=b"\x20\0\xff\xff"),
        associate_rq(more=b"\x20"),
        associate_rq(user=b"\x51\0\0\x04"),
    ],
    ids=["none", "even ID", "one ID twice", "no transfer syntax", "no abstract syntax", "cut",
         "thousands of transfer syntaxes", "no room for a fragment",
         "item too long", "item cut", "sub-item too long"],
)  # fmt: skip
def test_what_is_no_proper_request_is_malformed(pdu: bytes) -> None:
    with pytest.raises(Malformed):
        negotiation.agree(negotiation.read(pdu))


def test_of_more_contexts_than_there_are_ids_none_is_decoded() -> None:
    contexts = [proposed(number % 256, WORKLIST.uid, IMPLICIT) for number in range(1, 259, 2)]
    negotiation.read(associate_rq(contexts=contexts[:-1]))
    with pytest.raises(Malformed):
        negotiation.read(associate_rq(contexts=contexts))


RQ = associate_rq(user=ASYNCHRONOUS + IDENTITY)


@given(at=st.integers(6, len(RQ) - 1), piece=st.binary(min_size=1, max_size=6))
def test_a_spoilt_request_is_agreed_on_or_malformed(at: int, piece: bytes) -> None:
    spoilt = (RQ[:at] + piece + RQ[at + len(piece) :])[: len(RQ)]
    with suppress(Malformed):
        agreed(spoilt)
