"""The engine on asyncio over real sockets: what only it can do, and what no peer can do to it."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import trustme
from dicom_samples import InMemory, captured_logs, created, query, samples, to_bytes
from raw_peer import (
    FINDING,
    RELEASE_RP,
    RELEASE_RQ,
    STEPPING,
    RawPeer,
    associate_rq,
    associated,
    cancel,
    command,
    connected,
    echo,
    find,
    message,
    n_create,
    pdu,
    value,
)

from gateway.dicom import connection, server_asyncio
from gateway.dicom.association import PERFORMED_STEP, WORKLIST, AcceptorOptions
from gateway.dicom.caller import Caller
from gateway.dicom.deadlines import MESSAGE_STALLS
from gateway.dicom.find import FindResponse
from gateway.dicom.responder import Responder
from gateway.dicom.server_asyncio import AsyncioServer
from gateway.domain.performed_procedure_step import StepReport
from tests.patient_loop import PatientClock

MINUTE = 60.0
ALL = to_bytes(query({"Modality": "MG"}, AccessionNumber=""))
STEP = to_bytes(created())
ABORT_2_0 = bytes.fromhex("07000000000400000200")

Serve = Callable[..., AsyncioServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers with settings of their own, and stops them."""
    started: list[AsyncioServer] = []

    def start(application: Any = None, *, responder: Responder | None = None, **settings: Any) -> AsyncioServer:
        responder = responder or Responder(application or InMemory(samples()))
        server = AsyncioServer(responder, AcceptorOptions(host="127.0.0.1", port=0, **settings))
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop(deadline=5)
        assert server.open_associations == 0


class Endless(Responder):
    """Answers a query without end, on the loop when it `quick`ly does; tells when nobody wants more."""

    def __init__(self, *, quick: bool, answers: int = 10**9) -> None:
        super().__init__(InMemory())
        self.quick, self.answers, self.made = quick, answers, 0
        self.over = threading.Event()
        self.makers: list[str] = []

    def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:
        return self.quick

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        try:
            while self.made < self.answers and not is_cancelled():
                self.made += 1
                self.makers.append(threading.current_thread().name)
                yield FindResponse(0xFF00, bytes(1000))
            yield FindResponse(0xFE00 if is_cancelled() else 0x0000)
        finally:
            self.over.set()


on_the_loop_or_aside = pytest.mark.parametrize("quick", [True, False], ids=["on the loop", "in a thread"])


class Committing(InMemory):
    """Takes its time to keep a step."""

    def __init__(self) -> None:
        super().__init__(samples())
        self.began, self.goes_on = threading.Event(), threading.Event()

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> Any:
        self.began.set()
        assert self.goes_on.wait(MINUTE)
        return super().start_step(report, calling_ae_title=calling_ae_title, received_at=received_at)


# --- C-CANCEL (PS3.7 9.3.2.3)


@on_the_loop_or_aside
def test_a_cancel_in_the_same_segment_as_its_query_is_seen(serve: Serve, quick: bool) -> None:
    server = serve(responder=Endless(quick=quick))
    with associated(server.port) as peer:
        peer.send(find(ALL, 7), cancel(7))
        assert peer.statuses() == [0xFE00]


@on_the_loop_or_aside
def test_a_cancel_between_the_answers_stops_them(serve: Serve, quick: bool) -> None:
    server = serve(responder=Endless(quick=quick))
    with associated(server.port) as peer:
        peer.send(find(ALL, 7))
        assert peer.response().Status == 0xFF00
        peer.send(cancel(7))
        assert peer.statuses()[-1] == 0xFE00
        peer.send(echo())
        assert peer.response().Status == 0x0000


def test_a_cancel_of_a_query_that_waits_is_its_only_answer_and_one_of_nothing_has_none(serve: Serve) -> None:
    with associated(serve().port) as peer:
        peer.send(cancel(9), find(ALL, 1), find(ALL, 2), cancel(2), cancel(8), find(ALL, 3))
        assert peer.statuses() == [0xFF00] * 3 + [0x0000]
        assert peer.statuses() == [0xFE00]
        assert peer.statuses() == [0xFF00] * 3 + [0x0000]


# --- several operations


