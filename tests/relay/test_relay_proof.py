"""Proof of life: what a listener may say of itself is what an echo through the relay has shown."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from relay import (
    DialError,
    HybridConnection,
    Listener,
    ListenerOptions,
    ListenerState,
    ListenerStatus,
    Message,
    Namespace,
    Phase,
    Sender,
    SharedAccessKey,
    Token,
)
from relay.dial import CLOSE_TIMEOUT, DialOptions
from relay.emulator import AccessKey, Emulator, Right
from relay.proof import Echoes
from tests.relay.raw import raw_listener
from tests.relay.support import KEY, KEY_NAME, asynchronous, echo, emulator, listening, most_in_any, running, until

OFTEN: dict[str, Any] = {"echo_interval": (0.02, 0.05), "echo_timeout": 0.3, "first_retry": 0.02, "longest_retry": 0.1}
"""A thousand times as often as in production; a miss takes less than a second."""


class Witness:
    """Remembers each state as it was entered, and each frame that reached the handler."""

    def __init__(self) -> None:
        self.told: list[ListenerStatus] = []
        self.heard: list[Message] = []

    @property
    def states(self) -> list[str]:
        return [status.state.value for status in self.told]

    async def handle(self, message: Message) -> str:
        self.heard.append(message)
        return await echo(message)


@asynccontextmanager
async def proving(relay: Emulator, witness: Witness, **options: Any) -> AsyncIterator[Listener]:
    """A listener that has been proven to hear, and goes on proving it."""
    named = {**OFTEN, "on_state": witness.told.append, **options}
    async with listening(relay.hybrid_connection("actions", KEY_NAME), witness.handle, **named) as listener:
        yield listener


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == event]


def test_by_default_a_deaf_channel_is_noticed_within_90_seconds() -> None:
    options = ListenerOptions()
    assert options.echo_interval == (30.0, 60.0)
    assert options.echo_interval[1] + 2 * options.echo_timeout <= 90


@asynchronous
async def test_it_hears_when_its_own_echo_has_come_back_and_the_handler_never_sees_that() -> None:
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness) as listener:
            first = listener.status()
            assert (first.last_proof is not None, first.proven_by) == (True, "echo")
            assert first.round_trip_ms
            assert relay.log.count("connect", 101) == 1
            await until(lambda: listener.status().last_proof > first.last_proof)
            await until(lambda: relay.log.count("connect", 101) >= 10)
            status = listener.status()
            counts = (status.rendezvous_served, status.rendezvous_failed, status.rendezvous_in_progress)
            assert counts == (0, 0, 0)
        assert (witness.heard, relay.log.count("listen")) == ([], 1)
    assert witness.states == ["connecting", "hearing", "stopped"]


@asynchronous
async def test_echoes_come_at_random_between_the_two_bounds_so_that_many_gateways_do_not_come_together() -> None:
    async with emulator() as relay, proving(relay, Witness(), echo_interval=(0.01, 0.09)):
        await until(lambda: relay.log.count("connect", 101) >= 14)
        times = relay.log.times("connect")
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert min(pauses) >= 0.01
    assert max(pauses) - min(pauses) > 0.03


@asynchronous
async def test_a_deaf_channel_is_noticed_and_replaced_and_no_moment_is_without_a_channel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "relay.listener")
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness) as listener:
            await relay.faults.begin("deaf")
            await until(lambda: listener.status().reconnects == 1)
            await until(lambda: listener.state == ListenerState.HEARING and relay.listeners("actions") == 1)
            assert await Sender(listener.connection).send("hello") == "hello"
            assert "no echo came back within 0.3 s" in (listener.status().last_error or "")
            assert f"(address 127.0.0.1:{relay.port})" in (listener.status().last_error or "")
            assert relay.log.count("listen") == 2
        assert relay.log.outages("actions") == []
    assert witness.states == ["connecting", "hearing", "deaf", "hearing", "stopped"]
    assert [record.misses for record in logged(caplog, "echo_missed")] == [1, 2]
    assert {record.phase for record in logged(caplog, "echo_missed")} == {"control"}
    assert len(logged(caplog, "control_channel_replaced")) == 1


@asynchronous
async def test_after_one_miss_it_is_asked_again_at_once_and_nothing_else_happens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay:
        witness = Witness()

        def mislead_once(address: str) -> str:
            relay.faults.accept_address = None
            return address.replace(str(relay.port), "1")

        async with proving(relay, witness, echo_interval=(0.5, 0.5)) as listener:
            relay.faults.accept_address = mislead_once
            await until(lambda: logged(caplog, "echo_missed"))
            missed_at = asyncio.get_running_loop().time()
            await until(lambda: listener._channel.misses == 0)
            assert asyncio.get_running_loop().time() - missed_at < 0.4
            assert relay.log.count("listen") == 1
    assert witness.states == ["connecting", "hearing", "stopped"]


@pytest.mark.slow
@asynchronous
async def test_a_hybrid_connection_that_is_deaf_for_everybody_is_dialled_within_limits_until_it_hears() -> None:
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness, echo_timeout=0.05) as listener:
            await relay.faults.begin("withhold")
            await until(lambda: relay.log.count("listen") >= 5)
            assert listener.state == ListenerState.DEAF
            relay.faults.end("withhold")
            await until(lambda: listener.state == ListenerState.HEARING)
            assert await Sender(listener.connection).send("hello") == "hello"
            await until(lambda: relay.listeners("actions") == 1)
        assert relay.log.outages("actions") == []
        assert most_in_any(relay.log.times("listen"), 1.0) <= 3
    assert "backing off" not in witness.states


@pytest.mark.slow
@asynchronous
async def test_a_deaf_channel_is_kept_while_there_is_no_better_one_and_may_recover() -> None:
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness, echo_timeout=0.05) as listener:
            await relay.faults.begin("withhold")
            await relay.faults.begin("reject", status=503)
            await until(lambda: relay.log.count("listen", 503) >= 2)
            assert (listener.state, relay.listeners("actions")) == (ListenerState.DEAF, 1)
            relay.faults.end("withhold")
            await until(lambda: listener.state == ListenerState.HEARING)
            assert listener.status().reconnects == 0
    assert witness.states == ["connecting", "hearing", "deaf", "hearing", "stopped"]


@pytest.mark.slow
@asynchronous
async def test_a_silent_connection_is_noticed_by_its_missing_pongs_as_well() -> None:
    options = {"echo_interval": (60, 60), "ping_interval": 0.1, "ping_timeout": 0.1}
    async with emulator() as relay, proving(relay, Witness(), **options) as listener:
        await relay.faults.begin("silent")
        await until(lambda: relay.log.count("listen", 101) == 2)
        assert "pings" in (listener.status().last_error or "")
        await until(lambda: relay.listeners("actions") == 1)
        await until(lambda: listener.state == ListenerState.HEARING)
        assert await Sender(listener.connection).send("hello") == "hello"


@pytest.mark.slow
@asynchronous
async def test_a_silent_connection_is_noticed_by_its_missing_echo_without_pings() -> None:
    async with emulator() as relay:
        async with proving(relay, Witness(), ping_interval=None) as listener:
            await relay.faults.begin("silent")
            await until(lambda: listener.status().reconnects == 1)
            await until(lambda: listener.state == ListenerState.HEARING and relay.listeners("actions") == 1)
            assert await Sender(listener.connection).send("hello") == "hello"
        assert relay.log.outages("actions") == []


@asynchronous
async def test_a_slow_relay_is_heard_and_its_slowness_told() -> None:
    async with emulator() as relay, proving(relay, Witness()) as listener:
        await relay.faults.begin("delay", seconds=0.1)
        await until(lambda: (listener.status().round_trip_ms or 0) >= 100)
        assert (listener.state, listener.status().reconnects) == (ListenerState.HEARING, 0)


@asynchronous
async def test_a_relay_that_knows_of_no_listener_while_we_are_connected_is_deafness_at_once() -> None:
    """Deregistered: the control channel is up and senders get 404."""
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness) as listener:
            await relay.faults.begin("deregister")
            await until(lambda: listener.status().reconnects == 1)
            await until(lambda: listener.state == ListenerState.HEARING)
            assert "status 404" in (listener.status().last_error or "")
    assert witness.states == ["connecting", "hearing", "deaf", "hearing", "stopped"]


@asynchronous
async def test_without_the_send_right_it_says_so_once_and_relies_on_pings(caplog: pytest.LogCaptureFixture) -> None:
    keys = {KEY_NAME: AccessKey(KEY, frozenset({Right.LISTEN})), "other": KEY}
    async with emulator(keys=keys) as relay:
        options = {"echo_interval": (0.001, 0.001), "ping_interval": 0.05}
        async with proving(relay, Witness(), **options) as listener:
            await until(lambda: relay.log.count("connect", 403) >= 3)
            await until(lambda: listener.status().round_trip_ms)
            status = listener.status()
            assert (status.state.value, status.proven_by, status.last_proof) == ("hearing", "pings", None)
            assert status.last_error is None
            assert await Sender(relay.hybrid_connection("actions", "other")).send("hello") == "hello"
            assert relay.log.count("listen") == 1
    [told] = logged(caplog, "echo_not_allowed")
    assert "Send" in told.remedy


@asynchronous
async def test_where_echoes_are_switched_off_nobody_is_dialled() -> None:
    async with emulator() as relay:
        async with proving(relay, Witness(), echo_interval=None, ping_interval=0.05) as listener:
            await until(lambda: listener.status().round_trip_ms)
            assert (listener.status().proven_by, listener.status().last_proof) == ("pings", None)
        assert relay.log.count("connect") == 0


@pytest.mark.slow
@asynchronous
async def test_echoes_that_reach_a_neighbour_are_unknown_and_nobody_is_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay:
        one, other = Witness(), Witness()
        async with proving(relay, one) as first, proving(relay, other) as second:
            await until(lambda: relay.log.count("connect", 101) >= 60)
            assert first.status().last_proof
            assert second.status().last_proof
        assert relay.log.count("listen") == 2
    assert one.states == other.states == ["connecting", "hearing", "stopped"]
    assert one.heard == other.heard == []
    assert logged(caplog, "echo_missed") == []


@pytest.mark.slow
@asynchronous
async def test_a_deaf_channel_is_not_acquitted_by_what_its_neighbour_hears() -> None:
    options = {"echo_interval": (1, 1), "echo_timeout": 0.15, "dial_limits": ()}
    async with emulator() as relay, proving(relay, Witness(), **options) as listener:
        [ours] = relay.faults._channels()
        async with proving(relay, Witness(), echo_interval=(60, 60)):
            await relay.faults.begin("reject", status=503)
            await ours.suffer("deaf", {})
            await until(lambda: listener.state == ListenerState.DEAF, 20)
            answered = relay.log.count("accept", 101)
            await until(lambda: relay.log.count("accept", 101) >= answered + 5)
            assert (listener.state, listener.status().reconnects) == (ListenerState.DEAF, 0)
            relay.faults.end("reject")
            await until(lambda: listener.state == ListenerState.HEARING)
            assert listener.status().reconnects == 1


@asynchronous
async def test_neighbours_that_know_nothing_of_this_see_an_echo_action_and_their_silence_is_not_our_death(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay, raw_listener(relay) as neighbour:
        seen: list[dict[str, Any]] = []

        async def be_rude() -> None:
            while True:
                async with await neighbour.meet() as websocket:
                    seen.append(json.loads(await websocket.recv()))

        rude = asyncio.create_task(be_rude())
        async with proving(relay, Witness()) as listener:
            await until(lambda: len(seen) >= 5)
            await until(lambda: listener.status().last_proof)
            assert listener.status().reconnects == 0
        rude.cancel()
    assert {message["action_type"] for message in seen} == {"echo"}
    assert logged(caplog, "echo_missed") == []


@asynchronous
async def test_the_echo_of_another_listener_is_answered_with_our_name_and_not_by_the_handler() -> None:
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness, echo_interval=(60, 60)) as listener:
            foreign = {"action_type": "echo", "relay_proof": "somebody else's"}
            reply = json.loads(await Sender(listener.connection).send(json.dumps(foreign)))
            assert reply == {"status": "echo", "payload": foreign, "listener": listener._echoes.listener_id}
            others = [
                '{"action_type": "echo"}',
                '{"action_type": "worklist.create_item", "relay_proof": "x"}',
                '{"action_type": "echo", "relay_proof": 7}',
                '["relay_proof"]',
                '"relay_proof" {',
                json.dumps(foreign | {"relay_proof": "x" * 600}),
            ]
            for frame in others:
                assert await Sender(listener.connection).send(frame) == frame
    assert [message.data for message in witness.heard] == others


@asynchronous
async def test_it_is_proven_while_all_places_are_taken_and_the_handler_is_stuck() -> None:
    async with emulator() as relay:
        stuck = asyncio.Event()

        async def handle(message: Message) -> str:
            await stuck.wait()
            return await echo(message)

        async with listening(
            relay.hybrid_connection("actions", KEY_NAME), handle, max_rendezvous=1, max_queued=1, **OFTEN
        ) as listener:
            sending = asyncio.create_task(Sender(listener.connection).send("slow"))
            await until(lambda: listener.status().rendezvous_in_progress == 1)
            proven = listener.status().last_proof
            await until(lambda: listener.status().last_proof > proven)
            assert listener.state == ListenerState.HEARING
            stuck.set()
            assert await sending == "slow"


@asynchronous
async def test_a_credential_that_gives_no_token_for_a_while_is_not_deafness() -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)

        class Moody:
            away, in_vain = False, 0

            async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
                if self.away:
                    self.in_vain += 1
                    raise OSError("the issuer is away")
                return await good.credential.issue(resource_uri, lifetime)

        moody = Moody()
        async with listening(replace(good, credential=moody), **OFTEN) as listener:
            moody.away = True
            await until(lambda: moody.in_vain >= 10)  # two that are missed are deafness
            assert (listener.state, listener.status().reconnects) == (ListenerState.HEARING, 0)


@asynchronous
async def test_a_right_that_was_taken_away_is_told_once_and_asked_for_again_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with a policy or a role that is changed: the next token shows other rights."""
    keys = {KEY_NAME: KEY, "demoted": AccessKey(KEY, frozenset({Right.LISTEN}))}
    async with emulator(keys=keys) as relay:

        class Role:
            policy = KEY_NAME

            async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
                return await relay.credential(self.policy).issue(resource_uri, lifetime)

        role = Role()
        connection = replace(relay.hybrid_connection("actions", KEY_NAME), credential=role)
        async with listening(connection, **OFTEN) as listener:
            role.policy = "demoted"
            await until(lambda: relay.log.count("connect", 403) >= 3)
            assert (listener.state, listener.status().proven_by) == (ListenerState.HEARING, "pings")
            role.policy = KEY_NAME
            await until(lambda: listener.status().proven_by == "echo")
            assert listener.status().reconnects == 0
    assert len(logged(caplog, "echo_not_allowed")) == 1


