"""The window's first page over real HTTP: the list as it is and stood, live, masked; acts only from our own forms."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ops_support import asynchronous, running
from window_support import OPERATOR, ROLES, VIEWER, WORDS, Browser, Make, secret_of, signed_in, text

from bench.synthetic import PERSON, change, completed, naming, schedule, start, step_uid
from gateway.audit import activities
from gateway.ops import own_token
from gateway.ops.window.app import STATIC
from gateway.rehearsal.modality import Modality

SITE = ZoneInfo("Europe/London")


def today() -> str:
    return datetime.now(SITE).strftime("%Y%m%d")


@asynchronous
async def test_todays_list_is_told_masked_in_html_and_json(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        schedule(service.gateway, "ACC002", scheduled_date="20200101")
        start(service.gateway, step_uid(1), naming())
        page, told = await Browser(port).get("/clinic"), await Browser(port).get("/clinic.json")
    assert (page.status, told.status) == (200, 200)
    assert "ACC001" in text(page)
    assert "ACC002" not in text(page)
    (item,) = told.json["items"]
    assert (item["participant"], item["status"], item["told"]["state"]) == ("S•••• J•••", "IN PROGRESS", "waiting")
    assert not [word for word in WORDS if word in text(page) + text(told)]


@asynchronous
async def test_test_items_are_on_no_clinical_list(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.synthetic import appointment

    async with running(own_settings(), monkeypatch) as (service, port):
        service.gateway.schedule(appointment("TEST1", scheduled_date=today()), is_test=True)
        told = await Browser(port).get("/clinic.json")
    assert told.json["items"] == []


@asynchronous
async def test_the_list_is_told_as_it_stood_at_any_moment(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        start(service.gateway, step_uid(1), naming())
        then = datetime.now(SITE)
        change(service.gateway, completed(step_uid(1)))
        browser = Browser(port)
        now = await browser.get("/clinic.json")
        earlier = await browser.get(f"/clinic.json?at={then:%Y-%m-%dT%H:%M:%S.%f}")
        page = await browser.get(f"/clinic?at={then:%Y-%m-%dT%H:%M:%S.%f}")
        yesterday = await browser.get(f"/clinic.json?at={then - timedelta(days=1):%Y-%m-%dT%H:%M}")
    assert [item["status"] for item in now.json["items"]] == ["COMPLETED"]
    assert [item["status"] for item in earlier.json["items"]] == ["IN PROGRESS"]
    assert earlier.json["items"][0]["told"]["status"] == "IN PROGRESS"
    assert "As it stood at" in text(page)
    assert "data-live" not in text(page)
    assert yesterday.json["items"] == []


@pytest.mark.parametrize(
    "query", ["day=2026-13-01", "day=x", "at=yesterday", "minute=x", "minute=-1", "at=2026-11-23T99:00", "day=%00"]
)
@asynchronous
async def test_nonsense_is_told_as_such_with_400(
    query: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page, told = await Browser(port).get(f"/clinic?{query}"), await Browser(port).get(f"/clinic.json?{query}")
    assert (page.status, told.status, told.json["code"]) == (400, 400, "validation")
    assert told.json["field"]


@asynchronous
async def test_names_are_revealed_for_a_reason_that_is_kept_and_to_this_browser_only(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser, other = Browser(port), Browser(port)
        secret = secret_of(await browser.get("/clinic"))
        without = await browser.post("/clinic/reveal", secret=secret, day=today(), reason=" ")
        naming_her = await browser.post("/clinic/reveal", secret=secret, day=today(), reason="where is Mrs Smith?")
        assert (without.status, naming_her.status) == (400, 400)
        assert "SMITH" not in text(await browser.get("/clinic"))
        done = await browser.post("/clinic/reveal", secret=secret, day=today(), reason="phone call", back="/clinic")
        assert (done.status, done.headers["location"]) == (303, "/clinic")
        page = text(await browser.get("/clinic"))
        assert "SMITH JANE" in page
        assert PERSON["patient_id"] in page
        assert "SMITH" not in text(await other.get("/clinic"))
        assert "SMITH" in text(await browser.get("/clinic/item?accession=ACC001"))
        assert "SMITH" not in text(await other.get("/clinic/item?accession=ACC001"))
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
        assert (look.subjects, look.details["reason"]) == (("ACC001",), "phone call")
        await browser.post("/hide", secret=secret)
        assert "SMITH" not in text(await browser.get("/clinic"))


@asynchronous
async def test_only_who_was_kept_as_looked_at_is_shown_and_of_nobody_nothing_is_revealed(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        browser = Browser(port)
        secret = secret_of(await browser.get("/clinic"))
        empty = await browser.post("/clinic/reveal", secret=secret, day=today(), reason="phone call")
        schedule(service.gateway, scheduled_date=today())
        assert "SMITH" not in text(await browser.get("/clinic"))
        await browser.post("/clinic/reveal", secret=secret, day=today(), reason="phone call")
        schedule(service.gateway, "ACC002", scheduled_date=today(), patient_name="JONES^MARY")
        page = text(await browser.get("/clinic"))
    assert empty.status == 400
    assert "SMITH JANE" in page
    assert "JONES" not in page


@asynchronous
async def test_names_leave_the_screen_when_their_time_is_over(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser = Browser(port)
        masked = await browser.get("/clinic")
        await browser.post("/clinic/reveal", secret=secret_of(masked), day=today(), reason="phone call")
        revealed = await browser.get("/clinic")
    assert "refresh" not in masked.headers
    assert 290 <= int(revealed.headers["refresh"]) <= 300


@asynchronous
async def test_a_proxy_that_asks_for_a_password_of_its_own_keeps_nobody_from_acting(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = own_settings(gateway_ops_identity_header="X-Forwarded-User", gateway_ops_operators=("op",))
    async with running(settings, monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser = Browser(port, X_Forwarded_User="op", Authorization="Basic b3A6c2VjcmV0")
        secret = secret_of(await browser.get("/clinic"))
        answer = await browser.post("/clinic/reveal", secret=secret, day=today(), reason="phone call")
    assert answer.status == 303


@asynchronous
async def test_a_test_caller_is_no_modality_that_an_item_was_sent_to(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        for title in ("REHEARSAL", "MAMMO1"):
            unit = Modality("127.0.0.1", service.dicom.port, "ORTHANC_MWL", title)
            await asyncio.to_thread(unit.find, modality="MG", date=today())
        await asyncio.to_thread(service.record.close)  # what is recorded is written
        told = await Browser(port).get("/clinic.json")
    assert [sent["ae_title"] for sent in told.json["items"][0]["sent"]] == ["MAMMO1"]


@asynchronous
async def test_names_are_not_shown_when_the_look_cannot_be_kept(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.errors import DiskFull

    def full(*_: Any, **__: Any) -> None:
        raise DiskFull("no room", remedy="make room")

    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser = Browser(port)
        secret = secret_of(await browser.get("/clinic"))
        monkeypatch.setattr(activities, "looked", full)
        answer = await browser.post("/clinic/reveal", secret=secret, day=today(), reason="phone call")
        assert answer.status == 503
        assert "SMITH" not in text(await browser.get("/clinic"))


@pytest.mark.parametrize(
    ("headers", "with_secret"),
    [({}, False), ({"Origin": "http://evil.example"}, True), ({"Sec_Fetch_Site": "cross-site"}, True)],
)
@asynchronous
async def test_a_forged_act_is_refused(
    headers: dict[str, str], with_secret: bool, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser = Browser(port)
        secret = secret_of(await browser.get("/clinic"))
        browser.headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await browser.post(
            "/clinic/reveal", secret=secret if with_secret else "", day=today(), reason="phone call"
        )
    assert answer.status == 403
    assert "SMITH" not in text(answer)


@asynchronous
async def test_a_viewer_sees_the_list_and_may_not_reveal(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = own_settings(gateway_ops_viewer_token=VIEWER, gateway_ops_operator_token=OPERATOR)
    async with running(settings, monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        browser = Browser(port)
        signed_in = await browser.post("/sign-in", token=VIEWER, name="Trainee", next="/clinic")
        page = await browser.get("/clinic")
        answer = await browser.post("/clinic/reveal", secret=secret_of(page), day=today(), reason="phone call")
    assert (signed_in.status, signed_in.headers["location"]) == (303, "/clinic")
    assert "Trainee" in text(page)
    assert "Reveal names" not in text(page)
    assert answer.status == 403


@asynchronous
async def test_with_tokens_a_browser_is_led_to_sign_in_and_a_program_is_told(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(gateway_ops_operator_token=OPERATOR), monkeypatch) as (_, port):
        browser = Browser(port)
        led, told = await browser.get("/clinic?day=2026-11-23"), await browser.get("/clinic.json")
        wrong = await browser.post("/sign-in", token="wrong-token-0123456789", name="N", next="/clinic")
        bearer = await Browser(port, Authorization=f"Bearer {OPERATOR}").get("/clinic.json")
        live = await browser.get("/clinic/live")
        assert await Browser(port).get("/static/window.css")
    assert (led.status, led.headers["location"]) == (303, "/sign-in?next=/clinic%3Fday%3D2026-11-23")
    assert (told.status, told.json["code"]) == (401, "access_refused")
    assert wrong.status == 401
    assert "wrong-token" not in text(wrong)
    assert (bearer.status, live.status) == (200, 303)


@pytest.mark.parametrize(
    "back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nX: y", ""]
)
@asynchronous
async def test_nobody_is_led_to_another_site(back: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(gateway_ops_operator_token=OPERATOR), monkeypatch) as (_, port):
        answer = await Browser(port).post("/sign-in", token=OPERATOR, name="N", next=back)
    assert (answer.status, answer.headers["location"]) == (303, "/clinic")


@asynchronous
async def test_a_session_cookie_is_for_our_pages_only_and_out_of_reach_of_scripts(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        plain = await Browser(port).get("/clinic")
        by_tls = await Browser(port, X_Forwarded_Proto="https").get("/clinic")
    assert re.fullmatch(
        r"gateway_session=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict", plain.headers["set-cookie"]
    )
    assert by_tls.headers["set-cookie"].startswith("__Host-gateway_session=")
    assert "Secure" in by_tls.headers["set-cookie"]


@asynchronous
async def test_every_answer_carries_the_headers_that_keep_a_browser_in_bounds(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        for path in ("/clinic", "/clinic.json", "/health", "/nowhere", "/static/window.js", "/sign-in"):
            headers = (await Browser(port).get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
            assert "server" not in headers
        page = text(await Browser(port).get("/clinic"))
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)
    assert not re.search(r"https?://", page)


def test_nothing_that_is_shipped_leads_to_another_place() -> None:
    shipped = [path for path in STATIC.rglob("*") if path.is_file()]
    assert shipped
    for path in shipped:
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text()))
        assert found <= {"http://www.w3.org", "//www.w3.org"}, path


class Events:
    """Server-sent events as a browser would read them."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.reader = reader

    async def next(self, name: str) -> Any:
        """The data of the next event of this name."""
        event = ""
        while line := (await asyncio.wait_for(self.reader.readline(), 10)).decode().rstrip("\r\n") or "-":
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            if line.startswith("data: ") and event == name:
                return json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream has ended")


