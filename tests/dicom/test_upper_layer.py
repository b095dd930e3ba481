"""The acceptor's side of PS3.8 as a function of bytes: the same events however they are cut, and never an exception."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_peer import (
    ABORT,
    CONTEXTS,
    ECHOING,
    FINDING,
    RELEASE_RP,
    RELEASE_RQ,
    associate_rq,
    cancel,
    command,
    echo,
    message,
    n_create,
    pdu,
    value,
)

from gateway.dicom.association import MAXIMUM_MESSAGE_LENGTH, MAXIMUM_PDU_LENGTH
from gateway.dicom.upper_layer import (
    Aborted,
    Acceptor,
    AssociationRequested,
    Event,
    MessageReceived,
    ReleaseRequested,
    State,
    Violated,
)

FRAGMENTED = [
    pdu(4, value(FINDING, 1, (asked := command(0x20, 2, b""))[:7])),
    pdu(4, value(FINDING, 3, asked[7:]) + value(FINDING, 0, b"identi")),
    pdu(4, value(FINDING, 0, b"") + value(FINDING, 2, b"fier")),
]
"""A message in five fragments, one of them empty."""

SESSION = [associate_rq(), echo(1), *FRAGMENTED, cancel(2), n_create(b"attributes", "1.2.3", 3), RELEASE_RQ]
WHOLE = b"".join(SESSION)


def events(pieces: Iterable[bytes], acceptor: Acceptor | None = None) -> list[Event]:
    """What an acceptor makes of these pieces; it accepts whoever asks, and lets go whoever wants to."""
    acceptor = acceptor or Acceptor()
    found: list[Event] = []
    for piece in pieces:
        acceptor.receive(piece)
        while (event := acceptor.next_event()) is not None:
            found.append(event)
            if isinstance(event, AssociationRequested):
                acceptor.accept(CONTEXTS, b"accepted")
    return found


def established(maximum: int = 0) -> Acceptor:
    acceptor = Acceptor()
    events([associate_rq()], acceptor)
    assert acceptor.state is State.ESTABLISHED
    return acceptor


def violation(*pdus: bytes, acceptor: Acceptor) -> tuple[str, int, int]:
    """Why it was violated, and source and reason of the A-ABORT (PS3.8 9.3.8)."""
    *_, last = events([b"".join(pdus)], acceptor)
    assert isinstance(last, Violated), last
    assert acceptor.state is State.OVER
    assert last.abort[:8] == bytes.fromhex("0700000000040000")
    return last.why, last.abort[8], last.abort[9]


def test_a_session_is_a_request_messages_and_a_release() -> None:
    requested, *messages, released = events([WHOLE])
    assert requested == AssociationRequested(SESSION[0])
    assert released == ReleaseRequested()
    told = [each.message for each in messages if isinstance(each, MessageReceived)]
    assert [(m.context_id, m.command.field, m.command.message_id, m.data_set) for m in told] == [
        (1, 0x0030, 1, None),
        (3, 0x0020, 2, b"identifier"),
        (3, 0x0FFF, 2, None),
        (5, 0x0140, 3, b"attributes"),
    ]


@settings(max_examples=200)
@given(st.sets(st.integers(1, len(WHOLE) - 1), max_size=12))
@example(set(range(1, len(WHOLE))))
def test_however_a_session_is_cut_its_events_are_the_same(cuts: set[int]) -> None:
    pieces = [WHOLE[a:b] for a, b in pairwise([0, *sorted(cuts), len(WHOLE)])]
    assert events(pieces) == events([WHOLE])


def test_a_session_that_ends_anywhere_gave_the_events_before_and_nothing_is_invented() -> None:
    whole = events([WHOLE])
    for end in range(len(WHOLE)):
        acceptor = Acceptor()
        found = events([WHOLE[:end]], acceptor)
        assert found == whole[: len(found)]
        ends = {sum(map(len, SESSION[:n])) for n in range(len(SESSION) + 1)}
        assert acceptor.is_within_pdu == (end not in ends)


SPOILT = st.tuples(
    st.integers(0, len(WHOLE) - 1),
    st.sampled_from(["flip", "cut", "twice", "insert"]),
    st.binary(min_size=1, max_size=8),
)


@settings(max_examples=500)
@given(spoils=st.lists(SPOILT, min_size=1, max_size=4), cuts=st.sets(st.integers(1, 2000), max_size=5))
def test_a_spoilt_session_gives_events_that_do_not_depend_on_the_cuts(spoils: list[Any], cuts: set[int]) -> None:
    data = bytearray(WHOLE)
    for at, how, piece in spoils:
        at = min(at, len(data))
        if how == "flip":
            data[at : at + len(piece)] = piece
        elif how == "cut":
            del data[at : at + len(piece)]
        elif how == "twice":
            data[at:at] = data[at : at + 40]
        else:
            data[at:at] = piece
    whole = bytes(data)
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    assert events(whole[a:b] for a, b in pairwise(places)) == events([whole])


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_garbage_never_raises(pieces: list[bytes], is_established: bool) -> None:
    acceptor = established() if is_established else Acceptor()
    for event in events(pieces, acceptor):
        if isinstance(event, Violated):
            assert acceptor.state is State.OVER


# --- PDUs (PS3.8 9.3.1)


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x47, 0xFF])
def test_an_unknown_type_is_aborted_2_1_on_its_first_byte(kind: int) -> None:
    assert violation(bytes([kind]), acceptor=Acceptor())[1:] == (2, 1)
    assert violation(bytes([kind]), acceptor=established())[1:] == (2, 1)


@pytest.mark.parametrize(
    ("kind", "length"),
    [(1, 67), (1, 64 * 1024), (1, 0xFFFFFFFF), (4, MAXIMUM_PDU_LENGTH + 1), (4, 0xFFFFFFF0), (5, 0), (5, 5), (7, 3)],
)
def test_a_length_that_cannot_be_is_aborted_2_6_on_the_first_six_bytes(kind: int, length: int) -> None:
    acceptor = Acceptor() if kind == 1 else established()
    why, *abort = violation(struct.pack(">BxI", kind, length), acceptor=acceptor)
    assert abort == [2, 6]
    assert f"announced a PDU of {length} bytes" in why


@pytest.mark.parametrize("unexpected", [echo(), RELEASE_RQ, RELEASE_RP, pdu(2, bytes(80)), pdu(3, bytes(4))])
def test_what_may_not_come_before_an_association_is_aborted_2_2(unexpected: bytes) -> None:
    assert violation(unexpected[:6], acceptor=Acceptor())[1:] == (2, 2)


@pytest.mark.parametrize("unexpected", [associate_rq(), RELEASE_RP, pdu(2, bytes(80)), pdu(3, bytes(4))])
def test_what_may_not_come_within_an_association_is_aborted_2_2(unexpected: bytes) -> None:
    assert violation(unexpected[:6], acceptor=established())[1:] == (2, 2)


@pytest.mark.parametrize("unexpected", [echo(), RELEASE_RQ, associate_rq()])
def test_after_it_asked_for_the_release_a_peer_may_ask_for_nothing_more_2_2(unexpected: bytes) -> None:
    assert violation(RELEASE_RQ, unexpected, acceptor=established())[1:] == (2, 2)


@pytest.mark.parametrize("acceptor", [Acceptor(), established()], ids=["before", "within"])
def test_an_abort_is_told_and_ends_everything(acceptor: Acceptor) -> None:
    assert events([ABORT + echo()], acceptor) == [Aborted()]
    assert acceptor.state is State.OVER


@pytest.mark.parametrize("end", ["reject", "release", "abort"])
def test_after_the_end_whatever_comes_is_thrown_away(end: str) -> None:
    acceptor = Acceptor()
    acceptor.receive(associate_rq() + echo())
    assert isinstance(acceptor.next_event(), AssociationRequested)
    answer = {"reject": lambda: acceptor.reject(2, 3, 2), "release": acceptor.release, "abort": acceptor.abort}[end]()
    assert answer.hex() == {
        "reject": "03000000000400020302", "release": "06000000000400000000", "abort": "07000000000400000200"
    }[end]  # fmt: skip
    assert events([b"\xff" * 1000], acceptor) == []
    assert acceptor.held == 0


# --- fragments (PS3.8 9.3.5 and Annex E)

RQ = command(0x20, 1, b"")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "without a presentation data value"),
        (struct.pack(">IB", 1, 1), "ends within its header"),
        (struct.pack(">IBB", 1, 1, 3), "a length that its PDU has no room for"),
        (struct.pack(">IBB", 100, 1, 3) + b"short", "a length that its PDU has no room for"),
        (value(ECHOING, 3, RQ) + b"more", "ends within its header"),
        (value(9, 3, RQ), "presentation context that was not accepted"),
        (value(2, 3, RQ), "presentation context that was not accepted"),
        (value(ECHOING, 1, RQ[:9]) + value(FINDING, 3, RQ[9:]), "another presentation context than its message"),
        (value(FINDING, 3, RQ) + value(ECHOING, 2, b"data"), "another presentation context than its message"),
        (value(FINDING, 3, RQ) + value(FINDING, 3, RQ), "announced a data set and sent another command"),
        (value(FINDING, 2, b"data"), "a data set that no command announced"),
        (value(FINDING, 1, RQ[:9]) + value(FINDING, 2, b"data"), "a data set that no command announced"),
        (value(ECHOING, 3, b"no command"), "ends within"),
        (value(ECHOING, 3, RQ[:12]), "without a command field"),
        (value(ECHOING, 3, command(0x8030, 1)), "no request"),
        (value(ECHOING, 1, bytes(70_000)), "a command set of more than"),
    ],
)
def test_a_fragment_out_of_place_is_aborted_2_6(body: bytes, told: str) -> None:
    why, *abort = violation(pdu(4, body), acceptor=established())
    assert abort == [2, 6]
    assert told in why


def test_a_release_within_a_message_is_aborted() -> None:
    why, *_ = violation(pdu(4, value(FINDING, 3, RQ)), RELEASE_RQ, acceptor=established())
    assert why == "asked for the release within a message"


def test_a_message_may_not_grow_beyond_what_is_borne() -> None:
    acceptor = established()
    fragment = pdu(4, value(FINDING, 0, bytes(500_000)))
    events([pdu(4, value(FINDING, 3, RQ)), *[fragment] * (MAXIMUM_MESSAGE_LENGTH // 500_000)], acceptor)
    assert acceptor.state is State.ESTABLISHED
    assert acceptor.is_within_message
    assert f"more than {MAXIMUM_MESSAGE_LENGTH} bytes" in violation(fragment, acceptor=acceptor)[0]


def test_only_the_two_bits_of_a_control_header_count_ps3_8_e_2() -> None:
    (received,) = events([pdu(4, value(ECHOING, 0xF3, command(0x30)))], established())
    assert isinstance(received, MessageReceived)


def test_several_messages_in_one_pdu_are_each_taken() -> None:
    both = value(ECHOING, 3, command(0x30, 1)) + value(ECHOING, 3, command(0x30, 2))
    found = events([pdu(4, both)], established())
    assert [e.message.command.message_id for e in found if isinstance(e, MessageReceived)] == [1, 2]


def test_what_came_before_a_violation_in_the_same_segment_is_told_first() -> None:
    found = events([echo() + message(ECHOING, 0x30)[:6] + b"\xff" * 4], established())
    assert [type(event) for event in found][:1] == [MessageReceived]
