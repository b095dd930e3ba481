"""What every engine of ours offers and bears as an association acceptor (PS3.8); the conformance statement tells it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import __version__
from gateway.dicom.tls import TlsDoor

IMPLEMENTATION_CLASS_UID = "2.25.310902836384782716391779515086606277785"
"""Who we are, the same for ever (PS3.7 D.3.3.2); derived from a UUID (PS3.5 B.2)."""

IMPLEMENTATION_VERSION_NAME = f"WLGW_{__version__}"[:16]
"""Which version of us (PS3.7 D.3.3.2), at most 16 characters."""

ANNOUNCED_PDU_LENGTH = 16_382
"""Bytes of a P-DATA-TF PDU that we ask for (PS3.8 D.1)."""

MAXIMUM_PDU_LENGTH = 1024 * 1024
"""Bytes of one PDU that a peer is borne with which ignores what we asked for."""

MAXIMUM_MESSAGE_LENGTH = 4 * 1024 * 1024
"""Bytes of one DIMSE message with its data set; the largest MPPS is a hundredth of it."""

MAXIMUM_ASSOCIATIONS = 2000
"""Associations open at once; one more is rejected for the time being."""

MAXIMUM_ASSOCIATIONS_PER_ADDRESS = 1200
"""The same for those of one network address."""

ACSE_SECONDS = 10.0
"""How long a peer may take to ask for an association (ARTIM, PS3.8 9.1.5)."""

STALL_SECONDS = 30.0
"""How long a peer may take for a PDU that it has begun."""

IDLE_SECONDS = 600.0
"""How long an association may do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorOptions:
    """How associations are taken, whatever the engine.

    `ae_title` is ours; an association that calls another is rejected unless `accept_any_called_ae`. Port 0 takes any
    free one; `tls` is a second door. `acse_timeout` is how long a peer may take for the TLS handshake, and then to ask
    for an association, `stall_timeout` to send a PDU that it began or to read what it is sent, `idle_timeout` how long
    an association may do nothing; all in seconds.
    """

    ae_title: str = "ORTHANC_MWL"
    host: str = "0.0.0.0"  # noqa: S104  modalities come from the network
    port: int = 4243
    accept_any_called_ae: bool = False
    maximum_associations: int = MAXIMUM_ASSOCIATIONS
    maximum_associations_per_address: int = MAXIMUM_ASSOCIATIONS_PER_ADDRESS
    acse_timeout: float = ACSE_SECONDS
    stall_timeout: float = STALL_SECONDS
    idle_timeout: float = IDLE_SECONDS
    tls: TlsDoor | None = None


DEFAULTS = AcceptorOptions()


@dataclass(frozen=True, slots=True)
class SopClass:
    """A service we provide, and the operations it has."""

    uid: str
    name: str
    operations: str


VERIFICATION = SopClass("1.2.840.10008.1.1", "Verification", "C-ECHO")
WORKLIST = SopClass("1.2.840.10008.5.1.4.31", "Modality Worklist Information Model – FIND", "C-FIND")
PERFORMED_STEP = SopClass("1.2.840.10008.3.1.2.3.3", "Modality Performed Procedure Step", "N-CREATE, N-SET")
RETRIEVE = SopClass("1.2.840.10008.3.1.2.3.4", "Modality Performed Procedure Step Retrieve", "N-GET")

SOP_CLASSES = (VERIFICATION, WORKLIST, PERFORMED_STEP, RETRIEVE)
