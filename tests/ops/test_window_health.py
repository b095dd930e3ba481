"""Health for people at the address where monitors ask: a page to a browser, the same JSON as ever to a program."""

from __future__ import annotations

import pytest
from ops_support import asynchronous, fetch, running
from window_support import OPERATOR, ROLES, Browser, Make, signed_in, text

from bench.synthetic import start, step_uid
from gateway.errors import StoreUnusable


@asynchronous
async def test_a_browser_is_shown_a_page_and_a_program_the_json(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page, program = await Browser(port).get("/health"), await fetch(port, "/health")
        anything = await Browser(port, Accept="*/*").get("/health")
        named = await Browser(port).get("/health.json")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "The gateway works." in text(page)
    for told in (program, anything, named):
        assert told.headers["content-type"] == "application/json"
        assert set(told.json["checks"]) >= {"store", "dicom", "relay", "outbox", "steps", "disk"}
    assert page.headers["content-security-policy"] == program.headers["content-security-policy"]


@asynchronous
async def test_each_part_has_a_line_with_what_to_do(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        start(service.gateway, step_uid(1))
        page = text(await Browser(port).get("/health"))
    (steps,) = [row for row in page.split("<tr") if 'id="part-steps"' in row]
    assert "warning" in steps
    assert "1 performed steps have no appointment" in steps
    assert 'href="/unmatched"' in steps
    (store,) = [row for row in page.split("<tr") if 'id="part-store"' in row]
    assert "nothing" in store
    assert "position" in page.split('id="part-store"')[1]
    assert "The log’s end" in page


@asynchronous
async def test_a_part_that_does_not_work_is_said_with_503_as_to_monitors(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> int:
        raise StoreUnusable("saves fail: disk full", remedy="look at the disk")

    async with running(own_settings(), monkeypatch) as (service, port):
        monkeypatch.setattr(service.gateway, "check_store", broken)
        page, program = await Browser(port).get("/health"), await fetch(port, "/health")
    assert (page.status, program.status) == (503, 503)
    assert "saves fail: disk full → look at the disk" in text(page)
    assert "Something does not work" in text(page)


@asynchronous
async def test_a_monitor_that_calls_itself_a_browser_is_still_told_whether_all_is_well(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is led to no sign-in page, whose 200 would say that all is well."""
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        stranger = await Browser(port, X_Forwarded_For="10.1.2.3").get("/health")
        browser, _ = await signed_in(port, OPERATOR)
        page = await browser.get("/health")
    assert (stranger.status, set(stranger.json)) == (200, {"healthy", "version"})
    assert "<h1" in text(page)
