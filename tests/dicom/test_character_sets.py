"""Specific Character Set: in by what is declared, out without loss (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

import pytest
from dicom_samples import from_bytes, query, row, to_bytes

from gateway.dicom import find, identifier
from gateway.dicom.character_sets import ASCII, CharacterSet, answers
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT

NAMES = [
    ("ISO_IR 100", "MÜLLER^ZOË".encode("latin-1"), "MÜLLER^ZOË"),
    ("ISO_IR 192", "MÜLLER^ZOË".encode(), "MÜLLER^ZOË"),
    ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
    ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
    # PS3.5 H.3.1: Yamada^Tarou in three groups
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
]


@pytest.mark.parametrize(("declared", "data", "text"), NAMES)
def test_text_is_decoded_in_the_declared_set(declared: str, data: bytes, text: str) -> None:
    assert CharacterSet.of(declared).decode(data, "PN") == text


@pytest.mark.parametrize("declared", ["", "ISO_IR 6", "ISO_IR 192", "ISO_IR 4711", "\\ISO 2022 IR 87"])
def test_text_outside_the_declared_set_is_an_error_never_replaced(declared: str) -> None:
    with pytest.raises(UnicodeError):
        CharacterSet.of(declared).decode(b"M\xdcLLER", "PN")


def test_ascii_keys_work_under_an_unknown_set() -> None:
    assert CharacterSet.of("ISO_IR 4711").decode(b"SMITH", "PN") == "SMITH"


def test_code_strings_are_ascii_whatever_is_declared_6_1_2_3() -> None:
    with pytest.raises(UnicodeError):
        CharacterSet.of("ISO_IR 100").decode(b"M\xdc", "CS")


def test_answers_are_tried_in_ascii_then_the_askers_set_then_utf_8() -> None:
    assert [name for name, _ in answers(CharacterSet.of("ISO_IR 100"))] == ["", "ISO_IR 100", "ISO_IR 192"]
    assert [name for name, _ in answers(CharacterSet.of("ISO 2022 IR 100\\ISO 2022 IR 87"))][1] == "ISO_IR 100"
    assert [name for name, _ in answers(ASCII)] == ["", "ISO_IR 192"]


@pytest.mark.parametrize(
    ("asked", "name", "answered"),
    [
        ("ISO_IR 100", "SMITH^JANE", None),
        ("ISO_IR 100", "MÜLLER^ZOË", "ISO_IR 100"),
        ("ISO_IR 100", "WIŚNIEWSKA^EWA", "ISO_IR 192"),
        ("ISO_IR 101", "WIŚNIEWSKA^EWA", "ISO_IR 101"),
        (None, "MÜLLER^ZOË", "ISO_IR 192"),
        ("ISO_IR 192", "王^小东", "ISO_IR 192"),
    ],
)
def test_the_answer_declares_what_it_is_written_in(asked: str | None, name: str, answered: str | None) -> None:
    request = query(PatientName="")
    if asked:
        request.SpecificCharacterSet = asked
    read = identifier.read(to_bytes(request), IMPLICIT)
    answer = from_bytes(find.answer(row(patient_name=name), read, IMPLICIT, station="MAMMO1"))
    assert answer.get("SpecificCharacterSet") == answered
    assert str(answer.PatientName) == name


def test_text_that_was_not_asked_for_does_not_change_the_set() -> None:
    read = identifier.read(to_bytes(query(AccessionNumber="")), IMPLICIT)
    answer = from_bytes(find.answer(row(patient_name="MÜLLER^ZOË"), read, IMPLICIT, station="MAMMO1"))
    assert "SpecificCharacterSet" not in answer
