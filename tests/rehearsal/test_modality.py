"""The simulated unit before a real gateway: what it sees, what it reports, and how it fails."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from socketserver import BaseRequestHandler, TCPServer

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.application import Gateway
from gateway.dicom import step_scp
from gateway.dicom.engines import AssociationServer
from gateway.rehearsal.modality import (
    AssociationLost,
    AssociationRejected,
    Examination,
    Modality,
    NotOnWorklist,
    RequestFailed,
    Unreachable,
)
from projections.worklist import WorklistFilter


def status_of(gateway: Gateway, accession_number: str) -> str:
    (row,) = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return row.status


def test_echo(modality: Modality) -> None:
    modality.echo()


def test_the_worklist_as_the_unit_sees_it(modality: Modality) -> None:
    first, second = modality.find(modality="MG", date="20261123")
    assert (first.accession_number, first.patient_name, first.station_ae_title) == ("ACC001", "SMITH^JANE", "MAMMO1")
    assert (first.scheduled_procedure_step_id, first.requested_procedure_id) == ("ACC001", "ACC001")
    assert second.patient_name == "MÜLLER^ZOË"
    assert first.study_instance_uid == modality.find(accession_number="ACC001")[0].study_instance_uid


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"patient_name": "müller*"}, ["ACC002"]),
        ({"patient_name": "smith*"}, ["ACC001"]),
        ({"date": "20261124-"}, []),
        ({"modality": "CT"}, []),
        ({"station": "MAMMO7"}, ["ACC001", "ACC002"]),
        ({"patient_id": "9990000034"}, ["ACC001"]),
        ({"status": "COMPLETED"}, []),
    ],
)
def test_keys_of_a_query(modality: Modality, keys: dict[str, str], found: list[str]) -> None:
    assert [entry.accession_number for entry in modality.find(**keys)] == found


def test_an_examination_is_seen_in_the_worklist_step_by_step(modality: Modality, gateway: Gateway) -> None:
    seen: list[tuple[str, str]] = []

    def look(examination: Examination) -> None:
        seen.append((examination.status, status_of(gateway, "ACC001")))

    finished = modality.perform("ACC001", on_step=look)
    assert seen == [("IN PROGRESS", "IN PROGRESS"), ("COMPLETED", "COMPLETED")]
    assert (finished.status, finished.images) == ("COMPLETED", 4)
    assert [entry.accession_number for entry in modality.find()] == ["ACC002"]
    assert [entry.status for entry in modality.find(status="COMPLETED")] == ["COMPLETED"]


def test_an_examination_given_up(modality: Modality, gateway: Gateway) -> None:
    (_, entry) = modality.find()
    assert modality.perform(entry, discontinue=True).status == "DISCONTINUED"
    assert status_of(gateway, "ACC002") == "DISCONTINUED"


def test_a_wrong_worklist_entry_puts_the_item_back(modality: Modality, gateway: Gateway) -> None:
    modality.perform("ACC001", wrong_entry=True)
    assert status_of(gateway, "ACC001") == "SCHEDULED"


def test_what_the_unit_reports_breaks_no_rule(modality: Modality, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.BoundLogger)
    monkeypatch.setattr(step_scp, "_log", log)
    modality.perform("ACC001")
    events = {line["event"] for line in capture.entries}
    assert {"step_started", "step_completed"} <= events
    assert not {"step_odd", "step_alert", "step_refused"} & events


def test_an_unknown_accession_number_is_not_on_the_worklist(modality: Modality) -> None:
    with pytest.raises(NotOnWorklist):
        modality.perform("ACC404")


def test_a_finished_step_is_final(modality: Modality) -> None:
    finished = modality.perform("ACC001")
    with pytest.raises(RequestFailed) as failed:
        modality.finish(finished)
    assert (failed.value.operation, failed.value.status) == ("N-SET", 0x0110)


def test_a_rejection_has_its_reason(server: AssociationServer) -> None:
    with pytest.raises(AssociationRejected) as rejected:
        Modality("127.0.0.1", server.port, "NOBODY").echo()
    assert rejected.value.reason == "Called AE title not recognised"


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable):
        Modality("127.0.0.1", port, "ANY").echo()


def test_whoever_takes_the_connection_and_says_nothing_hangs_perhaps() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(AssociationLost, match=r"says nothing within 0\.3 s"),
    ):
        Modality("127.0.0.1", listener.getsockname()[1], "ANY", timeout=0.3).echo()


def test_something_that_is_no_provider_is_told_apart() -> None:
    class Web(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with TCPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(AssociationLost, match="not as a DICOM provider"):
            Modality("127.0.0.1", server.server_address[1], "ANY", timeout=20).echo()
        thread.join()


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, gateway.rehearsal; sys.exit('pynetdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
