"""Who leaves the waiting room when it is full."""

from __future__ import annotations

from gateway.dicom.waiting_room import WaitingRoom


def test_the_oldest_leaves_of_the_address_that_has_most() -> None:
    room: WaitingRoom[str] = WaitingRoom(4)
    assert [room.enter(peer, peer[0]) for peer in ("unit", "f1", "f2", "f3")] == [None] * 4
    assert [room.enter(peer, "f") for peer in ("f4", "f5")] == ["f1", "f2"]
    assert room.enter("other", "o") == "f3"


def test_whoever_asks_makes_room_and_one_that_is_not_there_may_leave_too() -> None:
    room: WaitingRoom[str] = WaitingRoom(2)
    room.enter("f1", "f")
    room.enter("f2", "f")
    room.leave("f1")
    room.leave("f1")
    assert room.enter("unit", "u") is None
    assert room.enter("f3", "f") == "f2"
    room.leave("f3")
    assert [*room._from_address] == ["u"], "nothing is kept of an address that left"
