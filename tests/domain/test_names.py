"""Names as they are compared (PS3.4 C.2.2.2.1): the worklist keeps them so, and queries are folded alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.names import folded


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("SMITH^JANE", ("smith^jane",)),
        ("Smith ^ Jane^^^", ("smith^jane",)),
        ("Müller^Zoë", ("muller^zoe",)),
        ("Mu\u0308ller", ("muller",)),
        ("Łukasz^Ø", ("lukasz^o",)),
        ("Straße", ("strasse",)),
        ("ᴬnna", ("anna",)),
        ("O’Brien", ("o'brien",)),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ("yamada^tarou", "山田^太郎", "やまだ^たろう")),
        ("=山田^太郎", ("", "山田^太郎")),
        ("が", ("が",)),
    ],
)
def test_case_accents_padding_and_empty_ends_do_not_count_group_by_group(name: str, groups: tuple[str, ...]) -> None:
    assert folded(name) == groups


@given(st.text(max_size=20))
def test_a_folded_group_ends_in_no_empty_component(name: str) -> None:
    assert not any(group.endswith("^") for group in folded(name))
