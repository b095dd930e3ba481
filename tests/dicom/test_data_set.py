"""Strict decoding and pydicom's own encoding (PS3.5 7)."""

import pytest
from dicom_samples import SYNTAXES, created, query, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dicom.data_set import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Element,
    Undecodable,
    decode,
    encode,
    vr_of,
)

PATIENT_ID = bytes.fromhex("1000200006000000") + b"999000"
UNDEFINED = b"\xff\xff\xff\xff"
STEP_SEQUENCE = bytes.fromhex("40000001")
ITEM, ITEM_END, SEQUENCE_END = (bytes.fromhex(h) for h in ("feff00e0", "feff0de0", "feffdde0"))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_pydicom_encodes_is_decoded_and_encoded_again_to_the_same_bytes(syntax: str) -> None:
    for data_set in (created(), query({"Modality": "MG"}, PatientID="1", StudyInstanceUID="1.2.3", PregnancyStatus=4)):
        data = to_bytes(data_set, syntax)
        assert encode(decode(data, syntax).values(), syntax) == data


TEXTS = st.text("ABC ^x0", max_size=9)


KEYS = {"PatientName": TEXTS, "PatientID": TEXTS, "StudyInstanceUID": st.just("1.2")}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=KEYS))
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_encoding_is_byte_identical_to_pydicoms(syntax: str, values: dict[str, str]) -> None:
    data_set = query({"Modality": "MG", "ScheduledProcedureStepDescription": "x"}, **values)
    elements = [Element(e.tag, e.VR, str(e.value).encode()) for e in data_set if e.VR != "SQ"]
    step = {e.tag: Element(e.tag, e.VR, str(e.value).encode()) for e in data_set.ScheduledProcedureStepSequence[0]}
    assert encode([*elements, Element(0x00400100, "SQ", items=(step,))], syntax) == to_bytes(data_set, syntax)


def test_undefined_lengths_are_read_7_5_1() -> None:
    modality = bytes.fromhex("08006000020000004d47")
    item = ITEM + UNDEFINED + modality + ITEM_END + bytes(4)
    data = STEP_SEQUENCE + UNDEFINED + item + SEQUENCE_END + bytes(4)
    (sequence,) = decode(data, IMPLICIT_VR_LITTLE_ENDIAN).values()
    assert sequence.items[0][0x00080060].value == b"MG"


def test_group_lengths_are_dropped_and_private_elements_kept_7_2() -> None:
    data = bytes.fromhex("0900000004000000080000000900100002000000") + b"AB" + PATIENT_ID
    assert list(decode(data, IMPLICIT_VR_LITTLE_ENDIAN)) == [0x00090010, 0x00100020]


def test_a_sequence_sent_as_un_is_implicit_vr_6_2_2() -> None:
    item = ITEM + bytes.fromhex("0a000000") + bytes.fromhex("08006000020000004d47")
    data = STEP_SEQUENCE + b"UN\0\0" + UNDEFINED + item + SEQUENCE_END + bytes(4)
    (sequence,) = decode(data, EXPLICIT_VR_LITTLE_ENDIAN).values()
    assert sequence.items[0][0x00080060].value == b"MG"


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("trailing bytes", PATIENT_ID + b"\0\0"),
        ("a short element", PATIENT_ID[:-1]),
        ("half a header", PATIENT_ID[:5]),
        ("an element twice", PATIENT_ID * 2),
        ("a delimiter at the top", ITEM_END + bytes(4)),
        ("a sequence that does not end", STEP_SEQUENCE + UNDEFINED),
        ("an item that does not end", STEP_SEQUENCE + UNDEFINED + ITEM + UNDEFINED),
        ("an item longer than its sequence", STEP_SEQUENCE + b"\x08\0\0\0" + ITEM + b"\x09\0\0\0" + bytes(9)),
        ("no item in a sequence", STEP_SEQUENCE + b"\x08\0\0\0" + PATIENT_ID[:8]),
        ("a sequence longer than the data", STEP_SEQUENCE + b"\x08\0\0\0"),
        ("nesting without end", (STEP_SEQUENCE + UNDEFINED + ITEM + UNDEFINED) * 5000),
    ],
)
def test_what_is_not_whole_is_refused(what: str, data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(data, IMPLICIT_VR_LITTLE_ENDIAN)


def test_explicit_elements_need_a_value_representation_7_1_2() -> None:
    with pytest.raises(Undecodable):
        decode(PATIENT_ID, EXPLICIT_VR_LITTLE_ENDIAN)


def test_other_transfer_syntaxes_are_refused() -> None:
    with pytest.raises(Undecodable):
        decode(PATIENT_ID, "1.2.840.10008.1.2.2")


@settings(deadline=None)
@given(st.binary(max_size=200))
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_bytes_are_a_data_set_or_refused(syntax: str, data: bytes) -> None:
    try:
        elements = decode(data, syntax)
    except Undecodable:
        return
    assert decode(encode(elements.values(), syntax), syntax).keys() == elements.keys()


def test_a_dictionary_entry_with_two_representations_has_the_first() -> None:
    assert vr_of(0x00280106) == "US"
    assert vr_of(0x00091001) == "UN"
