"""Each rule of the judgement acquits a history that is right, and condemns one that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.end_to_end import judgement
from tests.end_to_end.books import Books, Happened, Item, Owed
from tests.end_to_end.evidence import Arrival, Evidence, Sent, Span, Step
from tests.end_to_end.harness import action, create_item
from tests.end_to_end.judgement import Death, Deliveries

NUMBER, UID = "ACC1", "2.25.1"
MOVED, GONE, SAID = "ACC2", "ACC3", "ACC4"


def sent(kind: str, number: str, **item: Any) -> Sent:
    message = create_item(number, f"{kind} {number}")
    if kind != "create_item":
        message = action(f"worklist.{kind}", {"accession_number": number, **item}, f"{kind} {number}")
    return Sent(message, first_at=1, tries=1, reply={"status": "done"}, answered_at=2)


def receipt(of: Sent) -> Happened:
    return Happened(of.accession_number, "RelayAction.Accepted", {"action_id": of.action_id})


def happened(kind: str, number: str = NUMBER, **details: Any) -> Happened:
    return Happened(number, kind, details)


def right() -> tuple[Books, Evidence]:
    """One item examined, one moved, one cancelled, one said to be in progress: all of it acknowledged."""
    numbers = (NUMBER, MOVED, GONE, SAID)
    actions = [sent("create_item", number) for number in numbers]
    actions += [sent("update_item", MOVED), sent("cancel_item", GONE), sent("update_status", SAID)]
    step = Step(UID, NUMBER, "COMPLETED", [None, 0], [0])
    arrivals = [
        Arrival("E1", NUMBER, 1, "IN PROGRESS", 1, "updated", 10, 11),
        Arrival("E2", NUMBER, 2, "COMPLETED", 1, "updated", 12, 13),
    ]
    books = Books(
        timeline=[
            *(receipt(each) for each in actions),
            *(happened("WorklistItem.Scheduled", number, action_id=f"create_item {number}") for number in numbers),
            happened("WorklistItem.Rescheduled", MOVED),
            happened("WorklistItem.Cancelled", GONE),
            happened("WorklistItem.StatusReported", SAID),
            happened("PerformedProcedureStep.Started", mpps_instance_uid=UID),
            happened("PerformedProcedureStep.Completed", mpps_instance_uid=UID),
            happened("WorklistItem.StepStarted", mpps_instance_uid=UID, update_sequence=1),
            happened("WorklistItem.StepCompleted", mpps_instance_uid=UID, update_sequence=2),
            happened("StatusUpdate.Acknowledged", event_id="E1", attempts=1),
            happened("StatusUpdate.Acknowledged", event_id="E2", attempts=1),
        ],
        outbox={
            "E1": Owed(NUMBER, 1, "IN PROGRESS", "acknowledged"),
            "E2": Owed(NUMBER, 2, "COMPLETED", "acknowledged"),
        },
        attempts={"E1": 1, "E2": 1},
        items={
            NUMBER: Item("COMPLETED", "100000"),
            MOVED: Item("SCHEDULED", "200000"),
            GONE: Item("CANCELLED", "100000"),
            SAID: Item("IN PROGRESS", "100000"),
        },
    )
    return books, Evidence(sent=actions, steps=[step], arrivals=arrivals)


def judged(books: Books, known: Evidence) -> list[str]:
    return [
        *judgement.receipts(books, known),
        *judgement.items(books, known),
        *judgement.performed(books, known),
        *judgement.outbox(books, known),
        *judgement.duplicates(known),
        *judgement.the_end(books, known),
        *Deliveries(known.arrivals, [Death.of(books)], books.settling_attempts()).complaints(),
    ]


def test_a_history_that_is_right_is_acquitted() -> None:
    assert judged(*right()) == []


def without(books: Books, kind: str, number: str = NUMBER) -> None:
    books.timeline = [each for each in books.timeline if (each.kind, each.accession_number) != (kind, number)]


def again(books: Books, kind: str, number: str = NUMBER) -> None:
    books.timeline += [each for each in books.timeline if (each.kind, each.accession_number) == (kind, number)]


def set_reply(known: Evidence, position: int, reply: dict[str, Any] | None) -> None:
    known.sent[position].reply = reply


WRONG: dict[str, tuple[Callable[[Books, Evidence], Any], str]] = {
    "an acknowledged action has no receipt": (
        lambda books, _: without(books, "RelayAction.Accepted"),
        "lost: action create_item ACC1",
    ),
    "an action has two receipts": (
        lambda books, _: again(books, "RelayAction.Accepted"),
        "twice: action create_item ACC1",
    ),
    "an action nobody sent": (
        lambda books, _: books.timeline.append(happened("RelayAction.Accepted", action_id="strange")),
        "strange is there and nobody sent it",
    ),
    "an action made two items": (lambda books, _: again(books, "WorklistItem.Scheduled"), "made 2 items"),
    "an item is missing": (lambda books, _: books.items.pop(MOVED), "lost: item ACC2"),
    "a move was lost": (
        lambda books, _: books.items.update({MOVED: Item("SCHEDULED", "100000")}),
        "lost: item ACC2 was moved",
    ),
    "a move was made twice": (
        lambda books, _: again(books, "WorklistItem.Rescheduled", MOVED),
        "Rescheduled of ACC2 happened 2 times",
    ),
    "a cancelling was lost": (
        lambda books, _: books.items.update({GONE: Item("SCHEDULED", "100000")}),
        "lost: item ACC3 was cancelled",
    ),
    "a cancelling was made twice": (
        lambda books, _: again(books, "WorklistItem.Cancelled", GONE),
        "Cancelled of ACC3 happened 2 times",
    ),
    "a status was lost": (
        lambda books, _: books.items.update({SAID: Item("SCHEDULED", "100000")}),
        "lost: item ACC4 was said to be",
    ),
    "a status was applied twice": (
        lambda books, _: again(books, "WorklistItem.StatusReported", SAID),
        "StatusReported of ACC4 happened 2 times",
    ),
    "an N-CREATE was lost": (
        lambda books, _: without(books, "PerformedProcedureStep.Started"),
        "lost: N-CREATE of ACC1",
    ),
    "an N-CREATE was applied twice": (
        lambda books, _: again(books, "PerformedProcedureStep.Started"),
        "twice: N-CREATE of ACC1",
    ),
    "an N-SET was lost": (
        lambda books, _: without(books, "PerformedProcedureStep.Completed"),
        "lost: N-SET of ACC1",
    ),
    "an N-SET was applied twice": (
        lambda books, _: again(books, "PerformedProcedureStep.Completed"),
        "twice: N-SET of ACC1",
    ),
    "a status change is owed by nobody": (
        lambda books, _: without(books, "WorklistItem.StepStarted"),
        "1 status changes, and 2 rows",
    ),
    "two updates have one place": (
        lambda books, _: books.outbox.update({"E2": Owed(NUMBER, 1, "COMPLETED", "acknowledged")}),
        "twice: ACC1 has 2 updates 1",
    ),
    "an event is settled without the web app's word": (
        lambda _, known: setattr(known.arrivals[1], "answer", "error"),
        "lost: event E2 is acknowledged, and the web app never said updated",
    ),
    "an event is parked without the web app's word": (
        lambda books, _: books.outbox.update({"E2": Owed(NUMBER, 2, "COMPLETED", "parked")}),
        "lost: event E2 is parked, and the web app never said action_not_found",
    ),
    "an event that is in no outbox": (
        lambda _, known: known.arrivals.append(Arrival("E9", "ACC9", 1, "COMPLETED", 1, "error", 20, 21)),
        "event E9 was sent and is not in the outbox",
    ),
    "what was sent once is a duplicate": (
        lambda _, known: set_reply(known, 0, {"status": "created", "duplicate": True}),
        "action create_item ACC1 was sent once and is a duplicate",
    ),
    "an event still waits": (
        lambda books, _: books.outbox.update({"E2": Owed(NUMBER, 2, "COMPLETED", "waiting")}),
        "lost: event E2 still waits",
    ),
    "a refused event is not parked": (
        lambda _, known: setattr(known.arrivals[1], "answer", "action_not_found"),
        "event E2 was parked by the web app and is not",
    ),
    "an action was never answered": (lambda _, known: set_reply(known, 0, None), "ACC1 was never answered"),
    "an item is not what its step made it": (
        lambda books, _: books.items.update({NUMBER: Item("IN PROGRESS", "100000")}),
        "lost: the step of ACC1 was COMPLETED, and the item is IN PROGRESS",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_the_database_must_not_say_is_complained_of(wrong: str) -> None:
    books, known = right()
    do_wrong, complaint = WRONG[wrong]
    do_wrong(books, known)
    assert [each for each in judged(books, known) if complaint in each], judged(books, known)


def test_a_duplicate_is_no_surprise_when_the_relay_was_repeating_frames_or_it_was_sent_twice() -> None:
    _, known = right()
    set_reply(known, 0, {"status": "created", "duplicate": True})
    assert judgement.duplicates(known, [Span(3, 4)]) != []
    assert judgement.duplicates(known, [Span(1.5, 4)]) == []
    known.sent[0].tries = 2
    assert judgement.duplicates(known) == []


def test_what_got_no_answer_may_be_there_or_not() -> None:
    books, known = right()
    set_reply(known, 0, None)
    known.steps[0].finished = [None]
    without(books, "RelayAction.Accepted")
    without(books, "PerformedProcedureStep.Completed")
    assert judgement.receipts(books, known) == judgement.performed(books, known) == []


# --- deliveries


FIRST = Arrival("E1", NUMBER, 1, "IN PROGRESS", 1, "updated", 10, 11)
SECOND = Arrival("E2", NUMBER, 2, "COMPLETED", 1, "updated", 20, 21)


def delivered(
    *arrivals: Arrival, deaths: list[Death] | None = None, settled_by: dict[str, int] | None = None, **spans: Any
) -> list[str]:
    attempts = {arrival.event_id: max(each.attempt for each in arrivals) for arrival in arrivals}
    return Deliveries(arrivals, deaths or [Death(set(attempts), attempts)], settled_by or {}, **spans).complaints()


def repeated(arrival: Arrival, at: float, **changes: Any) -> Arrival:
    return replace(arrival, **{"attempt": 2, "at": at, "answered_at": at + 1, **changes})


def test_events_that_come_in_order_once_are_acquitted() -> None:
    assert delivered(FIRST, SECOND) == []


def test_an_event_that_was_not_settled_is_repeated_rightly() -> None:
    for answer in ("error", "perhaps", "no JSON"):
        assert delivered(replace(FIRST, answer=answer), repeated(FIRST, 12), SECOND) == []


@pytest.mark.parametrize(
    ("complaint", "arrivals"),
    [
        ("reordered: ACC1 came as [2, 1]", (SECOND, replace(FIRST, at=22, answered_at=23))),
        ("reordered: ACC1 came as [1, 2, 1]", (replace(FIRST, answer="error"), SECOND, repeated(FIRST, 22))),
        ("lost: ACC1 has a gap in [2]", (SECOND,)),
        ("was sent before", (replace(FIRST, answer="error"), SECOND)),
        ("was sent before", (replace(FIRST, answered_at=20.5), SECOND)),
        ("was sent without need", (FIRST, repeated(FIRST, 12), SECOND)),
        ("came twice by one attempt", (FIRST, repeated(FIRST, 12, attempt=1), SECOND)),
        ("reordered: the attempts", (repeated(FIRST, 10, answer="error"), replace(FIRST, at=12), SECOND)),
        ("is another event", (replace(FIRST, answer="error"), repeated(FIRST, 12, status="COMPLETED"))),
        ("is another event", (FIRST, replace(FIRST, event_id="E3", at=12))),
    ],
)  # fmt: skip
def test_what_comes_out_of_order_or_once_too_often_is_complained_of(
    complaint: str, arrivals: tuple[Arrival, ...]
) -> None:
    assert [each for each in delivered(*arrivals) if complaint in each], delivered(*arrivals)


def test_a_repeat_is_explained_by_an_answer_that_the_relay_may_have_lost_and_by_no_other_trouble() -> None:
    twice = (FIRST, repeated(FIRST, 12), SECOND)
    assert delivered(*twice, losing=[Span(10.5, 10.6)]) == []
    assert delivered(*twice, losing=[Span(5, 9), Span(11.5, 30)]) != []
    assert delivered(*twice, repeating=[Span(5, 30)]) != []


def test_one_frame_that_came_twice_is_explained_by_a_relay_that_repeats() -> None:
    twice = (FIRST, repeated(FIRST, 12, attempt=1), SECOND)
    assert delivered(*twice, repeating=[Span(11, 13)]) == []
    assert delivered(*twice, repeating=[Span(1, 2)], losing=[Span(1, 30)]) != []
    unsettled = (FIRST, repeated(FIRST, 12, attempt=1, answer="error"), repeated(FIRST, 14), SECOND)
    assert delivered(*unsettled, repeating=[Span(11, 13)]) == []
    late = (FIRST, SECOND, repeated(FIRST, 25, attempt=1))
    assert delivered(*late, repeating=[Span(24, 26)]) == []


def test_a_death_explains_one_repeat_of_what_was_not_committed() -> None:
    twice = (FIRST, repeated(FIRST, 12), SECOND)
    last = Death({"E1", "E2"}, {"E1": 2, "E2": 1})
    assert delivered(*twice, deaths=[Death(set(), {"E1": 1}), last]) == []
    committed = delivered(*twice, deaths=[Death({"E1"}, {"E1": 1}), last])
    assert [each for each in committed if "was settled before death 1, and sent after it" in each]


def test_nothing_is_sent_after_the_attempt_that_settled_it() -> None:
    twice = (replace(FIRST, answer="error"), repeated(FIRST, 12), SECOND)
    assert delivered(*twice, settled_by={"E1": 2}) == []
    assert "after attempt 1 had settled it" in delivered(*twice, settled_by={"E1": 1})[0]


def test_what_came_was_counted_before_it_was_sent() -> None:
    assert "was sent and not counted" in delivered(FIRST, deaths=[Death(set(), {"E1": 0})])[0]
