"""Messages are cut to what a peer bears (PS3.8 D.1, Annex E) so that pynetdicom and we put them together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_FIND_RQ, DIMSEMessage
from pynetdicom.pdu import P_DATA_TF
from raw_peer import FINDING, command

from gateway.dicom import message
from gateway.dicom.message import Assembler

RQ = command(0x20, 7, b"")
LENGTHS = st.one_of(st.integers(8, 60), st.sampled_from([0, 16384, 0xFFFFFFFF]))


def cut(data: bytes) -> list[bytes]:
    """The PDUs that these bytes are."""
    pdus = []
    while data:
        end = 6 + int.from_bytes(data[2:6], "big")
        pdus.append(data[:end])
        data = data[end:]
    return pdus


@given(data_set=st.binary(min_size=1, max_size=400), maximum=LENGTHS)
def test_a_message_in_pdus_of_any_length_is_the_same_message(data_set: bytes, maximum: int) -> None:
    pdus = cut(message.pdus(FINDING, RQ, data_set, maximum))
    ours, theirs = Assembler(), DIMSEMessage()
    for number, pdu in enumerate(pdus):
        assert not maximum or len(pdu) - 6 <= maximum
        whole = None
        for value in message.values(pdu[6:]):
            assert len(value[2]) % 2 == 0 or number == len(pdus) - 1, "fragments are even"
            whole = ours.add(*value) or whole
        decoded = P_DATA_TF()
        decoded.decode(pdu)
        is_whole = theirs.decode_msg(decoded.to_primitive())
        assert is_whole == (whole is not None) == (number == len(pdus) - 1)
    assert whole is not None
    assert (whole.context_id, whole.command.message_id, whole.data_set) == (FINDING, 7, data_set)
    assert isinstance(theirs, C_FIND_RQ)
    assert theirs.data_set.getvalue() == data_set


@pytest.mark.parametrize("maximum", [0, 200_000])
def test_a_peer_that_bears_any_length_still_gets_pdus_of_a_moderate_one(maximum: int) -> None:
    pdus = cut(message.pdus(FINDING, RQ, bytes(300_000), maximum))
    assert len(pdus) == 4
    assert max(map(len, pdus)) <= 128 * 1024 + 6


def test_an_answer_that_fits_is_one_pdu() -> None:
    assert len(cut(message.pdus(FINDING, RQ, bytes(600), 16384))) == 1
