"""The doctor asks a real Orthanc: does it answer by both doors, and is all that it has known here?"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from orthanc_support import Images, RealOrthanc, send, until

from bench.synthetic import RECEIVED, orthanc_id, place, schedule, study
from gateway.application import Gateway
from gateway.domain.received_study import Route
from gateway.ops.doctor import images as doctor
from gateway.ops.doctor.finding import Check, Finding, Outcome, carried_out
from gateway.ops.doctor.site import Site
from gateway.orthanc.client import Orthanc
from gateway.orthanc.feed import FeedOptions, ImageFeed
from gateway.rehearsal.modality import Modality
from gateway.settings import Settings

OK, WARNING, FAILED, SKIPPED = Outcome.OK, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


def site_of(gateway: Gateway, database: Path, url: str | None, *, user: str | None = None) -> Site:
    given: dict[str, Any] = {"worklist_db_path": database, "gateway_orthanc_url": url, "gateway_orthanc_user": user}
    return Site(Settings(**given), gateway, Modality("127.0.0.1", 1, "ORTHANC_MWL", "REHEARSAL", timeout=5))


def found_of(site: Site) -> dict[str, Finding]:
    found = carried_out(Check("orthanc", lambda: doctor.orthanc_is_followed(site)))
    return {finding.name: finding for finding in found}


def follow(gateway: Gateway, orthanc: RealOrthanc) -> None:
    """Read all that there is, as the service would."""
    client = Orthanc(orthanc.url)
    feed = ImageFeed(gateway, client, FeedOptions())
    while feed.look():
        pass
    client.close()


def test_where_no_orthanc_is_configured_none_is_asked(gateway: Gateway, database: Path) -> None:
    (finding,) = found_of(site_of(gateway, database, None)).values()
    assert (finding.outcome, finding.proven) == (SKIPPED, "no Orthanc is configured")
    assert "GATEWAY_ORTHANC_URL" in finding.remedy


def test_an_orthanc_that_is_not_there_is_a_failure_with_what_to_do(gateway: Gateway, database: Path) -> None:
    (finding,) = found_of(site_of(gateway, database, "http://127.0.0.1:1")).values()
    assert (finding.outcome, finding.code) == (FAILED, "orthanc_unreachable")
    assert "is Orthanc running" in finding.remedy


@pytest.mark.slow
def test_one_whose_studies_are_all_known_is_proven_by_rest_and_by_c_echo(
    gateway: Gateway, database: Path, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway)
    send(images.make(2), orthanc)
    until("Orthanc says that the study is stable", orthanc.is_stable)
    follow(gateway, orthanc)
    found = found_of(site_of(gateway, database, orthanc.url))
    assert {name: finding.outcome for name, finding in found.items()} == {"orthanc": OK, "orthanc dicom": OK}
    assert "each of its studies was read" in found["orthanc"].proven
    assert f"ORTHANC at port {orthanc.dicom}" in found["orthanc dicom"].proven


@pytest.mark.slow
def test_studies_that_nobody_reads_are_told_and_those_that_are_read_meanwhile_are_not(
    gateway: Gateway, database: Path, orthanc: RealOrthanc, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_of(gateway, database, orthanc.url)
    assert "never followed" in found_of(site)["orthanc"].proven
    follow(gateway, orthanc)
    send(images.make(), orthanc)
    until("Orthanc says that the study is stable", orthanc.is_stable)
    reader = threading.Timer(0.5, follow, (gateway, orthanc))
    reader.start()
    read_meanwhile = found_of(site)["orthanc"]
    reader.join()
    send(Images(images.folder, "ACC002").make(), orthanc)
    until("Orthanc says that the study is stable", lambda: orthanc.is_stable() and len(orthanc.studies()) == 2)
    monkeypatch.setattr(doctor, "_LONGEST_WAIT", 0.1)
    unread = found_of(site)["orthanc"]
    assert read_meanwhile.outcome is OK
    assert (unread.outcome, "1 study not read" in unread.proven) == (WARNING, True)


@pytest.mark.slow
def test_what_waits_for_a_person_is_counted_with_the_command_that_lists_it(
    gateway: Gateway, database: Path, orthanc: RealOrthanc
) -> None:
    schedule(gateway)
    follow(gateway, orthanc)
    gateway.park_study("00000000-parked", "Orthanc answers 500", place())
    gateway.receive_study(study(), place(), received_at=RECEIVED, routes=[Route(rule="all", target="PACS")])
    gateway.route_failed(orthanc_id(1), "PACS", error="association refused")
    finding = found_of(site_of(gateway, database, orthanc.url))["orthanc"]
    assert finding.outcome is WARNING
    assert "1 study could not be read; 1 study can't be sent on" in finding.proven
    assert finding.remedy == "gateway images parked; gateway routes list --open"


@pytest.mark.slow
def test_one_that_does_not_let_us_in_is_a_failure(
    gateway: Gateway, database: Path, start_orthanc: Callable[..., RealOrthanc]
) -> None:
    orthanc = start_orthanc(users={"gateway": "right"})
    (finding,) = found_of(site_of(gateway, database, orthanc.url, user="nobody")).values()
    assert (finding.outcome, finding.code) == (FAILED, "orthanc_refused")


@pytest.mark.slow
def test_an_orthanc_whose_dicom_port_is_elsewhere_is_a_warning_only(
    gateway: Gateway, database: Path, orthanc: RealOrthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(gateway, orthanc)
    found = Orthanc.system
    monkeypatch.setattr(Orthanc, "system", lambda self: found(self).model_copy(update={"dicom_port": 1}))
    finding = found_of(site_of(gateway, database, orthanc.url))["orthanc dicom"]
    assert (finding.outcome, "published under another number" in finding.remedy) == (WARNING, True)
