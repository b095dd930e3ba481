"""Images find their appointment: Orthanc's feed of changes is followed, nothing is missed and nothing is doubled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from orthanc_support import Images, RealOrthanc, send, until

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.domain.worklist_item import WorklistItem
from gateway.orthanc.client import Orthanc
from gateway.orthanc.feed import FeedOptions, ImageFeed

pytestmark = pytest.mark.slow


@pytest.fixture
def client(orthanc: RealOrthanc) -> Iterator[Orthanc]:
    client = Orthanc(orthanc.url)
    yield client
    client.close()


def feed_of(gateway: Gateway, client: Orthanc, **options: Any) -> ImageFeed:
    return ImageFeed(gateway, client, FeedOptions(**options))


def read_all(feed: ImageFeed) -> None:
    while feed.look():
        pass


def events(gateway: Gateway, *topics: str) -> list[Any]:
    found = [
        n.domain_event if hasattr(n, "domain_event") else gateway.mapper.to_domain_event(n)
        for n in gateway.recorder.select_notifications(1, 10_000)
    ]
    return [event for event in found if event.TOPIC in topics]


def test_a_study_whose_accession_number_is_on_the_list_is_the_item_s(
    gateway: Gateway, client: Orthanc, orthanc: RealOrthanc, images: Images
) -> None:
    schedule(gateway, "ACC001")
    send(images.make(2) + images.make(1, new_series=True), orthanc)
    until("Orthanc says that the study is stable", orthanc.is_stable)
    read_all(feed_of(gateway, client))
    [received] = events(gateway, WorklistItem.ImagesReceived.TOPIC)
    assert (received.accession_number, received.series, received.instances) == ("ACC001", 2, 3)
    assert (received.modalities, received.station_ae_title) == (["MG"], "MAMMO1")
    assert received.matched_by == ["accession_number"]