def test_no_answer_waits_for_an_acknowledgement_that_the_peer_delays(serve: Serve) -> None:
    server = serve()
    with associated(server.port):
        (connection,) = server._connections
        wire = connection._transport.get_extra_info("socket")
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_asked_ahead_is_answered_in_its_order_one_at_a_time(serve: Serve) -> None:
    with associated(serve().port) as peer:
        peer.send(*(echo(number) for number in range(100)), find(ALL, 200), RELEASE_RQ)
        assert [peer.response().MessageIDBeingRespondedTo for _ in range(100)] == list(range(100))
        assert peer.statuses() == [0xFF00] * 3 + [0x0000]
        assert peer.read() == RELEASE_RP
        assert peer.read() == b"", "the connection is closed by whoever is first"


def test_a_message_id_in_progress_is_0210_and_the_first_request_stands_ps3_7_c_5_9(serve: Serve) -> None:
    application = Committing()
    with associated(serve(application).port) as peer:
        peer.send(n_create(STEP, "1.2.1", 5), n_create(STEP, "1.2.2", 5))
        assert application.began.wait(MINUTE)
        application.goes_on.set()
        assert [peer.response().Status for _ in range(2)] == [0x0000, 0x0210]
        peer.send(n_create(STEP, "1.2.2", 5))
        assert peer.response().Status == 0x0000, "it may be used again"
    assert sorted(application.reports) == ["1.2.1", "1.2.2"]


def test_a_commit_holds_up_nobody_else(serve: Serve) -> None:
    application = Committing()
    server = serve(application)
    with associated(server.port) as modality, associated(server.port) as other:
        modality.send(n_create(STEP, "1.2.1"))
        assert application.began.wait(MINUTE)
        other.send(echo())
        assert other.response().Status == 0x0000
        application.goes_on.set()
        assert modality.response().Status == 0x0000


def test_a_long_answer_on_the_loop_holds_up_nobody_else(serve: Serve) -> None:
    responder = Endless(quick=True)
    server = serve(responder=responder)
    with associated(server.port) as long, associated(server.port) as other:
        long.send(find(ALL))
        assert long.response().Status == 0xFF00
        other.send(echo())
        assert other.response().Status == 0x0000
        assert not responder.over.is_set()


def test_the_rest_of_an_answer_that_was_believed_short_is_made_in_a_thread(serve: Serve) -> None:
    responder = Endless(quick=True, answers=200)
    with associated(serve(responder=responder).port) as peer:
        peer.send(find(ALL, 1), echo(2))
        assert peer.statuses() == [0xFF00] * 200 + [0x0000]
        assert peer.response().MessageIDBeingRespondedTo == 2
    places = [maker.split("_")[0] for maker in responder.makers]
    assert places == ["dicom-loop"] * 75 + ["dicom-scan"] * 125


# --- what a context or a class does not have


@pytest.mark.parametrize(
    "field", [0x0100, 0x0110, 0x0130, 0x0150], ids=["N-EVENT-REPORT", "N-GET", "N-ACTION", "N-DELETE"]
)
def test_an_operation_that_mpps_does_not_have_is_0211_and_the_association_goes_on(serve: Serve, field: int) -> None:
    uids = {"RequestedSOPClassUID": PERFORMED_STEP.uid, "RequestedSOPInstanceUID": "1.2.3"}
    with associated(serve().port) as peer:
        peer.send(message(STEPPING, field, 3, **uids), echo(4))
        response = peer.response()
        assert (response.CommandField, response.MessageIDBeingRespondedTo) == (field | 0x8000, 3)
        assert (response.Status, response.AffectedSOPInstanceUID) == (0x0211, "1.2.3")
        assert peer.response().Status == 0x0000


@pytest.mark.parametrize(
    ("context", "field", "told"),
    [
        (STEPPING, 0x0020, "sent C-FIND in a presentation context of Modality Performed Procedure Step"),
        (STEPPING, 0x0001, "sent C-STORE in a presentation context of Modality Performed Procedure Step"),
        (FINDING, 0x0140, "sent N-CREATE in a presentation context of Modality Worklist"),
        (FINDING, 0x0021, "sent C-MOVE in a presentation context of Modality Worklist"),
    ],
)
def test_an_operation_of_another_context_is_0211_and_told_in_the_log(
    serve: Serve, context: int, field: int, told: str
) -> None:
    application = InMemory()
    with captured_logs() as logs, associated(serve(application).port) as peer:
        peer.send(message(context, field, 1, STEP, AffectedSOPClassUID=WORKLIST.uid), echo(2))
        assert [peer.response().Status for _ in range(2)] == [0x0211, 0x0000]
    (line,) = [line for line in logs if line["event"] == "operation_out_of_place"]
    assert line["reason"].startswith(told)
    assert not application.reports