# --- what an echo that was missed says


@asynchronous
async def test_an_echo_that_reached_us_and_could_not_be_met_names_the_phase() -> None:
    async with emulator() as relay, proving(relay, Witness(), accept_dial=0.1) as listener:
        relay.faults.accept_address = lambda address: address.replace(str(relay.port), "1")
        await until(lambda: listener.state == ListenerState.DEAF)
        assert "accept-dial: no echo came back" in (listener.status().last_error or "")
        relay.faults.accept_address = None
        await until(lambda: listener.state == ListenerState.HEARING)


def test_an_address_with_another_s_nonce_is_not_ours() -> None:
    connection = HybridConnection(Namespace("host"), "a", SharedAccessKey(KEY_NAME, KEY))
    echoes = Echoes(connection, DialOptions(), 1)
    nonce = "0" * 32
    for address in (
        f"ws://host/$hc/a?relay-proof={nonce}",
        "ws://[?relay-proof=",
        f"&relay-proof={nonce}",
        "relay-proof",
    ):
        assert not echoes.recognise(address, object())


# --- tokens


@pytest.mark.slow
@asynchronous
async def test_each_renewal_is_proven_by_an_echo_and_no_sender_notices() -> None:
    async with emulator(token_grace=0) as relay:
        async with proving(relay, Witness(), echo_interval=(60, 60), token_lifetime=timedelta(seconds=5)) as listener:
            proofs = {listener.status().last_proof}
            while relay.log.count("renew", 200) < 2:
                assert await Sender(listener.connection).send("hello") == "hello"
                proofs.add(listener.status().last_proof)
            assert len(proofs) >= 2
            assert listener.status().reconnects == 0
        assert relay.log.outages("actions") == []


