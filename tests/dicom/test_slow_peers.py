"""Peers that drip, stop halfway, or do not read run into a total deadline, and nobody waits for them (PS3.8 9.1.5)."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle

import pytest

from gateway.dicom.responder import Responder
from gateway.dicom.server_asyncio import AsyncioServer
from tests.dicom.dicom_samples import InMemory, captured_logs, query, row, to_bytes
from tests.dicom.raw_peer import (
    STEPPING,
    RawPeer,
    associate_rq,
    associated,
    command,
    connected,
    echo,
    find,
    pdu,
    value,
)

pytestmark = pytest.mark.slow

ACSE, STALL = 0.2, 0.4
LATE = 20.0
"""Seconds by which a loaded machine may be late."""

ITEMS = 5000
EVERYTHING = to_bytes(query({"Modality": "MG"}, AccessionNumber="", PatientName="", StudyInstanceUID=""))


@pytest.fixture(scope="module")
def server() -> Iterator[AsyncioServer]:
    application = InMemory([row(f"ACC{number:05d}") for number in range(ITEMS)])
    server = AsyncioServer(
        Responder(application), host="127.0.0.1", port=0, acse_timeout=ACSE, stall_timeout=STALL, idle_timeout=60
    )
    server.start()
    yield server
    server.stop(deadline=5)


def dripped(peer: RawPeer, pieces: Iterator[bytes], every: float) -> tuple[float, bytes]:
    """Send the pieces one by one until the other side has had enough; after how many seconds, and its last word."""
    began = time.monotonic()
    peer.socket.settimeout(every)
    said = b""
    while time.monotonic() - began < ACSE + STALL + LATE:
        with suppress(ConnectionError):
            peer.socket.sendall(next(pieces))
        try:
            got = peer.socket.recv(4096)
        except TimeoutError:
            continue
        except ConnectionError:
            got = b""
        if not got:
            return time.monotonic() - began, said
        said += got
    raise AssertionError("it goes on for ever")


def single_bytes(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def test_a_request_that_drips_is_not_waited_for_beyond_artim(server: AsyncioServer) -> None:
    with connected(server.port) as peer:
        seconds, said = dripped(peer, single_bytes(associate_rq() * 10), 0.02)
    assert seconds >= ACSE - 0.1
    assert said in (b"", bytes.fromhex("07000000000400000200"))


def test_a_pdu_that_drips_is_aborted_after_its_stall_timeout_however_it_drips(server: AsyncioServer) -> None:
    with associated(server.port) as peer, captured_logs() as logs:
        seconds, said = dripped(peer, single_bytes(echo() * 10), 0.02)
    assert seconds >= STALL - 0.1
    assert said == bytes.fromhex("07000000000400000200")
    assert [line["reason"] for line in logs if line["event"] == "association_aborted"] == [
        "did not finish a PDU in 0.4 s"
    ]


def test_a_message_that_comes_in_whole_pdus_without_end_is_aborted_too(server: AsyncioServer) -> None:
    opening = pdu(4, value(STEPPING, 3, command(0x0140, 1, b"", AffectedSOPClassUID="1.2.840.10008.3.1.2.3.3")))
    pieces = cycle([pdu(4, value(STEPPING, 0, b"\0\0"))])
    with associated(server.port) as peer:
        peer.send(opening)
        seconds, said = dripped(peer, pieces, 0.02)
    assert seconds >= 2 * STALL
    assert said == bytes.fromhex("07000000000400000200")


def test_a_peer_that_reads_nothing_is_dropped_and_others_are_answered_meanwhile(server: AsyncioServer) -> None:
    """Fifteen queries with more answers than all buffers on the way can hold."""
    with associated(server.port) as deaf, captured_logs() as logs:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send(*(find(EVERYTHING, number + 1) for number in range(15)))
        with associated(server.port) as peer:

            def answers_one_and_has_dropped_the_other() -> bool:
                peer.send(echo())
                assert peer.response().Status == 0x0000
                return any(line.get("reason") == "read none of its answers for 0.4 s" for line in logs)

            assert _eventually(answers_one_and_has_dropped_the_other)
    assert _eventually(lambda: server.open_associations == 0)


def _eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + LATE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_query_whose_asker_resets_the_connection_is_not_made_to_its_end(server: AsyncioServer) -> None:
    with captured_logs() as logs:
        with associated(server.port) as peer:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.send(find(EVERYTHING))
            assert peer.read()[:1] == b"\x04"
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert _eventually(lambda: server.open_associations == 0)
        assert _eventually(lambda: any(line["event"] == "query_answered" for line in logs))
    (answered,) = (line for line in logs if line["event"] == "query_answered")
    assert answered["answers"] < ITEMS
