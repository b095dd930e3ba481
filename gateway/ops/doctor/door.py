"""The doors of the running service: its ops port, and its DICOM ports as a modality finds them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any

import projections.worklist
from gateway.application import Gateway
from gateway.dicom.tls import ends_at, shown_at
from gateway.domain.lifecycle import Status
from gateway.errors import CertificateUnusable
from gateway.eventstore.chain import Anchor, head, holds
from gateway.ops.doctor.finding import Finding, failed, ok, skipped, warning
from gateway.ops.doctor.site import Site
from gateway.ops.doctor.words import counted, duration, few
from gateway.rehearsal.modality import Modality, ModalityError
from gateway.settings import Settings
from projections.worklist import WorklistFilter

_PATIENCE = 10.0


def service_answers(settings: Settings, host: str, gateway: Gateway | None = None) -> Finding:
    """The service is up, says of itself that it is well, and keeps the log that `gateway` has open."""
    before = _head(gateway) if gateway else 0
    where = f"{host}:{settings.gateway_ops_port}"
    how = f"GET /health at {where}"
    began = time.perf_counter()
    connection = HTTPConnection(host, settings.gateway_ops_port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/health")
        report = json.loads(connection.getresponse().read())
        version, is_healthy = str(report["version"]), bool(report["healthy"])
        parts: dict[str, dict[str, object]] = report.get("checks", {})  # none for who may not look into the window
        uptime, anchor = report.get("listener_uptime_seconds"), report.get("anchor")
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
    if gateway and parts and not _keeps_this_log(anchor, gateway, before):
        return failed(
            f"it keeps another log than {settings.worklist_db_path}",
            f"{how}; its log's head looked up in that database",
            "give this command the service's own settings: WORKLIST_DB_PATH, or the folder that the service runs in",
        )
    up = f", up for {duration(uptime)}" if uptime is not None else ""
    return ok(f"version {version}{up}, healthy", how, seconds=time.perf_counter() - began)


def _head(gateway: Gateway) -> int:
    with gateway.reading() as connection:
        return head(connection)[0]


def _keeps_this_log(told: dict[str, Any] | None, gateway: Gateway, before: int) -> bool:
    """Whether the head that the service told is in our log, which had `before` events when it was asked."""
    if not told:
        return before == 0
    anchor = Anchor(told["position"], bytes.fromhex(told["hash"]))
    with gateway.reading() as connection:
        return anchor.position >= before and holds(connection, anchor)


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
    strange = sorted(set(listed) - _known(site, listed))
    if strange:
        return failed(
            f"{counted(len(strange), 'item')} shown that {'is' if len(strange) == 1 else 'are'} in no table of "
            f"{site.settings.worklist_db_path}: {few(strange)}",
            "C-FIND",
            "is it the gateway that answers there? This command must have the service's own settings",
            seconds=seconds,
        )
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
    try:
        ends_at("GATEWAY_DICOM_TLS_CERT", certificate)
    except CertificateUnusable:
        return skipped("not tried: there is no certificate to compare with", "the line certificates says what to do")
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


def _known(site: Site, numbers: Sequence[str]) -> set[str]:
    with site.gateway.reading() as connection:
        return {row.accession_number for row in projections.worklist.get(connection, numbers)}


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
