"""From the settings to the modalities' door: which engine, which ports, what is shown within TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.dicom.association import AcceptorOptions
from gateway.dicom.engines import AssociationServer, engine
from gateway.dicom.responder import Responder
from gateway.dicom.tls import TlsDoor, tls_door
from gateway.errors import SettingsInvalid
from gateway.log import get_logger
from gateway.ops.health import Check
from gateway.settings import Settings

_RENEWAL = timedelta(days=30)
"""How long before its end a certificate should be renewed."""

_REGISTERED_TLS_PORT = 2762

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DicomDoor:
    """The association server as the settings want it, not yet started, and how it is."""

    settings: Settings
    server: AssociationServer
    tls: TlsDoor | None

    def check(self) -> Check:
        """For health: what listens where, and for how long the certificate is good."""
        if not self.server.listening:
            return {"ok": False, "error": "the DICOM server does not listen: restart the service"}
        check: Check = {
            "ok": True,
            "ae_title": self.settings.gateway_ae_title,
            "port": self.server.port,
            "engine": self.settings.gateway_dicom_engine,
            "open_associations": self.server.open_associations,
            "tls_port": self.server.tls_port,
        }
        if self.tls:
            check["certificate_ends_at"] = self.tls.valid_until.isoformat()
            check |= _warning(self.tls.valid_until)
        return check


def dicom_door(settings: Settings, responder: Responder, tls: TlsDoor | None) -> DicomDoor:
    """The door that answers by `responder`; `tls` is what `within_tls` says."""
    options = AcceptorOptions(
        host=settings.gateway_dicom_host,
        port=settings.gateway_dicom_port,
        ae_title=settings.gateway_ae_title,
        accept_any_called_ae=settings.gateway_accept_any_called_ae,
        maximum_associations=settings.gateway_dicom_max_associations,
        maximum_associations_per_address=settings.gateway_dicom_max_associations_per_address,
        idle_timeout=settings.gateway_dicom_idle_seconds,
        tls=tls,
    )
    return DicomDoor(settings, engine(settings.gateway_dicom_engine)(responder, options), tls)


def within_tls(settings: Settings) -> TlsDoor | None:
    """The second door, if there is to be one. Raises `SettingsInvalid` and `CertificateUnusable`."""
    port, certificate = settings.gateway_dicom_tls_port, settings.gateway_dicom_tls_cert
    if port is None:
        _refuse_files_without_port(settings)
        return None
    if certificate is None:
        raise SettingsInvalid(
            "GATEWAY_DICOM_TLS_PORT is set, but GATEWAY_DICOM_TLS_CERT is not",
            remedy="give the certificate that modalities are shown, or leave the port unset",
        )
    if port and port == settings.gateway_dicom_port:
        raise SettingsInvalid(
            "GATEWAY_DICOM_TLS_PORT is GATEWAY_DICOM_PORT", remedy=f"set another, such as {_REGISTERED_TLS_PORT}"
        )
    door = tls_door(port, certificate, settings.gateway_dicom_tls_key, settings.gateway_dicom_tls_ca)
    if not door.callers_authenticated:
        _log.warning(
            "tls_callers_not_authenticated",
            reason="whoever reaches the TLS port may ask for the worklist",
            remedy="set GATEWAY_DICOM_TLS_CA to the authority of the modalities' certificates",
        )
    return door


def _refuse_files_without_port(settings: Settings) -> None:
    """Whoever gives a certificate believes that TLS is spoken."""
    files = ("gateway_dicom_tls_cert", "gateway_dicom_tls_key", "gateway_dicom_tls_ca")
    given = [name.upper() for name in files if getattr(settings, name)]
    if given:
        raise SettingsInvalid(
            f"GATEWAY_DICOM_TLS_PORT is not set, but {', '.join(given)}",
            remedy=f"set the port too, such as {_REGISTERED_TLS_PORT}: without it there is no TLS",
        )


def _warning(ends: datetime) -> dict[str, str]:
    left = ends - datetime.now(UTC)
    if left >= _RENEWAL:
        return {}
    when = f"ended on {ends:%Y-%m-%d}" if left <= timedelta() else f"ends on {ends:%Y-%m-%d}"
    return {"warning": f"the certificate of the TLS port {when}: put a new one in its place, and restart the service"}
