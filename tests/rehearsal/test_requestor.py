"""A response belongs to who waits for it, however the two threads of a pynetdicom association are scheduled."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from gateway.dicom.engines import AssociationServer
from gateway.rehearsal.requestor import associate
from tests.end_to_end.harness import until

MOMENT = 0.3
MINUTE = 60.0
WAIT = threading.Event.wait


def entity() -> AE:
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.connection_timeout = 10
    entity.dimse_timeout = 1
    entity.add_requested_context(Verification)
    return entity


def status_with_bad_luck(peer: Any, monkeypatch: pytest.MonkeyPatch, seconds: float) -> int | None:
    """Of a C-ECHO asked while the association's thread leaves its checkpoint, and answered before it is waited for.

    Either thread is held up for as many seconds, at most.
    """
    leaving, answered = threading.Event(), threading.Event()
    send, queue = peer.dimse.send_msg, peer.dimse.msg_queue

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        passed = WAIT(event, timeout)
        if event is peer._reactor_checkpoint and not leaving.is_set():
            leaving.set()
            WAIT(answered, seconds)
        return passed

    def send_and_dawdle(*request: Any) -> None:
        send(*request)
        until(lambda: not queue.empty(), "the response is there")
        answered.set()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not queue.empty():
            time.sleep(0.01)

    monkeypatch.setattr(threading.Event, "wait", wait)
    peer.dimse.send_msg = send_and_dawdle
    WAIT(leaving)
    status: int | None = peer.send_c_echo().get("Status")
    return status


def test_a_response_that_comes_at_once_is_its_callers(
    server: AssociationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = associate(entity(), "127.0.0.1", server.port, ae_title="ORTHANC_MWL")
    assert status_with_bad_luck(peer, monkeypatch, MOMENT) == 0x0000
    peer.release()
    assert peer.is_released


@pytest.mark.slow
def test_without_the_checkpoint_it_is_lost(server: AssociationServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, pynetdicom has mended it, and `gateway.rehearsal.requestor` can go."""
    peer = entity().associate("127.0.0.1", server.port, ae_title="ORTHANC_MWL")
    assert status_with_bad_luck(peer, monkeypatch, MINUTE) is None


def test_an_association_that_was_aborted_holds_nobody_up(server: AssociationServer) -> None:
    peer = associate(entity(), "127.0.0.1", server.port, ae_title="ORTHANC_MWL")
    peer.abort()
    peer.join(10)
    peer._reactor_checkpoint.clear()
    assert not peer.is_alive()
