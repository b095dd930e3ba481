"""Studies are sent on by Orthanc's own jobs, retried, visible, and each outcome is an event.

From one of Debian's Orthancs to another, which may be down.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_support import Images, RealOrthanc, send, until

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.domain.received_study import Route
from gateway.errors import IllegalTransition
from gateway.eventstore import replay
from gateway.orthanc.client import Orthanc
from gateway.orthanc.feed import FeedOptions, ImageFeed
from gateway.orthanc.router import Router, RouterOptions

pytestmark = pytest.mark.slow

PACS = (Route(rule="mammograms", target="PACS"),)
AT_ONCE = RouterOptions(first_wait=0.01, longest_wait=0.02)


@pytest.fixture
def pacs(start_orthanc: Any) -> RealOrthanc:
    started: RealOrthanc = start_orthanc("PACS")
    return started


@pytest.fixture
def orthanc(start_orthanc: Any, pacs: RealOrthanc) -> RealOrthanc:
    started: RealOrthanc = start_orthanc(modalities={"PACS": ["PACS", "127.0.0.1", pacs.dicom]})
    return started


@pytest.fixture
def client(orthanc: RealOrthanc) -> Iterator[Orthanc]:
    client = Orthanc(orthanc.url)
    yield client
    client.close()


@pytest.fixture
def arrived(gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images) -> str:
    """A study of ACC001 with two images that is to be sent to PACS; its id in Orthanc."""
    schedule(gateway, "ACC001")
    follow(gateway, client, orthanc, images.make(2))
    [study] = gateway.studies_of("ACC001")
    return study.orthanc_id


def follow(gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, files: list[Path], routes: Any = PACS) -> None:
    last = orthanc.get("/changes?last")["Last"]
    send(files, orthanc)
    until("the study is stable", lambda: orthanc.get("/changes?last")["Last"] > last and orthanc.is_stable())
    feed = ImageFeed(gateway, client, FeedOptions(), lambda _: routes)
    while feed.look():
        pass


def send_all(router: Router, gateway: Gateway) -> None:
    def is_done() -> bool:
        router.look()
        return not gateway.open_routes()

    until("nothing is left to be sent", is_done)


def outcomes(gateway: Gateway) -> list[str]:
    with gateway.reading() as connection:
        found = [event.domain_event for event in replay.read(connection, gateway.mapper)]
    return [event.TOPIC.removeprefix("ReceivedStudy.") for event in found if "ReceivedStudy.Route" in event.TOPIC]


def test_a_study_is_sent_where_its_rule_says_and_the_outcome_is_an_event(
    gateway: Gateway, client: Orthanc, pacs: RealOrthanc, arrived: str
) -> None:
    [waiting] = gateway.open_routes()
    assert (waiting.state, waiting.target, waiting.rule, waiting.accession_number) == (
        "waiting",
        "PACS",
        "mammograms",
        "ACC001",
    )
    send_all(Router(gateway, client, AT_ONCE), gateway)
    assert pacs.instances() == 2
    [route] = gateway.routes_of(arrived)
    assert (route.state, route.instances, route.error) == ("routed", 2, None)
    assert outcomes(gateway) == ["RouteChosen", "Routed"]
    assert [row.kind for row in gateway.timeline("ACC001")][-1] == "ReceivedStudy.Routed"


def test_a_receiver_that_is_down_is_tried_again_until_it_is_back_and_told_once(
    gateway: Gateway, client: Orthanc, pacs: RealOrthanc, arrived: str
) -> None:
    pacs.stop()
    router = Router(gateway, client, AT_ONCE)

    def has_failed() -> bool:
        router.look()
        [row] = gateway.open_routes()
        return row.state == "failing"

    until("it has failed", has_failed)
    [failing] = gateway.open_routes()
    assert "Connection refused" in (failing.error or "")
    for _ in range(5):
        router.look()
    pacs.start()
    send_all(router, gateway)
    assert pacs.instances() == 2
    assert outcomes(gateway) == ["RouteChosen", "RouteFailed", "Routed"]


def test_who_is_killed_between_deciding_and_sending_sends_after_the_restart(
    gateway: Gateway, client: Orthanc, pacs: RealOrthanc, arrived: str
) -> None:
    """And who is killed while a job runs sends the same images again: they are the same (PS3.5 9)."""
    Router(gateway, client, AT_ONCE).look()  # a job was begun, and nobody follows it any more
    send_all(Router(gateway, client, AT_ONCE), gateway)
    assert pacs.instances() == 2
    assert outcomes(gateway) == ["RouteChosen", "Routed"]


def test_an_orthanc_that_is_restarted_while_it_sends_has_sent_it_in_the_end(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, pacs: RealOrthanc, arrived: str
) -> None:
    router = Router(gateway, client, AT_ONCE)
    router.look()
    orthanc.kill()
    orthanc.start()
    send_all(router, gateway)
    assert pacs.instances() == 2


def test_images_that_come_later_are_sent_too(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, pacs: RealOrthanc, images: Images, arrived: str
) -> None:
    router = Router(gateway, client, AT_ONCE)
    send_all(router, gateway)
    follow(gateway, client, orthanc, images.make(1))
    send_all(router, gateway)
    assert pacs.instances() == 3
    assert outcomes(gateway) == ["RouteChosen", "Routed", "RouteChosen", "Routed"]


def test_a_study_that_is_no_longer_in_orthanc_is_abandoned_and_told(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, arrived: str
) -> None:
    orthanc.delete(f"/studies/{orthanc.studies()[0]}")
    send_all(Router(gateway, client, AT_ONCE), gateway)
    assert [row.state for row in gateway.routes_of(arrived)] == ["abandoned"]
    [told] = [row for row in gateway.timeline("ACC001") if row.kind == "ReceivedStudy.RouteAbandoned"]
    assert told.details["reason"] == "the study is no longer in Orthanc"


def test_a_study_that_comes_back_is_sent_after_all_unless_a_person_gave_it_up(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, pacs: RealOrthanc, images: Images, arrived: str
) -> None:
    files = sorted(images.folder.rglob("*.dcm"))
    orthanc.delete(f"/studies/{orthanc.studies()[0]}")
    router = Router(gateway, client, AT_ONCE)
    send_all(router, gateway)
    follow(gateway, client, orthanc, files)
    send_all(router, gateway)
    assert [row.state for row in gateway.routes_of(arrived)] == ["routed"]
    assert outcomes(gateway) == ["RouteChosen", "RouteAbandoned", "RouteChosen", "Routed"]


def test_a_modality_that_orthanc_does_not_know_is_told_with_what_to_do_and_holds_up_no_other(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, pacs: RealOrthanc, images: Images
) -> None:
    both = (Route(rule="wrong", target="PAX"), Route(rule="right", target="PACS"))
    follow(gateway, client, orthanc, images.make(1), both)
    router = Router(gateway, client, RouterOptions(first_wait=600))

    def is_sent() -> bool:
        router.look()
        return pacs.instances() == 1 and len(gateway.open_routes()) == 1

    until("the other one is sent", is_sent)
    [left] = gateway.open_routes()
    assert (left.target, left.state) == ("PAX", "failing")
    assert "No modality with symbolic name: PAX → add it to Orthanc's DicomModalities" in (left.error or "")


def test_a_person_may_end_the_tries(gateway: Gateway, client: Orthanc, pacs: RealOrthanc, arrived: str) -> None:
    gateway.abandon_route(arrived, "PACS", reason="sent by hand", operator="night shift")
    assert Router(gateway, client, AT_ONCE).look() is False
    assert (gateway.open_routes(), pacs.instances()) == ([], 0)
    with pytest.raises(IllegalTransition):
        gateway.abandon_route(arrived, "PACS", reason="sent by hand", operator="night shift")
