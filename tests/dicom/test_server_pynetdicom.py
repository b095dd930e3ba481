"""What only the engine on pynetdicom's threads has to be told."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from dicom_samples import created, query, to_bytes

from bench.dicom_client import Client
from bench.synthetic import participant, schedule
from gateway.application import Gateway
from gateway.dicom import server_pynetdicom
from gateway.dicom.association import AcceptorOptions
from gateway.dicom.responder import Responder
from gateway.dicom.server_pynetdicom import PynetdicomServer

MINUTE = 60.0
EVERYTHING = to_bytes(query({}, AccessionNumber="", PatientName=""))


@pytest.mark.slow
def test_a_peer_that_asks_for_everything_and_does_not_read_holds_up_nobody(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither memory, nor the queries of others, nor their steps: what it does not take waits in the store."""
    for number in range(400):
        schedule(gateway, f"ACC{number:03}", **participant(number), study_description="X" * 64)
    full, held = threading.Event(), threading.Event()
    wait = server_pynetdicom._wait_for_room

    def noticed(waiting: Any) -> None:
        if waiting.dul.to_provider_queue.qsize() > server_pynetdicom._UNSENT:
            full.set()
        wait(waiting)

    monkeypatch.setattr(server_pynetdicom, "_wait_for_room", noticed)
    server = PynetdicomServer(Responder(gateway), AcceptorOptions(host="127.0.0.1", port=0, stall_timeout=MINUTE))
    server.start()
    with closing(Client(server.port)) as slow, closing(Client(server.port)) as other:
        (association,) = [a for a in server._ae.active_associations if a.requestor.port == slow.port]
        send = association.dul._send

        def stuck(pdu: Any) -> None:
            assert held.wait(MINUTE)
            send(pdu)

        association.dul._send = stuck
        slow.ask(EVERYTHING)
        assert full.wait(MINUTE)
        assert other.find(to_bytes(query({}, AccessionNumber="ACC007"))) == (1, 0x0000)
        assert other.create("1.2.3", to_bytes(created(StudyInstanceUID="1.2.9"))) == 0x0000
        assert association.dul.to_provider_queue.qsize() <= server_pynetdicom._UNSENT + 2
        held.set()
        assert slow.answers() == (400, 0x0000)
    server.stop(deadline=2)