def test_an_echo_of_another_class_is_0122(serve: Serve) -> None:
    with associated(serve().port) as peer:
        peer.send(message(FINDING, 0x0030, 1, AffectedSOPClassUID=WORKLIST.uid), echo(2))
        assert [peer.response().Status for _ in range(2)] == [0x0122, 0x0000]


def test_a_command_with_a_value_that_cannot_be_read_is_0212(serve: Serve) -> None:
    damaged = command(0x0140, 1, AffectedSOPClassUID=PERFORMED_STEP.uid) + bytes.fromhex("00000110020000003180")
    with associated(serve().port) as peer:
        peer.send(pdu(4, value(STEPPING, 3, damaged)), echo(2))
        assert [peer.response().Status for _ in range(2)] == [0x0212, 0x0000]


def test_our_own_failure_aborts_its_association_and_no_other(serve: Serve) -> None:
    class Broken(Responder):
        def echo(self, caller: Caller) -> int:
            raise ValueError("SMITH^JANE")

    server = serve(responder=Broken(InMemory(samples())))
    with captured_logs() as logs, associated(server.port) as peer, associated(server.port) as other:
        peer.send(echo())
        assert peer.read() == ABORT_2_0
        other.send(find(ALL))
        assert other.statuses()[-1] == 0x0000
    (line,) = [line for line in logs if line["event"] == "request_failed"]
    assert "SMITH" not in str(line)


def test_a_failure_before_there_is_any_answer_aborts_the_association_too(serve: Serve) -> None:
    class Broken(Responder):
        def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:
            raise ValueError("SMITH^JANE")

    server = serve(responder=Broken(InMemory(samples())))
    with captured_logs() as logs, associated(server.port) as peer:
        peer.send(echo(1), find(ALL, 2))
        assert peer.response().Status == 0x0000
        assert peer.read() == ABORT_2_0
    assert [line["phase"] for line in logs if line["event"] == "request_failed"] == ["operation"]


def test_a_step_that_came_with_a_violation_is_neither_kept_nor_answered(serve: Serve) -> None:
    application = InMemory(samples())
    server = serve(application)
    with associated(server.port) as peer:
        peer.send(n_create(STEP, "1.2.1"), b"\xff")
        assert peer.read().hex() == "07000000000400000201"
        server.stop()
        assert peer.read() == b""
    assert not application.reports


# --- limits


def test_too_many_associations_from_one_address_are_rejected_2_3_2_until_one_is_over(serve: Serve) -> None:
    server = serve(maximum_associations_per_address=2)
    with captured_logs() as logs, associated(server.port), associated(server.port) as second:
        with connected(server.port) as third:
            third.send(associate_rq())
            assert third.read().hex() == "03000000000400020302"
        second.send(RELEASE_RQ)
        assert second.read() == RELEASE_RP
        with associated(server.port) as fourth:
            fourth.send(echo())
            assert fourth.response().Status == 0x0000
    (line,) = [line for line in logs if line["event"] == "association_refused"]
    assert line["reason"] == "2 associations from this address are open"


def test_silent_connections_are_no_associations_and_the_oldest_makes_room(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_asyncio, "_SILENT", 8)
    server = serve(maximum_associations=2)
    with captured_logs() as logs, associated(server.port) as early, ExitStack() as closing:

        def silent() -> socket.socket:
            return closing.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=MINUTE))

        oldest = silent()
        oldest.sendall(b"\1")
        for _ in range(11):
            silent()
        with associated(server.port) as peer:
            peer.send(echo())
            assert peer.response().Status == 0x0000
        assert not _heard(oldest)
        early.send(echo())
        assert early.response().Status == 0x0000, "who has an association waits for none"
    assert not [line for line in logs if line["event"] == "connection_broken"], "it did not leave by itself"


def _heard(connection: socket.socket) -> bytes:
    with suppress(ConnectionError):  # what it sent was not read
        return connection.recv(1)
    return b""


