"""The page of performed steps without an appointment: whose they may be, and what an operator decides."""

from __future__ import annotations

import pytest
from ops_support import asynchronous, running
from window_support import (
    OPERATOR,
    ROLES,
    VIEWER,
    Browser,
    Make,
    names_nobody,
    operators_of,
    refused_to_a_viewer_and_to_forgers,
    secret_of,
    signed_in,
    text,
)

from bench.synthetic import PERSON, completed, naming, schedule, start, step_uid
from bench.synthetic import change as changed
from gateway.audit import activities
from gateway.domain.performed_procedure_step import PerformedProcedureStep

STRANGER = {"patient_id": "9990000042", "patient_name": "JONES^MARY"}


@asynchronous
async def test_steps_without_an_appointment_and_steps_never_finished_are_told_masked(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        empty = await Browser(port).get("/unmatched")
        schedule(service.gateway)
        start(service.gateway, step_uid(1), naming())
        start(service.gateway, step_uid(2), naming("ACC404"), **STRANGER)
        page, told = await Browser(port).get("/unmatched"), await Browser(port).get("/unmatched.json")
    assert "None: each performed step has its appointment." in text(empty)
    (step,), (unfinished,) = told.json["unmatched"], told.json["unfinished"]
    assert (step["participant"], step["named"]) == ("J•••• M•••", ["ACC404"])
    assert "no item has the accession number" in step["unmatched"][0]
    assert unfinished["accession_numbers"] == ["ACC001"]
    assert names_nobody([page, told], ["JONES", "MARY", STRANGER["patient_id"], "SMITH", PERSON["patient_id"]])


@asynchronous
async def test_a_step_is_linked_with_a_reason_and_the_appointment_follows_it(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        start(service.gateway, step_uid(2))
        changed(service.gateway, completed(step_uid(2)))
        browser, secret = await signed_in(port, OPERATOR)
        fields = {"secret": secret, "sop_instance_uid": step_uid(2), "reason": "the number was typed wrongly"}
        unknown = await browser.post("/unmatched/link", **fields, accession_number="ACC9")
        done = await browser.post("/unmatched/link", **fields, accession_number=" ACC001 ", back="/unmatched")
        page = await browser.get("/unmatched")
        kept = await operators_of(service, PerformedProcedureStep.Linked.TOPIC)
        counts = service.gateway.count_by_status()
    assert (unknown.status, done.status) == (404, 303)
    assert "The step is linked to ACC001, which is completed." in text(page)
    assert counts == {"COMPLETED": 1}
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "the number was typed wrongly")]


@asynchronous
async def test_a_step_of_another_patient_is_linked_only_when_that_is_ticked(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        start(service.gateway, step_uid(2), **STRANGER)
        browser, secret = await signed_in(port, OPERATOR)
        fields = {
            "secret": secret,
            "sop_instance_uid": step_uid(2),
            "accession_number": "ACC001",
            "reason": "id corrected",
        }
        without = await browser.post("/unmatched/link", **fields)
        ticked = await browser.post("/unmatched/link", **fields, despite_other_patient="yes")
    assert (without.status, ticked.status) == (409, 303)
    assert "another patient" in text(without)
    assert names_nobody([without], ["JONES", "SMITH", STRANGER["patient_id"]])


@asynchronous
async def test_a_phantoms_step_is_dismissed_with_a_reason(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        start(service.gateway, step_uid(2), **STRANGER)
        browser, secret = await signed_in(port, OPERATOR)
        fields = {"secret": secret, "sop_instance_uid": step_uid(2), "reason": "the morning's phantom"}
        done = await browser.post("/unmatched/dismiss", **fields, back="/unmatched")
        told = await browser.get("/unmatched.json")
        again = await browser.post("/unmatched/dismiss", **fields)
        kept = await operators_of(service, PerformedProcedureStep.Dismissed.TOPIC)
    assert (done.status, again.status) == (303, 409)
    assert told.json["unmatched"] == []
    assert [(who, said["reason"]) for who, said in kept] == [("Nurse Ada", "the morning's phantom")]


@asynchronous
async def test_names_are_revealed_for_a_reason_that_is_kept_with_the_steps(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        start(service.gateway, step_uid(2), **STRANGER)
        browser = Browser(port)
        secret = secret_of(await browser.get("/unmatched"))
        naming_her = await browser.post("/unmatched/reveal", secret=secret, reason="is it Mary?")
        await browser.post("/unmatched/reveal", secret=secret, reason="whose is it")
        shown, other = await browser.get("/unmatched"), await Browser(port).get("/unmatched")
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
    assert naming_her.status == 400
    assert "JONES MARY" in text(shown)
    assert "JONES" not in text(other)
    assert look.subjects == (step_uid(2),)


@asynchronous
async def test_only_an_operators_own_form_decides_about_a_step(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        start(service.gateway, step_uid(2))
        await refused_to_a_viewer_and_to_forgers(
            port, "/unmatched/link", sop_instance_uid=step_uid(2), accession_number="ACC001"
        )
        await refused_to_a_viewer_and_to_forgers(port, "/unmatched/dismiss", sop_instance_uid=step_uid(2))
        viewer, _ = await signed_in(port, VIEWER)
        page = await viewer.get("/unmatched")
        left = service.gateway.unmatched_steps()
    assert "<form" not in text(page).split("<main")[1]
    assert [row.sop_instance_uid for row in left] == [step_uid(2)]
