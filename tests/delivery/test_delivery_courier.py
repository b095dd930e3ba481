"""The courier through a real relay emulator to a web app that answers as it is told (design §3.8)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivery_support import (
    FAST,
    Answer,
    WebApp,
    always,
    asynchronous,
    courier_to,
    delivering,
    delivery,
    emulator,
    listening,
    settled,
    states,
    until,
    updated,
)

from bench.synthetic import change, completed, schedule, step_uid
from gateway.application import Gateway, opened
from gateway.delivery.attempts import attempts_of
from gateway.delivery.courier import Courier, CourierOptions
from gateway.domain.lifecycle import Status
from projections.outbox import OutboxRow
from relay import HybridConnection, Namespace, Sender, SharedAccessKey
from tests.end_to_end.harness import free_port
from tests.eventstore.everything import restored

Make = Callable[[int], str]

SLOW_POLL = CourierOptions(first_wait=0.02, longest_wait=0.05, poll=60.0)
"""Only a wake-up can be the reason for anything."""


@asynchronous
async def test_each_change_of_status_reaches_the_web_app_and_is_acknowledged(gateway: Gateway, examine: Make) -> None:
    examine(1)
    async with delivery(gateway) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.heard() == [("IN PROGRESS", 1), ("COMPLETED", 1)]
    assert [event["sequence"] for event in web_app.events] == [1, 2]
    assert states(gateway) == ["acknowledged", "acknowledged"]


@asynchronous
async def test_the_events_of_one_item_come_in_order_one_at_a_time(gateway: Gateway, examine: Make) -> None:
    for number in range(1, 9):
        examine(number)

    async def later(event: dict[str, Any]) -> Answer:
        await asyncio.sleep(0.01)
        return await updated(event)

    async with delivery(gateway, later) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.most_of_one == 1
    for number in range(1, 9):
        assert web_app.statuses(f"ACC{number:03d}") == ["IN PROGRESS", "COMPLETED"]


@asynchronous
async def test_the_events_of_different_items_go_in_parallel(gateway: Gateway, begin: Make) -> None:
    for number in range(1, 6):
        begin(number)
    all_there = asyncio.Barrier(5)

    async def together(event: dict[str, Any]) -> Answer:
        await all_there.wait()  # nobody is answered before all five are under way
        return await updated(event)

    async with delivery(gateway, together) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.most_at_once == 5


@asynchronous
async def test_not_more_go_at_once_than_the_options_say(gateway: Gateway, begin: Make) -> None:
    for number in range(1, 8):
        begin(number)

    three, go_on = asyncio.Barrier(4), asyncio.Event()

    async def held(event: dict[str, Any]) -> Answer:
        if not go_on.is_set():
            await three.wait()
            await go_on.wait()
        return await updated(event)

    few = CourierOptions(first_wait=0.02, longest_wait=0.05, poll=0.02, parallel=3)
    async with delivery(gateway, held, few) as web_app:
        async with asyncio.timeout(10):
            await three.wait()  # three are under way
        assert (web_app.most_at_once, gateway.count_updates().waiting) == (3, 7)
        go_on.set()
        await until(lambda: settled(gateway))
    assert web_app.most_at_once == 3


@asynchronous
async def test_an_item_whose_event_is_not_answered_does_not_hold_up_the_others(gateway: Gateway, begin: Make) -> None:
    for number in range(1, 5):
        begin(number)
    stuck = asyncio.Event()

    async def first_hangs(event: dict[str, Any]) -> Answer:
        if event["data"]["accession_number"] == "ACC001":
            await stuck.wait()
        return await updated(event)

    async with delivery(gateway, first_hangs):
        await until(lambda: gateway.count_updates().waiting == 1)
        assert [row.accession_number for row in gateway.due_updates()] == ["ACC001"]
        stuck.set()
        await until(lambda: settled(gateway))


@asynchronous
async def test_many_items_that_are_never_answered_do_not_starve_a_new_one(gateway: Gateway, begin: Make) -> None:
    for number in range(1, 21):
        begin(number)

    async def silent_to_the_old(event: dict[str, Any]) -> Answer:
        if event["data"]["accession_number"] <= "ACC020":
            await asyncio.Event().wait()
        return await updated(event)

    few = CourierOptions(first_wait=0.02, longest_wait=0.05, poll=0.02, parallel=4)
    async with delivery(gateway, silent_to_the_old, few, patience=0.2) as web_app:
        await until(lambda: len(web_app.events) > 40)  # each was tried, and all are due again, over and over
        before = len(web_app.events)
        begin(21)
        await until(lambda: web_app.statuses("ACC021") == ["IN PROGRESS"])
        assert len(web_app.events) - before <= 2 * few.parallel


@asynchronous
async def test_a_failed_event_is_tried_again_with_its_identity_and_a_higher_attempt(
    gateway: Gateway, begin: Make
) -> None:
    begin(1)
    answers: list[Answer] = [{"status": "error", "error": "database unavailable"}, "not JSON", "", {"status": "ok"}]

    async def at_last(event: dict[str, Any]) -> Answer:
        return answers.pop(0) if answers else await updated(event)

    async with delivery(gateway, at_last) as web_app:
        await until(lambda: settled(gateway))
    assert [attempt for _, attempt in web_app.heard()] == [1, 2, 3, 4, 5]
    assert len({(event["event_id"], event["timestamp"]) for event in web_app.events}) == 1


@asynchronous
async def test_the_later_event_of_an_item_waits_for_the_one_that_is_tried_again(
    gateway: Gateway, examine: Make
) -> None:
    examine(1)
    refusals = iter([{"status": "error"}] * 3)

    async def at_last(event: dict[str, Any]) -> Answer:
        return next(refusals, None) or await updated(event)

    async with delivery(gateway, at_last) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.heard() == [
        ("IN PROGRESS", 1),
        ("IN PROGRESS", 2),
        ("IN PROGRESS", 3),
        ("IN PROGRESS", 4),
        ("COMPLETED", 1),
    ]


@pytest.mark.slow
@asynchronous
async def test_silence_is_no_acknowledgement(gateway: Gateway, begin: Make) -> None:
    begin(1)
    silent = iter([True])

    async def first_silent(event: dict[str, Any]) -> Answer:
        if next(silent, False):
            await asyncio.Event().wait()
        return await updated(event)

    async with delivery(gateway, first_silent, patience=0.1) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.heard() == [("IN PROGRESS", 1), ("IN PROGRESS", 2)]


@asynchronous
async def test_waits_between_tries_grow_and_stay_below_the_longest(gateway: Gateway, begin: Make) -> None:
    async with emulator() as relay:
        courier = courier_to(relay, gateway, CourierOptions(first_wait=1.0, longest_wait=60.0))
    trials = [courier._fresh_trial() for _ in range(200)]
    waits = [[trial.backoff.next() for trial in trials] for _ in range(40)]
    ranges = {failures: waits[failures - 1] for failures in (1, 2, 4, 7, 40)}
    assert all(0.5 <= wait <= 1.0 for wait in ranges[1])
    assert all(0.5 <= wait <= 2.0 for wait in ranges[2])
    assert all(0.5 <= wait <= 8.0 for wait in ranges[4])
    assert all(0.5 <= wait <= 60.0 for wait in ranges[7] + ranges[40])
    assert max(ranges[40]) > 50
    assert len(set(ranges[4])) > 100  # jittered


@asynchronous
async def test_a_refused_event_is_parked_and_the_next_of_its_item_still_goes(gateway: Gateway, examine: Make) -> None:
    examine(1)

    async def does_not_know_started(event: dict[str, Any]) -> Answer:
        if event["data"]["status"] == "IN PROGRESS":
            return {"status": "unknown_status", "action_id": event["data"]["action_id"]}
        return await updated(event)

    async with delivery(gateway, does_not_know_started) as web_app:
        await until(lambda: settled(gateway))
    assert web_app.heard() == [("IN PROGRESS", 1), ("COMPLETED", 1)]
    assert states(gateway) == ["parked", "acknowledged"]
    [parked] = gateway.find_updates(state="parked")
    assert parked.answer == "unknown_status"


@asynchronous
async def test_a_parked_event_goes_again_when_a_person_wants_it(gateway: Gateway, begin: Make) -> None:
    begin(1)
    known: list[bool] = []

    async def once_known(event: dict[str, Any]) -> Answer:
        return await updated(event) if known else {"status": "appointment_not_found"}

    async with delivery(gateway, once_known) as web_app:
        await until(lambda: states(gateway) == ["parked"])
        known.append(True)
        [parked] = gateway.find_updates(state="parked")
        gateway.requeue_update(parked.event_id, reason="the appointment is there now")
        await until(lambda: states(gateway) == ["acknowledged"])
    assert web_app.heard() == [("IN PROGRESS", 1), ("IN PROGRESS", 2)]


@asynchronous
async def test_a_commit_wakes_the_courier_long_before_it_would_look_again(gateway: Gateway, begin: Make) -> None:
    async with delivery(gateway, updated, SLOW_POLL) as web_app:
        begin(1)
        await until(lambda: settled(gateway), seconds=10)
        change(gateway, completed(step_uid(1)))
        await until(lambda: settled(gateway), seconds=10)
    assert web_app.statuses() == ["IN PROGRESS", "COMPLETED"]


@asynchronous
async def test_what_another_process_put_into_the_outbox_is_noticed(gateway: Gateway, database: Path) -> None:
    schedule(gateway)
    async with delivery(gateway) as web_app:
        with opened(database) as operator:  # connections of its own: no commit of ours
            operator.correct_status("ACC001", Status.COMPLETED, reason="unit has no MPPS", operator="op")
        await until(lambda: settled(gateway))
    assert web_app.statuses() == ["COMPLETED"]


# --- while the connection itself fails


@pytest.mark.slow
@asynchronous
async def test_while_nobody_listens_one_event_probes_for_all(gateway: Gateway, begin: Make) -> None:
    numbers = range(1, 31)
    for number in numbers:
        begin(number)
    async with emulator() as relay:
        courier = courier_to(relay, gateway)
        async with delivering(courier):
            await until(lambda: relay.log.count("connect", 404) >= 24)
            assert courier.status.connected is False
            with gateway.reading() as connection:
                tried = attempts_of(connection)
            assert len(tried) <= courier.options.parallel
            async with listening(relay, WebApp()) as web_app:
                await until(lambda: settled(gateway))
    assert len(web_app.events) == len(numbers)
    assert courier.status.connected is True


@asynchronous
async def test_many_that_lose_the_connection_together_count_as_one_failure_of_it(gateway: Gateway, begin: Make) -> None:
    for number in range(1, 17):
        begin(number)
    slow = CourierOptions(first_wait=600.0, longest_wait=3600.0, poll=0.02)
    async with emulator() as relay:
        courier = courier_to(relay, gateway, slow)
        async with delivering(courier):
            await until(lambda: len(failed(gateway)) == 16 and not courier._under_way)
    assert courier._line.backoff.attempt == 1


def failed(gateway: Gateway) -> list[int]:
    """How often each event was tried whose last try failed."""
    with gateway.reading() as connection:
        return [known.attempts for known in attempts_of(connection).values() if known.last_error]


@pytest.mark.slow
@asynchronous
async def test_a_relay_that_asks_to_wait_is_not_asked_again_before(gateway: Gateway, begin: Make) -> None:
    asked: list[float] = []

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    begin(1)
    relay = await asyncio.start_server(busy, "127.0.0.1", 0)
    namespace = Namespace("127.0.0.1", relay.sockets[0].getsockname()[1], secure=False)
    sender = Sender(HybridConnection(namespace, "events", SharedAccessKey("k", "v")))
    async with delivering(Courier(gateway, sender, CourierOptions(first_wait=0.01, longest_wait=0.02, poll=0.02))):
        await until(lambda: len(asked) == 2)
    relay.close()
    assert asked[1] - asked[0] > 0.95


@asynchronous
async def test_an_outbox_that_filled_while_the_relay_was_away_is_emptied_when_it_is_back(
    gateway: Gateway, examine: Make
) -> None:
    port = free_port()  # one that the system gives to nobody meanwhile
    async with emulator(port) as relay:
        courier = courier_to(relay, gateway)
    async with delivering(courier):
        for number in range(1, 6):
            examine(number)
        await until(lambda: courier.status.connected is False)
        async with emulator(port) as relay, listening(relay, WebApp()) as web_app:
            await until(lambda: settled(gateway))
    for number in range(1, 6):
        assert web_app.statuses(f"ACC{number:03d}") == ["IN PROGRESS", "COMPLETED"]


# --- restarts


@asynchronous
async def test_attempts_are_counted_on_after_a_restart(gateway: Gateway, database: Path, begin: Make) -> None:
    begin(1)
    async with emulator() as relay, listening(relay, WebApp(always({"status": "error"}))) as web_app:
        async with delivering(courier_to(relay, gateway)):
            await until(lambda: len(web_app.events) >= 3)
        gateway.close()
        before = web_app.events[-1]
        web_app.script = updated
        with opened(database) as restarted:
            async with delivering(courier_to(relay, restarted)):
                await until(lambda: settled(restarted))
    after = web_app.events[-1]
    assert after["attempt"] == before["attempt"] + 1
    assert (after["event_id"], after["timestamp"]) == (before["event_id"], before["timestamp"])


@asynchronous
async def test_nothing_is_sent_again_after_a_restart_or_a_rebuild(
    gateway: Gateway, database: Path, examine: Make
) -> None:
    examine(1)
    async with emulator() as relay, listening(relay, WebApp()) as web_app:
        async with delivering(courier_to(relay, gateway)):
            await until(lambda: settled(gateway))
        gateway.rebuild_projections()
        gateway.close()
        with opened(database) as restarted:
            async with delivering(courier_to(relay, restarted)):
                schedule(restarted, "ACC002")
                restarted.correct_status("ACC002", Status.COMPLETED, reason="by hand", operator="op")
                await until(lambda: settled(restarted))
    assert web_app.heard() == [("IN PROGRESS", 1), ("COMPLETED", 1), ("COMPLETED", 1)]


@asynchronous
async def test_an_event_that_is_under_way_when_the_courier_stops_is_still_acknowledged(
    gateway: Gateway, begin: Make
) -> None:
    begin(1)
    taken, answer = asyncio.Event(), asyncio.Event()

    async def slowly(event: dict[str, Any]) -> Answer:
        taken.set()
        await answer.wait()
        return await updated(event)

    async with emulator() as relay, listening(relay, WebApp(slowly)):
        running = asyncio.create_task(courier_to(relay, gateway).run())
        await taken.wait()
        running.cancel()
        answer.set()
        await asyncio.wait([running])
    assert states(gateway) == ["acknowledged"]


@pytest.mark.slow
@asynchronous
async def test_one_that_is_never_answered_does_not_keep_the_courier_from_stopping(
    gateway: Gateway, begin: Make
) -> None:
    begin(1)
    taken = asyncio.Event()

    async def never(_: dict[str, Any]) -> Answer:
        taken.set()
        return await asyncio.Event().wait() and ""

    async with emulator() as relay, listening(relay, WebApp(never)):
        running = asyncio.create_task(courier_to(relay, gateway).run())
        await taken.wait()
        running.cancel()
        async with asyncio.timeout(6):
            await asyncio.wait([running])
    assert states(gateway) == ["waiting"]
    assert gateway.count_updates().waiting == 1


class SlowlyRead(Gateway):
    """A gateway whose look into the outbox takes until it is let go: what it saw may be old by then."""

    saw: threading.Event
    go_on: threading.Event

    def due_updates(self) -> list[OutboxRow]:
        rows = super().due_updates()
        if rows:
            self.saw.set()
            assert self.go_on.wait(10)
        return rows


@asynchronous
async def test_an_event_acknowledged_while_the_outbox_is_being_read_is_not_sent_again(
    gateway: Gateway, begin: Make, database: Path
) -> None:
    begin(1)
    gateway.close()
    answer = asyncio.Event()

    async def when_told(event: dict[str, Any]) -> Answer:
        await answer.wait()
        return await updated(event)

    slow = SlowlyRead(database)
    slow.saw, slow.go_on = threading.Event(), threading.Event()
    slow.go_on.set()
    try:
        async with emulator() as relay, listening(relay, WebApp(when_told)) as web_app:
            courier = courier_to(relay, slow, FAST)
            async with delivering(courier, wakes=False):
                await until(lambda: web_app.events)  # it is under way
                slow.go_on.clear()
                slow.saw.clear()
                await until(slow.saw.is_set)  # the outbox was read, and holds it
                answer.set()
                await until(lambda: states(slow) == ["acknowledged"] and not courier._under_way)
                slow.go_on.set()
                schedule(slow, "ACC002")
                slow.correct_status("ACC002", Status.COMPLETED, reason="by hand", operator="op")
                await until(lambda: settled(slow))
    finally:
        slow.close()
    assert web_app.heard("ACC001") == [("IN PROGRESS", 1)]


@asynchronous
async def test_after_a_restore_nothing_is_sent_until_a_person_resumes(
    gateway: Gateway, examine: Callable[[int], str]
) -> None:
    """The person is another process, as `gateway outbox resume --after-restore` is."""
    accession_number = examine(1)
    restored(gateway)
    async with delivery(gateway) as web_app:
        looks = 0

        def looked() -> bool:
            nonlocal looks
            looks += 1
            return looks > 100

        await until(looked)
        assert web_app.events == []
        with opened(gateway.path) as another:
            another.resume_delivery(operator="day shift")
        await until(lambda: settled(gateway))
    assert web_app.statuses(accession_number) == ["IN PROGRESS", "COMPLETED"]
