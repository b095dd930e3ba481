"""Lists as CSV: the clinic, the outbox and the log, masked as their pages are."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from ops_support import Answer, asynchronous, running
from window_support import ROLES, Browser, Make, names_nobody, secret_of, text

from bench.synthetic import naming, schedule, start, step_uid
from gateway.ops.window.spreadsheet import csv_of


def read(answer: Answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text(answer), newline="")))


@asynchronous
async def test_each_list_is_a_file_that_names_nobody(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    day = f"{datetime.now(ZoneInfo('Europe/London')):%Y%m%d}"
    async with running(own_settings(), monkeypatch) as (service, port):
        schedule(service.gateway, scheduled_date=day)
        start(service.gateway, step_uid(1), naming())
        browser = Browser(port)
        answers = {name: await browser.get(f"/{name}.csv") for name in ("clinic", "outbox", "events")}
        page = await browser.get("/clinic")
        await browser.post("/clinic/reveal", secret=secret_of(page), day=day, reason="a list on paper")
        revealed, other = await browser.get("/clinic.csv"), await Browser(port).get("/clinic.csv")
    assert {answer.status for answer in answers.values()} == {200}
    assert answers["clinic"].headers["content-disposition"] == 'attachment; filename="clinic.csv"'
    assert 'href="/clinic.csv"' in text(page)
    assert [(row["accession_number"], row["status"]) for row in read(answers["clinic"])] == [("ACC001", "IN PROGRESS")]
    assert [(row["status"], row["state"]) for row in read(answers["outbox"])] == [("IN PROGRESS", "waiting")]
    assert [row["position"] for row in read(answers["events"])] == ["5", "4", "3", "2", "1"]
    assert names_nobody([*answers.values(), other])
    assert read(revealed)[0]["participant"] == "SMITH JANE"


@asynchronous
async def test_a_file_is_for_those_who_may_look(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        answers = [await Browser(port, Accept="*/*").get(f"/{name}.csv") for name in ("clinic", "outbox", "events")]
    assert [answer.status for answer in answers] == [401, 401, 401]


def test_nothing_that_others_wrote_becomes_a_formula() -> None:
    written = csv_of([("a", "b"), ('=HYPERLINK("http://x")', "-1+1"), (None, 'he said "no"\nand left')])
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert rows == [["a", "b"], ['\'=HYPERLINK("http://x")', "'-1+1"], ["", 'he said "no"\nand left']]
