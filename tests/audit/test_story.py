"""The story of one appointment: every hop from the web app's click to its acknowledged status, with latencies."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bench.synthetic import appointment, change, completed, create_request, naming, request, schedule, start, step_uid
from gateway.application import Gateway
from gateway.audit import story
from gateway.audit.story import Hop
from gateway.delivery.attempts import AttemptBook
from gateway.dicom.record import Query, QueryRecord
from gateway.domain.lifecycle import Status
from gateway.errors import Refusal
from tests.eventstore.everything import every_event, everything_happened

PERSON = ("SMITH", "9990000018", "19650315")


def clicked(gateway: Gateway, number: str = "ACC001", *, before: float = 1.5, stamp: str = "") -> None:
    """The web app schedules; its message says when it was sent."""
    wanted, now = appointment(number), datetime.now(UTC)
    asked = create_request(f"create-{number}", wanted)
    message = json.loads(asked.text) | {"timestamp": stamp or (now - timedelta(seconds=before)).isoformat()}
    gateway.schedule(wanted, request=replace(asked, text=json.dumps(message), received_at=now.isoformat()))


def asked(*numbers: str, at: datetime | None = None, **values: Any) -> Query:
    """A query that was answered with these items."""
    details: dict[str, Any] = {
        "at": (at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "calling_ae_title": "MAMMO1",
        "called_ae_title": "ORTHANC_MWL",
        "address": "192.0.2.7",
        "keys": ("Modality",),
        "identifier": b"",
        "transfer_syntax": "1.2.840.10008.1.2",
        "status": 0,
        "error_comment": "",
        "answers": len(numbers),
        "accession_numbers": numbers,
        "milliseconds": 1.0,
    }
    return Query(**{**details, **values})


def recorded(gateway: Gateway, *queries: Query) -> None:
    book = QueryRecord(gateway, kept_days=36500)
    for query in queries:
        book.add(query)
    book.start()
    book.close()


def delivered(gateway: Gateway, number: str = "ACC001", attempts: int = 1) -> None:
    """What is owed of an item is sent and acknowledged, at the last of so many attempts."""
    book = AttemptBook(gateway)
    for update in gateway.find_updates(accession_number=number):
        for _ in range(attempts):
            book.begin(update.event_id)
        gateway.acknowledge_update(update.event_id, answer="updated", attempts=attempts)


def names(hops: list[Hop]) -> list[str]:
    return [hop.hop for hop in hops]


def only(hops: list[Hop], name: str) -> Hop:
    [hop] = [hop for hop in hops if hop.hop == name]
    return hop


# --- hop by hop


def test_from_the_click_to_the_acknowledged_status_every_hop_is_told_in_order(gateway: Gateway) -> None:
    clicked(gateway)
    recorded(gateway, asked("ACC001", at=datetime.now(UTC) + timedelta(milliseconds=2)))
    start(gateway, step_uid(1), naming())
    delivered(gateway)
    change(gateway, completed(step_uid(1)))
    delivered(gateway)
    hops = story.of_accession(gateway, "ACC001")
    assert names(hops) == [
        "clicked",
        "received",
        "accepted",
        "listed",
        "shown",
        "started",
        "item in progress",
        "queued",
        "told",
        "acknowledged",
        "completed",
        "item completed",
        "queued",
        "told",
        "acknowledged",
    ]
    assert [hop.who for hop in hops[:6]] == ["web app", "gateway", "gateway", "web app", "MAMMO1", "MAMMO1"]
    assert hops[-1].who == "web app"


def test_the_latencies_sum_up_to_the_whole(gateway: Gateway) -> None:
    clicked(gateway)
    start(gateway, step_uid(1), naming())
    hops = story.of_accession(gateway, "ACC001")
    whole = datetime.fromisoformat(hops[-1].at) - datetime.fromisoformat(hops[0].at)
    assert hops[0].after_seconds is None
    assert sum(hop.after_seconds or 0.0 for hop in hops) == pytest.approx(whole.total_seconds())
    assert hops[-1].since_first_seconds == whole.total_seconds()


def test_the_important_spans_end_where_they_end(gateway: Gateway) -> None:
    clicked(gateway, before=2.0)
    recorded(gateway, asked("ACC001", at=datetime.now(UTC) + timedelta(seconds=3)))
    start(gateway, step_uid(1), naming())
    change(gateway, completed(step_uid(1)))
    delivered(gateway)
    hops = story.of_accession(gateway, "ACC001")
    assert list(only(hops, "listed").spans) == [story.CLICK_TO_LISTED]
    assert only(hops, "listed").spans[story.CLICK_TO_LISTED] == pytest.approx(2.0, abs=1.0)
    assert only(hops, "shown").spans[story.LISTED_TO_SHOWN] == pytest.approx(3.0, abs=1.0)
    assert list(only(hops, "completed").spans) == [story.STARTED_TO_COMPLETED]
    assert set(story.spans_of(hops)) == {
        story.CLICK_TO_LISTED,
        story.LISTED_TO_SHOWN,
        story.STARTED_TO_COMPLETED,
        story.COMPLETED_TO_ACKNOWLEDGED,
    }


def test_without_a_time_in_the_message_the_span_begins_at_its_reception(gateway: Gateway) -> None:
    schedule(gateway)
    hops = story.of_accession(gateway, "ACC001")
    assert names(hops) == ["received", "accepted", "listed"]
    assert list(hops[-1].spans) == [story.RECEIVED_TO_LISTED]


@pytest.mark.parametrize("stamp", ["yesterday", "", "2026-13-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_is_left_out(gateway: Gateway, stamp: str) -> None:
    clicked(gateway, stamp=stamp or " ")
    assert names(story.of_accession(gateway, "ACC001")) == ["received", "accepted", "listed"]


def test_a_time_without_an_offset_is_utc(gateway: Gateway) -> None:
    clicked(gateway, stamp="2026-07-07T09:00:00")
    assert only(story.of_accession(gateway, "ACC001"), "clicked").at == "2026-07-07T09:00:00+00:00"


def test_a_clock_of_the_web_app_that_is_ahead_shows_as_a_negative_latency_and_moves_nothing(gateway: Gateway) -> None:
    clicked(gateway, before=-60)
    hops = story.of_accession(gateway, "ACC001")
    assert names(hops) == ["clicked", "received", "accepted", "listed"]
    assert hops[1].after_seconds == pytest.approx(-60, abs=1)
    assert sum(hop.after_seconds or 0.0 for hop in hops) == pytest.approx(hops[-1].since_first_seconds)


def test_a_repeated_delivery_tells_its_first_and_its_last_attempt_and_the_error(gateway: Gateway) -> None:
    clicked(gateway)
    start(gateway, step_uid(1), naming())
    [update] = gateway.due_updates()
    book = AttemptBook(gateway)
    book.begin(update.event_id)
    book.note_failure(update.event_id, "ack: no answer came")
    book.begin(update.event_id)
    hops = story.of_accession(gateway, "ACC001")
    assert only(hops, "told").details["attempt"] == 1
    again = only(hops, "told again")
    assert (again.details["attempt"], again.details["last_error"]) == (2, "ack: no answer came")


def test_of_an_unknown_number_nothing_is_told(gateway: Gateway) -> None:
    assert story.of_accession(gateway, "ACC999") == []


def test_every_event_has_a_name_of_its_own(gateway: Gateway) -> None:
    assert set(story.HOPS) == {event.TOPIC for event in every_event()}


def test_nobody_is_named(gateway: Gateway) -> None:
    everything_happened(gateway)
    told = [story.of_accession(gateway, f"ACC00{number}") for number in range(1, 7)]
    assert not any(secret in repr(told) for secret in PERSON)


# --- shown


def test_polls_between_two_changes_of_the_item_are_one_hop(gateway: Gateway) -> None:
    clicked(gateway)
    now = datetime.now(UTC) + timedelta(seconds=1)  # records have milliseconds, commits microseconds
    polls = [asked("ACC001", *others, at=now + timedelta(seconds=n)) for n, others in enumerate([(), (), ("ACC002",)])]
    recorded(gateway, *polls, asked("ACC001", at=now, calling_ae_title="MAMMO2"))
    shown = [hop for hop in story.of_accession(gateway, "ACC001") if hop.hop == "shown"]
    assert [(hop.who, hop.details["times"]) for hop in shown] == [("MAMMO1", 3), ("MAMMO2", 1)]
    first = shown[0]
    assert (first.at, first.details["last_at"]) == (story._utc(polls[0].at), story._utc(polls[2].at))
    assert first.details["query_ids"] == [1, 2]
    assert (first.details["address"], first.details["keys"]) == ("192.0.2.7", ["Modality"])


def test_a_change_of_the_item_begins_another_run(gateway: Gateway) -> None:
    clicked(gateway)
    recorded(gateway, asked("ACC001"))
    start(gateway, step_uid(1), naming())
    recorded(gateway, asked("ACC001", at=datetime.now(UTC) + timedelta(milliseconds=5)))
    hops = story.of_accession(gateway, "ACC001")
    assert [name for name in names(hops) if name in ("shown", "started")] == ["shown", "started", "shown"]


def test_a_test_s_query_is_told_as_one_and_is_not_when_the_item_was_first_shown(gateway: Gateway) -> None:
    clicked(gateway)
    now = datetime.now(UTC) + timedelta(seconds=1)
    later = now + timedelta(seconds=30)
    recorded(gateway, asked("ACC001", at=now, calling_ae_title="REHEARSAL"), asked("ACC001", at=later))
    hops = story.of_accession(gateway, "ACC001", test_ae_titles=["REHEARSAL"])
    [test, shown] = [hop for hop in hops if hop.hop == "shown"]
    assert (test.who, test.details["is_test"], test.spans) == ("REHEARSAL", True, {})
    assert "is_test" not in shown.details
    assert shown.spans[story.LISTED_TO_SHOWN] > 30


def test_of_a_test_item_it_is(gateway: Gateway) -> None:
    gateway.schedule(appointment("ACC001"), is_test=True, operator="it")
    recorded(gateway, asked("ACC001", at=datetime.now(UTC) + timedelta(seconds=1), calling_ae_title="REHEARSAL"))
    hops = story.of_accession(gateway, "ACC001", test_ae_titles=["REHEARSAL"])
    assert story.LISTED_TO_SHOWN in only(hops, "shown").spans


def test_an_answer_with_other_items_only_is_not_told(gateway: Gateway) -> None:
    clicked(gateway, "ACC1")
    recorded(gateway, asked("ACC10"), asked("XACC1"), asked())
    assert "shown" not in names(story.of_accession(gateway, "ACC1"))


# --- who and why


def test_operators_are_named_with_their_reasons(gateway: Gateway) -> None:
    schedule(gateway)
    gateway.correct_status("ACC001", Status.COMPLETED, reason="examined on paper", operator="night shift")
    [update] = gateway.due_updates()
    gateway.withdraw_update(update.event_id, reason="told by telephone", operator="day shift")
    gateway.requeue_update(update.event_id, reason="the line was dead", operator="late shift")
    hops = [
        hop for hop in story.of_accession(gateway, "ACC001") if hop.source == "operator" and "reason" in hop.details
    ]
    assert [(hop.hop, hop.who, hop.details["reason"]) for hop in hops] == [
        ("corrected", "night shift", "examined on paper"),
        ("parked", "day shift", "told by telephone"),
        ("requeued", "late shift", "the line was dead"),
    ]


def test_an_item_added_by_hand_says_by_whom(gateway: Gateway) -> None:
    gateway.schedule(appointment("ACC001"), operator="night shift")
    [hop] = story.of_accession(gateway, "ACC001")
    assert (hop.hop, hop.who, hop.spans) == ("listed", "night shift", {})


def test_expiry_is_the_gateway_s(gateway: Gateway) -> None:
    schedule(gateway)
    gateway.expire(date(2026, 12, 1), after_days=1)
    assert only(story.of_accession(gateway, "ACC001"), "expired").who == "gateway"


def test_a_refusal_tells_why(gateway: Gateway) -> None:
    schedule(gateway)
    gateway.schedule(appointment("ACC001", patient_name="SMITH^JANE^MARY"), request=request("conflict"))
    hop = only(story.of_accession(gateway, "ACC001"), "rejected")
    assert (hop.details["code"], hop.details["field"]) == ("accession_conflict", "patient_name")


# --- actions, steps and what named nobody


def test_an_action_that_was_carried_out_is_told_with_its_effect_alone(gateway: Gateway) -> None:
    clicked(gateway)
    gateway.cancel("ACC001", "did not attend", request=request("cancel", "worklist.cancel_item"))
    assert names(story.of_action(gateway, "create-ACC001")) == ["clicked", "received", "accepted", "listed"]
    assert names(story.of_action(gateway, "cancel")) == ["received", "accepted", "cancelled"]
    assert story.of_action(gateway, "another") == []


def test_a_rejected_action_is_told_by_its_id_and_under_the_number_that_it_named(gateway: Gateway) -> None:
    gateway.reject(request("wrong"), Refusal("no such day", field="scheduled_date"), accession_number="ACC009")
    by_id, by_number = story.of_action(gateway, "wrong"), story.of_accession(gateway, "ACC009")
    assert names(by_id) == names(by_number) == ["received", "rejected"]
    assert by_id[-1].details["message"] == "no such day"


def test_an_unmatched_step_has_a_story_of_its_own(gateway: Gateway) -> None:
    start(gateway, step_uid(1))
    change(gateway, completed(step_uid(1)))
    gateway.dismiss_step(step_uid(1), reason="a phantom", operator="night shift")
    hops = story.of_step(gateway, step_uid(1))
    assert [(hop.hop, hop.who) for hop in hops] == [
        ("started", "MAMMO1"),
        ("completed", "MAMMO1"),
        ("dismissed", "night shift"),
    ]
    assert hops[0].details["unmatched"] == ["the step names no scheduled step"]
    assert story.of_step(gateway, "1.2.3") == []


def test_a_step_is_told_with_what_it_did_to_its_items_and_what_the_web_app_heard_of_it(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    start(gateway, step_uid(1), naming("ACC001"), naming("ACC002"))
    delivered(gateway)
    start(gateway, step_uid(2), naming("ACC001"))
    hops = story.of_step(gateway, step_uid(1))
    assert names(hops) == [
        "started",
        "item in progress",
        "item in progress",
        "queued",
        "queued",
        "told",
        "acknowledged",
    ]
    assert {hop.accession_number for hop in hops} == {"ACC001", "ACC002"}


def test_what_a_step_reported_before_it_was_linked_belongs_to_the_story_of_its_item(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1))
    change(gateway, completed(step_uid(1)))
    gateway.link_step(step_uid(1), "ACC001", reason="typed wrongly", operator="night shift")
    hops = story.of_accession(gateway, "ACC001")
    assert names(hops)[3:6] == ["started", "completed", "linked"]
    assert list(only(hops, "completed").spans) == [story.STARTED_TO_COMPLETED]


def test_what_named_nobody_is_listed_since_a_moment(gateway: Gateway) -> None:
    gateway.reject_unidentified(request(""), Refusal("not JSON"))
    start(gateway, step_uid(1))
    schedule(gateway)
    gateway.reject_unidentified(request(""), Refusal("not JSON"), accession_number="ACC001")
    hops = story.of_nobody(gateway)
    assert names(hops) == ["rejected", "started"]
    assert names(story.of_nobody(gateway, since=hops[1].at)) == ["started"]
    assert story.of_nobody(gateway, until=hops[0].at) == []
