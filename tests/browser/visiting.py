"""A hospital to look at through the window, and a browser to look with: what a person sees, and nothing mocked.

Relay emulator, web app and modality are of the test; the gateway is a process of its own, on its own site's clock: a
zone is chosen in which it is daytime, so that no test runs into midnight.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from bench.synthetic import participant
from tests.end_to_end.harness import (
    Background,
    GatewayProcess,
    LocalRelay,
    asked,
    create_item,
    running,
    tool,
)
from tests.end_to_end.unit import Unit
from tests.end_to_end.web_app import Answer, WebApp, settled, web_app

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""What keeps it from doing anything but showing our pages."""

PATIENCE = 30_000
"""Milliseconds until something that should be seen counts as not seen."""


def daytime() -> ZoneInfo:
    """A zone in which it is between ten and eleven in the morning."""
    ahead = (10 - datetime.now(UTC).hour + 12) % 24 - 12
    return ZoneInfo(f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT")  # POSIX: the sign is the other way about


@dataclass
class Hospital:
    """What runs, and what the web app, the modality and the clock do in it."""

    gateway: GatewayProcess
    web_app: WebApp
    unit: Unit
    zone: ZoneInfo
    _background: Background

    @property
    def address(self) -> str:
        """The window's, without a path."""
        return f"http://127.0.0.1:{self.gateway.ops_port}"

    def now(self) -> datetime:
        """The site's wall clock."""
        return datetime.now(self.zone)

    def today(self) -> str:
        """The site's date, `YYYYMMDD`."""
        return self.now().strftime("%Y%m%d")

    def schedule(self, number: str, time: str, *, name: str = "SMITH^JANE", who: int = 1, **changes: Any) -> None:
        """The web app schedules a synthetic participant for today at a time (`HHMM`)."""
        person = participant(who)
        details = {"nhs_number": person["patient_id"], "name": name, "birth_date": person["patient_birth_date"]}
        self.ask(
            create_item(number, participant=details, scheduled={"date": self.today(), "time": f"{time}00"}, **changes),
            "created",
        )

    def ask(self, action: dict[str, Any], status: str) -> None:
        """The web app says something and is answered so. A thread's own loop asks: the browser has this one's."""
        assert self.gateway.relay
        reply = self._background.start(asked(self.gateway.relay.connection("actions"), action)).result(15)
        assert reply["status"] == status, reply


@contextmanager
def hospital(folder: Path, answer: Answer = settled, **settings: object) -> Iterator[Hospital]:
    """All of it, until the block ends."""
    zone = daytime()
    emulator, background = LocalRelay().start(), Background()
    gateway = GatewayProcess(folder, emulator, gateway_time_zone=zone.key, **settings)
    try:
        with running(gateway), web_app(emulator.connection("events"), answer) as listening:
            gateway.start()
            yield Hospital(gateway, listening, Unit(gateway.dicom_port), zone, background)
    finally:
        background.close()
        emulator.close()


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium without a screen; without it the test is skipped, in CI it fails."""
    browser = playwright.chromium.launch(executable_path=tool(CHROMIUM, CHROMIUM), args=QUIET)
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visitor:
    """One browser profile at the window, with all that it asked for and complained of."""

    hospital: Hospital
    context: BrowserContext
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(PATIENCE)
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.on("console", lambda said: self._heard(said.type, said.text))
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, path: str = "/clinic") -> Page:
        """A new tab at a page of the window."""
        page = self.context.new_page()
        page.goto(f"{self.hospital.address}{path}")
        return page

    def leave(self) -> None:
        """Look at nothing any more. The profile goes with the browser: closing one may keep Chromium for ever."""
        for page in self.context.pages:
            page.goto("about:blank", wait_until="commit")

    def forgive(self, pattern: str) -> None:
        """What the browser said of this kind was expected."""
        assert any(re.search(pattern, said) for said in self.complaints), self.complaints
        self.bear(pattern)

    def bear(self, pattern: str) -> None:
        """The browser may have said something of this kind: whether it tried in vain is a matter of time."""
        self.complaints = [said for said in self.complaints if not re.search(pattern, said)]

    def assert_content(self) -> None:
        """No error, no violation of the content security policy, and nothing asked of anybody but the gateway."""
        assert self.complaints == []
        foreign = [url for url in self.asked if urlsplit(url).netloc != urlsplit(self.hospital.address).netloc]
        assert foreign == []


def sign_in(visitor: Visitor, token: str, name: str = "E. Example", path: str = "/clinic") -> Page:
    """A page, once the visitor has signed in by this token."""
    page = visitor.open(path)
    page.get_by_label("Your name or initials").fill(name)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    return page


@contextmanager
def without_reload(page: Page) -> Iterator[None]:
    """What happens within the block happens to a page that is not loaded again."""
    page.evaluate("window.looked = true")
    yield
    assert page.evaluate("window.looked === true")


def order(page: Page) -> list[str]:
    """The accession numbers on the list, from top to bottom."""
    return [text.strip() for text in page.locator("#rows td[data-heading=Accession]").all_inner_texts()]
