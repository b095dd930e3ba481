"""The doors of the running service: its ops port, and its DICOM ports as a modality finds them."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException

from gateway.dicom.tls import shown_at
from gateway.domain.lifecycle import Status
from gateway.ops.doctor.finding import Finding, failed, ok, warning
from gateway.ops.doctor.site import Site
from gateway.ops.doctor.words import counted, duration, few
from gateway.rehearsal.modality import Modality, ModalityError
from gateway.settings import Settings
from projections.worklist import WorklistFilter

_PATIENCE = 10.0


def service_answers(settings: Settings, host: str) -> Finding:
    """The service is up, and says of itself that it is well."""
    where = f"{host}:{settings.gateway_ops_port}"
    how = f"GET /health at {where}"
    began = time.perf_counter()
    connection = HTTPConnection(host, settings.gateway_ops_port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/health")
        report = json.loads(connection.getresponse().read())
        version, is_healthy = str(report["version"]), bool(report["healthy"])
        parts: dict[str, dict[str, object]] = report.get("checks", {})  # none for who may not look into the window
        uptime = report.get("listener_uptime_seconds")
    except OSError as error:
        why = error.strerror or "timed out"
        remedy = "start gateway serve; GATEWAY_OPS_HOST and GATEWAY_OPS_PORT must be the service's"
        return failed(f"nobody answers at the ops port {where}: {why}", how, remedy, code="unreachable")
    except (HTTPException, ValueError, LookupError, TypeError):
        return failed(f"what answers at {where} is not the gateway", how, "GATEWAY_OPS_PORT must be the service's")
    finally:
        connection.close()
    if not is_healthy:
        broken = [f"{name}: {part.get('error', 'not well')}" for name, part in parts.items() if not part.get("ok")]
        return failed("; ".join(broken) or "it says that it is not well", how, "the lines below say what to do")
    up = f", up for {duration(uptime)}" if uptime is not None else ""
    return ok(f"version {version}{up}, healthy", how, seconds=time.perf_counter() - began)


def echo_answers(unit: Modality) -> Finding:
    """A modality gets an association and an answer to C-ECHO."""
    began = time.perf_counter()
    try:
        unit.echo()
    except ModalityError as error:
        return _refused(error, unit, "C-ECHO")
    proven = f"{unit.called_ae_title} at port {unit.port} answers {unit.calling_ae_title}"
    return ok(proven, "C-ECHO", seconds=time.perf_counter() - began)


def worklist_answers(site: Site) -> Finding:
    """A modality is shown what is on today's list of the store; who it is for is not asked."""
    before = _scheduled(site)
    began = time.perf_counter()
    try:
        listed = site.unit.accession_numbers(site.today)
    except ModalityError as error:
        return _refused(error, site.unit, "C-FIND")
    seconds = time.perf_counter() - began
    missing = sorted((before & _scheduled(site)) - set(listed))
    if missing:
        tell = failed if len(missing) == len(before) else warning
        return tell(
            f"{len(missing)} of today's {counted(len(before), 'item')} not shown to {site.unit.calling_ae_title}: "
            f"{few(missing)}",
            "C-FIND",
            f"gateway worklist explain --from {site.unit.calling_ae_title} says why",
            seconds=seconds,
        )
    told = f"all of today's {counted(len(before), 'scheduled item')} shown" if before else "nothing is scheduled today"
    return ok(told, "C-FIND", seconds=seconds)


def tls_answers(settings: Settings, host: str) -> Finding:
    """The TLS port shows the certificate that the settings name, not one from before a renewal."""
    port, certificate = settings.gateway_dicom_tls_port, settings.gateway_dicom_tls_cert
    if port is None or certificate is None:  # never asked then
        return ok("no TLS port is configured", "")
    how = f"TLS handshake at port {port}"
    began = time.perf_counter()
    try:
        is_shown = shown_at(host, port, certificate, settings.gateway_dicom_tls_key, seconds=_PATIENCE)
    except OSError as error:
        why = error.strerror or type(error).__name__
        return failed(f"no TLS handshake at port {port}: {why}", how, "look at the service's log")
    if not is_shown:
        return warning("another certificate is shown than the file holds", how, "restart the service after a renewal")
    return ok("the configured certificate is shown", how, seconds=time.perf_counter() - began)


def _scheduled(site: Site) -> set[str]:
    rows = site.gateway.find_items(
        WorklistFilter(dates=(site.today, site.today), statuses=(Status.SCHEDULED,), is_test=False)
    )
    return {row.accession_number for row in rows}


def _refused(error: ModalityError, unit: Modality, how: str) -> Finding:
    proven = f"{unit.calling_ae_title} at port {unit.port}: {error.message}"
    remedy = error.remedy
    if error.code == "association_rejected":
        remedy = f"{remedy}; GATEWAY_MODALITIES_FILE, if there is one, must have {unit.calling_ae_title}"
    return failed(proven, how, remedy, code=error.code)