@pytest.mark.slow
@asynchronous
async def test_a_renewal_that_is_not_proven_in_time_gets_a_second_channel_before_the_first_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator(token_grace=0) as relay:
        witness = Witness()
        async with proving(
            relay, witness, echo_interval=(60, 60), echo_timeout=10, token_lifetime=timedelta(seconds=3)
        ) as listener:
            await relay.faults.begin("delay", seconds=1.2)
            await until(lambda: relay.log.count("listen", 101) == 2)
            assert relay.listeners("actions") == 2
            relay.faults.end("delay")
            await until(lambda: relay.listeners("actions") == 1)
            assert await Sender(listener.connection).send("hello") == "hello"
        assert relay.log.outages("actions") == []
    assert logged(caplog, "token_renewal_not_proven")
    assert "deaf" not in witness.states
    assert "backing off" not in witness.states


@pytest.mark.slow
@asynchronous
async def test_a_token_that_could_not_be_renewed_in_time_gets_a_second_channel_as_soon_as_there_is_one() -> None:
    async with emulator(token_grace=3) as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)

        class Late:
            """Gives a token for the first channel, and then none until told."""

            given, away = 0, True

            async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
                self.given += 1
                if self.given > 2 and self.away:
                    raise OSError("the issuer is away")
                return await good.credential.issue(resource_uri, lifetime)

        over = asyncio.Event()

        async def send_on(connection: HybridConnection) -> int:
            """Each one is answered, across the change of channels."""
            sent = 0
            while not over.is_set():
                sent += 1
                assert await Sender(connection).send(str(sent)) == str(sent)
            return sent

        late = Late()
        options = {**OFTEN, "echo_interval": (60, 60), "token_lifetime": timedelta(seconds=2)}
        async with listening(replace(good, credential=late), **options) as listener:
            sending = [asyncio.create_task(send_on(good)) for _ in range(8)]
            await until(lambda: "no token" in (listener.status().last_error or ""))
            late.away = False
            await until(lambda: listener.status().reconnects >= 1)
            await until(lambda: relay.listeners("actions") == 1)
            over.set()
            assert min(await asyncio.gather(*sending)) > 10
        assert relay.log.outages("actions") == []
        assert relay.log.count("connect", 404) == 0


