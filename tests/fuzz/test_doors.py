"""The three doors that `make fuzz` goes through, with what it starts from and with what it has found."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.doors import DOORS
from tests.fuzz.mutations import spoilt_session
from tests.fuzz.seeds import SEEDS

FOUND = {
    "a VR that nobody knows yet": (
        "data_sets",
        "01080050005348000010001000504e0000400000015350fffa22000000feff00e01a00000008006000435302004d4740000200"
        "44410800323012363131323334",
    ),
    "a UID with NULs and a tabulator": (
        "command_sets",
        "0000000004000000600000000000030018000000312e322e3834302e31303030382e332e312e090000000000000000010200000010"
        "010000100102000000050000000008020000000101000001100a000000312e322e332e342e3500000005100800000040005202100010"
        "00",
    ),
}
"""Door and bytes of what was a finding once: of these two, that another reader is no judge of them."""


@pytest.mark.parametrize("door", DOORS)
def test_proper_bytes_cut_anywhere_raise_nothing_and_are_read_as_others_read_them(door: str) -> None:
    for data in SEEDS[door]():
        for end in range(0, len(data) + 1, 1 if len(data) < 200 else 37):
            DOORS[door](data[:end])


@pytest.mark.parametrize("found", FOUND)
def test_what_was_found_once_is_borne(found: str) -> None:
    door, data = FOUND[found]
    DOORS[door](bytes.fromhex(data))


def test_a_spoilt_session_keeps_to_its_bound_and_differs() -> None:
    def changed(part: bytes, room: int) -> bytes:
        return (b"\xff" + part[1:])[:room]

    seeds = [*SEEDS["sessions"]()]
    spoilt = [spoilt_session(data, 4096, random.Random(number), changed) for number in range(20) for data in seeds]
    assert all(len(data) <= 4096 for data in spoilt)
    assert len({*spoilt} - {*seeds}) > 20
    for data in spoilt:
        DOORS["sessions"](data)
