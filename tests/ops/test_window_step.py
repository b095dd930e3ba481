"""An appointment's page: its story, what was performed, nobody named unasked, and set by hand only with a reason."""

from __future__ import annotations

import asyncio
import posixpath
import re
from html import unescape
from urllib.parse import quote, unquote

import pytest
from ops_support import asynchronous, running
from window_support import (
    AUDITOR,
    OPERATOR,
    ROLES,
    VIEWER,
    WORDS,
    Browser,
    Make,
    names_nobody,
    operators_of,
    refused_to_a_viewer_and_to_forgers,
    secret_of,
    signed_in,
    text,
)

from bench.synthetic import PERSON, appointment, change, completed, naming, request, schedule, start, step_uid
from gateway.audit import activities
from gateway.domain.lifecycle import Status
from gateway.domain.worklist_item import WorklistItem
from gateway.rehearsal.modality import Modality


@asynchronous
async def test_an_examination_is_told_hop_by_hop_with_latencies_series_and_dose_and_nobody_named(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asyncio.to_thread(schedule, service.gateway)
        unit = Modality("127.0.0.1", service.dicom.port, "ORTHANC_MWL")
        await asyncio.to_thread(unit.perform, "ACC001")
        page, told = await Browser(port).get("/step/ACC001"), await Browser(port).get("/step/ACC001.json")
    assert (page.status, told.status) == (200, 200)
    assert told.json["summary"]["participant"] == "S•••• J•••"
    assert told.json["summary"]["status"] == "COMPLETED"
    hops = [hop["hop"] for hop in told.json["timeline"]]
    assert [hop for hop in hops if hop in ("accepted", "listed", "started", "completed")] == [
        "accepted",
        "listed",
        "started",
        "completed",
    ]
    assert all(hop["after"] for hop in told.json["timeline"][1:])
    assert "started_to_completed" in told.json["spans"]
    assert "started → completed" in text(page)
    (performed,) = told.json["performed"]
    assert ["dose", "4 exposures, entrance dose 5.8 mGy, organ dose 1.87 mGy"] in performed["rows"]
    assert "4 exposures, entrance dose 5.8 mGy" in text(page)
    assert names_nobody([page, told], [*WORDS, "RADIOGRAPHER"])


@asynchronous
async def test_an_accession_number_that_was_only_ever_refused_has_its_story_too(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        service.gateway.cancel("ACC404", None, request=request("cancel", "worklist.cancel_item"))
        page, told = await Browser(port).get("/step/ACC404"), await Browser(port).get("/step/ACC404.json")
    assert (page.status, told.json["summary"]) == (200, None)
    assert [hop["hop"] for hop in told.json["timeline"]] == ["received", "rejected"]
    assert "No appointment ever came" in text(page)
    assert "Complete the appointment" not in text(page)


@pytest.mark.parametrize("path", ["/step/ACC999", "/step/", "/step/%00", "/step/" + "A" * 200])
@asynchronous
async def test_an_unknown_accession_number_is_a_page_of_its_own_with_404(
    path: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page, told = await Browser(port).get(path), await Browser(port).get(f"{path}.json")
    assert (page.status, told.status, told.json["code"]) == (404, 404, "not_found")
    assert "That did not work" in text(page)


HARD = ["A<script>", "A?B", "A#B", "A%B", "A%41B", 'A"B&C', "/", "A/B", "A/../B", "../B", "..", ".", "%2E%2E", "reveal"]
HARD += ["B.json", "B.csv", ".json", "A/B.json"]
"""Accession numbers that the contract takes, and that say something else where they stand bare in an address."""


@pytest.mark.parametrize("number", HARD)
@asynchronous
async def test_any_accession_number_is_escaped_and_its_page_can_be_shared(
    number: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, number)
        browser = Browser(port)
        [address] = set(steps_of(text(await browser.get("/events"))))
        page = await browser.get(as_browsers_ask(address))
        done = await browser.post(
            "/step/complete",
            secret=secret_of(page),
            accession_number=number,
            reason="no MPPS",
            back=back_of(text(page)),
        )
        after = await browser.get(as_browsers_ask(done.headers["location"]))
        told = await browser.get(as_browsers_ask(json_link_of(text(page))))
    assert told.json["accession_number"] == number
    assert "<script>" not in text(page).replace("<script src", "")
    assert (done.status, after.status) == (303, 200)
    assert "scheduled → completed" in text(after)


@pytest.mark.parametrize("number", ["A/B", "B C"])
@asynchronous
async def test_an_address_with_the_accession_number_in_its_path_is_a_page_too(
    number: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, number)
        address = f"/step/{quote(number, safe='')}"
        page, told = await Browser(port).get(address), await Browser(port).get(f"{address}.json")
    assert told.json["accession_number"] == number
    assert (json_link_of(text(page)), back_of(text(page))) == (f"{address}.json", address)


@asynchronous
async def test_a_modalitys_links_are_its_own_whatever_it_calls_itself(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asyncio.to_thread(schedule, service.gateway, "A/../B")
        unit = Modality("127.0.0.1", service.dicom.port, "ORTHANC_MWL", "X/../MAMMO1")
        await asyncio.to_thread(unit.find)
        await asyncio.to_thread(service.record.close)
        pages = [text(await Browser(port).get(path)) for path in ("/modalities", "/step?accession=A%2F..%2FB")]
    assert 'href="/modalities/X%2F..%2FMAMMO1"' in pages[0]
    assert 'href="/modalities/X%2F..%2FMAMMO1?accession=A%2F..%2FB"' in pages[1]


def steps_of(page: str) -> list[str]:
    """Where a page's links to appointments lead."""
    return [unescape(link) for link in re.findall(r'href="(/step[/?][^"]*)"', page)]


def as_browsers_ask(address: str) -> str:
    """A browser resolves dots in a path, and a proxy may have decoded its slashes before (RFC 3986 5.2.4)."""
    path, mark, query = address.partition("?")
    return posixpath.normpath(unquote(path).replace("%", "%25")) + mark + query if ".." in unquote(path) else address


def json_link_of(page: str) -> str:
    """Where the page says that its data is."""
    [link] = re.findall(r'href="([^"]+)">This page as JSON', page)
    return unescape(link)


def back_of(page: str) -> str:
    """Where the page's forms lead back to, as a browser reads it."""
    return unescape(page.split('name="back" value="')[1].split('"', maxsplit=1)[0])


@asynchronous
async def test_names_and_written_reasons_are_shown_for_a_reason_that_is_kept_with_the_accession_number(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        service.gateway.correct_status("ACC001", Status.CANCELLED, reason="Jane rang", operator="ada")
        browser = Browser(port)
        masked = await browser.get("/step/ACC001"), await browser.get("/step/ACC001.json")
        secret = secret_of(masked[0])
        naming_her = await browser.post(
            "/step/reveal", secret=secret, accession_number="ACC001", reason="it is Jane again"
        )
        unknown = await browser.post("/step/reveal", secret=secret, accession_number="ACC9", reason="phone call")
        assert "Jane" not in text(await browser.get("/step/ACC001"))
        await browser.post("/step/reveal", secret=secret, accession_number="ACC001", reason="phone call")
        shown, data = await browser.get("/step/ACC001"), await browser.get("/step/ACC001.json")
        other = await Browser(port).get("/step/ACC001")
        schedule(service.gateway, "ACC002")
        another = await browser.get("/step/ACC002")
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
    assert names_nobody([*masked, other, another], ["SMITH", "JANE", "Jane", PERSON["patient_id"]])
    assert (naming_her.status, unknown.status) == (400, 404)
    assert "SMITH JANE" in text(shown)
    assert "Jane rang" in text(shown)
    assert data.json["summary"]["birth_date"] == PERSON["patient_birth_date"]
    assert (look.subjects, look.details["reason"], look.details["verb"]) == (
        ("ACC001",),
        "phone call",
        "window step ACC001",
    )


@pytest.mark.parametrize(
    "reason",
    ["NHS 999 000 0018 rang", "born 1965-03-15", "born 15/03/1965", "Frau SMÍTH rang", "\uff2a\uff41\uff4e\uff45"],
)
@asynchronous
async def test_a_reason_names_nobody_however_it_is_written(
    reason: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        browser = Browser(port)
        secret = secret_of(await browser.get("/step/ACC001"))
        done = await browser.post("/step/reveal", secret=secret, accession_number="ACC001", reason=reason)
    assert done.status == 400


@asynchronous
async def test_an_act_that_is_refused_leads_back_with_what_was_written(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        browser = Browser(port)
        page = await browser.get("/step/ACC001")
        written = "she <did> not come; " * 20
        refused = await browser.post(
            "/step/cancel", secret=secret_of(page), accession_number="ACC001", reason=written, back=back_of(text(page))
        )
    assert refused.status == 400
    assert "at most 200 characters, and these are 399" in text(refused)
    assert '<a href="/step/ACC001">' in text(refused)
    assert "You wrote: she &lt;did&gt; not come" in text(refused)


@asynchronous
async def test_an_operator_completes_and_cancels_with_a_reason_under_their_own_name(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        schedule(service.gateway, "ACC002")
        browser, secret = await signed_in(port, OPERATOR)
        for number, act in (("ACC001", "complete"), ("ACC002", "cancel")):
            done = await browser.post(f"/step/{act}", secret=secret, accession_number=number, reason="told by phone")
            assert done.status == 303
        page = await browser.get("/step/ACC001")
        again = await browser.post("/step/complete", secret=secret, accession_number="ACC001", reason="again")
        unknown = await browser.post("/step/cancel", secret=secret, accession_number="ACC9", reason="typo")
        kept = await operators_of(service, WorklistItem.StatusCorrected.TOPIC)
    assert [(who, said["status"], said["reason"]) for who, said in kept] == [
        ("Nurse Ada", "COMPLETED", "told by phone"),
        ("Nurse Ada", "CANCELLED", "told by phone"),
    ]
    assert "Nurse Ada" in text(page)
    assert "Complete the appointment" not in text(page), "a completed appointment stays so"
    assert (again.status, unknown.status) == (409, 404)


@asynchronous
async def test_only_an_operators_own_form_changes_an_appointment(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        for act in ("complete", "cancel"):
            await refused_to_a_viewer_and_to_forgers(port, f"/step/{act}", accession_number="ACC001")
        viewer, _ = await signed_in(port, VIEWER)
        auditor, secret = await signed_in(port, AUDITOR)
        pages = text(await viewer.get("/step/ACC001")), text(await auditor.get("/step/ACC001"))
        revealed = await auditor.post("/step/reveal", secret=secret, accession_number="ACC001", reason="an inquiry")
        status = service.gateway.count_by_status()
    assert ["Reveal names" in page for page in pages] == [False, True]
    assert not [page for page in pages if "/step/complete" in page]
    assert revealed.status == 303
    assert status == {"SCHEDULED": 1}


@asynchronous
async def test_why_it_is_or_is_not_on_a_units_list_is_one_step_away(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        await asyncio.to_thread(service.gateway.schedule, appointment("ACC1 2"))
        unit = Modality("127.0.0.1", service.dicom.port, "ORTHANC_MWL", "MAMMO1")
        await asyncio.to_thread(unit.find)
        await asyncio.to_thread(service.record.close)
        page = text(await Browser(port).get("/step/ACC1%202"))
        address = "/modalities/MAMMO1?accession=ACC1%202"
        explained = await Browser(port).get(address)
    assert address in page
    assert "every key matches" in text(explained)


@asynchronous
async def test_a_database_that_cannot_be_read_is_a_page_with_503_and_what_to_do(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        start(service.gateway, step_uid(1), naming())
        change(service.gateway, completed(step_uid(1)))
        browser = Browser(port)
        await browser.get("/step/ACC001")
        with service.gateway.datastore.writer.transaction() as cursor:
            cursor.execute("ALTER TABLE timeline RENAME TO lost")
        page, told = await browser.get("/step/ACC001"), await browser.get("/step/ACC001.json")
        with service.gateway.datastore.writer.transaction() as cursor:
            cursor.execute("ALTER TABLE lost RENAME TO timeline")
    assert (page.status, told.status, told.json["code"]) == (503, 503, "store_unusable")
    assert told.json["remedy"]


@asynchronous
async def test_a_program_is_refused_names_that_it_could_not_be_shown_and_no_look_is_kept(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        program = Browser(port, Authorization=f"Bearer {OPERATOR}", Accept="application/json")
        told = await program.post("/step/reveal", accession_number="ACC001", reason="phone call")
        with service.gateway.reading() as connection:
            looks = [one for one in activities.find(connection) if one.activity == "looked"]
    assert (told.status, told.json["code"]) == (403, "access_refused")
    assert "sign in" in told.json["remedy"]
    assert looks == []
