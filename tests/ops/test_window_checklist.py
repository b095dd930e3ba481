"""The morning checklist in the window: asked by an operator, of the running service, by traffic."""

from __future__ import annotations

import asyncio
import threading

import pytest
from ops_support import asynchronous, running
from window_support import OPERATOR, ROLES, VIEWER, Browser, Make, names_nobody, signed_in, text

from bench.synthetic import schedule
from gateway.errors import Contention
from gateway.ops.doctor.checklist import Checklist
from gateway.ops.doctor.finding import Check, failed, ok


@asynchronous
async def test_an_operator_asks_everything_and_is_told_go_or_no_go_line_by_line(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        await asyncio.to_thread(schedule, service.gateway)
        browser, secret = await signed_in(port, OPERATOR)
        before = await browser.get("/checklist")
        done = await browser.post("/checklist/ask", secret=secret, back="/checklist")
        page, told = await browser.get("/checklist"), await browser.get("/checklist.json")
    assert "Nobody has asked" in text(before)
    assert (done.status, done.headers["location"]) == (303, "/checklist")
    outcomes = {finding["name"]: finding["outcome"] for finding in told.json["findings"]}
    assert {outcomes[name] for name in ("dicom", "worklist", "store", "projections")} == {"ok"}
    assert outcomes["relay"] == "skipped"
    assert told.json["who"] == "Nurse Ada"
    assert (told.json["verdict"] == "GO") == ("failed" not in outcomes.values())
    assert f'id="verdict">{told.json["verdict"]}' in text(page)
    assert names_nobody([page, told])


@asynchronous
async def test_only_an_operators_own_form_asks(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        viewer, secret = await signed_in(port, VIEWER)
        curious = await viewer.post("/checklist/ask", secret=secret)
        page = await viewer.get("/checklist")
        operator, _ = await signed_in(port, OPERATOR)
        forged = await operator.post("/checklist/ask")
        stranger = await Browser(port, X_Forwarded_For="10.1.2.3").post("/checklist/ask")
        told = await operator.get("/checklist.json")
    assert (curious.status, forged.status, stranger.status) == (403, 403, 401)
    assert "<form" not in text(page).split("<main")[1]
    assert told.json["verdict"] == ""


def test_one_failure_is_no_go_and_names_it() -> None:
    well, full = Check("dicom", lambda: ok("answers", "C-ECHO")), Check("disk", lambda: failed("full", "", "make room"))
    asked = Checklist(lambda: [well, full])
    found = asked.ask("ada")
    assert (found.is_go, found.failed, found.who) == (False, ("disk",), "ada")
    assert asked.latest is found


def test_while_one_asks_another_is_told_to_wait() -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow() -> list[Check]:
        began.set()
        may_end.wait(10)
        return []

    asked = Checklist(slow)
    first = threading.Thread(target=asked.ask, args=("ada",))
    first.start()
    began.wait(10)
    with pytest.raises(Contention, match="somebody else"):
        asked.ask("bob")
    may_end.set()
    first.join(10)
    assert asked.ask("bob").is_go
