"""A local Azure Relay for Hybrid Connections, for tests and demonstrations.

It speaks the protocol guide's language well enough that Microsoft's own clients for node work against it unmodified,
over plain ``ws://`` and ``http://`` or over TLS. It keeps nothing, and it is not meant to face a network.

::

    async with Emulator(hybrid_connections=["actions"], keys={"listen-and-send": "a-key"}) as emulator:
        print(emulator.connection_string("listen-and-send"))
"""

from __future__ import annotations

from relay.emulator.access import ALL_RIGHTS, AccessKey, Right
from relay.emulator.faults import CATALOGUE, Fault, FaultKind, Faults
from relay.emulator.log import Entry, RelayLog
from relay.emulator.server import Emulator, EmulatorOptions, Entity, emulate

__all__ = [
    "ALL_RIGHTS",
    "CATALOGUE",
    "AccessKey",
    "Emulator",
    "EmulatorOptions",
    "Entity",
    "Entry",
    "Fault",
    "FaultKind",
    "Faults",
    "RelayLog",
    "Right",
    "emulate",
]