# --- back-off


@asynchronous
async def test_a_cut_after_proven_health_is_the_first_of_its_row_however_many_came_before() -> None:
    async with emulator() as relay:
        options = ListenerOptions(**{**OFTEN, "echo_interval": (60, 60), "healthy_after": 0.1, "dial_limits": ()})
        async with running(Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)) as listener:
            for cuts in range(1, 5):
                await until(lambda: listener.state == ListenerState.HEARING)
                await until(lambda: listener._channel is not None and listener._channel.healthy_for() > 0.1)
                await relay.faults.begin("cut")
                await until(lambda count=cuts: listener.status().reconnects >= count)
                assert listener._backoff.attempt == 1


@pytest.mark.slow
@asynchronous
async def test_waits_start_small_again_only_after_health_was_proven_for_a_while() -> None:
    async with emulator() as relay:
        options = ListenerOptions(**{**OFTEN, "healthy_after": 0.5, "dial_limits": ()})
        async with running(Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)) as listener:
            for attempts in (1, 2, 3):
                await until(lambda: listener.state == ListenerState.HEARING)
                await relay.faults.begin("cut")
                await until(lambda count=attempts: listener._backoff.attempt == count)
            await relay.faults.begin("withhold")
            await until(lambda: listener.state == ListenerState.DEAF)
            deaf, opened = listener._backoff.attempt, listener.status().reconnects
            # each channel is connected and deaf for longer than healthy_after: two echoes are missed on it
            await until(lambda: listener.status().reconnects >= opened + 2)
            assert listener._backoff.attempt > deaf
            relay.faults.end("withhold")
            await until(lambda: listener._backoff.attempt == 0)
            assert listener.state == ListenerState.HEARING


