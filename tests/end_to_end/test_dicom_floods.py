"""The modalities' door against many, against half ones, and against those that leave in the middle (PS3.8)."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from pathlib import Path

import pytest

from bench.synthetic import appointment
from gateway.application import Gateway, opened
from tests.dicom.dicom_samples import created, query, to_bytes
from tests.dicom.raw_peer import (
    RELEASE_RP,
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    echo,
    find,
    n_create,
)
from tests.end_to_end.harness import GatewayProcess, running, until

pytestmark = pytest.mark.slow

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
ITEMS = 40
IDENTIFIER = to_bytes(query({"Modality": "MG"}, AccessionNumber="", PatientName=""))
ONE = to_bytes(query(None, AccessionNumber="ACC001"))
OPTIONAL = (
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepDescription",
    "PerformedProcedureTypeDescription",
    "ProcedureCodeSequence",
    "PerformedProtocolCodeSequence",
    "StudyID",
)
STEP = to_bytes(created(PatientID="9990000018", **dict.fromkeys(OPTIONAL)))
"""For ACC001, and short."""

SESSION = [associate_rq(), find(ONE), n_create(STEP, "1.2.3.0000", 2), RELEASE_RQ]
"""An association with a query and a performed step."""

ECHO_SESSION = b"".join((associate_rq(), echo(), RELEASE_RQ))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """`gateway serve` with a worklist, for all tests here: each leaves it as it was, or has found a fault."""
    process = GatewayProcess(tmp_path_factory.mktemp("floods"), gateway_dicom_engine="asyncio")
    process.database.parent.mkdir()
    with opened(process.database) as gateway:
        schedule(gateway)
    with running(process):
        yield process.start()


def schedule(gateway: Gateway) -> None:
    for number in range(ITEMS):
        gateway.schedule(appointment(f"ACC{number:03d}"))


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have some thousand sockets."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(port: int, source: str = HERE) -> socket.socket:
    connection = socket.create_connection((HERE, port), timeout=20, source_address=(source, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@contextmanager
def raw_peer(port: int, source: str = HERE) -> Iterator[RawPeer]:
    with connect(port, source) as connection:
        peer = RawPeer(connection)
        try:
            yield peer
        finally:
            peer.close()


def echoes(port: int, source: str = HERE) -> bool:
    """Whether an association is accepted there, a C-ECHO answered, and its release."""
    with raw_peer(port, source) as peer:
        peer.send(ECHO_SESSION)
        answers = [peer.read()[:1], peer.response().Status, peer.read()]
    return answers == [b"\x02", 0x0000, RELEASE_RP]


def seconds_of_cpu(pid: int) -> float:
    """User and system time of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_associations(service: GatewayProcess) -> int:
    answer = service.health()
    return int(answer[1]["checks"]["dicom"]["open_associations"]) if answer else -1


# --- many


def test_a_thousand_open_associations_cost_next_to_no_cpu_and_a_query_is_answered(
    service: GatewayProcess, many_files: None
) -> None:
    assert service.process is not None
    with ExitStack() as left_open:
        peers = []
        for _ in range(1000):
            peers.append(left_open.enter_context(raw_peer(service.dicom_port)))
            peers[-1].send(associate_rq())
        assert {peer.read()[:1] for peer in peers} == {b"\x02"}
        before = seconds_of_cpu(service.process.pid)
        time.sleep(3)  # this long is measured; nothing is waited for
        spent = (seconds_of_cpu(service.process.pid) - before) / 3
        assert spent < 0.02, f"{spent:.1%} of a core for a thousand that do nothing"
        peers.append(left_open.enter_context(raw_peer(service.dicom_port)))
        peers[-1].send(associate_rq())
        assert peers[-1].read()[:1] == b"\x02"
        for peer in (peers[500], peers[-1]):
            peer.send(find(IDENTIFIER))
            assert peer.statuses() == [0xFF00] * ITEMS + [0x0000]
    until(lambda: open_associations(service) == 0, "all of them are gone")


def test_a_flood_of_silent_connections_from_one_address_keeps_no_other_address_out(
    service: GatewayProcess, many_files: None
) -> None:
    over = threading.Event()

    def flood() -> None:
        held: list[socket.socket] = []
        while not over.is_set():
            with suppress(OSError):  # it was dropped before it was there
                held.append(connect(service.dicom_port))
            if len(held) > 900:
                held.pop(0).close()
        for each in held:
            each.close()

    floods = [threading.Thread(target=flood) for _ in range(3)]
    for each in floods:
        each.start()
    try:
        until(lambda: open_associations(service) > 800, "the flood is there")
        assert all(echoes(service.dicom_port, ELSEWHERE) for _ in range(20))
    finally:
        over.set()
        for each in floods:
            each.join()
    until(lambda: open_associations(service) == 0, "the flood is over")


def test_whoever_takes_a_while_to_ask_is_not_the_one_that_a_flood_from_elsewhere_costs_its_place(
    service: GatewayProcess, many_files: None
) -> None:
    with ExitStack() as left_open:
        slow = left_open.enter_context(raw_peer(service.dicom_port, ELSEWHERE))
        for _ in range(1500):
            left_open.enter_context(connect(service.dicom_port))
        assert echoes(service.dicom_port)
        slow.send(associate_rq(), echo())
        assert slow.read()[:1] == b"\x02"
        assert slow.response().Status == 0x0000


def test_a_flood_of_half_requests_keeps_nobody_out(service: GatewayProcess, many_files: None) -> None:
    half = associate_rq()[:-20]
    with ExitStack() as left_open:
        for _ in range(1200):
            connection = left_open.enter_context(connect(service.dicom_port))
            with suppress(ConnectionError):
                connection.sendall(half)
        assert echoes(service.dicom_port)
        assert echoes(service.dicom_port, ELSEWHERE)
    until(lambda: open_associations(service) == 0, "all of them are gone")


# --- a reset at every byte


def test_a_reset_at_every_byte_of_a_session_harms_nobody_and_a_step_is_kept_whole_or_not_at_all(
    service: GatewayProcess,
) -> None:
    """After each of them an echo is answered (PS3.8 9.2.3: AA-4, transport connection closed)."""
    asked, queried, told, whole = accumulate(map(len, SESSION))
    for end in range(whole + 1):
        session = b"".join(SESSION).replace(b"1.2.3.0000", f"1.2.3.{end:04d}".encode())
        leave_after(service.dicom_port, session[:end], asked, queried, told)
        assert echoes(service.dicom_port), f"no answer after a reset at byte {end}"
    until(lambda: open_associations(service) == 0, "all of them are gone")
    with service.store() as store:
        kept = {end: step for end in range(whole + 1) if (step := store.performed_step(f"1.2.3.{end:04d}"))}
        listed = [str(row.details) for row in store.timeline("ACC001")]
    assert all(step.data_sets[0][0] == STEP for step in kept.values())
    assert not [end for end in kept if end < told], "kept although it was not whole"
    assert not [end for end in range(told + 1, whole + 1) if end not in kept], "answered and not kept"
    assert all(any(f"1.2.3.{end:04d}" in details for details in listed) for end in kept), "kept and not listed"
    service.assert_sound()


def leave_after(port: int, sent: bytes, *stations: int) -> None:
    """Send this, at each station only after what came before was answered, and leave by a RST."""
    with raw_peer(port) as peer:
        begin = 0
        for number, end in enumerate(stations):
            if len(sent) <= end:
                break
            peer.send(sent[begin:end])
            begin = end
            answered = [peer.read, peer.statuses, peer.response][number]()
            assert answered
        peer.send(sent[begin:])
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
