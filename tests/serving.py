"""The DICOM door under test, by the engine that `pytest --engine=asyncio|pynetdicom` names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.dicom.association import AcceptorOptions
from gateway.dicom.engines import AssociationServer, EngineName, engine
from gateway.dicom.responder import Responder

chosen: EngineName = "asyncio"
"""Set by the option, before any test is collected."""


def association_server(responder: Responder, **settings: Any) -> AssociationServer:
    """One on this machine at any free port, not started."""
    return engine(chosen)(responder, AcceptorOptions(**{"host": "127.0.0.1", "port": 0, **settings}))


@contextmanager
def serving(responder: Responder, **settings: Any) -> Iterator[AssociationServer]:
    """The same, started; stopped in the end."""
    server = association_server(responder, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop(deadline=5)