# --- what has been replaced holds nobody up


@pytest.mark.slow
@asynchronous
async def test_the_new_channel_is_proven_while_the_deaf_one_which_answers_nothing_is_still_closing() -> None:
    async with emulator() as relay, proving(relay, Witness(), ping_interval=None) as listener:
        await relay.faults.begin("silent")
        await until(lambda: listener.status().reconnects == 1)
        opened = asyncio.get_running_loop().time()
        await until(lambda: listener.state == ListenerState.HEARING)
        assert relay.listeners("actions") == 2
        await until(lambda: relay.listeners("actions") == 1)
        assert asyncio.get_running_loop().time() - opened < CLOSE_TIMEOUT - 0.5


@pytest.mark.slow
@asynchronous
async def test_a_listener_that_stops_leaves_no_channel_behind_that_was_still_closing() -> None:
    async with emulator() as relay:
        async with proving(relay, Witness(), ping_interval=None) as listener:
            await relay.faults.begin("silent")
            await until(lambda: listener.status().reconnects == 1)
            await until(lambda: listener.state == ListenerState.HEARING)
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]  # always named
        assert not [name for name in names if name.startswith(("Listener.", "Channel."))]
        await until(lambda: relay.listeners("actions") == 0)


# --- what is refused is not heard


class Turncoat:
    """Gives good tokens for listening; those for the echoes are of a key that the relay does not know."""

    def __init__(self, good: HybridConnection) -> None:
        self.good = good
        self.asked = 0
        self.good_for = 1

    async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
        self.asked += 1
        source = self.good.credential if self.asked <= self.good_for else SharedAccessKey(KEY_NAME, "d3Jvbmc=")
        return await source.issue(resource_uri, lifetime)


