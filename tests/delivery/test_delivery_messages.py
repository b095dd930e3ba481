"""The event as the web app reads it, and what each of its answers means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.synthetic import RECEIVED, appointment, change, completed, naming, place, schedule, start, step_uid, study
from gateway.application import Gateway
from gateway.delivery.attempts import AttemptBook
from gateway.delivery.messages import Meaning, event_text, read_acknowledgement

CONTRACT = Path(__file__).parents[2] / "gateway" / "contract" / "samples"
EVENT_ID = "4f8f6f0a-91f5-5b44-9a7c-0a3d0a4f4a10"
OTHER_ID = "00000000-0000-5000-8000-000000000000"
SAMPLE = json.loads((CONTRACT / "events" / "mpps.status_update.json").read_text())

Begin = Callable[[int], str]


def meaning(answer: Any) -> Meaning:
    return read_acknowledgement(answer if isinstance(answer, str) else json.dumps(answer), EVENT_ID).meaning


SAMPLES = {
    "updated": Meaning.SETTLED,
    "ok": Meaning.SETTLED,
    "action_not_found": Meaning.PARKED,
    "appointment_not_found": Meaning.PARKED,
    "no_appointment_id": Meaning.PARKED,
    "unknown_status": Meaning.PARKED,
    "unknown_event": Meaning.PARKED,
    "unknown_event_type": Meaning.PARKED,
    "error": Meaning.RETRIED,
}


def test_every_sample_of_an_acknowledgement_has_a_meaning_here() -> None:
    assert {file.stem for file in (CONTRACT / "acks").glob("*.json")} == SAMPLES.keys()


@pytest.mark.parametrize(("word", "expected"), SAMPLES.items())
def test_the_contract_s_acknowledgements_settle_park_or_retry(word: str, expected: Meaning) -> None:
    assert meaning((CONTRACT / "acks" / f"{word}.json").read_text()) is expected


CASES: list[tuple[Any, Meaning]] = [
    ({"status": "updated"}, Meaning.SETTLED),
    ({"status": "updated", "event_id": None}, Meaning.SETTLED),
    ({"status": "updated", "event_id": EVENT_ID}, Meaning.SETTLED),
    ({"status": "updated", "event_id": OTHER_ID}, Meaning.RETRIED),
    ({"status": "ok"}, Meaning.RETRIED),
    ({"status": "ok", "event_id": EVENT_ID}, Meaning.SETTLED),
    ({"status": "ok", "event_id": OTHER_ID}, Meaning.RETRIED),
    ({"status": "action_not_found", "event_id": EVENT_ID}, Meaning.PARKED),
    ({"status": "action_not_found", "event_id": OTHER_ID}, Meaning.RETRIED),
    ({"status": "error", "event_id": EVENT_ID}, Meaning.RETRIED),
    ({"status": "UPDATED"}, Meaning.RETRIED),
    ({"status": "created"}, Meaning.RETRIED),
    ({"status": "already_exists", "event_id": EVENT_ID}, Meaning.RETRIED),
    ({"status": ""}, Meaning.RETRIED),
    ({"status": None}, Meaning.RETRIED),
    ({"status": ["updated"]}, Meaning.RETRIED),
    ({}, Meaning.RETRIED),
    ([], Meaning.RETRIED),
    ("updated", Meaning.RETRIED),
    ("", Meaning.RETRIED),
    ("null", Meaning.RETRIED),
    ("[" * 100_000, Meaning.RETRIED),
]


@pytest.mark.parametrize(("answer", "expected"), CASES, ids=[str(answer)[:60] for answer, _ in CASES])
def test_only_what_is_about_this_event_settles_or_parks_it(answer: Any, expected: Meaning) -> None:
    assert meaning(answer) is expected


@given(answer=st.text() | st.dictionaries(st.text(), st.text() | st.none() | st.integers()).map(json.dumps))
def test_any_other_answer_is_retried(answer: str) -> None:
    assert meaning(answer) is Meaning.RETRIED


@given(word=st.text())
def test_of_a_word_that_nobody_knows_only_its_beginning_is_kept_and_readable(word: str) -> None:
    kept = read_acknowledgement(json.dumps({"status": f"x{word}"}), EVENT_ID).word
    assert kept.isascii()
    assert kept.isprintable()
    assert len(kept) < 500


# --- the event


@pytest.fixture
def event(gateway: Gateway, begin: Begin) -> dict[str, Any]:
    begin(1)
    [row] = gateway.due_updates()
    return json.loads(event_text(row, AttemptBook(gateway).begin(row.event_id)))


def test_an_event_has_the_keys_of_the_contract_in_their_order(event: dict[str, Any]) -> None:
    assert list(event) == list(SAMPLE)
    assert list(event["data"]) == list(SAMPLE["data"])


def test_its_fixed_values_are_the_contract_s(event: dict[str, Any]) -> None:
    for name in ("schema_version", "event_type", "source_system", "sequence", "attempt"):
        assert event[name] == SAMPLE[name]


def test_it_names_the_create_action_the_item_and_the_performed_step(event: dict[str, Any]) -> None:
    data = event["data"]
    assert (data["action_id"], data["accession_number"], data["status"]) == ("create-ACC001", "ACC001", "IN PROGRESS")
    assert data["mpps_instance_uid"] == "1.2.826.0.1.3680043.8.498.1"
    assert UUID(event["event_id"]).version == 5


def shape(instant: str) -> str:
    return re.sub(r"[0-9]", "9", instant)


PAGE = (Path(__file__).parents[2] / "docs" / "status-events.md").read_text(encoding="utf-8")

ON_THE_PAGE = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_the_event_of_a_step_without_counts_has_no_key_for_them(event: dict[str, Any]) -> None:
    assert "performed" not in event["data"]


def test_counts_and_dose_travel_as_the_page_for_the_web_app_says(gateway: Gateway) -> None:
    sample, _ = ON_THE_PAGE
    schedule(gateway)
    start(gateway, step_uid(1), naming("ACC001"))
    change(gateway, replace(completed(step_uid(1)), performed=sample["data"]["performed"]))
    row = gateway.find_updates()[-1]
    event = json.loads(event_text(row, AttemptBook(gateway).begin(row.event_id)))
    assert list(event) == list(sample)
    assert list(event["data"]) == list(sample["data"])
    assert event["data"]["performed"] == sample["data"]["performed"]


def test_the_event_of_a_test_item_says_that_it_is_one(gateway: Gateway, event: dict[str, Any]) -> None:
    gateway.schedule(appointment("TEST"), is_test=True)
    start(gateway, step_uid(9), naming("TEST"))
    gateway.begin_feed(reason="the first that is followed", database="")
    gateway.receive_study(study(9, "TEST"), place(), received_at=RECEIVED, tell_web_app=True)
    rows = gateway.find_updates(is_test=True)
    assert [row.event_type for row in rows] == ["mpps.status_update", "study.images_received"]
    for row in rows:
        assert json.loads(event_text(row, AttemptBook(gateway).begin(row.event_id)))["data"]["test"] is True
    assert "test" not in event["data"]


def test_news_of_images_travel_as_the_page_for_the_web_app_says(gateway: Gateway) -> None:
    _, sample = ON_THE_PAGE
    schedule(gateway)
    gateway.begin_feed(reason="the first that is followed", database="")
    gateway.receive_study(study(), place(), received_at=RECEIVED, tell_web_app=True)
    [row] = gateway.find_updates()
    event = json.loads(event_text(row, AttemptBook(gateway).begin(row.event_id)))
    assert (list(event), list(event["data"])) == (list(sample), list(sample["data"]))
    assert (event["event_type"], event["sequence"]) == ("study.images_received", 1)
    assert event["data"]["images"] == sample["data"]["images"]
    assert UUID(event["event_id"]).version == 5


def test_its_times_are_written_as_in_the_contract(event: dict[str, Any]) -> None:
    assert shape(event["timestamp"]) == shape(SAMPLE["timestamp"])
    assert shape(event["data"]["occurred_at"]) == shape(SAMPLE["data"]["occurred_at"])


def test_it_occurred_when_the_gateway_received_what_caused_it(event: dict[str, Any]) -> None:
    assert event["data"]["occurred_at"] == "2026-11-23T09:00:00.000Z"


def test_its_timestamp_is_of_the_first_attempt_and_the_attempts_are_counted(gateway: Gateway, begin: Begin) -> None:
    begin(1)
    [row] = gateway.due_updates()
    book = AttemptBook(gateway)
    tries = [book.begin(row.event_id) for _ in range(3)]
    events = [json.loads(event_text(row, attempt)) for attempt in tries]
    assert [event["attempt"] for event in events] == [1, 2, 3]
    assert len({(event["timestamp"], event["event_id"]) for event in events}) == 1
    assert len({attempt.first_sent_at for attempt in tries}) == 1
    assert datetime.fromisoformat(tries[0].first_sent_at).tzinfo


def test_a_dial_that_found_no_connection_is_no_attempt(gateway: Gateway, begin: Begin) -> None:
    begin(1)
    [row] = gateway.due_updates()
    book = AttemptBook(gateway)
    for _ in range(2):
        book.begin(row.event_id)
        book.take_back(row.event_id)
    first = book.begin(row.event_id)
    book.begin(row.event_id)
    book.take_back(row.event_id)
    second = book.begin(row.event_id)
    assert (first.number, second.number) == (1, 2)
    assert first.first_sent_at == second.first_sent_at


def test_an_item_added_by_hand_without_a_message_has_no_action_id(gateway: Gateway) -> None:
    from bench.synthetic import appointment
    from gateway.domain.lifecycle import Status

    gateway.schedule(appointment())
    gateway.correct_status("ACC001", Status.COMPLETED, reason="unit has no MPPS", operator="op")
    [row] = gateway.due_updates()
    data = json.loads(event_text(row, AttemptBook(gateway).begin(row.event_id)))["data"]
    assert (data["action_id"], data["mpps_instance_uid"], data["status"]) == (None, None, "COMPLETED")
