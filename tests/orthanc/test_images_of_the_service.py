"""The running service beside a running Orthanc: images arrive, it is killed, and the web app hears in one order."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_support import Images, RealOrthanc, send, until

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.eventstore import replay
from tests.end_to_end.harness import GatewayProcess, LocalRelay, running
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import web_app

pytestmark = pytest.mark.slow


@pytest.fixture
def service(tmp_path: Path, orthanc: RealOrthanc) -> Iterator[GatewayProcess]:
    """Not started."""
    process = GatewayProcess(
        tmp_path / "gateway", gateway_orthanc_url=orthanc.url, gateway_orthanc_poll_seconds=1, gateway_sealing="true"
    )
    with running(process):
        yield process


def listed(service: GatewayProcess, *numbers: str) -> None:
    """These appointments are on the list before the service starts."""
    service.database.parent.mkdir(parents=True, exist_ok=True)
    with opened(service.database, sealing=True) as gateway:
        for number in numbers:
            schedule(gateway, number)


def studies(service: GatewayProcess, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(service.command("images", "list", *more, "--json").stdout)
    return found


def images_events(gateway: Gateway) -> list[tuple[str, int]]:
    with gateway.reading() as connection:
        found = [event.domain_event for event in replay.read(connection, gateway.mapper)]
    kind = "WorklistItem.ImagesReceived"
    return [(event.accession_number, event.instances) for event in found if kind == event.TOPIC]


def test_images_stand_in_the_timeline_and_health_says_how_the_feed_is(
    service: GatewayProcess, orthanc: RealOrthanc, images: Images, tmp_path: Path
) -> None:
    listed(service, "ACC001")
    service.start()
    send(images.make(2) + Images(tmp_path / "other", "ACC999").make(), orthanc)
    service.until_said("images_received", accession_number="ACC001", instances=2)
    service.until_said("images_unmatched")
    hops = json.loads(service.command("timeline", "ACC001", "--json").stdout)
    assert [(hop["hop"], hop["who"]) for hop in hops[-2:]] == [("study received", "Orthanc"), ("images", "Orthanc")]
    assert hops[-1]["details"]["matched_by"] == ["accession_number"]
    assert "MG 2 images in 1 series, by accession number" in service.command("timeline", "ACC001").stdout
    told = service.until_health(lambda report: report["checks"]["images"]["unmatched"], "health tells of it")
    assert (told["healthy"], told["checks"]["images"]["state"]) == (True, "following")
    assert "images: 1 studies are of nobody on the list: gateway images unmatched lists them" in told["warnings"]
    assert "SMITH" not in service.output()


def test_an_orthanc_that_goes_and_comes_back_is_followed_on_and_no_modality_notices(
    service: GatewayProcess, orthanc: RealOrthanc, images: Images
) -> None:
    listed(service, "ACC001")
    orthanc.stop()
    service.start()
    failing = service.until_said("image_feed_failing")
    assert failing["code"] == "orthanc_unreachable"
    report = service.until_health(lambda found: found["checks"]["images"]["state"] == "failing", "health tells")
    assert report["healthy"] is True
    assert any("images can't be followed" in warning for warning in report["warnings"])
    Unit(service.dicom_port).echo()
    orthanc.start()
    send(images.make(2), orthanc)
    service.until_said("images_received", accession_number="ACC001")
    service.until_health(lambda found: found["checks"]["images"]["state"] == "following", "all is well again")
    assert service.stop() == 0


def test_killed_over_and_over_it_tells_of_each_study_once(
    service: GatewayProcess, orthanc: RealOrthanc, tmp_path: Path
) -> None:
    """SIGKILL at any moment, between reading and saving too."""
    dice = random.Random(114)
    numbers = [f"ACC{number:03d}" for number in range(1, 9)]
    listed(service, *numbers)
    for number in numbers:
        service.launch()
        send(Images(tmp_path / number, number).make(2), orthanc)
        until("it runs", lambda: service.said("gateway_started"))
        until("a moment passes", lambda: dice.random() < 0.1)
        service.kill()
    service.start()
    until("all are known", lambda: len(studies(service)) == len(numbers), 60)
    assert service.stop() == 0
    with opened(service.database, sealing=True) as gateway:
        assert sorted(images_events(gateway)) == [(number, 2) for number in numbers]
        assert gateway.verify_projections() == []
        assert gateway.verify_chain().intact


def test_the_web_app_hears_of_images_in_one_order_with_the_statuses(
    tmp_path: Path, orthanc: RealOrthanc, images: Images
) -> None:
    relay = LocalRelay().start()
    service = GatewayProcess(
        tmp_path / "gateway",
        relay,
        gateway_orthanc_url=orthanc.url,
        gateway_orthanc_poll_seconds=1,
        gateway_report_images="true",
    )
    with running(service), web_app(relay.connection("events")) as listening:
        listed_in_plain(service, "ACC001")
        service.start()
        send(images.make(2), orthanc)
        until("the web app hears of two images", lambda: len(listening.of("ACC001")) == 1)
        send(images.make(1), orthanc)
        until("and of three", lambda: len(listening.of("ACC001")) == 2)
    relay.close()
    first, second = listening.of("ACC001")
    assert {event["event_type"] for event in (first, second)} == {"study.images_received"}
    assert [event["sequence"] for event in (first, second)] == [1, 2]
    assert [event["data"]["images"]["image_count"] for event in (first, second)] == [2, 3]
    assert first["event_id"] != second["event_id"]
    assert first["data"] == {
        "action_id": "create-ACC001",
        "accession_number": "ACC001",
        "study_instance_uid": images.study_instance_uid,
        "images": {"series_count": 1, "image_count": 2, "modalities": ["MG"]},
        "occurred_at": first["data"]["occurred_at"],
    }


def listed_in_plain(service: GatewayProcess, number: str) -> None:
    service.database.parent.mkdir(parents=True, exist_ok=True)
    with opened(service.database) as gateway:
        schedule(gateway, number)


def test_a_route_is_carried_out_by_the_service_and_its_outcome_is_shown(
    tmp_path: Path, start_orthanc: Any, images: Images
) -> None:
    pacs = start_orthanc("PACS")
    orthanc = start_orthanc(modalities={"PACS": ["PACS", "127.0.0.1", pacs.dicom]})
    rules = tmp_path / "routes.toml"
    rules.write_text('[[route]]\nname = "mammograms"\nmodality = "MG"\nto = "PACS"\n', encoding="utf-8")
    service = GatewayProcess(
        tmp_path / "gateway",
        gateway_orthanc_url=orthanc.url,
        gateway_orthanc_poll_seconds=1,
        gateway_routes_file=rules,
    )
    with running(service):
        listed_in_plain(service, "ACC001")
        assert json.loads(service.command("routes", "check", "--ask", "--json").stdout)["unknown_to_orthanc"] == []
        service.start()
        send(images.make(2), orthanc)
        service.until_said("study_routed", accession_number="ACC001", target="PACS", instances=2)
        [route] = json.loads(service.command("routes", "list", "--json").stdout)
    assert (route["state"], route["rule"], route["instances"]) == ("routed", "mammograms", 2)
    assert pacs.instances() == 2


def test_a_parked_study_is_read_once_more_by_a_command(
    service: GatewayProcess, orthanc: RealOrthanc, images: Images
) -> None:
    """And so is one whose appointment came after its images."""
    listed(service)
    service.start()
    send(images.make(2), orthanc)
    service.until_said("images_unmatched")
    with opened(service.database, sealing=True) as gateway:
        schedule(gateway, "ACC001")
    outcome = json.loads(service.command("images", "retry", orthanc.studies()[0], "--json").stdout)
    assert (outcome["accession_number"], outcome["is_new"]) == ("ACC001", True)
    [study] = studies(service, "--accession", "ACC001")
    assert (study["instances"], study["arrivals"], study["unmatched"]) == (2, 1, "")


def test_settings_that_need_an_orthanc_are_refused_without_one(tmp_path: Path) -> None:
    service = GatewayProcess(tmp_path / "gateway", gateway_report_images="true")
    with running(service):
        service.launch()
        assert service.wait_for_exit() == 2
    assert "GATEWAY_REPORT_IMAGES is set, and no Orthanc → set GATEWAY_ORTHANC_URL" in service.output()