@asynchronous
async def test_a_listener_whose_echoes_were_never_allowed_with_401_says_so_once_and_relies_on_pings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(replace(good, credential=Turncoat(good)), **OFTEN) as listener:
            assert relay.log.count("connect", 401) == 5, "one refusal is no missing right"
            assert (listener.status().proven_by, listener.status().last_proof) == ("pings", None)
    assert len(logged(caplog, "echo_not_allowed")) == 1


@asynchronous
async def test_a_listener_that_was_proven_and_whose_token_is_refused_since_is_not_said_to_lack_the_right(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        source = Turncoat(good)
        source.good_for = 1000
        async with listening(replace(good, credential=source), **OFTEN) as listener:
            source.good_for = 0
            await until(lambda: relay.log.count("connect", 401) >= 7)
            assert (listener.state, listener.status().proven_by) == (ListenerState.HEARING, "echo")
            assert "status 401" in (listener.status().last_error or "")
    assert logged(caplog, "echo_not_allowed") == []
    assert len(logged(caplog, "listener_not_proven")) == 1


@pytest.mark.parametrize("status", [401, 403])
@asynchronous
async def test_a_deaf_channel_is_not_acquitted_by_a_refusal_of_its_echo(status: int) -> None:
    async with emulator() as relay:
        witness = Witness()
        async with proving(relay, witness, echo_timeout=0.1) as listener:
            await relay.faults.begin("withhold")
            await relay.faults.begin("reject", status=503)
            await until(lambda: listener.state == ListenerState.DEAF)
            await relay.faults.begin("reject", on="connect", status=status)
            await until(lambda: relay.log.count("connect", status) >= 5)
            assert listener.state == ListenerState.DEAF


@pytest.mark.parametrize("code", ["no_token", "issuer_busy"])
@asynchronous
async def test_whatever_code_the_failure_to_get_a_token_has_it_is_no_deafness(code: str) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)

        class Moody:
            asked_in_vain = 0
            away = False

            async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
                if self.away:
                    self.asked_in_vain += 1
                    raise DialError("the issuer is busy", phase=Phase.TOKEN, code=code)
                return await good.credential.issue(resource_uri, lifetime)

        moody = Moody()
        async with listening(replace(good, credential=moody), **OFTEN) as listener:
            moody.away = True
            await until(lambda: moody.asked_in_vain >= 6)
            assert (listener.state, listener.status().reconnects) == (ListenerState.HEARING, 0)
            assert listener._channel is not None
            assert listener._channel.misses == 0


