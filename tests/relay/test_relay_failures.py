"""What went wrong lately, as the listener tells it: how often in each phase, and the latest of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from support import KEY, KEY_NAME, asynchronous, emulator, listening, until

from relay import Message, Sender
from relay.errors import Phase, RelayError, RendezvousError
from relay.failures import KEPT, Failures

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_all_failures_are_counted_and_only_the_latest_are_kept() -> None:
    failures = Failures(lambda: NOON)
    for number in range(KEPT + 10):
        failures.note(RendezvousError(f"failure {number}", phase=Phase.FIRST_MESSAGE, code="silent"))
    failures.note(RelayError("nobody answers", phase=Phase.TCP, code="dial_failed", remedy="Look at the firewall."))
    assert failures.by_phase() == {"tcp": 1, "first-message": KEPT + 10}, "in the order of a conversation's phases"
    latest, *rest = failures.latest()
    assert (latest.at, latest.phase, latest.code) == (NOON, "tcp", "dial_failed")
    assert (latest.message, latest.remedy) == ("nobody answers", "Look at the firewall.")
    assert [len(rest), rest[0].message] == [KEPT - 1, f"failure {KEPT + 9}"]


@asynchronous
async def test_a_silent_sender_is_a_failure_of_the_first_message() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, first_message=0.1) as listener:
            await Sender(connection).open()
            await until(lambda: listener.status().rendezvous_failed == 1)
            status = listener.status()
    assert status.errors_by_phase == {"first-message": 1}
    assert [failure.code for failure in status.latest_failures] == ["silent"]
    assert KEY not in json.dumps(asdict(status), default=str)


@asynchronous
async def test_a_handler_that_raises_is_a_failure_of_the_handling_which_quotes_nothing() -> None:
    async def raises(message: Message) -> str:
        raise ValueError(message.data)

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, raises) as listener:
            await Sender(connection).send("SMITH^JANE")
            status = listener.status()
    assert status.errors_by_phase == {"handle": 1}
    assert status.latest_failures[0].code == "handler_failed"
    assert "SMITH" not in str(status)


@asynchronous
async def test_a_control_channel_that_closes_is_a_failure_of_its_phase_and_stays_counted_after_recovery() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, first_retry=0.01) as listener:
            await relay.faults.begin("close")
            await until(lambda: listener.status().reconnects == 1 and listener.state == "hearing")
            status = listener.status()
    assert status.errors_by_phase == {"control": 1}
    assert status.latest_failures[0].remedy


@asynchronous
async def test_the_token_is_told_with_when_it_began_and_when_it_ends() -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)) as listener:
        status = listener.status()
    assert status.token_since is not None
    assert status.token_expires_at is not None
    assert status.token_since < status.token_expires_at
