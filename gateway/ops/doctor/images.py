"""The Orthanc beside us: it answers by both of its doors, and what it has is known here."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.ops.doctor.finding import Finding, ok, skipped, warning
from gateway.ops.doctor.site import Site
from gateway.ops.doctor.words import counted
from gateway.orthanc.reception import client
from gateway.rehearsal.modality import Modality, ModalityError

if TYPE_CHECKING:
    from gateway.orthanc.client import Orthanc, System

SECONDS = 60.0
"""So long the check may take: a service that looks seldom is waited for."""
_PATIENCE = 5.0
"""Seconds beyond the service's own pause, within which it has read what Orthanc says to be whole."""
_BETWEEN = 1.0
_LONGEST_WAIT = 30.0
_CHANGES = 2000
"""Changes that are looked through: more than the feed goes on without saving how far it is."""


def orthanc_is_followed(site: Site) -> list[Finding]:
    """Orthanc answers, its studies are known here, and a modality gets an answer from it. Raises `OrthancError`."""
    if site.settings.gateway_orthanc_url is None:
        return [skipped("no Orthanc is configured", "GATEWAY_ORTHANC_URL lets its images find their appointment")]
    orthanc = client(site.settings)
    try:
        began = time.perf_counter()
        system = orthanc.system()
        seconds = time.perf_counter() - began
        found = [_images_are_known(site, orthanc, system, seconds)]
    finally:
        orthanc.close()
    return [*found, _modalities_are_answered(site, system)] if system.dicom_port else found


def _images_are_known(site: Site, orthanc: Orthanc, system: System, seconds: float) -> Finding:
    how = "GET /system and /changes"
    told = f"{system.name or 'Orthanc'} {system.version} answers"
    feed = site.gateway.image_feed()
    if feed is None:
        return warning(f"{told}; its feed was never followed", how, "start gateway serve with GATEWAY_ORTHANC_URL")
    unread, doubts = _unread(site, orthanc, feed.change), _doubts(site)
    if unread:
        doubts.insert(0, (f"{counted(unread, 'study', 'studies')} not read", "does gateway serve run? /health, images"))
    if doubts:
        words, remedies = zip(*doubts, strict=True)
        return warning("; ".join([told, *words]), how, "; ".join(remedies), seconds=seconds)
    return ok(f"{told}, each of its studies was read", how, seconds=seconds)


def _unread(site: Site, orthanc: Orthanc, change: int) -> int:
    """How many studies Orthanc says to be whole that are not known here, also after the service should have looked."""
    waits = min(site.settings.gateway_orthanc_poll_seconds + _PATIENCE, _LONGEST_WAIT)
    deadline = time.monotonic() + waits
    while True:
        page = orthanc.changes(change, _CHANGES)
        whole = {one.resource for one in page.changes if one.kind == "StableStudy"}
        unread = len(whole - site.gateway.known_studies(whole))
        if not unread or time.monotonic() >= deadline:
            return unread
        time.sleep(_BETWEEN)


def _doubts(site: Site) -> list[tuple[str, str]]:
    """What waits for a person, each with what to do."""
    parked, failing = (
        len(site.gateway.parked_studies()),
        [r for r in site.gateway.open_routes() if r.state == "failing"],
    )
    doubts = []
    if parked:
        doubts.append((f"{counted(parked, 'study', 'studies')} could not be read", "gateway images parked"))
    if failing:
        doubts.append((f"{counted(len(failing), 'study', 'studies')} can't be sent on", "gateway routes list --open"))
    return doubts


def _modalities_are_answered(site: Site, system: System) -> Finding:
    """C-ECHO at the port that Orthanc names; where it is published under another one, only Orthanc's side knows."""
    host = urlsplit(site.settings.gateway_orthanc_url or "").hostname or ""
    unit = Modality(host, system.dicom_port, system.dicom_ae_title, site.unit.calling_ae_title, timeout=5.0)
    began = time.perf_counter()
    try:
        unit.echo()
    except ModalityError as error:
        told = f"{unit.called_ae_title} at {host}:{unit.port}: {error.message}"
        remedy = f"{error.remedy}; where Orthanc's port is published under another number, ask there"
        found = warning(told, "C-ECHO", remedy)
    else:
        seconds = time.perf_counter() - began
        found = ok(f"{unit.called_ae_title} at port {unit.port} answers a modality", "C-ECHO", seconds=seconds)
    return replace(found, name="orthanc dicom")