def test_what_is_held_for_all_peers_together_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_asyncio, "_SHARED", 500_000)
    server = serve()
    half = pdu(4, value(FINDING, 3, command(0x20, 1, b""))) + pdu(4, value(FINDING, 0, bytes(400_000)))
    with associated(server.port) as first, associated(server.port) as second, associated(server.port) as third:
        first.send(half, pdu(4, value(FINDING, 0, b"")))
        second.send(half)
        told, _, _ = select.select([first.socket, second.socket], [], [], MINUTE)
        assert [peer.read() for peer in (first, second) if peer.socket in told] == [ABORT_2_0]
        third.send(find(ALL))
        assert third.statuses()[-1] == 0x0000, "who asks for little is served"


def test_what_is_answered_is_held_no_more(serve: Serve) -> None:
    server = serve()
    large = to_bytes(query({"Modality": "MG"}, PatientID="NOBODY", PatientComments="1" * 100_000))
    with associated(server.port) as peer:
        peer.send(find(large), echo(2))
        assert peer.statuses() == [0xA900], "an identifier of more than 64 KiB"
        assert peer.response().Status == 0x0000
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), server.loop).result(MINUTE)  # what wrote it is through
        assert server._shared == 0


def test_who_leaves_within_a_message_is_told_of_and_holds_nothing_any_more(serve: Serve) -> None:
    server = serve()
    with captured_logs() as logs, associated(server.port) as other:
        with associated(server.port) as peer:
            peer.send(pdu(4, value(FINDING, 3, command(0x20, 1, b""))), pdu(4, value(FINDING, 0, bytes(100_000))))
        while server.open_associations > 1:
            other.send(echo())
            assert other.response().Status == 0x0000
        assert server._shared == 0
    reasons = [line["reason"] for line in logs if line["event"] == "association_aborted"]
    assert reasons == ["closed the connection within a message"]


# --- time (deadlines are total: a drip does not move them)


def _drip(peer: RawPeer, data: bytes, pause: float = 0.01) -> tuple[int, bytes]:
    """Send byte by byte until something comes back; how many went, and what came."""
    peer.socket.settimeout(pause)
    for sent, byte in enumerate(data):
        try:
            peer.socket.sendall(bytes([byte]))
            return sent, peer.socket.recv(100)
        except TimeoutError:
            pass
        except ConnectionError:
            return sent, b""
    raise AssertionError("never cut")


def test_an_association_request_that_drips_is_cut_at_the_artim(serve: Serve) -> None:
    with connected(serve(acse_timeout=0.3).port) as peer:
        sent, answer = _drip(peer, associate_rq())
    assert sent < 60
    assert answer == b""


def test_a_pdu_that_drips_is_cut_at_the_stall_timeout(serve: Serve) -> None:
    with captured_logs() as logs, associated(serve(stall_timeout=0.3).port) as peer:
        sent, answer = _drip(peer, find(ALL * 10))
    assert sent < 60
    assert answer == ABORT_2_0
    assert [x["reason"] for x in logs if x["event"] == "association_aborted"] == ["did not finish a PDU in 0.3 s"]


def test_a_message_of_whole_pdus_that_never_ends_is_cut_too(serve: Serve) -> None:
    stall = 0.1
    with associated(serve(stall_timeout=stall).port) as peer:
        peer.send(pdu(4, value(FINDING, 3, command(0x20, 1, b""))))
        peer.socket.settimeout(0.02)
        began, answer = time.monotonic(), b""
        while not answer:
            peer.send(pdu(4, value(FINDING, 0, b"\0\0")))
            try:
                answer = peer.socket.recv(100)
            except TimeoutError:
                assert time.monotonic() - began < 20 * MESSAGE_STALLS * stall
        assert answer == ABORT_2_0


def test_an_association_that_does_nothing_is_aborted_at_the_idle_timeout(serve: Serve) -> None:
    with connected(serve(idle_timeout=0.2).port) as peer:
        peer.send(associate_rq(), echo())  # at once: the machine may stall between any two steps of ours
        assert peer.read()[:1] == b"\x02"
        assert peer.response().Status == 0x0000
        assert peer.read() == ABORT_2_0


def test_who_waits_for_an_answer_is_not_idle_and_has_all_the_time_again_after_it(serve: Serve) -> None:
    application = Committing()
    idle_timeout = 0.5
    server = serve(application, idle_timeout=idle_timeout)
    with connected(server.port) as peer, associated(server.port) as idle:
        peer.send(associate_rq(), n_create(STEP, "1.2.1"))  # at once: the machine may stall between any two steps
        assert peer.read()[:1] == b"\x02"
        assert application.began.wait(MINUTE)
        assert idle.read() == ABORT_2_0
        goes_on = time.monotonic()
        application.goes_on.set()
        assert peer.response().Status == 0x0000
        assert peer.read() == ABORT_2_0
        assert time.monotonic() - goes_on >= idle_timeout


