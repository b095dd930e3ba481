"""What holds for every page of the window, in a history in which everything happened at least once."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from ops_support import Answer, asynchronous, running
from window_support import ROLES, VIEWER, Browser, Make, signed_in, text

from bench.synthetic import PERSON, appointment, schedule, start, step_uid
from gateway.eventstore import chain
from gateway.ops.window.app import ACTS, PAGES
from gateway.rehearsal.modality import Modality
from gateway.service import Service
from tests.eventstore.everything import everything_happened

NAMES = ["SMITH", "JANE", "MARY", "JONES", "Smith", "Jane", "Mary", "Jones"]
IDS = ["9990000018", "9990000026", "9990000042", PERSON["patient_birth_date"], "1965-03-15", "19660416"]
HOSTILE = "<script>alert(1)"
HREF = r'(?:href|src)="([^"]+)"'


async def everything(service: Service) -> list[str]:
    """A history with all that can be in it; the addresses of all pages of it."""

    def happened() -> int:
        everything_happened(service.gateway)
        start(service.gateway, step_uid(70), patient_id="9990000042", patient_name="JONES^MARY")
        schedule(service.gateway, "A<script>", study_description="<script>alert(2)</script>")
        service.gateway.schedule(appointment("TEST1"), is_test=True)
        port = service.dicom.port
        Modality("127.0.0.1", port, "ORTHANC_MWL", "MAMMO1").find(patient_name="SMITH^JANE", patient_id="9990000018")
        Modality("127.0.0.1", port, "ORTHANC_MWL", "<script>alert(1)").find()
        service.record.close()
        with service.gateway.reading() as connection:
            return chain.head(connection)[0]

    head = await asyncio.to_thread(happened)
    plain = [page.path for page in PAGES if "{" not in page.path and page.path != "/step"]  # which asks whose
    steps = [f"/step/{number}" for number in ("ACC001", "ACC003", "ACC006", "TEST1", "A%3Cscript%3E")]
    events = [f"/events/{position}" for position in range(1, head + 1)]
    return ["/clinic", *plain, *steps, *events, "/modalities/MAMMO1", f"/modalities/{quote(HOSTILE)}"]


def names_in(answers: dict[str, Answer]) -> list[tuple[str, str]]:
    """Where somebody is named. (What the files of the docs say by way of example is no patient of the site.)"""
    return [
        (path, word)
        for path, answer in answers.items()
        for word in (*NAMES, *IDS)
        if not path.startswith("/docs") and word in text(answer)
    ]


@asynchronous
async def test_no_page_names_anybody_to_whom_nothing_was_revealed_as_html_or_as_json(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        paths = await everything(service)
        browser = Browser(port)
        answers = {path: await browser.get(path) for path in paths}
        answers |= {f"{path}.json": await browser.get(f"{path}.json") for path in paths}
    assert {path: answer.status for path, answer in answers.items() if answer.status != 200} == {}
    assert names_in(answers) == []


@asynchronous
async def test_no_page_lets_what_others_wrote_become_markup(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        pages = {path: text(await Browser(port).get(path)) for path in await everything(service)}
    for path, page in pages.items():
        assert "<script>" not in page, path
        assert page.count("<script") == 1, path
        assert " style=" not in page, path
        assert not [word for word in (" onclick=", " onload=", "javascript:") if word in page], path


@asynchronous
async def test_no_link_leads_nowhere(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        browser, paths = Browser(port), await everything(service)
        pages = {path: text(await browser.get(path)) for path in [*paths, "/docs/README"]}
        links = {unescape(link).partition("#")[0] for page in pages.values() for link in re.findall(HREF, page)}
        own = sorted(link for link in links if link.startswith("/"))
        answers = {link: (await browser.get(link)).status for link in own}
    assert len(own) > 100
    assert {link: status for link, status in answers.items() if status != 200} == {}


class Outline(HTMLParser):
    """What of a page a screen reader goes by."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[str] = []
        self.tables = self.captions = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self.labelled.add(str(given["for"]))
        if tag in ("input", "select") and given.get("type") != "hidden":
            self.fields.append(str(given.get("id")))
        self.tables += tag == "table"
        self.captions += tag == "caption"


@asynchronous
async def test_every_page_can_be_followed_by_its_headings_captions_and_labels(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        pages = {path: text(await Browser(port).get(path)) for path in await everything(service)}
    for path, page in pages.items():
        outline = Outline(page)
        assert (outline.headings[0], outline.headings.count(1)) == (1, 1), path
        assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False)), path
        assert len(outline.ids) == len(set(outline.ids)), path
        assert set(outline.fields) <= outline.labelled, path
        assert outline.tables == outline.captions, path


@asynchronous
async def test_a_viewer_is_offered_no_act_on_any_page(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        paths = await everything(service)
        viewer, secret = await signed_in(port, VIEWER)
        pages = {path: text(await viewer.get(path)) for path in paths}
        acts = {path: (await viewer.post(path, secret=secret, reason="curious")).status for path in ACTS}
    assert [path for path, page in pages.items() if 'method="post"' in page.split("<main")[1]] == []
    assert {path: status for path, status in acts.items() if status not in (403, 404, 400)} == {}


@asynchronous
async def test_every_page_is_shut_to_who_has_not_signed_in(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        stranger = Browser(port, X_Forwarded_For="10.1.2.3")
        paths = [page.path.split("{")[0].rstrip("/") for page in PAGES if page.path != "/health"]
        pages = [await stranger.get(path) for path in paths]
        data = [await stranger.get(f"{path}.json") for path in paths if path != "/step"]
        acts = [await stranger.post(path, reason="forged") for path in ACTS]
    assert {page.status for page in pages} <= {303, 404}
    assert {page.headers.get("location", "/sign-in").split("?")[0] for page in pages} == {"/sign-in"}
    assert {answer.status for answer in data} == {401}
    assert {answer.status for answer in acts} == {401}


@asynchronous
async def test_an_error_page_offers_no_data_of_its_own(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        pages = [await Browser(port).get(path) for path in ("/nothing", "/step/NOBODY", "/sign-out")]
    assert [page.status for page in pages] == [404, 404, 405]
    assert not [page for page in pages if "This page as JSON" in text(page)]
