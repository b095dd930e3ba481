"""A performed step for people and programs: the DICOM JSON model (PS3.18 F), its rows, and who is not named in them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from dicom_samples import SYNTAXES, changed, created, from_bytes, series, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom import readable
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.data_set import Undecodable


def encoded(data: Dataset, syntax: str = IMPLICIT) -> tuple[bytes, str]:
    return to_bytes(data, syntax), syntax


def masked(vr: str, text: str) -> str:
    return f"{vr} hidden"


def code(value: str, meaning: str = "", scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_model_is_pydicoms_own_of_what_pydicom_decodes(syntax: str) -> None:
    data, _ = encoded(created(TotalNumberOfExposures=4, PerformedSeriesSequence=[series(2)]), syntax)
    theirs = from_bytes(data, syntax).to_json_dict()
    ours = readable.model([(data, syntax)])
    assert {tag: _filled(value) for tag, value in ours.items()} == {tag: _filled(v) for tag, v in theirs.items()}


def _filled(attribute: Any) -> Any:
    """Without the empty values that pydicom writes for empty sequences."""
    if isinstance(attribute, dict):
        return {key: _filled(value) for key, value in attribute.items() if value not in ([], [None])}
    return [_filled(value) for value in attribute] if isinstance(attribute, list) else attribute


def test_text_of_any_character_set_is_unicode() -> None:
    data = created(PatientName="MÜLLER^ZOË")
    data.SpecificCharacterSet = "ISO_IR 100"
    told = readable.model([encoded(data)])
    assert told["00100010"]["Value"] == [{"Alphabetic": "MÜLLER^ZOË"}]
    assert "00080005" not in told  # the model is UTF-8


@pytest.mark.parametrize(
    ("tag", "value", "shown"),
    [
        ("00400301", b"abc", {"vr": "US", "InlineBinary": base64.b64encode(b"abc").decode()}),
        ("00408302", b"5,8 ", {"vr": "DS", "Value": ["5,8"]}),
        ("00408302", b"1e999 ", {"vr": "DS", "Value": ["1e999"]}),
        ("00080060", b"\xff ", {"vr": "CS", "Value": ["ÿ"]}),
    ],
)
def test_a_malformed_value_is_shown_as_it_came(tag: str, value: bytes, shown: dict[str, Any]) -> None:
    number = int(tag, 16)
    head = (number >> 16).to_bytes(2, "little") + (number & 0xFFFF).to_bytes(2, "little")
    told = readable.model([(head + len(value).to_bytes(4, "little") + value, IMPLICIT)])
    assert told == {tag: shown}
    json.dumps(told, allow_nan=False)


def test_a_name_has_its_groups_and_values_stand_apart() -> None:
    data = created(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PerformedStationName="ONE\\\\TWO")
    data.SpecificCharacterSet = "ISO_IR 192"
    told = readable.model([encoded(data)])
    assert told["00100010"]["Value"] == [
        {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    ]
    assert told["00400242"]["Value"] == ["ONE", None, "TWO"]


def test_with_a_mask_nothing_identifies_a_person() -> None:
    data = created(
        PatientName="SMITH^JANE",
        CommentsOnThePerformedProcedureStep="Mrs Smith was late",
        PerformedSeriesSequence=[series(OperatorsName="JONES^MARY")],
        OtherPatientIDsSequence=[created(PatientID="9990000042", Modality="XX")],
    )
    data.add_new(0x00091001, "LO", "SMITH")
    told = readable.model([encoded(data)], masked)
    text = json.dumps(told)
    for secret in ("SMITH", "JANE", "Smith", "JONES", "9990000034", "9990000042", "19650315"):
        assert secret not in text
    assert told["00100010"]["Value"] == [{"Alphabetic": "PN hidden"}]
    assert told["00100020"]["Value"] == ["LO hidden"]
    assert told["00100030"]["Value"] == ["•••"]
    assert told["00080060"]["Value"] == ["MG"]
    assert "ACC001" in text  # an accession number may appear


def test_a_step_says_what_was_performed() -> None:
    final = changed(
        PerformedSeriesSequence=[series(4, SeriesDescription="R CC, L CC", OperatorsName="JONES^MARY"), series(1)],
        PerformedProtocolCodeSequence=[code("24623002", "Screening mammography", "SCT")],
        EntranceDoseInmGy="5.8",
        TotalNumberOfExposures=4,
    )
    rows = readable.step([encoded(created()), encoded(final)], masked)
    assert rows == [
        ("status", "COMPLETED"),
        ("station", "MAMMO1"),
        ("started", "20261123 100500"),
        ("ended", "20261123 101500"),
        ("series 1", "Screening · R CC, L CC · 4 images · operators PN hidden · UID 1.2.3.4"),
        ("series 2", "Screening · 1 image · UID 1.2.3.4"),
        ("dose", "4 exposures, entrance dose 5.8 mGy"),
        ("protocol", "24623002 (SCT) Screening mammography"),
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (code("110514"), "110514 (DCM) Incorrect worklist entry selected"),
        (code("110513", "whatever"), "110513 (DCM) Discontinued for unspecified reason"),
        (code("X1", "Compressor broken", "99LOCAL"), "X1 (99LOCAL) Compressor broken"),
    ],
)
def test_a_reason_to_discontinue_has_its_meaning_cid_9300(reason: Dataset, said: str) -> None:
    final = changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason])
    assert ("discontinued", said) in readable.step([encoded(created()), encoded(final)])


def test_the_reasons_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes

    theirs = {getattr(codes.cid9300, name).value: getattr(codes.cid9300, name).meaning for name in codes.cid9300.dir()}
    assert theirs.items() >= readable.DISCONTINUATION_REASONS.items()


def test_the_tree_has_every_attribute_by_its_keyword_items_indented() -> None:
    data = changed(PerformedSeriesSequence=[series(1)])
    data.add_new(0x00091001, "OB", b"abc")
    rows = list(readable.tree(readable.model([encoded(data)])))
    assert ("(0009,1001)", "4 bytes") in rows
    assert ("PerformedProcedureStepStatus", "COMPLETED") in rows
    assert ("PerformedSeriesSequence", "1 item") in rows
    assert ("    ProtocolName", "Screening") in rows
    assert ("        ReferencedSOPInstanceUID", "1.2.3.4.0") in rows


@settings(deadline=None)
@given(st.binary(max_size=200) | st.just(to_bytes(created())))
@pytest.mark.parametrize("mask", [None, masked])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_bytes_are_shown_or_undecodable(syntax: str, mask: Any, data: bytes) -> None:
    try:
        told = readable.model([(data, syntax)], mask)
    except Undecodable:
        return
    json.dumps(told, allow_nan=False)
    assert all(isinstance(text, str) for row in readable.tree(told) for text in row)
    readable.step([(data, syntax)], mask)


VRS = ["AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OW", "PN", "SH", "SL", "SQ", "SS"]
VRS += ["ST", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV"]


@settings(deadline=None)
@given(st.sampled_from(VRS), st.binary(max_size=20))
def test_any_value_of_any_vr_is_shown(vr: str, value: bytes) -> None:
    long = vr in ("OB", "OW", "SQ", "UC", "UN", "UR", "UT", "UV")
    length = b"\0\0" + len(value).to_bytes(4, "little") if long else len(value).to_bytes(2, "little")
    test_any_bytes_are_shown_or_undecodable.hypothesis.inner_test(
        SYNTAXES[1], None, b"\x21\x00\x01\x10" + vr.encode() + length + value
    )
