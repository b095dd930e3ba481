"""A door over a gateway on a real file, and the log as it is written."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from zoneinfo import ZoneInfo

import pytest

from gateway import log
from gateway.actions.door import ActionDoor
from gateway.actions.times import SiteClock
from gateway.application import Gateway
from projections.worklist import WorklistFilter, WorklistRow

LONDON = ZoneInfo("Europe/London")
HEALTH = {"healthy": True, "version": "0", "listener_uptime_seconds": 0, "checks": {}}


@pytest.fixture(autouse=True)
def written_log() -> Iterator[io.StringIO]:
    """What the service would write to stderr; the loggers are put back as they were."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    log.configure("json")
    root.handlers[0].setStream(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def door(gateway: Gateway) -> ActionDoor:
    return ActionDoor(gateway, SiteClock(LONDON), lambda: HEALTH)


@pytest.fixture
def utc_door(gateway: Gateway) -> ActionDoor:
    """The door of a site whose web app sends UTC."""
    return ActionDoor(gateway, SiteClock(LONDON, scheduled_times_are_utc=True), lambda: HEALTH)


@pytest.fixture
def served(gateway: Gateway) -> Callable[..., WorklistRow]:
    """The item as modalities are answered from it."""

    def look(accession_number: str = "ACC001") -> WorklistRow:
        [row] = gateway.find_items(WorklistFilter(accession_number=accession_number))
        return row

    return look
