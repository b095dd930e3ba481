"""Text in other letters: what a unit was shown finds the name again, and nothing turns into a delimiter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicom.transliteration import transliterated
from gateway.domain.letters import COUNTERPARTS
from gateway.domain.names import folded

LETTERS = st.sampled_from(sorted(COUNTERPARTS)) | st.characters(max_codepoint=0x24FF, exclude_characters="^=\\")


@given(st.text(LETTERS, min_size=1, max_size=8))
def test_what_a_name_is_transliterated_to_finds_the_name(name: str) -> None:
    shown = transliterated(name, str.isascii)
    if shown is not None:
        assert folded(shown) == folded(name)


def test_so_does_every_single_letter_and_sign() -> None:
    signs = [chr(code) for code in range(0x20, 0x30000) if not 0xD800 <= code < 0xE000 and chr(code) not in "^=\\"]
    shown = {sign: transliterated(f"x{sign}y", str.isascii) for sign in signs}
    assert [sign for sign, text in shown.items() if text is not None and folded(text) != folded(f"x{sign}y")] == []


@pytest.mark.parametrize(
    ("stored", "shown"), [("Əliyev^Anar", "Eliyev^Anar"), ("O‘Neill^Mary", "O'Neill^Mary"), ("Ħali–Ŧo", "Hali-To")]
)
def test_names_with_letters_of_no_keyboard_are_found_as_they_were_shown(stored: str, shown: str) -> None:
    assert transliterated(stored, str.isascii) == shown
    assert folded(shown.upper()) == folded(stored)


@pytest.mark.parametrize("sign", ["\N{FULLWIDTH CIRCUMFLEX ACCENT}", "\N{FULLWIDTH REVERSE SOLIDUS}"])
def test_a_sign_never_becomes_a_delimiter_of_dicom_s(sign: str) -> None:
    assert transliterated(f"A{sign}B", str.isascii) is None


def test_only_what_does_not_fit_is_changed_and_a_soft_hyphen_goes() -> None:
    latin_1 = lambda sign: ord(sign) < 256 and sign != "\N{SOFT HYPHEN}"  # noqa: E731
    assert transliterated("Mu\u0308ller", latin_1) == "Müller"
    assert transliterated("ǘ", latin_1) == "ü"
    assert transliterated("Mül\N{SOFT HYPHEN}ler", latin_1) == "Müller"
