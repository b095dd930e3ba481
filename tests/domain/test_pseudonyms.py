"""Other names, ids and dates: the same for the same, of the same shape, and valid where they were."""

from __future__ import annotations

import re

import nhs_number
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import values
from gateway.domain.pseudonyms import Pseudonyms, shape_of

TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=70)


@pytest.fixture
def pseudonyms() -> Pseudonyms:
    return Pseudonyms()


def test_the_same_person_is_the_same_pseudonym_and_another_one_another(pseudonyms: Pseudonyms) -> None:
    for kind in (pseudonyms.patient_id, pseudonyms.name, pseudonyms.birth_date, pseudonyms.token, pseudonyms.uid):
        assert kind("19650315") == kind("19650315") != "19650315"
        assert kind("19650315") != kind("19650316")


def test_another_export_has_other_pseudonyms() -> None:
    given_names = {Pseudonyms().name("SMITH^JANE") for _ in range(20)}
    assert len(given_names) == 20
    assert "SMITH^JANE" not in given_names


def test_an_nhs_number_becomes_a_valid_one_that_nobody_has(pseudonyms: Pseudonyms) -> None:
    numbers = [
        f"{nine}{check}"
        for nine in range(400_000_000, 400_000_200)
        if (check := nhs_number.calculate_checksum(str(nine))) < 10
    ]
    made = [pseudonyms.patient_id(number) for number in numbers]
    assert all(len(one) == 10 and one.startswith("999") and nhs_number.is_valid(one) for one in made)
    assert len(set(made)) == len(made)


def test_ten_digits_that_are_no_nhs_number_stay_none(pseudonyms: Pseudonyms) -> None:
    assert not nhs_number.is_valid("9990000019")
    made = pseudonyms.patient_id("9990000019")
    assert re.fullmatch("999[0-9]{7}", made)
    assert not nhs_number.is_valid(made)


def test_a_thousand_short_ids_stay_a_thousand(pseudonyms: Pseudonyms) -> None:
    assert len({pseudonyms.patient_id(f"B{number:04d}") for number in range(1000)}) == 1000


def test_a_name_keeps_its_groups_its_components_its_case_and_its_script(pseudonyms: Pseudonyms) -> None:
    made = pseudonyms.name("Müller-O'Neil^Jane^^DR=山田^太郎=やまだ^たろう")
    assert re.fullmatch(
        r"[A-Z][àéöü][a-z]{4}-[A-Z]'[A-Z][a-z]{3}\^[A-Z][a-z]{3}\^\^[A-Z]{2}=[一-鿿]{2}\^[一-鿿]{2}=[ぁ-ん]{3}\^[ぁ-ん]{3}",
        made,
    ), made
    assert values.person_name(made) == made


def test_names_that_differ_in_case_and_empty_ends_only_get_pseudonyms_that_do(pseudonyms: Pseudonyms) -> None:
    assert pseudonyms.name("Smith^Jane^^").upper() == pseudonyms.name("SMITH^JANE") + "^^"


def test_a_date_of_birth_becomes_another_that_exists(pseudonyms: Pseudonyms) -> None:
    made = pseudonyms.birth_date("19650315")
    assert values.date_of(made, "date") == made != "19650315"
    assert pseudonyms.birth_date("1965-03-15") == "0000-00-00"


def test_a_uid_stays_a_uid(pseudonyms: Pseudonyms) -> None:
    made = pseudonyms.uid("1.2.826.0.1.3680043.8.498.1")
    assert values.is_uid(made)
    assert [len(part) for part in made.split(".")] == [1, 1, 3, 1, 1, 7, 1, 3, 1]


def test_of_a_text_its_shape_is_left() -> None:
    assert shape_of("Mrs Smith called at 10:42, ½ hour late") == "Xxx Xxxxx xxxxxx xx 00:00, 0 xxxx xxxx"


@given(TEXTS)
def test_whatever_comes_length_blanks_and_empty_are_kept(text: str) -> None:
    pseudonyms = Pseudonyms()
    for kind in (pseudonyms.patient_id, pseudonyms.name, pseudonyms.birth_date, pseudonyms.token, shape_of):
        made = kind(text)
        assert len(made) == len(text)
        assert [sign.isspace() for sign in made] == [sign.isspace() for sign in text]
        assert made == kind(text)
