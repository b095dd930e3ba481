"""The two engines behind one interface: what takes the modalities' associations and asks the `Responder` for answers.

`asyncio` is ours, on one event loop, for as many associations as the machine has files. `pynetdicom` is that library's
own server, three threads for each association: the one to compare with, and to fall back to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from gateway.dicom.association import AcceptorOptions
from gateway.dicom.responder import Responder

EngineName = Literal["asyncio", "pynetdicom"]


class AssociationServer(Protocol):
    """Takes associations and answers them by a `Responder`, whatever the engine."""

    responder: Responder

    @property
    def port(self) -> int:
        """The port it listens on; before `start` the one asked for."""

    @property
    def tls_port(self) -> int | None:
        """The port for associations within TLS; None when there is none."""

    @property
    def listening(self) -> bool:
        """Whether associations are accepted."""

    @property
    def open_associations(self) -> int:
        """How many connections there are, silent ones included."""

    def start(self) -> None:
        """Listen at all doors, or at none. Raises OSError, `TlsPortUnusable` for the TLS port, when it can't be had."""

    def stop(self, deadline: float = 5.0) -> None:
        """Accept no more, let every association finish its present operation, close them; in `deadline` seconds."""


Engine = Callable[[Responder, AcceptorOptions], AssociationServer]
"""What makes a server, not yet started."""


def engine(name: EngineName) -> Engine:
    """The engine of this name; only the one in use is loaded."""
    if name == "asyncio":
        from gateway.dicom.server_asyncio import AsyncioServer

        return AsyncioServer
    from gateway.dicom.server_pynetdicom import PynetdicomServer

    return PynetdicomServer
