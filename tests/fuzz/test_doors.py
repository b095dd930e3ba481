"""The three doors that `make fuzz` goes through, with what it starts from and with what it has found."""

from __future__ import annotations

import random

import pytest

from tests.dicom import raw_peer
from tests.fuzz.doors import DOORS
from tests.fuzz.mutations import spoilt_session
from tests.fuzz.seeds import SEEDS

FOUND = {
    "a VR that nobody knows yet": ("data_sets", b"\1" + b"\x08\0\x50\0SH\0\0" + b"\x40\0\0\1SP\xff\xfa\2\0\0\0MG"),
    "a UID with a tabulator": (
        "command_sets",
        raw_peer.command(0x0140, 1, AffectedSOPClassUID="1.2\t", AffectedSOPInstanceUID="1.2.3"),
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
    DOORS[door](data)


def test_a_spoilt_session_keeps_to_its_bound_and_differs() -> None:
    def changed(part: bytes, room: int) -> bytes:
        return (b"\xff" + part[1:])[:room]

    seeds = [*SEEDS["sessions"]()]
    spoilt = [spoilt_session(data, 4096, random.Random(number), changed) for number in range(20) for data in seeds]
    assert all(len(data) <= 4096 for data in spoilt)
    assert len({*spoilt} - {*seeds}) > 20
    for data in spoilt:
        DOORS["sessions"](data)
