"""A worklist provider over an application held in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dicom_samples import AE_TITLE, InMemory, samples

from gateway.dicom.caller import Caller
from gateway.dicom.responder import Responder
from gateway.dicom.server_pynetdicom import PynetdicomServer


@pytest.fixture
def application() -> InMemory:
    return InMemory(samples())


@pytest.fixture
def responder(application: InMemory) -> Responder:
    return Responder(application)


@pytest.fixture
def server(responder: Responder) -> Iterator[PynetdicomServer]:
    server = PynetdicomServer(responder, ae_title=AE_TITLE, host="127.0.0.1", port=0)
    server.start()
    yield server
    server.stop(deadline=5)


@pytest.fixture
def caller() -> Caller:
    return Caller("MAMMO1", AE_TITLE, "192.0.2.7", 50000)
