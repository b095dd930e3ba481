"""The outbox's page: what waits, what the web app refused, and what an operator does about it."""

from __future__ import annotations

import pytest
from ops_support import asynchronous, running
from window_support import (
    OPERATOR,
    ROLES,
    VIEWER,
    Browser,
    Make,
    operators_of,
    refused_to_a_viewer_and_to_forgers,
    signed_in,
    text,
)

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway
from gateway.delivery.attempts import AttemptBook
from gateway.domain.epoch import Epoch
from gateway.domain.status_update import StatusUpdate
from tests.eventstore.everything import restored


def one_parked_and_one_waiting(gateway: Gateway) -> tuple[str, str]:
    """IN PROGRESS was refused, COMPLETED waits; their event ids."""
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    change(gateway, completed(step_uid(1)))
    first, second = gateway.find_updates()
    book = AttemptBook(gateway)
    book.begin(first.event_id)
    gateway.park_update(first.event_id, reason="appointment_not_found", attempts=1)
    book.begin(second.event_id)
    book.note_failure(second.event_id, "the web app answered: error")
    return first.event_id, second.event_id


@asynchronous
async def test_what_waits_and_what_was_refused_is_told_with_tries_and_the_web_apps_answer(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        empty = await Browser(port).get("/outbox")
        one_parked_and_one_waiting(service.gateway)
        page, told = await Browser(port).get("/outbox"), await Browser(port).get("/outbox.json")
    assert text(empty).count("<p>None.</p>") == 2
    (parked,), (waiting,) = told.json["parked"], told.json["waiting"]
    assert (parked["status"], parked["answer"], parked["attempts"]) == ("IN PROGRESS", "appointment_not_found", 1)
    assert (waiting["status"], waiting["answer"]) == ("COMPLETED", "the web app answered: error")
    assert "appointment_not_found" in text(page)
    assert told.json["restored"] is None


@asynchronous
async def test_one_whose_dials_fail_is_not_told_as_never_sent_but_as_not_having_reached_the_web_app(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        _, waiting = one_parked_and_one_waiting(service.gateway)
        book = AttemptBook(service.gateway)
        book.take_back(waiting)
        page = text(await Browser(port).get("/outbox"))
    row = page.split(f'id="update-{waiting}"')[1].split("</tr>")[0]
    assert 'data-heading="Reached the web app">0 times</td>' in row
    assert "the web app answered: error" in row


@asynchronous
async def test_a_refused_one_is_sent_again_by_an_operator_with_a_reason(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        refused, _ = one_parked_and_one_waiting(service.gateway)
        browser, secret = await signed_in(port, OPERATOR)
        done = await browser.post(
            "/outbox/retry", secret=secret, event_id=refused, reason="it is known there now", back="/outbox"
        )
        page = await browser.get(done.headers["location"])
        again = await browser.post("/outbox/retry", secret=secret, event_id=refused, reason="once more")
        kept = await operators_of(service, StatusUpdate.Requeued.TOPIC)
        states = {row.event_id: row.state for row in service.gateway.find_updates()}
    assert (done.status, done.headers["location"]) == (303, "/outbox")
    assert "It is sent again" in text(page)
    assert again.status == 409
    assert states[refused] == "waiting"
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "it is known there now")]


@asynchronous
async def test_one_that_would_put_a_later_status_back_goes_only_when_that_is_ticked(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        refused, later = one_parked_and_one_waiting(service.gateway)
        service.gateway.acknowledge_update(later, answer="updated", attempts=1)
        browser, secret = await signed_in(port, OPERATOR)
        fields = {"secret": secret, "event_id": refused, "reason": "they ask for it"}
        without = await browser.post("/outbox/retry", **fields)
        ticked = await browser.post("/outbox/retry", **fields, force="yes")
    assert (without.status, ticked.status) == (409, 303)
    assert "a later status" in text(without)


@asynchronous
async def test_a_waiting_one_is_parked_and_what_the_operator_wrote_is_not_on_the_page(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        _, waiting = one_parked_and_one_waiting(service.gateway)
        browser, secret = await signed_in(port, OPERATOR)
        done = await browser.post("/outbox/park", secret=secret, event_id=waiting, reason="told Jane's GP")
        told, page = await browser.get("/outbox.json"), await browser.get("/outbox")
        kept = await operators_of(service, StatusUpdate.Parked.TOPIC)
    assert done.status == 303
    by_hand = next(update for update in told.json["parked"] if update["event_id"] == waiting)
    assert by_hand["answer"] == "parked by an operator: •••"
    assert "Jane" not in text(page) + text(told)
    assert ("Nurse Ada", "told Jane's GP") in [(who, said["reason"]) for who, said in kept]


@asynchronous
async def test_after_a_restore_the_outbox_goes_on_when_an_operator_has_looked(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        restored(service.gateway)
        browser, secret = await signed_in(port, OPERATOR)
        before = await browser.get("/outbox")
        done = await browser.post("/outbox/resume", secret=secret, reason="looked at what was lost", back="/outbox")
        after = await browser.get("/outbox")
        again = await browser.post("/outbox/resume", secret=secret, reason="once more")
        kept = await operators_of(service, Epoch.DeliveryResumed.TOPIC)
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "looked at what was lost")]
    assert "Nothing is sent since a restore" in text(before)
    assert done.status == 303
    assert "Nothing is sent since a restore" not in text(after)
    assert again.status == 409


@asynchronous
async def test_only_an_operators_own_form_moves_a_status_event(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        refused, waiting = one_parked_and_one_waiting(service.gateway)
        await refused_to_a_viewer_and_to_forgers(port, "/outbox/retry", event_id=refused)
        await refused_to_a_viewer_and_to_forgers(port, "/outbox/park", event_id=waiting)
        await refused_to_a_viewer_and_to_forgers(port, "/outbox/resume")
        viewer, _ = await signed_in(port, VIEWER)
        page = await viewer.get("/outbox")
        states = {row.event_id: row.state for row in service.gateway.find_updates()}
    assert "<form" not in text(page).split("<main")[1]
    assert states == {refused: "parked", waiting: "waiting"}