@on_the_loop_or_aside
def test_for_a_peer_that_does_not_read_no_more_is_made_and_then_it_is_dropped(serve: Serve, quick: bool) -> None:
    responder = Endless(quick=quick)
    server = serve(responder=responder, stall_timeout=0.3)
    with captured_logs() as logs, associated(server.port) as peer:
        peer.send(find(ALL))
        assert responder.over.wait(MINUTE)
        assert responder.made < 20_000, "20 MB"
        with associated(server.port) as other:
            other.send(echo())
            assert other.response().Status == 0x0000
    reasons = [line["reason"] for line in logs if line["event"] == "association_aborted"]
    assert reasons == ["read none of its answers for 0.3 s"]


def test_of_a_peer_that_does_not_read_no_more_requests_are_taken_than_may_wait(serve: Serve) -> None:
    server = serve()
    with associated(server.port) as peer, associated(server.port) as other:
        (served,) = [each for each in server._connections if each._port == peer.socket.getsockname()[1]]
        server.loop.call_soon_threadsafe(served.pause_writing)
        peer.send(*map(echo, range(200)))
        for _ in range(20):  # turns of the loop
            other.send(echo())
            assert other.response().Status == 0x0000
        assert served._acceptor.messages == connection._WAITING
        server.loop.call_soon_threadsafe(served.resume_writing)
        assert [peer.response().MessageIDBeingRespondedTo for _ in range(200)] == list(range(200))


def test_a_peer_that_does_not_read_keeps_no_thread_from_the_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_asyncio, "_LONG_ANSWERS", 1)
    server = serve(responder=Endless(quick=False))
    with associated(server.port) as silent, associated(server.port) as other:
        silent.send(find(ALL))
        other.send(find(ALL))
        assert other.response().Status == 0xFF00
        for _ in range(12_000):  # 12 MB: more than any buffer on the way holds
            assert silent.response().Status == 0xFF00, "it reads again, and gets more"


@on_the_loop_or_aside
def test_a_peer_that_reads_slowly_gets_all_of_it(serve: Serve, quick: bool) -> None:
    server = serve(responder=Endless(quick=quick, answers=5000))
    with associated(server.port) as peer:
        peer.send(find(ALL))
        assert len(peer.statuses()) == 5001


@on_the_loop_or_aside
@pytest.mark.parametrize("how", ["abort", "close", "reset"])
def test_whoever_leaves_within_its_answers_ends_them(serve: Serve, quick: bool, how: str) -> None:
    responder = Endless(quick=quick)
    with associated(serve(responder=responder).port) as peer:
        peer.send(find(ALL))
        assert peer.response().Status == 0xFF00
        if how == "abort":
            peer.send(bytes.fromhex("07000000000400000000"))
        elif how == "reset":
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert responder.over.wait(MINUTE)


def test_a_session_that_is_reset_at_any_byte_harms_nobody(serve: Serve) -> None:
    application = InMemory(samples())
    server = serve(application)
    opening = associate_rq()
    session = opening + find(ALL) + n_create(STEP, "1.2.3", 2) + RELEASE_RQ
    for end in [*range(0, len(session), 23), *range(len(opening) - 3, len(opening) + 9)]:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=MINUTE)
        connection.sendall(session[:end])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    with associated(server.port) as peer:
        peer.send(n_create(STEP, "1.2.4"), find(ALL, 2))
        assert peer.response().Status == 0x0000
        assert peer.statuses()[-1] == 0x0000
    assert "1.2.4" in application.reports


# --- the end of the service


def test_a_stop_finishes_what_has_begun_and_begins_nothing_else(serve: Serve) -> None:
    application = Committing()
    server = serve(application)
    with associated(server.port) as peer, associated(server.port) as half, associated(server.port) as idle:
        half.send(n_create(STEP, "1.2.3")[:-5])
        peer.send(n_create(STEP, "1.2.1", 1), n_create(STEP, "1.2.2", 2))
        assert application.began.wait(MINUTE)
        stopping = threading.Thread(target=server.stop, args=(MINUTE,))
        stopping.start()
        assert idle.read() == half.read() == ABORT_2_0
        application.goes_on.set()
        assert peer.response().Status == 0x0000
        assert peer.read() == ABORT_2_0
        stopping.join(MINUTE)
    assert list(application.reports) == ["1.2.1"]


