"""A worklist provider over an application held in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dicom_samples import AE_TITLE, InMemory, samples

from gateway.dicom.caller import Caller
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from tests.serving import serving


@pytest.fixture
def application() -> InMemory:
    return InMemory(samples())


@pytest.fixture
def responder(application: InMemory) -> Responder:
    return Responder(application)


@pytest.fixture
def server(responder: Responder) -> Iterator[AssociationServer]:
    with serving(responder) as server:
        yield server


@pytest.fixture
def caller() -> Caller:
    return Caller("MAMMO1", AE_TITLE, "192.0.2.7", 50000)