# --- a relay that is slow to know us, short of room, or asks for patience


@asynchronous
async def test_a_relay_that_needs_a_moment_to_register_a_listener_is_heard_at_once_after_that() -> None:
    async with emulator() as relay:
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), Witness(), options=ListenerOptions())
        await relay.faults.begin("reject", on="connect", status=404, lasting=0.3)
        async with running(listener):
            await until(lambda: listener.state == ListenerState.HEARING, 5)
            assert listener.status().reconnects == 0


@asynchronous
async def test_a_deaf_channel_that_takes_the_last_place_is_dropped_before_another_is_opened() -> None:
    async with emulator(max_listeners=1) as relay, proving(relay, Witness()) as listener:
        await relay.faults.begin("deaf")
        await until(lambda: relay.log.count("listen", 429) == 1)
        await until(lambda: relay.log.count("listen", 101) == 2)
        await until(lambda: listener.state == ListenerState.HEARING)
        assert relay.listeners("actions") == 1


@asynchronous
async def test_a_channel_that_hears_again_is_believed_while_another_one_is_refused_for_long() -> None:
    async with emulator(accept_window=0.2) as relay, proving(relay, Witness()) as listener:
        await relay.faults.begin("reject", status=503, retry_after=200)
        await relay.faults.begin("withhold")
        await until(lambda: relay.log.count("listen", 503) == 1)
        relay.faults.end("withhold")
        await until(lambda: listener.state == ListenerState.HEARING)
        assert (relay.log.count("listen", 503), listener.status().reconnects) == (1, 0)


@pytest.mark.parametrize("status", [429, 503])
@asynchronous
async def test_a_relay_that_has_no_time_for_our_echo_is_not_deafness_and_is_left_in_peace(status: int) -> None:
    async with emulator() as relay, proving(relay, Witness()) as listener:
        await relay.faults.begin("reject", on="connect", status=status, retry_after=1, times=1)
        proven = listener.status().last_proof
        await until(lambda: relay.log.count("connect", status) == 1)
        refused = relay.log.times("connect")[-1]
        await until(lambda: listener.status().last_proof != proven)
        assert relay.log.times("connect")[-1] - refused >= 0.9
        assert (listener.state, listener.status().reconnects) == (ListenerState.HEARING, 0)


@asynchronous
async def test_a_channel_that_was_deaf_when_it_was_cut_counts_as_a_failure_however_long_it_was_connected() -> None:
    async with emulator() as relay:
        options = ListenerOptions(**{**OFTEN, "echo_timeout": 0.05, "healthy_after": 0.2, "dial_limits": ()})
        async with running(Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)) as listener:
            await until(lambda: listener.state == ListenerState.HEARING)
            await relay.faults.begin("withhold")
            await relay.faults.begin("reject", status=503)
            await until(lambda: relay.log.count("listen", 503) >= 4)
            await until(lambda: listener._channel is not None and listener._channel.age() > 0.3)
            failures = listener._backoff.attempt
            await relay.faults.begin("cut")
            await until(lambda: listener.state == ListenerState.BACKING_OFF)
            assert listener._backoff.attempt > failures
