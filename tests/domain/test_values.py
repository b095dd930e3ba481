"""DICOM's limits on values (PS3.5 6.2), each once, and that no message repeats what was sent."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable
from datetime import date, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import values
from gateway.errors import InvalidValue, Refusal

CONTROL = [chr(c) for c in (0, 9, 10, 13, 27, 31, 127, 128, 159)]
FORBIDDEN = [*CONTROL, "\\", "\ud800"]

plain = st.text(st.characters(min_codepoint=32, exclude_characters="\\", exclude_categories=("Cc", "Cs")))

TEXTS: dict[str, tuple[Callable[[str], str], int]] = {
    "accession_number": (values.accession_number, 16),
    "patient_id": (values.patient_id, 64),
    "short_string": (lambda v: values.short_string(v, "code"), 16),
    "long_string": (lambda v: values.long_string(v, "study_description"), 64),
    "ae_title": (values.ae_title, 16),
}

every_text = pytest.mark.parametrize(("check", "limit"), TEXTS.values(), ids=TEXTS)


def refuses(check: Callable[[str], str], value: str) -> InvalidValue:
    with pytest.raises(InvalidValue) as refusal:
        check(value)
    return refusal.value


@every_text
def test_a_text_may_be_as_long_as_its_value_representation_allows(check: Callable[[str], str], limit: int) -> None:
    assert check("A" * limit) == "A" * limit


@every_text
def test_a_text_one_character_longer_is_refused(check: Callable[[str], str], limit: int) -> None:
    assert f"at most {limit} characters" in str(refuses(check, "A" * (limit + 1)))


@every_text
def test_leading_and_trailing_spaces_are_not_part_of_a_text(check: Callable[[str], str], limit: int) -> None:
    assert check(" " * 70 + "A B" + " " * 70) == "A B"


@every_text
@pytest.mark.parametrize("empty", ["", " ", " " * 70])
def test_a_text_of_nothing_is_refused(check: Callable[[str], str], limit: int, empty: str) -> None:
    assert "must not be empty" in str(refuses(check, empty))


@every_text
@pytest.mark.parametrize("bad", FORBIDDEN, ids=ascii)
def test_backslash_and_control_characters_are_refused_in_a_text(
    check: Callable[[str], str], limit: int, bad: str
) -> None:
    refuses(check, f"A{bad}B")


@every_text
@given(value=plain)
def test_an_accepted_text_is_accepted_again_as_it_is_kept(check: Callable[[str], str], limit: int, value: str) -> None:
    try:
        kept = check(value)
    except InvalidValue:
        return
    assert 1 <= len(kept) <= limit
    assert check(kept) == kept


def test_letters_of_any_language_count_as_one_character_each() -> None:
    assert values.long_string("Ü" * 64, "study_description") == "Ü" * 64


def test_an_ae_title_is_ascii() -> None:
    assert "ASCII" in str(refuses(values.ae_title, "MÄMMO"))


@pytest.mark.parametrize(
    "name", ["SMITH^JANE", "O'CONNOR^ZOË^^MS", "SMITH", "A^B^C^D^E", "YAMADA^TAROU=山田^太郎=やまだ^たろう"]
)
def test_a_person_name_has_up_to_three_groups_of_five_components(name: str) -> None:
    assert values.person_name(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("A=B=C=D", "three groups"),
        ("A^B^C^D^E^F", "five components"),
        ("SMITH=A^B^C^D^E^F", "five components"),
        ("A" * 65, "64 characters"),
        ("SMITH=" + "A" * 65, "64 characters"),
        ("", "must not be empty"),
        (" ^ = ^ ", "must not be empty"),
        ("SMITH\\JONES", "no backslash"),
        ("SMITH\nJANE", "no control"),
    ],
)
def test_a_person_name_beyond_that_is_refused_with_the_rule_it_breaks(name: str, rule: str) -> None:
    assert rule in str(refuses(values.person_name, name))


def test_each_group_of_a_person_name_may_be_64_characters_long() -> None:
    name = "=".join(["A" * 64] * 3)
    assert values.person_name(name) == name


@given(st.dates())
def test_every_date_there_is_is_accepted(day: date) -> None:
    text = f"{day.year:04d}{day.month:02d}{day.day:02d}"
    assert values.date_of(text, "scheduled_date") == text


@pytest.mark.parametrize(
    "text",
    ["20260230", "20251301", "00000101", "2026-11-2", "2026112", "202611230", "", " 20261123", "２０２６１１２３"],
)
def test_a_date_that_is_not_yyyymmdd_or_does_not_exist_is_refused(text: str) -> None:
    assert refuses(lambda v: values.date_of(v, "scheduled_date"), text).field == "scheduled_date"


@given(st.times())
def test_every_time_there_is_is_kept_to_the_second(moment: time) -> None:
    assert values.time_of(f"{moment:%H%M%S}", "scheduled_time") == f"{moment:%H%M%S}"
    assert values.time_of(f"{moment:%H%M}", "scheduled_time") == f"{moment:%H%M}00"


@pytest.mark.parametrize("text", ["2400", "1260", "126060", "12", "120", "12000", "12:00", "1200000", "", "١٢٠٠"])
def test_a_time_that_is_not_hhmm_or_hhmmss_or_does_not_exist_is_refused(text: str) -> None:
    assert refuses(lambda v: values.time_of(v, "scheduled_time"), text).field == "scheduled_time"


@pytest.mark.parametrize(("given_", "kept"), [("F", "F"), ("m", "M"), (" o ", "O")])
def test_sex_is_m_f_or_o_in_any_case(given_: str, kept: str) -> None:
    assert values.sex(given_) == kept


@pytest.mark.parametrize("other", ["", "X", "FEMALE", "MF"])
def test_any_other_sex_is_refused(other: str) -> None:
    assert refuses(values.sex, other).field == "patient_sex"


@given(st.text(string.ascii_letters + string.digits + " _", min_size=1, max_size=16).filter(str.strip))
def test_a_code_string_is_raised_to_upper_case(text: str) -> None:
    assert values.code_string(text, "modality") == text.strip(" ").upper()


@pytest.mark.parametrize("other", ["", " ", "M-G", "M\\G", "A" * 17, "MÄ", "MG\n"])
def test_a_code_string_of_other_characters_is_refused(other: str) -> None:
    assert refuses(lambda v: values.code_string(v, "modality"), other).field == "modality"


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.1", "2.25.0", "0", "1." + "1" * 62])
def test_a_uid_is_up_to_64_digits_and_dots_without_leading_zeros(uid: str) -> None:
    assert values.is_uid(uid)


@pytest.mark.parametrize("uid", ["", "1.", ".1", "1..2", "1.02", "00", "1.2a", "1." + "1" * 63, "1.2\n", " 1.2", "१.२"])
def test_anything_else_is_no_uid(uid: str) -> None:
    assert not values.is_uid(uid)


def test_a_valid_nhs_number_is_not_odd() -> None:
    assert values.patient_id_warning("9990000018") is None


@pytest.mark.parametrize(
    ("odd", "why"), [("9990000019", "check digit"), ("999000001", "ten digits"), ("BS001234", "ten digits")]
)
def test_another_patient_id_is_a_warning_and_never_a_refusal(odd: str, why: str) -> None:
    assert values.patient_id(odd) == odd
    assert why in (values.patient_id_warning(odd) or "")


SECRETIVE: list[Callable[[str], str]] = [
    *(check for check, _ in TEXTS.values()),
    values.person_name,
    values.sex,
    lambda v: values.date_of(v, "patient_birth_date"),
    lambda v: values.time_of(v, "scheduled_time"),
    lambda v: values.code_string(v, "modality"),
]


@pytest.mark.parametrize("check", SECRETIVE)
def test_a_refusal_names_the_rule_and_never_repeats_the_value(check: Callable[[str], str]) -> None:
    value = "Qwertzuiop^Yxcvbnm\\" * 5
    refusal = refuses(check, value)
    assert "Qwertzuiop" not in str(refusal)
    assert refusal.field
    assert refusal.code == "validation"


@pytest.mark.parametrize("check", SECRETIVE)
@given(value=st.text())
def test_any_text_is_accepted_or_refused_with_our_own_error(check: Callable[[str], str], value: str) -> None:
    with contextlib.suppress(Refusal):
        assert isinstance(check(value), str)
