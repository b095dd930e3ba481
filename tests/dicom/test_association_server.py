"""The association server over real sockets, by either engine: what arrives on the wire, what no peer can do to it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import Any

import pytest
from dicom_samples import AE_TITLE, SYNTAXES, InMemory, captured_logs, changed, created, from_bytes, query, samples
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityPerformedProcedureStepRetrieve,
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)
from raw_peer import rejection

from gateway.dicom.association import MAXIMUM_MESSAGE_LENGTH, SOP_CLASSES
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.performed_procedure_step import StepReport
from gateway.rehearsal.requestor import associate
from tests.interop.awaiting_cancel import AwaitingCancel
from tests.serving import association_server, serving

UID = "1.2.3.4.5"
MINUTE = 60.0

UIDS = tuple(service.uid for service in SOP_CLASSES)


@contextmanager
def association(
    server: AssociationServer,
    *,
    called: str = AE_TITLE,
    sop_classes: tuple[str, ...] = UIDS,
    syntaxes: tuple[str, ...] = SYNTAXES,
    handlers: list[Any] | None = None,
) -> Iterator[Any]:
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
    for sop_class in sop_classes:
        entity.add_requested_context(sop_class, list(syntaxes))
    peer = associate(entity, "127.0.0.1", server.port, ae_title=called, evt_handlers=handlers or [])
    try:
        yield peer
    finally:
        if peer.is_established:
            peer.release()


class Wire:
    """Records the command sets and data sets that arrive."""

    def __init__(self) -> None:
        self.messages: list[tuple[Dataset, bytes]] = []
        self.handlers = [(evt.EVT_DIMSE_RECV, self._received)]

    def _received(self, event: Any) -> None:
        data = event.message.data_set
        self.messages.append((event.message.command_set, data.getvalue() if data else b""))


def find(peer: Any, request: Dataset) -> list[tuple[int, Dataset | None]]:
    return [(status.Status, answer) for status, answer in peer.send_c_find(request, ModalityWorklistInformationFind)]


@pytest.fixture
def serve() -> Iterator[Callable[..., AssociationServer]]:
    """Starts servers with settings of their own, and stops them."""
    with ExitStack() as started:
        yield lambda application=None, **settings: started.enter_context(
            serving(Responder(application or InMemory()), **settings)
        )


# --- operations


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_several_operations_on_one_association_in_each_transfer_syntax(
    server: AssociationServer, application: InMemory, syntax: str
) -> None:
    with association(server, syntaxes=(syntax,)) as peer:
        assert peer.send_c_echo().Status == 0x0000
        answers = find(peer, query({"Modality": "MG"}, AccessionNumber="", PatientName=""))
        assert [a.AccessionNumber for _, a in answers if a] == ["ACC000", "ACC001", "ACC002"]
        assert [status for status, _ in answers] == [0xFF00] * 3 + [0x0000]
        status, _ = peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)
        assert status.Status == 0x0000
        status, _ = peer.send_n_set(changed(), ModalityPerformedProcedureStep, UID)
        assert status.Status == 0x0000
        assert peer.send_c_echo().Status == 0x0000
    assert application.reports[UID].transfer_syntax == syntax
    assert from_bytes(application.reports[UID].attribute_list, syntax).PatientID == "9990000034"


def test_many_modalities_at_once(server: AssociationServer) -> None:
    results: list[int] = []

    def ask() -> None:
        with association(server) as peer:
            results.append(len(find(peer, query({"Modality": "MG"}, AccessionNumber=""))))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(MINUTE)
    assert results == [4] * 12


def test_a_refused_query_says_why_on_the_wire(server: AssociationServer) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        answers = find(peer, query({"ScheduledProcedureStepStartDate": "20260230"}))
    assert answers == [(0xA900, None)]
    ((command, data),) = wire.messages
    assert command.OffendingElement == 0x00400002
    assert command.ErrorComment == "(0040,0002) is no date and no range of them"
    assert data == b""


def test_a_cancel_stops_the_answers_fe00() -> None:
    responder = AwaitingCancel(InMemory(samples()))
    with serving(responder) as server, association(server, sop_classes=(ModalityWorklistInformationFind,)) as peer:
        responses = peer.send_c_find(query({"Modality": "MG"}, PatientID=""), ModalityWorklistInformationFind, msg_id=7)
        statuses = [next(responses)[0].Status]
        peer.send_c_cancel(7, query_model=ModalityWorklistInformationFind)
        statuses += [status.Status for status, _ in responses]
    assert statuses == [0xFF00, 0xFE00]


def test_missing_attributes_are_listed_on_the_wire_0120(server: AssociationServer) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        status, _ = peer.send_n_create(created(Modality=None), ModalityPerformedProcedureStep, UID)
        again = peer.send_c_echo()
    assert (status.Status, again.Status) == (0x0120, 0x0000)
    (command, data), _ = wire.messages
    assert command.AttributeIdentifierList == 0x00080060
    assert command.ErrorComment == "missing: (0008,0060)"
    assert (command.AffectedSOPInstanceUID, command.AffectedSOPClassUID) == (UID, ModalityPerformedProcedureStep)
    assert (command.CommandDataSetType, data) == (0x0101, b"")


def test_a_bad_status_comes_back_on_the_wire_0106(server: AssociationServer) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        peer.send_n_create(created(PerformedProcedureStepStatus="COMPLETED"), ModalityPerformedProcedureStep, UID)
        peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)
        peer.send_n_set(changed("FINISHED"), ModalityPerformedProcedureStep, UID)
    (create, bad_create), _, (change, bad_change) = wire.messages
    assert (create.Status, change.Status) == (0x0106, 0x0106)
    assert from_bytes(bad_create).PerformedProcedureStepStatus == "COMPLETED"
    assert from_bytes(bad_change).PerformedProcedureStepStatus == "FINISHED"


def test_a_final_step_is_0110_with_error_id_a710_on_the_wire(server: AssociationServer) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)
        peer.send_n_set(changed(), ModalityPerformedProcedureStep, UID)
        peer.send_n_set(changed(), ModalityPerformedProcedureStep, UID)
    command, _ = wire.messages[-1]
    assert (command.Status, command.ErrorID) == (0x0110, 0xA710)
    assert command.AffectedSOPInstanceUID == UID


def test_duplicates_and_strangers_on_the_wire_0111_0112(server: AssociationServer) -> None:
    with association(server) as peer:
        statuses = [
            peer.send_n_set(changed(), ModalityPerformedProcedureStep, UID)[0].Status,
            peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)[0].Status,
            peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)[0].Status,
        ]
    assert statuses == [0x0112, 0x0000, 0x0111]


def test_an_assigned_instance_is_returned_without_a_data_set(server: AssociationServer, application: InMemory) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        status, _ = peer.send_n_create(created(), ModalityPerformedProcedureStep, None)
    ((command, data),) = wire.messages
    assert (status.Status, data) == (0x0000, b"")
    assert list(application.reports) == [command.AffectedSOPInstanceUID]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_step_is_retrieved_on_the_wire_whole_or_in_part(server: AssociationServer, syntax: str) -> None:
    wire = Wire()
    with association(server, syntaxes=(syntax,), handlers=wire.handlers) as peer:
        peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)
        peer.send_n_set(changed(TotalNumberOfExposures=4), ModalityPerformedProcedureStep, UID)
        status, whole = peer.send_n_get([], ModalityPerformedProcedureStepRetrieve, UID)
        some, part = peer.send_n_get([0x00400252, 0x00400300], ModalityPerformedProcedureStepRetrieve, UID)
        one, single = peer.send_n_get([0x00400340], ModalityPerformedProcedureStepRetrieve, UID)
    assert (status.Status, some.Status, one.Status) == (0x0000, 0x0001, 0x0000)
    assert (whole.PatientID, whole.TotalNumberOfExposures) == ("9990000034", 4)
    assert (len(part), part.PerformedProcedureStepStatus) == (1, "COMPLETED")
    assert single.PerformedSeriesSequence[0].ProtocolName == "Screening"
    command, _ = wire.messages[-2]
    assert command.AttributeIdentifierList == 0x00400300
    assert command.AffectedSOPClassUID == ModalityPerformedProcedureStepRetrieve
    assert command.AffectedSOPInstanceUID == UID


def test_every_response_names_class_and_instance_also_a_failure_ps3_7_10_1(server: AssociationServer) -> None:
    wire = Wire()
    with association(server, handlers=wire.handlers) as peer:
        for attributes in (created(Modality=None), created(), created()):
            peer.send_n_create(attributes, ModalityPerformedProcedureStep, UID)
        peer.send_n_create(created(Modality=None), ModalityPerformedProcedureStep, None)
        for uid in ("1.2.9", UID, UID):
            peer.send_n_set(changed(), ModalityPerformedProcedureStep, uid)
        peer.send_n_get([], ModalityPerformedProcedureStepRetrieve, "1.2.9")
    commands = [command for command, _ in wire.messages]
    assert [c.Status for c in commands] == [0x0120, 0x0000, 0x0111, 0x0120, 0x0112, 0x0000, 0x0110, 0x0112]
    uids = [c.AffectedSOPInstanceUID for c in commands]
    assert uids[:3] + uids[4:] == [UID, UID, UID, "1.2.9", UID, UID, "1.2.9"]
    assert uids[3].startswith("2.25.")
    assert all(c.AffectedSOPClassUID for c in commands)
    assert all(len(c.get("ErrorComment", "")) <= 64 for c in commands)


def test_a_uid_that_is_none_is_0117_on_the_wire_and_no_abort(server: AssociationServer) -> None:
    with association(server) as peer:
        status, _ = peer.send_n_set(changed(), ModalityPerformedProcedureStep, "1" * 65)
        assert (status.Status, peer.send_c_echo().Status) == (0x0117, 0x0000)


def test_another_class_for_an_instance_that_exists_is_0119_on_the_wire(server: AssociationServer) -> None:
    other = "1.2.840.10008.3.1.2.3.5"
    with association(server) as peer:
        before, _ = peer.send_n_set(changed(), other, UID, meta_uid=ModalityPerformedProcedureStep)
        peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)
        after, _ = peer.send_n_set(changed(), other, UID, meta_uid=ModalityPerformedProcedureStep)
    assert (before.Status, after.Status) == (0x0122, 0x0119)


def test_n_get_on_the_mpps_class_is_0211(server: AssociationServer) -> None:
    with association(server) as peer:
        status, _ = peer.send_n_get([0x00400252], ModalityPerformedProcedureStep, UID)
    assert status.Status == 0x0211


# --- associations


def test_another_called_ae_title_is_rejected_1_7(server: AssociationServer) -> None:
    with captured_logs() as logs:
        assert rejection(server.port, called=b"NOBODY") == (1, 1, 7)
    refused = [line for line in logs if line["event"] == "association_refused"]
    assert [(line["calling_ae"], line["called_ae"]) for line in refused] == [("MAMMO1", "NOBODY")]


def test_any_called_ae_title_is_accepted_when_set_so(serve: Callable[..., AssociationServer]) -> None:
    with association(serve(accept_any_called_ae=True), called="NOBODY") as peer:
        assert peer.send_c_echo().Status == 0x0000


def test_a_query_retrieve_model_is_no_worklist(server: AssociationServer) -> None:
    both = (Verification, StudyRootQueryRetrieveInformationModelFind)
    with captured_logs() as logs, association(server, sop_classes=both) as peer:
        assert [context.abstract_syntax for context in peer.accepted_contexts] == [Verification]
        assert peer.send_c_echo().Status == 0x0000
    (line,) = [line for line in logs if line["event"] == "contexts_refused"]
    assert "findscu -W" in line["remedy"]


def test_too_many_associations_are_rejected_3_2(serve: Callable[..., AssociationServer]) -> None:
    server = serve(maximum_associations=1)
    with association(server) as first:
        assert first.is_established
        assert rejection(server.port) == (2, 3, 2)


def test_too_many_associations_of_one_address_are_rejected_3_2(serve: Callable[..., AssociationServer]) -> None:
    server = serve(maximum_associations_per_address=1)
    with captured_logs() as logs, association(server) as first:
        assert first.is_established
        assert rejection(server.port) == (2, 3, 2)
    (line,) = [line for line in logs if line["event"] == "association_refused"]
    assert (line["calling_ae"], line["address"]) == ("MAMMO1", "127.0.0.1")
    assert "address" in line["reason"]


# --- what no peer can do


def connect(server: AssociationServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=MINUTE)


def closed(connection: socket.socket) -> bool:
    """Waits for the other side to close; an A-ABORT may come first."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x01\x00\x00\x00\x00\x04zzzz"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=["HTTP", "no PDU type", "a short A-ASSOCIATE-RQ"])
