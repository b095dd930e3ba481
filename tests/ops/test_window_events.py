"""The log's pages: the newest first, what is wanted of it, and one event whole; nobody is named unasked."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from ops_support import asynchronous, running
from window_support import AUDITOR, ROLES, VIEWER, WORDS, Browser, Make, names_nobody, secret_of, signed_in, text

from bench.synthetic import PERSON, naming, schedule, start, step_uid
from gateway.audit import activities
from gateway.domain.lifecycle import Status
from gateway.eventstore import chain

SITE = ZoneInfo("Europe/London")


@asynchronous
async def test_events_are_listed_the_newest_first_a_page_at_a_time(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        for number in range(40):
            schedule(service.gateway, f"ACC{number:03}")
        first = await Browser(port).get("/events.json")
        second = await Browser(port).get(f"/events.json?{first.json['older']}")
        page = await Browser(port).get(f"/events?{first.json['older']}")
        with service.gateway.reading() as connection:
            head = chain.head(connection)[0]
    positions = [line["position"] for line in first.json["lines"] + second.json["lines"]]
    assert positions == list(range(head, 0, -1))
    assert (len(first.json["lines"]), first.json["found"], first.json["head"]) == (50, head, head)
    assert second.json["older"] == ""
    assert 'id="newest"' in text(page)


@asynchronous
async def test_events_are_chosen_by_kind_accession_number_and_time(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        schedule(service.gateway, "ACC002")
        start(service.gateway, step_uid(1), naming())
        then = quote(f"{datetime.now(SITE) + timedelta(seconds=1):%Y-%m-%d %H:%M:%S.%f}")
        day = f"{datetime.now(SITE):%Y-%m-%d}"
        browser = Browser(port)
        asked = {
            query: [line["kind"] for line in (await browser.get(f"/events.json?{query}")).json["lines"]]
            for query in (
                "kind=PerformedProcedureStep",
                "kind=WorklistItem.Scheduled",
                "accession=ACC002",
                f"since={then}",
                f"until={day}&kind=WorklistItem.StepStarted",
                f"since={day}T00:00&kind=WorklistItem.StepStarted",
            )
        }
    assert list(asked.values()) == [
        ["PerformedProcedureStep.Started"],
        ["WorklistItem.Scheduled", "WorklistItem.Scheduled"],
        ["RelayAction.Accepted", "WorklistItem.Scheduled"],
        [],
        ["WorklistItem.StepStarted"],
        ["WorklistItem.StepStarted"],
    ]


@pytest.mark.parametrize(
    "path",
    ["/events?kind=x", "/events?since=yesterday", "/events?until=2026-13-01", "/events?before=x", "/events/x"],
)
@asynchronous
async def test_nonsense_is_told_as_such_with_400(
    path: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page = await Browser(port).get(path)
        told = await Browser(port).get(path.replace("?", ".json?") if "?" in path else f"{path}.json")
    assert (page.status, told.status, told.json["code"]) == (400, 400, "validation")


@asynchronous
async def test_a_position_beyond_the_log_is_404(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        answers = [await Browser(port).get(f"/events/{position}") for position in ("0", "99", "9" * 15)]
    assert [answer.status for answer in answers] == [404, 404, 404]


@asynchronous
async def test_an_event_is_shown_whole_and_what_identifies_somebody_only_for_a_reason_that_is_kept(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (service, port):
        schedule(service.gateway)
        auditor, secret = await signed_in(port, AUDITOR)
        masked = await auditor.get("/events/1"), await auditor.get("/events/1.json")
        naming_her = await auditor.post("/events/reveal", secret=secret, position="1", reason="is she Jane")
        done = await auditor.post("/events/reveal", secret=secret, position="1", reason="an inquiry", back="/events/1")
        shown, data = await auditor.get("/events/1"), await auditor.get("/events/1.json")
        another = await auditor.get("/events/2")
        viewer, secret = await signed_in(port, VIEWER)
        refused = await viewer.post("/events/reveal", secret=secret, position="1", reason="curious")
        with service.gateway.reading() as connection:
            (look,) = [one for one in activities.find(connection) if one.activity == "looked"]
    assert masked[1].json["event"]["kind"] == "WorklistItem.Scheduled"
    assert masked[1].json["event"]["fields"]["accession_number"] == "ACC001"
    assert names_nobody([*masked, another])
    assert (naming_her.status, done.status, refused.status) == (400, 303, 403)
    assert PERSON["patient_name"] in text(shown)
    assert data.json["event"]["identifying"]["person"]["patient_id"] == PERSON["patient_id"]
    assert (look.who, look.subjects, look.details["reason"]) == ("Nurse Ada", ("ACC001",), "an inquiry")


@asynchronous
async def test_a_reason_that_an_operator_wrote_is_hidden_whatever_kind_of_event_it_stands_in(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        service.gateway.correct_status("ACC001", Status.CANCELLED, reason="Jane rang", operator="ada")
        (update,) = service.gateway.find_updates()
        service.gateway.withdraw_update(update.event_id, reason="told Jane", operator="ada")
        service.gateway.requeue_update(update.event_id, reason="Jane asks", operator="ada")
        with service.gateway.reading() as connection:
            head = chain.head(connection)[0]
        answers = [await Browser(port).get(f"/events/{n}{end}") for n in range(1, head + 1) for end in ("", ".json")]
        secret = secret_of(await Browser(port).get("/clinic"))
    assert {answer.status for answer in answers} == {200}
    assert names_nobody(answers, [*WORDS, "Jane"])
    assert secret


@asynchronous
async def test_an_event_that_was_altered_is_said_to_be_so(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway)
        with service.gateway.datastore.writer.transaction() as cursor:
            cursor.execute("UPDATE stored_events SET state = X'7B' WHERE rowid = 1")
        page, listed = await Browser(port).get("/events/1"), await Browser(port).get("/events")
    assert (page.status, listed.status) == (503, 200)
    assert "gateway events verify" in text(page)
