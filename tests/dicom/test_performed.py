"""What a step's data sets amount to: counts and dose, the instance after its N-SETs, and its retrieval."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from dicom_samples import SYNTAXES, changed, created, from_bytes, series, to_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.dicom import performed
from gateway.dicom.attribute_list import AttributeList
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.data_set import Undecodable, vr_of
from gateway.dicom.step_attributes import BY_TAG, FINAL_TYPE_1, RETURNED_EMPTY, SET_NOT_ALLOWED, TABLE

CREATE = (to_bytes(created()), IMPLICIT)
SERIES, DESCRIPTION, STATUS, NAME = 0x00400340, 0x00400254, 0x00400252, 0x00100010


def told(**values: Any) -> dict[str, int | float]:
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return performed.counts_and_dose(AttributeList.of(to_bytes(data), IMPLICIT))


def encoded(data: Dataset, syntax: str = IMPLICIT) -> tuple[bytes, str]:
    return to_bytes(data, syntax), syntax


def get(*data_sets: tuple[bytes, str], tags: tuple[int, ...] = (), syntax: str = IMPLICIT) -> tuple[Dataset, Any]:
    found = performed.retrieve(data_sets, tags, syntax)
    return from_bytes(found.attribute_list, syntax), found.not_held


# --- the table


def test_the_table_names_each_attribute_as_the_dictionary_does() -> None:
    for row in TABLE:
        for attribute in (row, *row.items):
            data = Dataset()
            setattr(data, attribute.keyword, [] if attribute.vr == "SQ" else None)
            assert attribute.tag in data


def keywords(tags: Iterable[int]) -> set[str]:
    return {BY_TAG[tag].keyword for tag in tags}


def test_what_an_n_set_may_not_hold_and_what_a_final_state_needs_table_f_7_2_1() -> None:
    assert keywords(SET_NOT_ALLOWED) == {
        "ScheduledStepAttributesSequence",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "ReferencedPatientSequence",
        "PerformedProcedureStepID",
        "PerformedStationAETitle",
        "PerformedStationName",
        "PerformedLocation",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "Modality",
        "StudyID",
    }
    assert keywords(FINAL_TYPE_1) == {
        "PerformedProcedureStepEndDate",
        "PerformedProcedureStepEndTime",
        "PerformedSeriesSequence",
    }


# --- counts and dose


def test_counts_go_over_all_series() -> None:
    reference = Dataset()
    performed_series = [
        series(images=4),
        series(images=1, ReferencedNonImageCompositeSOPInstanceSequence=[reference]),
    ]
    assert told(PerformedSeriesSequence=performed_series) == {
        "series_count": 2,
        "image_count": 5,
        "non_image_count": 1,
    }


def test_only_what_the_data_set_holds_is_told() -> None:
    assert told() == {}
    assert told(PerformedSeriesSequence=[series(ReferencedImageSequence=None)]) == {
        "series_count": 1,
        "image_count": 0,
        "non_image_count": 0,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TotalNumberOfExposures": 4}, {"exposure_count": 4}),
        ({"TotalTimeOfFluoroscopy": 90}, {"fluoroscopy_seconds": 90}),
        ({"EntranceDoseInmGy": "5.8"}, {"entrance_dose_mgy": 5.8}),
        ({"EntranceDose": 3}, {"entrance_dose_mgy": 300.0}),
        ({"EntranceDose": 3, "EntranceDoseInmGy": "5.8"}, {"entrance_dose_mgy": 5.8}),
        ({"EntranceDose": 3, "EntranceDoseInmGy": "0.0"}, {"entrance_dose_mgy": 0.0}),
        ({"OrganDose": "0.0187"}, {"organ_dose_mgy": 1.87}),
        ({"ImageAndFluoroscopyAreaDoseProduct": "1.5e-2"}, {"area_dose_product_dgycm2": 0.015}),
    ],
)
def test_dose_in_the_units_of_its_key_ps3_3_c_4_16(values: dict[str, Any], said: dict[str, Any]) -> None:
    assert told(**values) == said


@pytest.mark.parametrize("value", [b"5,8 ", b"much", b"nan ", b"1e999 ", b"1\\2 ", b"9" * 100])
def test_a_number_that_can_not_be_read_is_left_out_and_named(value: bytes) -> None:
    attributes = AttributeList.of(b"\x40\x00\x02\x83" + len(value).to_bytes(4, "little") + value, IMPLICIT)
    assert performed.counts_and_dose(attributes) == {}
    assert attributes.warnings.told() == ("malformed: (0040,8302)",)


def test_a_binary_number_of_a_wrong_length_is_left_out_and_named() -> None:
    attributes = AttributeList.of(b"\x40\x00\x01\x03\x04\0\0\0abcd", IMPLICIT)
    assert performed.counts_and_dose(attributes) == {}
    assert attributes.warnings.told() == ("malformed: (0040,0301)",)


# --- the instance


def test_an_n_set_replaces_whole_attributes_and_leaves_the_others_ps3_4_f_7_2_2() -> None:
    first = encoded(changed(None, PerformedSeriesSequence=[series(2), series(1)]))
    second = encoded(changed("COMPLETED", PerformedSeriesSequence=[series(3)], PerformedProcedureStepEndDate=None))
    held, _ = get(CREATE, first, second)
    assert (held.PerformedProcedureStepStatus, held.PatientID) == ("COMPLETED", "9990000034")
    assert held.PerformedProcedureStepEndDate == "20261123"
    assert [len(item.ReferencedImageSequence) for item in held.PerformedSeriesSequence] == [3]


def test_what_the_create_fixed_stays_as_the_create_had_it() -> None:
    held, _ = get(CREATE, encoded(changed(PatientID="1", PatientName="OTHER", Modality="US")))
    assert (held.PatientID, held.PatientName, held.Modality) == ("9990000034", "SMITH^JANE", "MG")


@pytest.mark.parametrize("asked", SYNTAXES)
@pytest.mark.parametrize("sent", SYNTAXES)
def test_either_transfer_syntax_is_answered_in_either(sent: str, asked: str) -> None:
    data_sets = (encoded(created(), sent), encoded(changed(TotalNumberOfExposures=4), sent))
    held, not_held = get(*data_sets, syntax=asked)
    assert not_held == ()
    assert held.TotalNumberOfExposures == 4
    assert held.ScheduledStepAttributesSequence[0].AccessionNumber == "ACC001"
    assert set(held.keys()) == set(created().keys()) | set(changed(TotalNumberOfExposures=4).keys())


def test_a_value_too_long_for_its_vr_in_explicit_is_returned_as_un_ps3_5_6_2_2() -> None:
    long = "x" * 70_000
    found = performed.retrieve([encoded(created(PerformedLocation=long))], (0x00400243,), EXPLICIT)
    assert long.encode() in found.attribute_list
    assert from_bytes(found.attribute_list, EXPLICIT)


# --- retrieval


def test_the_requested_attributes_and_no_others_sequences_whole() -> None:
    held, not_held = get(CREATE, encoded(changed()), tags=(STATUS, SERIES))
    assert (set(held.keys()), not_held) == ({STATUS, SERIES}, ())
    assert held.PerformedSeriesSequence[0].ProtocolName == "Screening"


def test_optional_attributes_that_are_not_held_are_named_f_8_2() -> None:
    held, not_held = get(CREATE, tags=(STATUS, 0x00400301, 0x00091001, 0x00080018))
    assert list(held.keys()) == [STATUS]
    assert not_held == (0x00400301, 0x00091001, 0x00080018)


def test_what_every_instance_has_comes_back_at_zero_length_when_the_unit_never_said_it() -> None:
    sparse = encoded(created(PerformedLocation=None, PerformedSeriesSequence=None))
    held, not_held = get(sparse, tags=(0x00400243, SERIES))
    assert (held.PerformedLocation, len(held.PerformedSeriesSequence), not_held) == ("", 0, ())


@pytest.mark.parametrize("tag", sorted(RETURNED_EMPTY))
def test_no_mandatory_attribute_is_ever_not_held(tag: int) -> None:
    assert BY_TAG[tag].create[0] in "12"
    _, not_held = get(CREATE, tags=(tag,))
    assert not_held == ()


# --- one declared character set


def in_set(name: str | None, data: Dataset) -> tuple[bytes, str]:
    if name:
        data.SpecificCharacterSet = name
    return encoded(data)


def test_ascii_needs_no_character_set() -> None:
    held, not_held = get(in_set("ISO_IR 100", created()), tags=(0x00080005, NAME))
    assert (list(held.keys()), not_held) == ([NAME], ())


def test_bytes_are_kept_where_the_sets_agree() -> None:
    data_sets = (
        in_set("ISO_IR 100", created(PatientName="MÜLLER^ZOË")),
        in_set("ISO_IR 100", changed(PerformedProcedureStepDescription="Zügig")),
    )
    found = performed.retrieve(data_sets, (), IMPLICIT)
    assert "MÜLLER^ZOË".encode("latin-1") in found.attribute_list
    assert from_bytes(found.attribute_list).SpecificCharacterSet == "ISO_IR 100"


def test_text_of_different_sets_comes_back_in_utf_8_nested_text_too() -> None:
    data_sets = (
        in_set("ISO_IR 144", created(PatientName="Люкceмбypг")),
        in_set("ISO_IR 100", changed(PerformedSeriesSequence=[series(OperatorsName="MÜLLER^ZOË")])),
    )
    held, _ = get(*data_sets)
    assert held.SpecificCharacterSet == "ISO_IR 192"
    assert held.PatientName == "Люкceмбypг"
    assert held.PerformedSeriesSequence[0].OperatorsName == "MÜLLER^ZOË"


def test_an_item_with_a_set_of_its_own_is_brought_along() -> None:
    item = series(OperatorsName="Люкceмбypг")
    item.SpecificCharacterSet = "ISO_IR 144"
    held, _ = get(
        in_set("ISO_IR 100", created(PatientName="MÜLLER")), in_set(None, changed(PerformedSeriesSequence=[item]))
    )
    assert (held.SpecificCharacterSet, held.PatientName) == ("ISO_IR 192", "MÜLLER")
    assert held.PerformedSeriesSequence[0].OperatorsName == "Люкceмбypг"
    assert "SpecificCharacterSet" not in held.PerformedSeriesSequence[0]


def test_text_outside_its_declared_set_is_not_sent_on_undeclared() -> None:
    data = to_bytes(created(PatientName="M?LLER")).replace(b"M?LLER", b"M\xdcLLER")
    held, _ = get((data, IMPLICIT), tags=(NAME,))
    assert (held.SpecificCharacterSet, held.PatientName) == ("ISO_IR 192", "MÜLLER")


def test_japanese_in_iso_2022_is_kept_or_read() -> None:
    kanji = created(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    both = "\\ISO 2022 IR 87"
    kanji.SpecificCharacterSet = both.split("\\")
    assert get(encoded(kanji), tags=(NAME,))[0].SpecificCharacterSet == ["", "ISO 2022 IR 87"]
    other = in_set("ISO_IR 100", changed(PerformedProcedureStepDescription="Zügig"))
    held, _ = get(encoded(kanji), other)
    assert held.SpecificCharacterSet == "ISO_IR 192"
    assert held.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"


# --- repeats


def test_the_same_content_does_not_differ_however_it_is_encoded() -> None:
    one = in_set("ISO_IR 100", created(PatientName="MÜLLER^ZOË"))
    utf = created(PatientName="MÜLLER^ZOË ")
    utf.SpecificCharacterSet = "ISO_IR 192"
    assert performed.differences(one, encoded(utf, EXPLICIT)) == ()


def test_what_differs_is_named_by_its_tag() -> None:
    other = created(PatientID="1", PerformedLocation=None, ScheduledStepAttributesSequence=[], TotalNumberOfExposures=1)
    assert performed.differences(CREATE, encoded(other)) == (0x00100020, 0x00400243, 0x00400270, 0x00400301)


# --- anything


@settings(deadline=None)
@given(st.lists(st.binary(max_size=120), min_size=1, max_size=3), st.lists(st.integers(0, 0xFFFFFFFF), max_size=3))
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_bytes_are_retrieved_or_undecodable(syntax: str, data: list[bytes], tags: list[int]) -> None:
    try:
        found = performed.retrieve([(each, syntax) for each in data], tags, syntax)
    except Undecodable:
        return
    assert {tag for tag in tags if tag not in RETURNED_EMPTY} >= set(found.not_held)


TEXT_TAGS = [tag for tag in BY_TAG if vr_of(tag) in ("LO", "PN", "SH", "ST")]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(TEXT_TAGS), st.text(st.characters(codec="latin-1", categories=("L",))), min_size=1),
    st.dictionaries(st.sampled_from(TEXT_TAGS), st.text(st.characters(codec="utf-8", categories=("L",))), min_size=1),
)
def test_no_character_is_lost_between_sets(first: dict[int, str], second: dict[int, str]) -> None:
    one, other = Dataset(), Dataset()
    one.SpecificCharacterSet, other.SpecificCharacterSet = "ISO_IR 100", "ISO_IR 192"
    for data, values in ((one, first), (other, second)):
        for tag, text in values.items():
            data.add_new(tag, vr_of(tag), text)
    held, _ = get(encoded(one), encoded(other))
    fixed = {tag: text for tag, text in second.items() if not BY_TAG[tag].set.startswith("–")}
    assert {int(e.tag): str(e.value or "") for e in held if e.tag != 0x00080005} == {**first, **fixed}