def test_a_unit_that_releases_after_its_last_answer_is_let_go_also_at_a_stop(serve: Serve) -> None:
    application = Committing()
    server = serve(application)
    with associated(server.port) as peer, associated(server.port) as idle:
        peer.send(n_create(STEP, "1.2.1"))
        assert application.began.wait(MINUTE)
        stopping = threading.Thread(target=server.stop, args=(MINUTE,))
        stopping.start()
        assert idle.read() == ABORT_2_0, "the stop is under way"
        application.goes_on.set()
        assert peer.response().Status == 0x0000
        peer.send(RELEASE_RQ)
        assert peer.read() == RELEASE_RP
        stopping.join(MINUTE)


def test_steps_that_no_thread_has_begun_are_not_begun_by_a_stop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_asyncio, "_THREADS", 1)
    application = Committing()
    server = serve(application)
    with associated(server.port) as first, associated(server.port) as second:
        first.send(n_create(STEP, "1.2.1"))
        assert application.began.wait(MINUTE)
        second.send(n_create(STEP, "1.2.2"))
        stopping = threading.Thread(target=server.stop, args=(MINUTE,))
        stopping.start()
        assert second.read() == ABORT_2_0
        application.goes_on.set()
        assert first.response().Status == 0x0000
        stopping.join(MINUTE)
    assert list(application.reports) == ["1.2.1"]


def test_a_stop_waits_no_longer_than_its_deadline_for_a_peer_that_does_not_read(serve: Serve) -> None:
    responder = Endless(quick=True)
    server = serve(responder=responder)
    with associated(server.port) as peer:
        peer.send(find(ALL))
        assert peer.response().Status == 0xFF00
        with PatientClock() as clock:
            began = clock.time()
            server.stop(deadline=0.2)
            assert clock.time() - began < 3
        assert responder.over.wait(MINUTE)
        assert server.open_associations == 0


def test_it_starts_again_after_a_stop(serve: Serve) -> None:
    server = serve()
    for _ in range(2):
        with associated(server.port) as peer:
            peer.send(echo())
            assert peer.response().Status == 0x0000
            server.stop()
            assert peer.read() == ABORT_2_0
            assert server.loop.is_closed()
        server.start()


def test_who_comes_through_the_door_while_it_closes_is_sent_away(serve: Serve) -> None:
    application = Committing()
    server = serve(application, acse_timeout=MINUTE)
    with (
        associated(server.port) as peer,
        associated(server.port) as idle,
        socket.create_server(("127.0.0.1", 0)) as door,
        connected(door.getsockname()[1]) as late,
    ):
        peer.send(n_create(STEP, "1.2.1"))
        assert application.began.wait(MINUTE)
        stopping = threading.Thread(target=server.stop, args=(MINUTE,))
        stopping.start()
        assert idle.read() == ABORT_2_0, "the stop is under way"
        coming = server.loop.connect_accepted_socket(server._connection, door.accept()[0])
        asyncio.run_coroutine_threadsafe(coming, server.loop).result(MINUTE)
        assert late.read() == b""
        application.goes_on.set()
        assert peer.response().Status == 0x0000
        peer.send(RELEASE_RQ)
        stopping.join(MINUTE)


# --- TLS


@dataclass(frozen=True)
class Door:
    port: int
    context: ssl.SSLContext


def test_over_tls_a_silent_or_foolish_client_holds_up_nobody(serve: Serve) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server = serve(tls=Door(0, context))
    assert server.tls_port not in (None, server.port)
    silent = socket.create_connection(("127.0.0.1", server.tls_port), timeout=MINUTE)
    with connected(server.tls_port) as foolish:
        foolish.send(associate_rq())
        assert foolish.read()[:1] != b"\x02"
    with (
        silent,
        socket.create_connection(("127.0.0.1", server.tls_port), timeout=MINUTE) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        peer = RawPeer(secure)
        peer.send(associate_rq())
        assert peer.read()[:1] == b"\x02"
        peer.send(find(ALL), RELEASE_RQ)
        assert peer.statuses() == [0xFF00] * 3 + [0x0000]
        assert peer.read() == RELEASE_RP
