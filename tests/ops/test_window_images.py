"""The images in the window: on the clinic's list, on the appointment's page, and those of nobody."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ops_support import asynchronous, running
from window_support import (
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

from bench.synthetic import RECEIVED, orthanc_id, place, schedule, study, study_uid
from gateway.application import Gateway
from gateway.audit import activities
from gateway.domain.received_study import ReceivedStudy, Route
from gateway.ops.window.app import Window
from tests.end_to_end.harness import until

SITE = ZoneInfo("Europe/London")
STRANGER: dict[str, Any] = {"patient_id": "9990000042", "patient_name": "JONES^MARY"}
TO_THE_ARCHIVE = Route(rule="all of it", target="PACS")


def receive(
    gateway: Gateway, number: int = 1, accession_number: str = "ACC001", *routes: Route, images: int = 4
) -> None:
    """Orthanc has a study of the patient's own."""
    what = study(number, accession_number, images=images)
    gateway.receive_study(what, place(number), received_at=RECEIVED, routes=routes)


def receive_strangers(gateway: Gateway, number: int = 2) -> None:
    """Orthanc has a study that nobody on the list explains."""
    gateway.receive_study(study(number, "ACC404", **STRANGER), place(number), received_at=RECEIVED)


@asynchronous
async def test_the_clinics_list_counts_the_images_of_each_appointment_now_and_at_any_moment(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=f"{datetime.now(SITE):%Y%m%d}")
        before = datetime.now(SITE)
        receive(service.gateway)
        between = datetime.now(SITE)
        receive(service.gateway, images=6)
        receive(service.gateway, 2, images=1)
        browser = Browser(port)
        page, sheet = await browser.get("/clinic"), await browser.get("/clinic.csv")
        moments = (f"at={then:%Y-%m-%dT%H:%M:%S.%f}" for then in (before, between))
        answers = [await browser.get(f"/clinic.json?{query}") for query in ("", *moments)]
    assert [answer.json["items"][0]["images"] for answer in answers] == [7, 0, 4]
    assert "7 images" in text(page)
    assert "images" in text(sheet).splitlines()[0]


@asynchronous
async def test_who_watches_the_list_is_told_that_images_have_come(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, _):
        schedule(service.gateway, scheduled_date=f"{datetime.now(SITE):%Y%m%d}")
        window: Window = service._window()  # the pages as the ops port opens them
        window.live.changes()
        receive(service.gateway)
        (change,) = window.live.changes()
        receive(service.gateway)
        unchanged = window.live.changes()
    assert (change["accession_number"], "4 images" in change["html"]) == ("ACC001", True)
    assert unchanged == []


@asynchronous
async def test_images_that_turn_out_to_be_of_another_patient_are_no_longer_counted(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=f"{datetime.now(SITE):%Y%m%d}")
        receive(service.gateway)
        service.gateway.receive_study(study(**STRANGER), place(2), received_at=RECEIVED)
        clinic, step = await Browser(port).get("/clinic.json"), await Browser(port).get("/step/ACC001.json")
    assert clinic.json["items"][0]["images"] == 0
    assert step.json["images"] == []


