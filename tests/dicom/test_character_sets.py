"""Specific Character Set: in by what is declared, out without loss (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from __future__ import annotations

import pytest
from dicom_samples import from_bytes, query, row, to_bytes
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from gateway.dicom import character_sets, data_set, find, identifier
from gateway.dicom.character_sets import _GRAPHICS, ASCII, CharacterSet, sets_of
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.find import Writing
from gateway.dicom.profiles import Profile
from gateway.dicom.transliteration import transliterated

PATIENT_NAME = 0x00100010

NAMES = [
    ("ISO_IR 100", "MÜLLER^ZOË".encode("latin-1"), "MÜLLER^ZOË"),
    ("ISO_IR 192", "MÜLLER^ZOË".encode(), "MÜLLER^ZOË"),
    ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),
    ("ISO_IR 126", "Διονυσιος".encode("iso8859-7"), "Διονυσιος"),
    ("ISO_IR 127", "قباني^لنزار".encode("iso8859-6"), "قباني^لنزار"),
    ("ISO_IR 138", "שרון^דבורה".encode("iso8859-8"), "שרון^דבורה"),
    ("ISO_IR 148", "ÇAĞLAR^İPEK".encode("iso8859-9"), "ÇAĞLAR^İPEK"),
    ("ISO_IR 166", "สมชาย".encode("tis_620"), "สมชาย"),
    ("ISO_IR 203", "ŒUVRE^€".encode("iso8859-15"), "ŒUVRE^€"),
    ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
    ("GBK", "王^小东".encode("gbk"), "王^小东"),
    # GBK's second bytes may be what ^ and \ are elsewhere
    ("GBK", b"\x81\x5c\x81\x5e", "乗乛"),
    # PS3.5 H.3.1 and H.3.2: Yamada^Tarou in three groups
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    ("\\ISO 2022 IR 87\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b(B^\x1b$B;3\x1b(B", "丂^山"),
    # PS3.5 I.2
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    # PS3.5 K.2
    (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", b"M\xfcller^\x1b-L\xbb\xee\x1b-A", "Müller^Лю"),
]


@pytest.mark.parametrize(("declared", "data", "text"), NAMES)
def test_text_is_decoded_in_the_declared_set(declared: str, data: bytes, text: str) -> None:
    assert CharacterSet.of(declared).decode(data, "PN") == text


@pytest.mark.parametrize(("declared", "data", "text"), NAMES)
def test_and_written_as_the_standard_s_examples_have_it(declared: str, data: bytes, text: str) -> None:
    assert sets_of(CharacterSet.of(declared))[-1].encode(text, "PN") == data


@pytest.mark.parametrize("declared", ["", "ISO_IR 6", "ISO_IR 192", "ISO_IR 4711", "\\ISO 2022 IR 87"])
def test_text_outside_the_declared_set_is_an_error_never_replaced(declared: str) -> None:
    with pytest.raises(UnicodeError):
        CharacterSet.of(declared).decode(b"M\xdcLLER", "PN")


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("ISO_IR 100", b"\x8aMITH"),  # Windows-1252's Š is a control in ISO 8859
        ("ISO_IR 13", b"\x8e\x52"),  # Shift JIS is not JIS X 0201
        ("\\ISO 2022 IR 87", b"\x1b$)C\xfb\xf3"),  # an escape sequence of a set that is not declared
        ("\\ISO 2022 IR 87", b"\x1b$B;"),  # half a character
        ("\\ISO 2022 IR 149", b"\x1b$)C\xfb"),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\x1b-"),
    ],
)
def test_what_only_looks_like_the_declared_set_is_an_error(declared: str, data: bytes) -> None:
    with pytest.raises(UnicodeError):
        CharacterSet.of(declared).decode(data, "PN")


def test_a_delimiter_brings_the_first_set_back_6_1_2_5_3() -> None:
    mixed = CharacterSet.of("ISO 2022 IR 100\\ISO 2022 IR 144")
    assert mixed.decode(b"\x1b-L\xbb\xee^\xfc", "PN") == "Лю^ü"
    assert mixed.decode(b"\x1b-L\xbb\xee^\xee", "LO") == "Лю^ю"


def test_ascii_keys_work_under_an_unknown_set() -> None:
    assert CharacterSet.of("ISO_IR 4711").decode(b"SMITH", "PN") == "SMITH"


@pytest.mark.parametrize("spelt", ["ISO-IR 100", "iso_ir_100", "ISO IR 100", "ISOIR100", " ISO_IR 100 "])
def test_a_set_is_known_however_old_units_spell_it(spelt: str) -> None:
    assert CharacterSet.of(spelt) == CharacterSet.of("ISO_IR 100")


def test_code_strings_are_ascii_whatever_is_declared_6_1_2_3() -> None:
    with pytest.raises(UnicodeError):
        CharacterSet.of("ISO_IR 100").decode(b"M\xdc", "CS")
    with pytest.raises(UnicodeError):
        CharacterSet.of("ISO_IR 100").encode("MÜ", "CS")


@pytest.mark.parametrize(
    ("asked", "sets"),
    [
        ("", [""]),
        ("ISO_IR 4711", [""]),
        ("ISO_IR 6", [""]),
        ("ISO_IR 100", ["", "ISO_IR 100"]),
        ("ISO 2022 IR 100", ["", "ISO_IR 100"]),
        ("ISO_IR 192", ["", "ISO_IR 192"]),
        ("GB18030\\ISO 2022 IR 87", ["", "GB18030"]),
        ("\\ISO 2022 IR 87", ["", "\\ISO 2022 IR 87"]),
        ("ISO 2022 IR 87", ["", "\\ISO 2022 IR 87"]),
        ("ISO_IR 100\\ISO 2022 IR 144", ["", "ISO_IR 100", "ISO 2022 IR 100\\ISO 2022 IR 144"]),
        ("ISO 2022 IR 6\\ISO 2022 IR 149", ["", "\\ISO 2022 IR 149"]),
    ],
)
def test_what_an_asker_can_read_plainest_first(asked: str, sets: list[str]) -> None:
    assert [str(each) for each in sets_of(CharacterSet.of(asked))] == sets


# --- answers


def answered(
    asked: str | None, name: str, profile: Profile | None = None, **values: object
) -> tuple[object, str, Writing]:
    """Declared set and name as pydicom reads them, and what became of the text."""
    request = query(PatientName="")
    if asked is not None:
        request.SpecificCharacterSet = asked.split("\\")
    profile = profile or Profile()
    read = identifier.read(to_bytes(request), IMPLICIT, CharacterSet.of(profile.character_set))
    found = find.answer(row(patient_name=name, **values), read, IMPLICIT, profile=profile)
    answer = from_bytes(found.identifier)
    return answer.get("SpecificCharacterSet"), str(answer.PatientName), found.writing


WHOLE, TRANSLITERATED, BEYOND = Writing.WHOLE, Writing.TRANSLITERATED, Writing.BEYOND
LATIN, UTF8 = Profile(character_set="ISO_IR 100"), Profile(character_set="ISO_IR 192")
READER = Profile(reads_utf8=True)


@pytest.mark.parametrize(
    ("asked", "profile", "name", "declared", "read", "writing"),
    [
        ("ISO_IR 100", None, "SMITH^JANE", None, "SMITH^JANE", WHOLE),
        ("ISO_IR 100", None, "MÜLLER^ZOË", "ISO_IR 100", "MÜLLER^ZOË", WHOLE),
        ("ISO_IR 100", None, "Mu\u0308ller", "ISO_IR 100", "Müller", WHOLE),
        ("ISO_IR 101", None, "WIŚNIEWSKA^EWA", "ISO_IR 101", "WIŚNIEWSKA^EWA", WHOLE),
        ("ISO_IR 192", None, "王^小东", "ISO_IR 192", "王^小东", WHOLE),
        ("GB18030", None, "MÜLLER^王", "GB18030", "MÜLLER^王", WHOLE),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", None, "MÜLLER", "ISO_IR 100", "MÜLLER", WHOLE),
        ("\\ISO 2022 IR 87", None, "Yamada=山田", ["", "ISO 2022 IR 87"], "Yamada=山田", WHOLE),
        # only what does not fit is changed
        ("ISO_IR 100", None, "Łucja^Müller", "ISO_IR 100", "Lucja^Müller", TRANSLITERATED),
        ("ISO_IR 100", None, "ŁUCJA^WIŚNIEWSKA", None, "LUCJA^WISNIEWSKA", TRANSLITERATED),
        ("\\ISO 2022 IR 87", None, "Ōno^Ärzte=山", ["", "ISO 2022 IR 87"], "Ono^Arzte=山", TRANSLITERATED),
        # who declares nothing reads ASCII, unless its profile knows better
        (None, None, "MÜLLER^ZOË", None, "MULLER^ZOE", TRANSLITERATED),
        ("", None, "MÜLLER^ZOË", None, "MULLER^ZOE", TRANSLITERATED),
        (None, LATIN, "MÜLLER^ZOË", "ISO_IR 100", "MÜLLER^ZOË", WHOLE),
        ("", LATIN, "MÜLLER^ZOË", "ISO_IR 100", "MÜLLER^ZOË", WHOLE),
        ("ISO_IR 101", LATIN, "MÜLLER^ZOÊ", "ISO_IR 101", "MÜLLER^ZOE", TRANSLITERATED),
        (None, UTF8, "Łucja", "ISO_IR 192", "Łucja", WHOLE),
        ("ISO_IR 100", READER, "Łucja^Müller", "ISO_IR 192", "Łucja^Müller", WHOLE),
        # what can't be transliterated is declared rather than lost
        ("ISO_IR 100", None, "Wang=王", "ISO_IR 192", "Wang=王", BEYOND),
        (None, None, "Люк", "ISO_IR 192", "Люк", BEYOND),
    ],
)
def test_the_answer_is_in_what_the_asker_reads_and_declares_it(
    asked: str | None, profile: Profile | None, name: str, declared: object, read: str, writing: Writing
) -> None:
    assert answered(asked, name, profile) == (declared, read, writing)


def test_text_that_was_not_asked_for_does_not_change_the_set() -> None:
    assert answered("ISO_IR 100", "MÜLLER", study_description="王") == ("ISO_IR 100", "MÜLLER", WHOLE)


def test_an_id_is_never_transliterated_in_other_letters_it_is_another() -> None:
    read = identifier.read(to_bytes(query(PatientID="", PatientName="")), IMPLICIT)
    found = find.answer(row(patient_id="Ü1", patient_name="Ö"), read, IMPLICIT)
    answer = from_bytes(found.identifier)
    assert (answer.SpecificCharacterSet, answer.PatientID, answer.PatientName) == ("ISO_IR 192", "Ü1", "Ö")
    assert found.writing is BEYOND


def test_a_text_that_grows_by_transliteration_still_fits_6_2() -> None:
    read = identifier.read(to_bytes(query(RequestedProcedureDescription="")), IMPLICIT)
    answer = from_bytes(find.answer(row(study_description="ß" * 40), read, IMPLICIT).identifier)
    assert answer.RequestedProcedureDescription == "s" * 64


# --- any name in any set

NUMBERS = sorted(_GRAPHICS)
SINGLE = [number for number, graphics in _GRAPHICS.items() if graphics.width == 1]
OF_UTF_8 = st.sampled_from(["ISO_IR 192", "GB18030", "GBK"])
OF_ONE = st.sampled_from(SINGLE).map(lambda number: f"ISO_IR {number}")
OF_SEVERAL = st.builds(
    lambda first, others: "\\".join([f"ISO 2022 IR {first}" if first else "", *(f"ISO 2022 IR {n}" for n in others)]),
    st.sampled_from([0, *SINGLE]),
    st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3, unique=True),
)
LETTERS = st.one_of(
    st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_categories=["Cc", "Cf"], exclude_characters="\\^="),
    st.sampled_from("ЛюбовьΔδءقשרสมﾔﾏ山田やまだ王小东洪吉홍길丂Łøßœ€’"),
)
NAMES_OF_ANY = st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=3).map("^".join)


def decoded_by_another(data: bytes, declared: str) -> str:
    """By pydicom, which leaves the escape sequences of ISO 2022 IR 58 in the text and does not know ISO_IR 203."""
    text = decode_bytes(data, convert_encodings(declared.split("\\")), {ord("^"), ord("=")})
    return str(text).replace("\x1b$)A", "")


@given(asked=st.one_of(st.just(""), OF_UTF_8, OF_ONE, OF_SEVERAL), name=NAMES_OF_ANY)
@example(asked="ISO 2022 IR 144\\ISO 2022 IR 87", name="Л山Л a")
@example(asked="ISO 2022 IR 100\\ISO 2022 IR 13", name="üﾔü")
def test_whatever_is_written_is_read_back_by_us_and_by_pydicom(asked: str, name: str) -> None:
    for written in sets_of(CharacterSet.of(asked)):
        try:
            data = written.encode(name, "PN")
        except UnicodeEncodeError:
            continue
        read = written.decode(data, "PN")
        assert read == name
        if "203" not in str(written):
            assert decoded_by_another(data, str(written)) == name


@pytest.mark.filterwarnings("ignore:Unknown encoding")  # pydicom does not know ISO_IR 203
@given(asked=st.one_of(st.just(""), OF_UTF_8, OF_ONE, OF_SEVERAL), name=NAMES_OF_ANY)
def test_any_name_goes_out_declared_and_nothing_in_it_is_replaced(asked: str, name: str) -> None:
    assume(name.strip())
    request = query(PatientName="")
    request.SpecificCharacterSet = asked.split("\\")
    found = find.answer(row(patient_name=name), identifier.read(to_bytes(request), IMPLICIT), IMPLICIT)
    elements = data_set.decode(found.identifier, IMPLICIT)
    declared = character_sets.declared(elements)
    text = declared.decode(elements[PATIENT_NAME].value, "PN")
    assert "\N{REPLACEMENT CHARACTER}" not in text
    assert text.count("?") == name.count("?")
    if found.writing is WHOLE or found.writing is BEYOND:
        assert text.rstrip() == name.rstrip()
    else:
        assert declared in sets_of(CharacterSet.of(asked))
        assert text.rstrip() == (transliterated(name, sets_of(CharacterSet.of(asked))[-1].has) or "").rstrip()


@given(name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x24F, exclude_categories=["Cc"]), max_size=12))
def test_what_fits_is_never_touched(name: str) -> None:
    latin = CharacterSet.of("ISO_IR 100")
    out = transliterated(name, latin.has)
    if all(latin.has(character) for character in name):
        assert out == name
    assert out is None or all(latin.has(character) for character in out)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Müller", "Muller"), ("ŁUCJA ŚWIĄTEK", "LUCJA SWIATEK"), ("Þórður", "THordur"), ("Ǿ ǘ", "O u"),
        ("O’Brien–Smith", "O'Brien-Smith"), ("ﬁ ½ …", "fi 1/2 ..."), ("ẞß", "SSss"), ("Ａ", "A"), ("e\u0301", "e"),
        ("山", None), ("가", None), ("Л", None), ("Ά", None), ("が", None), ("€", None),
    ],
)  # fmt: skip
def test_transliteration_is_by_letters_of_latin_script_only(text: str, plain: str | None) -> None:
    assert transliterated(text, ASCII.has) == plain
