"""All that is done with the Orthanc beside us: its feed is followed, its studies are sent on, and how both are.

It begins a moment after the doors are open: the HTTP client takes a while to be imported, and no modality waits for it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import projections.received_studies
from gateway.application import Gateway, StudyOutcome
from gateway.domain.received_study import FeedPlace
from gateway.errors import InvalidValue, NotFound, SettingsInvalid
from gateway.orthanc import routes
from gateway.settings import Settings
from gateway.trust import trusted

if TYPE_CHECKING:
    import ssl

    from gateway.orthanc.client import Orthanc
    from gateway.orthanc.feed import FeedStatus, ImageFeed
    from gateway.orthanc.router import Router, RouterStatus

_BEGIN_AFTER = 1.0
"""Seconds: whoever waits for the doors is served first."""

_NEEDS_ORTHANC = ("gateway_routes_file", "gateway_report_images")


def reception(settings: Settings, gateway: Gateway) -> Reception | None:
    """What the settings ask for; None without an Orthanc. Raises `SettingsInvalid`, `RoutesInvalid`."""
    if settings.gateway_orthanc_url is None:
        for name in _NEEDS_ORTHANC:
            if getattr(settings, name):
                raise SettingsInvalid(
                    f"{name.upper()} is set, and no Orthanc",
                    remedy="set GATEWAY_ORTHANC_URL, or unset it",
                )
        return None
    _trust(settings)  # what can't be used is told before the doors open
    return Reception(settings, gateway)


def client(settings: Settings) -> Orthanc:
    """The Orthanc of the settings. Raises `SettingsInvalid` when none is set."""
    from gateway.orthanc.client import Orthanc

    if settings.gateway_orthanc_url is None:
        raise SettingsInvalid("no Orthanc is configured", remedy="set GATEWAY_ORTHANC_URL")
    password = settings.gateway_orthanc_password
    return Orthanc(
        settings.gateway_orthanc_url,
        user=settings.gateway_orthanc_user or "",
        password=password.get_secret_value() if password else "",
        trust=_trust(settings),
    )


def _trust(settings: Settings) -> ssl.SSLContext | None:
    return trusted(settings.gateway_orthanc_ca_file, "GATEWAY_ORTHANC_CA_FILE")


def receive_again(settings: Settings, gateway: Gateway, orthanc_id: str) -> StudyOutcome:
    """Read a study once more, beside the feed, which stays where it is.

    Raises `OrthancError`, `RoutesInvalid`, `SettingsInvalid`, `InvalidValue`, and `NotFound` before any feed was
    followed.
    """
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}", orthanc_id):
        raise InvalidValue(
            "orthanc_id: must be one of Orthanc's ids, as gateway images parked or images list --json shows",
            field="orthanc_id",
        )
    rules = routes.load(settings.gateway_routes_file)
    orthanc = client(settings)
    try:
        report = orthanc.content(orthanc_id).report
    finally:
        orthanc.close()
    feed = gateway.image_feed()
    if feed is None:
        raise NotFound("no feed was followed yet", field="orthanc_id", remedy="gateway serve follows it")
    place = FeedPlace(feed=feed.number, change=feed.change, changed=feed.changed, resume_after=feed.resume_after)
    return gateway.receive_study(
        report,
        place,
        received_at=datetime.now(UTC),
        routes=rules.routes_of(report),
        tell_web_app=settings.gateway_report_images,
    )


class Reception:
    """The feed and the router of one Orthanc. Both are None until `run()` has begun."""

    def __init__(self, settings: Settings, gateway: Gateway) -> None:
        """Read the rules. Raises `RoutesInvalid`."""
        self.settings = settings
        self.gateway = gateway
        self.rules = routes.load(settings.gateway_routes_file)
        self.feed: ImageFeed | None = None
        self.router: Router | None = None
        self._client: Orthanc | None = None

    @property
    def feed_status(self) -> FeedStatus | None:
        """How the feed is; None before it has begun."""
        return self.feed.status if self.feed else None

    @property
    def router_status(self) -> RouterStatus | None:
        """How routing is; None before it has begun."""
        return self.router.status if self.router else None

    async def run(self) -> None:
        """Follow and send until cancelled."""
        await asyncio.sleep(_BEGIN_AFTER)
        feed, router = await asyncio.to_thread(self._open)
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(feed.run())
                parts.create_task(router.run())
        finally:
            if self._client:
                self._client.close()

    def _open(self) -> tuple[ImageFeed, Router]:
        from gateway.orthanc.feed import FeedOptions, ImageFeed
        from gateway.orthanc.router import Router

        self._client = client(self.settings)
        options = FeedOptions(
            poll=self.settings.gateway_orthanc_poll_seconds, tell_web_app=self.settings.gateway_report_images
        )
        self.feed = ImageFeed(self.gateway, self._client, options, self.rules.routes_of)
        self.router = Router(self.gateway, self._client)
        return self.feed, self.router

    def state(self) -> dict[str, Any]:
        """All that is known of the feed and of routing, in JSON values; `state` is the feed's."""
        feed, router = self.feed_status, self.router_status
        return {
            "state": feed.state if feed else "starting",
            "feed": asdict(feed) if feed else {},
            "routing": asdict(router) if router else {},
        }

    def check(self) -> dict[str, Any]:
        """For health: how the feed is, and what a person should look at. Never a failure of the gateway's."""
        with self.gateway.reading() as connection:
            unmatched = projections.received_studies.count_unmatched(connection)
            parked = len(projections.received_studies.parked(connection))
            open_routes = projections.received_studies.count_routes(connection)
        feed = self.feed_status
        check: dict[str, Any] = {
            "ok": True,
            "state": feed.state if feed else "starting",
            "orthanc": feed.orthanc if feed else "",
            "change": feed.change if feed else 0,
            "last_look_at": feed.last_look_at if feed else None,
            "last_study_at": feed.last_study_at if feed else None,
            "unmatched": unmatched,
            "parked": parked,
            "routes_waiting": open_routes.waiting,
            "routes_failing": open_routes.failing,
        }
        told = []
        if feed and feed.error:
            told.append(f"since {feed.failing_since} images can't be followed: {feed.error}")
        if unmatched:
            told.append(f"{unmatched} studies are of nobody on the list: gateway images unmatched lists them")
        if parked:
            told.append(f"{parked} studies could not be read: gateway images parked lists them")
        if open_routes.failing:
            told.append(f"{open_routes.failing} studies can't be sent on: gateway routes list shows why")
        return check | ({"warning": "; ".join(told)} if told else {})