@asynchronous
async def test_an_appointments_page_has_its_studies_which_key_matched_and_where_they_went(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        receive(service.gateway, 1, "ACC001", TO_THE_ARCHIVE, Route(rule="priors", target="CAD"))
        service.gateway.route_succeeded(orthanc_id(1), "PACS", arrival=1, job="job-1", instances=4)
        service.gateway.route_failed(orthanc_id(1), "CAD", error="association refused")
        page, told = await Browser(port).get("/step/ACC001"), await Browser(port).get("/step/ACC001.json")
    (shown,) = told.json["images"]
    assert (shown["images"], shown["series"], shown["modalities"]) == (4, 1, ["MG"])
    assert (shown["station_ae_title"], shown["matched_by"]) == ("MAMMO1", ["accession_number"])
    routes = {route["target"]: (route["state"], route["images"], route["error"]) for route in shown["routes"]}
    assert routes == {"PACS": ("routed", 4, ""), "CAD": ("failing", None, "association refused")}
    for words in ("4 in 1 series", "accession number", "association refused", study_uid(1)):
        assert words in text(page)
    assert names_nobody([page, told], WORDS)


@asynchronous
async def test_without_an_orthanc_the_page_says_which_setting_names_one(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page, told = await Browser(port).get("/images"), await Browser(port).get("/images.json")
    assert told.json["state"] == "not configured"
    assert "No Orthanc is configured" in text(page)
    assert "GATEWAY_ORTHANC_URL" in text(page)


@pytest.mark.slow
@asynchronous
async def test_an_orthanc_that_does_not_answer_is_told_with_what_to_do(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(gateway_orthanc_url="http://127.0.0.1:1"), monkeypatch) as (service, port):
        early = await Browser(port).get("/images")
        images = service.images
        assert images
        await asyncio.to_thread(until, lambda: images.feed_status and images.feed_status.error, "the feed fails")
        page, told = await Browser(port).get("/images"), await Browser(port).get("/images.json")
    assert "It is asked in a moment." in text(early)
    assert (told.json["state"], told.json["feed"]["code"]) == ("failing", "orthanc_unreachable")
    assert "is Orthanc running" in text(page)


@asynchronous
async def test_images_of_nobody_are_listed_masked_with_why_and_those_that_could_not_be_read(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        receive(service.gateway)
        receive_strangers(service.gateway)
        service.gateway.begin_feed(reason="the first", database="")
        service.gateway.park_study("0000-id", "Orthanc answers 500", place(9))
        page, told = await Browser(port).get("/images"), await Browser(port).get("/images.json")
    (shown,) = told.json["unmatched"]
    assert (shown["participant"], shown["named"], shown["images"]) == ("J•••• M•••", "ACC404", 4)
    assert "no item has the accession number" in shown["unmatched"]
    assert [one["why"] for one in told.json["parked"]] == ["Orthanc answers 500"]
    assert {one["accession_number"] for one in told.json["latest"]} == {"", "ACC001"}
    assert "Orthanc answers 500" in text(page)
    assert names_nobody([page, told], ["JONES", "MARY", STRANGER["patient_id"], *WORDS])


@asynchronous
async def test_a_phantoms_images_are_dismissed_with_a_reason(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        receive_strangers(service.gateway)
        browser, secret = await signed_in(port, OPERATOR)
        fields = {"secret": secret, "orthanc_id": orthanc_id(2), "reason": "the morning's phantom"}
        done = await browser.post("/images/dismiss", **fields, back="/images")
        told = await browser.get("/images.json")
        again = await browser.post("/images/dismiss", **fields)
        kept = await operators_of(service, ReceivedStudy.Dismissed.TOPIC)
    assert (done.status, again.status) == (303, 409)
    assert told.json["unmatched"] == []
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "the morning's phantom")]


@asynchronous
async def test_a_study_that_was_sent_by_hand_is_sent_no_more(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        receive(service.gateway, 1, "ACC001", TO_THE_ARCHIVE)
        browser, secret = await signed_in(port, OPERATOR)
        before = await browser.get("/images.json")
        fields = {"secret": secret, "orthanc_id": orthanc_id(1), "target": "PACS", "reason": "sent by hand"}
        done = await browser.post("/images/abandon", **fields, back="/images")
        after = await browser.get("/images.json")
        kept = await operators_of(service, ReceivedStudy.RouteAbandoned.TOPIC)
    assert [one["state"] for one in before.json["open_routes"]] == ["waiting"]
    assert done.status == 303
    assert after.json["open_routes"] == []
    assert [one["state"] for one in after.json["settled_routes"]] == ["abandoned"]
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "sent by hand")]


@asynchronous
async def test_names_on_images_of_nobody_are_revealed_for_a_reason_that_is_kept(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        receive_strangers(service.gateway)
        browser = Browser(port)
        secret = secret_of(await browser.get("/images"))
        naming_her = await browser.post("/images/reveal", secret=secret, reason="is it Mary?")
        await browser.post("/images/reveal", secret=secret, reason="whose are they")
        shown, other = await browser.get("/images"), await Browser(port).get("/images")
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
    assert naming_her.status == 400
    assert "JONES MARY" in text(shown)
    assert "JONES" not in text(other)
    assert look.subjects == (study_uid(2),)


@asynchronous
async def test_only_an_operators_own_form_decides_about_images(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        receive_strangers(service.gateway)
        uid = orthanc_id(2)
        await refused_to_a_viewer_and_to_forgers(port, "/images/dismiss", orthanc_id=uid)
        await refused_to_a_viewer_and_to_forgers(port, "/images/abandon", orthanc_id=uid, target="PACS")
        viewer, _ = await signed_in(port, VIEWER)
        page = await viewer.get("/images")
        left = service.gateway.unmatched_studies()
    assert "<form" not in text(page).split("<main")[1]
    assert [row.orthanc_id for row in left] == [uid]