async def watching(port: int, cookie: str = "") -> tuple[Events, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /clinic/live HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
    events = Events(reader)
    await events.next("version")
    return events, writer


@asynchronous
async def test_who_watches_is_sent_a_new_appointment_in_its_place_and_each_change_of_status(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asyncio.to_thread(schedule, service.gateway, "ACC002", scheduled_date=today(), scheduled_time="110000")
        page = await Browser(port).get("/clinic")
        version = re.search(r'data-version="(\d+)"', text(page))
        events, writer = await watching(port)
        await asyncio.to_thread(schedule, service.gateway, scheduled_date=today(), scheduled_time="100000")
        (arrived,) = (await events.next("rows"))["changes"]
        await asyncio.to_thread(start, service.gateway, step_uid(1), naming())
        told = await events.next("rows")
        writer.close()
    assert version
    assert (arrived["accession_number"], arrived["before"]) == ("ACC001", "ACC002")
    assert 'id="item-ACC001"' in arrived["html"]
    assert [(one["accession_number"], one["status"]) for one in told["changes"]] == [("ACC001", "IN PROGRESS")]
    assert not [word for word in WORDS if word in json.dumps([arrived, told])]


@asynchronous
async def test_what_another_process_does_is_seen_too(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.application import opened

    settings = own_settings()
    async with running(settings, monkeypatch) as (service, port):
        await asyncio.to_thread(schedule, service.gateway, scheduled_date=today())
        await Browser(port).get("/clinic")
        events, writer = await watching(port)

        def elsewhere() -> None:
            with opened(settings.worklist_db_path) as another:
                schedule(another, "ACC002", scheduled_date=today())

        await asyncio.to_thread(elsewhere)
        (arrived,) = (await events.next("rows"))["changes"]
        writer.close()
    assert arrived["accession_number"] == "ACC002"


@asynchronous
@pytest.mark.parametrize("path", ["/sign-out", "/sign-in"])
async def test_who_signs_out_or_in_as_another_watches_no_longer(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        browser, secret = await signed_in(port, VIEWER)
        events, writer = await watching(port, browser.headers["Cookie"])
        await events.next("strip")
        await browser.post(path, secret=secret, token=OPERATOR, name="N. Other")
        await asyncio.to_thread(schedule, service.gateway, scheduled_date=today())
        rest = await asyncio.wait_for(events.reader.read(), 10)
        writer.close()
    assert b"ACC001" not in rest


@asynchronous
async def test_a_stop_does_not_wait_for_those_who_watch(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        _, writer = await watching(port)
        began = asyncio.get_running_loop().time()
        service.ask_to_stop()
    assert asyncio.get_running_loop().time() - began < 5
    writer.close()


def test_where_the_port_is_open_to_a_network_the_gateway_makes_a_token_that_only_it_can_read(
    own_settings: Make, tmp_path: Path
) -> None:
    settings = own_settings(gateway_ops_host="0.0.0.0")
    made = own_token.own_token(settings)
    file = Path(f"{settings.worklist_db_path}.ops-token")
    assert made
    assert made == own_token.own_token(settings) == file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_token_is_made_where_one_is_set_or_nobody_else_can_come(own_settings: Make) -> None:
    assert own_token.own_token(own_settings()) is None
    assert own_token.own_token(own_settings(gateway_ops_host="0.0.0.0", gateway_ops_viewer_token=VIEWER)) is None


@asynchronous
async def test_health_is_told_in_full_to_who_may_look_and_in_two_words_to_another_machine(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(gateway_ops_operator_token=OPERATOR), monkeypatch) as (_, port):
        here = await Browser(port).get("/health")
        elsewhere = await Browser(port, X_Forwarded_For="10.1.2.3").get("/health")
        signed = await Browser(port, X_Forwarded_For="10.1.2.3", Authorization=f"Bearer {OPERATOR}").get("/health.json")
    assert "checks" in here.json
    assert set(elsewhere.json) == {"healthy", "version"}
    assert "checks" in signed.json


@asynchronous
async def test_what_fails_inside_is_a_page_with_a_code_and_its_words_stay_inside(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("SMITH^JANE")

    async with running(own_settings(), monkeypatch) as (service, port):
        await Browser(port).get("/clinic")
        monkeypatch.setattr(service.gateway, "find_items", broken)
        page, told = (
            await Browser(port).get("/clinic?day=2020-01-01"),
            await Browser(port).get("/clinic.json?day=20200101"),
        )
    assert (page.status, told.status, told.json["code"]) == (500, 500, "internal")
    assert "SMITH" not in text(page) + text(told)


@asynchronous
async def test_the_first_page_says_what_is_wrong_what_is_doubtful_and_what_to_do(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        service.health.checks["relay"] = lambda: {"ok": False, "error": "deaf → wait for the new control channel"}
        service.health.checks["disk"] = lambda: {"ok": True, "warning": "only 3 % of the disk is free"}
        page = text(await Browser(port).get("/clinic"))
    assert "relay: deaf → wait for the new control channel" in page
    assert "disk: only 3 % of the disk is free" in page
    assert "<strong>not well</strong>" in page


@asynchronous
async def test_a_refused_status_stays_in_sight_when_a_later_one_is_acknowledged(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=today())
        start(service.gateway, step_uid(1), naming())
        change(service.gateway, completed(step_uid(1)))
        first, second = service.gateway.find_updates()
        service.gateway.park_update(first.event_id, reason="unknown_status", attempts=1)
        waiting = await Browser(port).get("/clinic.json")
        service.gateway.acknowledge_update(second.event_id, answer="updated", attempts=1)
        told = await Browser(port).get("/clinic.json")
    assert [one.json["items"][0]["told"]["state"] for one in (waiting, told)] == ["parked", "parked"]
    assert told.json["items"][0]["told"]["status"] == "IN PROGRESS"