def test_garbage_ends_its_connection_is_logged_and_harms_nobody(server: AssociationServer, garbage: bytes) -> None:
    with captured_logs() as logs, connect(server) as connection:
        connection.sendall(garbage)
        assert closed(connection)
    assert "connection_broken" in {line["event"] for line in logs}
    with association(server) as peer:
        assert peer.send_c_echo().Status == 0x0000


def test_a_pdu_announced_as_gigabytes_is_not_waited_for(server: AssociationServer) -> None:
    """PS3.8 9.3.1: the length is known from the first six bytes."""
    with captured_logs() as logs, connect(server) as connection:
        connection.sendall(struct.pack(">BBI", 4, 0, 0xFFFFFFF0))
        assert closed(connection)
    assert any("announced a PDU" in line.get("reason", "") for line in logs)


def _taken(wire: socket.socket, pdu: bytes, times: int) -> bool:
    """Whether the other side takes it so many times and keeps the connection."""
    try:
        for _ in range(times):
            wire.sendall(pdu)
        return wire.recv(1) not in (b"", b"\x07")  # closed, aborted
    except OSError:
        return False


def test_a_message_in_endless_fragments_ends_its_association(server: AssociationServer) -> None:
    fragment = b"\x00" * 16_000
    value = struct.pack(">IBB", len(fragment) + 2, 1, 0x01) + fragment  # a command fragment, never the last
    pdu = struct.pack(">BBI", 4, 0, len(value)) + value
    with association(server) as peer:
        assert not _taken(peer.dul.socket.socket, pdu, 2 * MAXIMUM_MESSAGE_LENGTH // len(fragment))
    with association(server) as peer:
        assert peer.send_c_echo().Status == 0x0000


def test_silent_connections_keep_nobody_out(server: AssociationServer) -> None:
    silent = [connect(server) for _ in range(20)]
    with association(server) as peer:
        assert peer.send_c_echo().Status == 0x0000
    for connection in silent:
        connection.close()


def test_a_silent_connection_is_closed_after_the_acse_timeout(serve: Callable[..., AssociationServer]) -> None:
    with connect(serve(acse_timeout=0.2)) as connection:
        assert closed(connection)


def test_half_a_pdu_is_not_waited_for_beyond_the_stall_timeout(serve: Callable[..., AssociationServer]) -> None:
    server = serve(stall_timeout=0.2)
    with connect(server) as connection:
        connection.sendall(struct.pack(">BBI", 1, 0, 0x7FFFFFFF) + b"\0\1")
        assert closed(connection)
    with association(server) as peer:
        assert peer.send_c_echo().Status == 0x0000


def cut_while_dripping(connection: socket.socket) -> bool:
    """Whether the other side closes, in 10 s at most, although each of its bytes comes in time."""
    connection.settimeout(0.05)
    for _ in range(200):
        try:
            connection.sendall(b"\0")
            if not connection.recv(4096):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_an_association_request_that_drips_in_has_until_the_acse_timeout_in_all_9_1_5(
    serve: Callable[..., AssociationServer],
) -> None:
    with connect(serve(acse_timeout=0.3, stall_timeout=MINUTE)) as connection:
        connection.sendall(struct.pack(">BBI", 1, 0, 10_000))
        assert cut_while_dripping(connection)


def test_a_peer_that_vanishes_in_its_query_harms_nobody(server: AssociationServer) -> None:
    with association(server) as peer:
        peer.send_c_find(query({"Modality": "MG"}, PatientID=""), ModalityWorklistInformationFind)
        peer.dul.socket.close()
    with association(server) as peer:
        assert peer.send_c_echo().Status == 0x0000


# --- the end


class Committing(InMemory):
    """Takes its time to keep a step."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.goes_on = threading.Event(), threading.Event()

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> Any:
        self.began.set()
        assert self.goes_on.wait(MINUTE)
        return super().start_step(report, calling_ae_title=calling_ae_title, received_at=received_at)


def test_a_stop_lets_what_is_in_flight_finish(serve: Callable[..., AssociationServer]) -> None:
    application = Committing()
    server = serve(application)
    port = server.port
    statuses: list[int] = []

    def report() -> None:
        with association(server) as peer:
            statuses.append(peer.send_n_create(created(), ModalityPerformedProcedureStep, UID)[0].Status)

    reporting = threading.Thread(target=report)
    reporting.start()
    assert application.began.wait(MINUTE)
    stopping = threading.Thread(target=server.stop, args=(MINUTE,))
    stopping.start()
    with suppress(ConnectionRefusedError):  # nobody else is let in from now on
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=MINUTE).close()
    assert not server.listening
    application.goes_on.set()
    stopping.join(MINUTE)
    reporting.join(MINUTE)
    assert statuses == [0x0000]
    assert list(application.reports) == [UID]


def test_a_stop_does_not_wait_for_the_idle(serve: Callable[..., AssociationServer]) -> None:
    server = serve()
    with association(server) as peer, connect(server):
        assert peer.send_c_echo().Status == 0x0000
        server.stop(deadline=MINUTE)
        assert server.open_associations == 0
        peer.join(MINUTE)
        assert not peer.is_established


@pytest.mark.slow
def test_a_stop_does_not_wait_for_the_rest_of_a_pdu(serve: Callable[..., AssociationServer]) -> None:
    server = serve()
    with association(server) as peer:
        peer.dul.socket.socket.sendall(struct.pack(">BBI", 4, 0, 1000) + b"half")
        began = time.monotonic()
        server.stop(30)
        assert time.monotonic() - began < 10


def test_a_port_that_is_taken_is_an_error_at_start(server: AssociationServer) -> None:
    second = association_server(server.responder, port=server.port)
    with pytest.raises(OSError, match="in use"):
        second.start()
    assert not second.listening
    second.stop()
