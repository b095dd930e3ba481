"""The listener against the emulator, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from relay import (
    ConfigurationError,
    DialOptions,
    HybridConnection,
    Listener,
    ListenerOptions,
    ListenerState,
    ListenerStatus,
    Message,
    Namespace,
    PhaseTimeouts,
    RelayError,
    Sender,
    SharedAccessKey,
    SharedAccessSignature,
    Token,
)
from relay.emulator import AccessKey, Emulator, Right
from tests.patient_loop import clock_of_day
from tests.relay.proxy import ConnectProxy
from tests.relay.support import (
    KEY_NAME,
    asynchronous,
    echo,
    emulator,
    listening,
    most_in_any,
    running,
    scaled,
    until,
)

LIMITS = ListenerOptions().dial_limits


def test_by_default_silence_is_noticed_within_45_seconds_and_no_sender_is_waited_for_beyond_ten() -> None:
    """The numbers of the reference (§3 nos. 2 and 8)."""
    options = ListenerOptions()
    assert (options.ping_interval, options.ping_timeout) == (20, 10)
    assert (options.accept_dial, options.first_message, options.max_rendezvous) == (10, 10, 64)
    assert options.accept_window <= 30


@asynchronous
async def test_a_frame_is_heard_and_answered() -> None:
    heard: list[Message] = []

    async def handle(message: Message) -> str:
        heard.append(message)
        return f"got {message.data!r}"

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle) as listener:
            assert await Sender(connection).send("grüß dich") == "got 'grüß dich'"
            await until(lambda: listener.status().rendezvous_served == 1)
    assert heard[0].received_at.tzinfo is UTC
    assert heard[0].remote.startswith("127.0.0.1:")
    assert (heard[0].path, heard[0].query) == ("", "")


@asynchronous
async def test_the_senders_own_path_and_query_reach_the_handler() -> None:
    heard: list[Message] = []

    async def handle(message: Message) -> str:
        heard.append(message)
        return ""

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle):
            websocket = await _dial(connection, connection.connect_address("site/3", "urgent=yes"))
            await websocket.send("x")
            await websocket.recv()
            await websocket.close()
    assert (heard[0].path, heard[0].query) == ("/site/3", "urgent=yes")


@asynchronous
async def test_several_frames_on_one_rendezvous_are_each_answered_text_and_binary() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection), await Sender(connection).open() as websocket:
            answers = []
            for frame in ("one", b"\x00\x01", "three"):
                await websocket.send(frame)
                answers.append(await websocket.recv())
    assert answers == ["one", "2 bytes", "three"]


@asynchronous
async def test_frames_up_to_four_mebibytes_are_taken_and_larger_ones_close_with_1009() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            for size in (65_536, 65_537, 4 * 1024 * 1024):
                assert await Sender(connection).send("x" * size) == "x" * size
            with pytest.raises(RelayError) as caught:
                await Sender(connection).send("x" * (4 * 1024 * 1024 + 1))
            assert caught.value.close_code == 1009
            assert not caught.value.connection_failed
            assert await Sender(connection).send("still here") == "still here"
            await until(lambda: listener.status().rendezvous_failed == 1)


@asynchronous
async def test_silent_senders_block_nobody_and_are_let_go() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, first_message=0.5) as listener:
            silent = [await Sender(connection).open() for _ in range(10)]
            loop = asyncio.get_running_loop()
            before = loop.time()
            assert await Sender(connection).send("hello") == "hello"
            assert loop.time() - before < 0.4
            await asyncio.gather(*(websocket.wait_closed() for websocket in silent))
            await until(lambda: listener.status().rendezvous_failed == 10)
            assert listener.state == ListenerState.HEARING


@asynchronous
async def test_a_sender_that_keeps_its_rendezvous_open_after_the_reply_is_let_go() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, next_message=0.1):
            websocket = await Sender(connection).open()
            await websocket.send("x")
            assert await websocket.recv() == "x"
            await websocket.wait_closed()
            assert websocket.close_code == 1000


@asynchronous
async def test_senders_that_vanish_disturb_nobody() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            for _ in range(5):
                websocket = await Sender(connection).open()
                websocket.transport.abort()
            assert await Sender(connection).send("hello") == "hello"
            await until(lambda: listener.status().rendezvous_in_progress == 0)
            assert listener.state == ListenerState.HEARING


@asynchronous
async def test_a_sender_that_left_before_we_came_is_a_debug_line_and_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            await relay.faults.begin("gone-sender", times=1)
            with pytest.raises(RelayError):
                await Sender(connection).send("hello")
            await until(lambda: listener.status().rendezvous_failed == 1)
            assert await Sender(connection).send("hello") == "hello"
        assert relay.log.count("accept", 403) == 1
    [line] = [record for record in caplog.records if record.message == "rendezvous_failed"]
    assert (line.levelname, line.phase, line.status) == ("DEBUG", "accept-dial", 403)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("how", ["hangs", "refuses"])
@asynchronous
async def test_a_dead_accept_address_blocks_nobody(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:  # takes connections and says nothing
        dead = black_hole.getsockname()[1] if how == "hangs" else 1
        told = asyncio.Event()
        async with emulator(accept_window=0.5) as relay:

            def mislead(address: str) -> str:
                relay.faults.accept_address = None
                told.set()
                return address.replace(str(relay.port), str(dead))

            connection = relay.hybrid_connection("actions", KEY_NAME)
            patient = DialOptions(PhaseTimeouts(upgrade=60), proxy=None)
            async with listening(connection, accept_dial=0.4, dial=patient) as listener:
                relay.faults.accept_address = mislead
                lost = asyncio.create_task(Sender(connection).send("lost"))
                await told.wait()
                assert await Sender(connection).send("hello") == "hello"
                with pytest.raises(RelayError) as caught:
                    await lost
                assert caught.value.status == 504
                await until(lambda: listener.status().rendezvous_failed == 1)
                assert listener.state == ListenerState.HEARING


@asynchronous
async def test_an_accept_address_outside_the_relay_is_not_dialled(caplog: pytest.LogCaptureFixture) -> None:
    async with emulator(accept_window=0.2) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            relay.faults.accept_address = lambda _address: "ws://evil.example/$hc/actions?sb-hc-action=accept"
            with pytest.raises(RelayError):
                await Sender(connection).send("hello")
            await until(lambda: listener.status().rendezvous_failed == 1)
    assert [record.code for record in caplog.records if record.message == "rendezvous_failed"] == ["address_refused"]


@asynchronous
async def test_more_rendezvous_than_places_wait_their_turn() -> None:
    at_once, most = 0, 0

    async def handle(message: Message) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return await echo(message)

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle, max_rendezvous=3) as listener:
            answers = await asyncio.gather(*(Sender(connection).send(str(number)) for number in range(40)))
            assert answers == [str(number) for number in range(40)]
            assert most == 3
            await until(lambda: listener.status().rendezvous_in_progress == 0)
            assert listener.status().rendezvous_queued == 0


@asynchronous
async def test_silent_senders_take_no_hand_from_those_who_speak() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, max_rendezvous=2, first_message=60):
            silent = await asyncio.gather(*(Sender(connection).open() for _ in range(20)))
            async with asyncio.timeout(10):
                assert await Sender(connection).send("I speak") == "I speak"
            await asyncio.gather(*(websocket.close() for websocket in silent))


@pytest.mark.slow
@asynchronous
async def test_hundreds_of_accept_addresses_that_hang_hold_up_nobody() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, max_rendezvous=2, echo_interval=None) as listener:
            await relay.faults.begin("hang", on="accept", times=300)
            lost = [asyncio.create_task(Sender(connection).send("lost")) for _ in range(300)]
            await until(lambda: not relay.faults.in_force)
            async with asyncio.timeout(5):
                assert await Sender(connection).send("I am met") == "I am met"
            assert listener.status().rendezvous_in_progress >= 300
            for each in lost:
                each.cancel()
            await asyncio.wait(lost)


@asynchronous
async def test_senders_that_do_not_read_take_no_hand_from_those_who_do() -> None:
    async def much(message: Message) -> str:
        return "x" * 4_000_000 if message.data == "much" else "little"

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, much, max_rendezvous=2, reply=60):
            slow = await asyncio.gather(*(Sender(connection).open() for _ in range(8)))
            for websocket in slow:
                websocket.transport.pause_reading()
                await websocket.send("much")
            async with asyncio.timeout(10):
                assert await Sender(connection).send("I read") == "little"
            for websocket in slow:
                websocket.transport.abort()


@pytest.mark.slow
@asynchronous
async def test_the_relay_sees_no_more_dials_than_allowed_however_uneven_the_way_is() -> None:
    """A proxy that takes its time for one tunnel in three: dials that were begun apart must not arrive together."""
    async with emulator() as relay, ConnectProxy(uneven=0.6) as proxy:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        options = ListenerOptions(
            dial=DialOptions(proxy=proxy.address()), first_retry=0.001, longest_retry=0.01, echo_interval=None,
            dial_limits=scaled(LIMITS, 0.2),
        )  # fmt: skip
        await relay.faults.begin("reject", status=503)
        async with running(Listener(connection, echo, options=options)):
            await until(lambda: relay.log.count("listen", 503) >= 16, 20)
    times = relay.log.times("listen")
    assert most_in_any(times, 0.2) <= 3
    assert most_in_any(times, 2.0) <= 8


@pytest.mark.slow
@asynchronous
async def test_accepts_that_waited_too_long_for_a_place_are_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async with emulator(accept_window=1) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, max_open=1, accept_window=0.2, first_message=0.6):
            silent = await Sender(connection).open()
            with pytest.raises(RelayError) as caught:
                await Sender(connection).send("too late")
            assert caught.value.status == 504
            await silent.close()
    assert "no_place" in [getattr(record, "code", "") for record in caplog.records]


@asynchronous
async def test_no_more_accepts_wait_for_a_place_than_may(caplog: pytest.LogCaptureFixture) -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, max_open=1, max_queued=1) as listener:
            silent = await Sender(connection).open()
            patient = asyncio.create_task(Sender(connection).send("I can wait"))
            await until(lambda: listener.status().rendezvous_queued == 1)
            turned_away = asyncio.create_task(Sender(connection).send("one too many"))
            await until(lambda: listener.status().rendezvous_failed == 1)
            assert listener.status().rendezvous_queued == 1
            await silent.close()
            assert await patient == "I can wait"
            turned_away.cancel()
    assert [record.code for record in caplog.records if record.message == "rendezvous_failed"] == ["no_place"]


@pytest.mark.slow
@asynchronous
async def test_a_thousand_accepts_in_a_burst_are_all_answered_in_flat_memory_while_pings_are_answered() -> None:
    """The listener is a process of its own, so that its memory is nobody else's."""
    async with emulator() as relay, apart(relay.connection_string(KEY_NAME, "actions")):
        await relay.wait_for_listeners("actions", 1)
        sender = Sender(relay.hybrid_connection("actions", KEY_NAME))
        pinging = asyncio.create_task(pongs(relay))
        before, *peaks = [int(await sender.send("memory"))] + [await peak_after_burst(sender) for _ in range(3)]
        pinging.cancel()
        await asyncio.wait({pinging})
        assert pinging.cancelled(), f"a ping was not answered: {pinging}"
        assert relay.log.outages("actions") == []
        assert relay.log.count("listen") == 1
    assert peaks[0] - before < 40_000, "a burst takes less than 40 MB"
    assert peaks[-1] - peaks[0] < 8_000, "and the next one takes the same"


async def peak_after_burst(sender: Sender) -> int:
    """The most memory the listener ever had, in KiB, after a thousand senders at once."""
    answers = await asyncio.gather(*(sender.send(str(number)) for number in range(1000)))
    assert answers == [str(number) for number in range(1000)]
    return int(await sender.send("memory"))


async def pongs(relay: Emulator) -> None:
    """Ping the one control channel for ever. Raises `TimeoutError` when a pong takes as long as a relay would wait."""
    [end] = relay.faults._channels()
    while True:
        async with asyncio.timeout(ListenerOptions().ping_timeout):
            await (await end._door.ping())


@asynccontextmanager
async def apart(connection_string: str) -> AsyncIterator[None]:
    """A listener in a process of its own: gives each frame back, and its peak memory when asked."""
    script = """
import asyncio, re, sys
from pathlib import Path
from relay import ConnectionString, Listener

def peak():  # the rusage of a process begins with its parent's
    return re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]

async def handle(message):
    return peak() if message.data == "memory" else message.data

asyncio.run(Listener(ConnectionString.parse(sys.argv[1]).hybrid_connection(), handle).run())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, connection_string)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@asynchronous
async def test_a_raising_handler_still_answers_and_its_words_stay_out_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(message: Message) -> str:
        raise ValueError(f"cannot read {message.data!r}")

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle, failure_reply="sorry"):
            assert await Sender(connection).send("SMITH^JANE") == "sorry"
    record = next(record for record in caplog.records if record.message == "handler_failed")
    assert (record.phase, record.error) == ("handle", "ValueError")
    assert "SMITH" not in caplog.text


@asynchronous
async def test_garbage_on_the_control_channel_is_logged_once_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    garbage = [
        "",
        "{",
        "[]",
        "null",
        '{"accept": 7}',
        '{"accept": {"address": 1}}',
        "SMITH^JANE",
        "x" * 99_999,
    ]
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            for frame in garbage * 3:
                await relay.faults.begin("garbage", frame=frame)
                await relay.faults.begin("garbage", frame=frame, binary=True)
            assert await Sender(connection).send("hello") == "hello"
            assert listener.status().reconnects == 0
    assert [record.message for record in caplog.records].count("control_message_unreadable") == 1
    assert "SMITH" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4000])
@asynchronous
async def test_whatever_the_close_code_the_listener_is_back_at_once(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What Azure does about once a day is one line for information, with the tracking id; the rest is a warning."""
    caplog.set_level(logging.INFO)
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            loop = asyncio.get_running_loop()
            closed_at = loop.time()
            await relay.faults.begin("close", code=code, reason="TrackingId:12345678-abcd_G7")
            await until(lambda: relay.log.count("listen", 101) == 2, 2)
            assert loop.time() - closed_at < 1.5
            await until(lambda: listener.state == ListenerState.HEARING)
            assert await Sender(connection).send("hello") == "hello"
            status = listener.status()
            assert status.reconnects == 1
            assert "12345678-abcd_G7" in (status.last_error or "")
            assert "control:" in (status.last_error or "")
    [line] = [record for record in caplog.records if record.message == "control_channel_closed"]
    assert (line.close_code, line.tracking_id) == (code, "12345678-abcd_G7")
    louder = [record.message for record in caplog.records if record.levelno > logging.INFO]
    assert (line.levelname, louder) == (
        ("INFO", []) if code in {1000, 1001, 1011} else ("WARNING", ["control_channel_closed"])
    )


@asynchronous
async def test_a_connection_that_is_reset_is_dialled_again_within_a_second() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            loop = asyncio.get_running_loop()
            cut_at = loop.time()
            await relay.faults.begin("cut")
            await until(lambda: relay.log.count("listen", 101) == 2, 2)
            assert loop.time() - cut_at < 1.5


@pytest.mark.slow
@asynchronous
async def test_a_relay_that_answers_no_pings_is_noticed_and_left() -> None:
    """A silent TCP connection: what a firewall does that forgets a flow."""
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, ping_interval=0.1, ping_timeout=0.1) as listener:
            await until(lambda: listener.status().round_trip_ms is not None)
            silenced = [end._door.transport for end in relay.faults._channels()]
            for transport in silenced:
                transport.pause_reading()
            await until(lambda: relay.log.count("listen", 101) == 2)
            for transport in silenced:
                transport.resume_reading()
            assert "pings" in (listener.status().last_error or "")


@asynchronous
async def test_the_emulator_may_stop_and_start_on_the_same_port() -> None:
    async with emulator() as relay:
        port = relay.port
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, first_retry=0.05, longest_retry=0.2) as listener:
            await relay.stop()
            await until(lambda: "refused" in (listener.status().last_error or ""))
            await relay.start()
            assert relay.port == port
            await until(lambda: listener.state == ListenerState.HEARING)
            assert await Sender(connection).send("hello") == "hello"


def dials_of(listener: Listener) -> list[float]:
    """When the listener dials, by its own clock: a busy machine delays what the relay sees."""
    times: list[float] = []
    remember = listener._arrivals.dialled

    def dialled(now: float) -> None:
        times.append(now)
        remember(now)

    listener._arrivals.dialled = dialled
    return times


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404, 503])
@asynchronous
async def test_under_a_relay_that_refuses_the_dial_rate_stays_bounded_and_never_ends(status: int) -> None:
    """Scaled by ten: at most 3 dials in a tenth of a second, 8 in one second."""
    async with emulator() as relay:
        await relay.faults.begin("reject", status=status)
        options = ListenerOptions(first_retry=0.001, longest_retry=0.02, dial_limits=scaled(LIMITS, 0.1))
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)
        dials = dials_of(listener)
        async with running(listener):
            await until(lambda: relay.log.count("listen", status) >= 18)
            assert f"status {status}" in (listener.status().last_error or "")
            assert "upgrade:" in (listener.status().last_error or "")
            relay.faults.end("reject")
            await until(lambda: listener.state == ListenerState.HEARING)
        assert relay.log.count("listen") == len(dials)
    assert most_in_any(dials, 0.1) <= 3
    assert most_in_any(dials, 1.0) <= 8


@pytest.mark.slow
@asynchronous
async def test_a_relay_that_closes_each_channel_with_1008_sees_no_storm_either() -> None:
    async with emulator() as relay:
        options = ListenerOptions(first_retry=0.001, longest_retry=0.01, dial_limits=scaled(LIMITS, 0.1))
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)
        dials = dials_of(listener)
        async with running(listener):
            for _ in range(12):
                await relay.wait_for_listeners("actions", 1)
                await relay.faults.begin("close", code=1008, reason="")
    assert len(dials) >= 12
    assert most_in_any(dials, 1.0) <= 8


@pytest.mark.slow
@asynchronous
async def test_retry_after_is_honoured() -> None:
    async with emulator(max_listeners=0) as relay:  # answers 429 with Retry-After: 1
        options = ListenerOptions(first_retry=0.001, longest_retry=0.001)
        async with running(Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)):
            await until(lambda: relay.log.count("listen", 429) == 2)
    first, second = relay.log.times("listen")
    assert second - first >= 1


@pytest.mark.slow
@asynchronous
async def test_retry_after_is_honoured_for_the_channel_that_shall_take_a_deaf_ones_place() -> None:
    eager = {"echo_interval": (0.01, 0.01), "echo_timeout": 0.05, "first_retry": 0.001, "longest_retry": 0.001}
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), dial_limits=(), **eager):
        await relay.faults.begin("reject", status=429, retry_after=1)
        await relay.faults.begin("deaf")
        await until(lambda: relay.log.count("listen", 429) == 2)
        _, first, second = relay.log.times("listen")
        assert second - first >= 1


@pytest.mark.slow
@asynchronous
async def test_tokens_are_renewed_before_they_expire_and_no_sender_notices() -> None:
    async with emulator(token_grace=0) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, token_lifetime=timedelta(seconds=6)) as listener:
            first = listener.status().token_expires_at
            while relay.log.count("renew", 200) < 2:
                assert await Sender(connection).send("hello") == "hello"
            assert listener.status().reconnects == 0
            assert first is not None
            assert (listener.status().token_expires_at or first) > first
    assert relay.log.outages("actions") == []


class ShortLived:
    """A credential whose tokens live so many seconds; remembers when it gave each."""

    def __init__(self, seconds: float) -> None:
        self.life = timedelta(seconds=seconds)
        self.given: list[float] = []

    async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
        self.given.append(asyncio.get_running_loop().time())
        return Token(f"token-{len(self.given)}", clock_of_day()() + self.life)


@pytest.mark.slow
@asynchronous
async def test_tokens_are_renewed_between_half_and_four_fifths_of_their_life_not_all_gateways_at_once() -> None:
    life, credentials = 4.0, [ShortLived(4.0) for _ in range(20)]
    async with emulator(accepts_bearer=lambda token: token.startswith("token-")) as relay, AsyncExitStack() as open_:
        for credential in credentials:
            connection = HybridConnection(relay.namespace, "actions", credential)
            options = ListenerOptions(echo_interval=None, now=clock_of_day())
            listener = Listener(connection, echo, options=options)
            await open_.enter_async_context(running(listener))
        await until(lambda: all(len(credential.given) >= 2 for credential in credentials))
        await until(lambda: relay.log.count("renew", 200) >= len(credentials))
        assert relay.log.count("listen") == len(credentials)
    ages = [(credential.given[1] - credential.given[0]) / life for credential in credentials]
    assert min(ages) >= 0.5
    assert max(ages) < 0.9, "four fifths, and a little for a busy machine"
    assert max(ages) - min(ages) > 0.1


class ExpiresAtOnce:
    """A credential whose tokens claim a longer life than they have, so that nobody renews them in time."""

    def __init__(self, relay_key: object) -> None:
        self._key = relay_key

    async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
        token = self._key.token(resource_uri, timedelta(seconds=1))
        return Token(token.value, datetime.now(UTC) + lifetime)


@asynchronous
async def test_a_channel_closed_for_an_expired_token_is_dialled_again_with_a_new_one() -> None:
    """At once: any other close is followed by a wait, here of up to a quarter of an hour."""
    async with emulator(token_grace=0) as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        connection = HybridConnection(good.namespace, good.path, ExpiresAtOnce(good.credential))
        async with listening(connection, first_retry=1000, longest_retry=1000) as listener:
            await until(lambda: relay.log.count("listen", 101) == 2)
            await until(lambda: listener.state == ListenerState.HEARING)
            assert "1008" in (listener.status().last_error or "")
    assert max(relay.log.outages("actions")) < 60


@asynchronous
async def test_a_signature_that_cannot_be_renewed_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        fixed = SharedAccessSignature(relay.credential(KEY_NAME).token(good.resource_uri, timedelta(seconds=2)).value)
        async with listening(HybridConnection(good.namespace, good.path, fixed)) as listener:
            await until(lambda: "token_cannot_be_renewed" in [record.message for record in caplog.records])
            assert listener.state == ListenerState.HEARING


@asynchronous
async def test_a_credential_that_fails_is_asked_again() -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)

        class Moody:
            asked = 0

            async def issue(self, resource_uri: str, lifetime: timedelta) -> Token:
                self.asked += 1
                if self.asked < 3:
                    raise OSError("the issuer is away")
                return await good.credential.issue(resource_uri, lifetime)

        connection = HybridConnection(good.namespace, good.path, Moody())
        async with listening(connection, first_retry=0.01) as listener:
            assert "no token could be had" in (listener.status().last_error or "")


@asynchronous
async def test_a_key_without_the_listen_right_is_refused_with_403_and_told_what_to_do() -> None:
    async with emulator(keys={KEY_NAME: AccessKey("k", frozenset({Right.SEND}))}) as relay:
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), echo)
        async with running(listener):
            await until(lambda: listener.status().last_error)
            error = listener.status().last_error or ""
    assert "status 403" in error
    assert "Listen" in error
    assert "tracking id" in error


@asynchronous
async def test_states_are_told_as_they_change() -> None:
    told: list[ListenerStatus] = []
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), on_state=told.append):
        await relay.faults.begin("cut")
        await until(lambda: len(told) >= 5)
    assert [status.state.value for status in told] == [
        "connecting", "hearing", "backing off", "connecting", "hearing", "stopped",
    ]  # fmt: skip
    assert told[1].connected_at is not None


@asynchronous
async def test_a_failing_on_state_callback_does_not_hurt() -> None:
    def fail(_status: ListenerStatus) -> None:
        raise ValueError("the callback is broken")

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, on_state=fail):
            assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_stopping_lets_meetings_in_progress_end() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> str:
        entered.set()
        await leave.wait()
        return await echo(message)

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle) as listener:
            sent = asyncio.create_task(Sender(connection).send("hello"))
            await entered.wait()
            stopped = asyncio.create_task(listener.stop(5))
            await relay.wait_for_listeners("actions", 0)
            await until(lambda: listener.state == ListenerState.STOPPED)
            assert listener.status().rendezvous_in_progress == 1
            leave.set()
            assert await sent == "hello"
            await stopped
            assert listener.state == ListenerState.STOPPED


@asynchronous
async def test_stopping_cuts_what_outlasts_the_deadline() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            silent = await Sender(connection).open()
            await until(lambda: listener.status().rendezvous_in_progress)
            await listener.stop(0.05)
            assert listener.status().rendezvous_in_progress == 0
            await silent.wait_closed()


@asynchronous
async def test_a_stopped_listener_may_run_again_but_not_twice_at_once() -> None:
    async with emulator() as relay:
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), echo)
        for _ in range(2):
            async with running(listener):
                await relay.wait_for_listeners("actions", 1)
                with pytest.raises(ConfigurationError):
                    await listener.run()
            await relay.wait_for_listeners("actions", 0)


@asynchronous
async def test_a_listener_may_be_stopped_before_it_ran() -> None:
    async with emulator() as relay:
        listener = Listener(relay.hybrid_connection("actions", KEY_NAME), echo)
        await listener.stop()
        await listener.run()
        assert relay.log.count("listen") == 0


@asynchronous
async def test_several_listeners_share_the_senders() -> None:
    served: list[str] = []

    def named(name: str) -> object:
        async def handle(_message: Message) -> str:
            served.append(name)
            return name

        return handle

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, named("a")), listening(connection, named("b")):
            await asyncio.gather(*(Sender(connection).send("x") for _ in range(60)))
    assert set(served) == {"a", "b"}


@asynchronous
async def test_no_token_is_logged_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, token_lifetime=timedelta(seconds=2)):
            await Sender(connection).send("SMITH^JANE")
            await until(lambda: relay.log.count("renew", 200))
    told = json.dumps([str(vars(record)) for record in caplog.records])
    assert "sig=" not in told
    assert "SharedAccessSignature" not in told
    assert "SMITH" not in told


@asynchronous
async def test_a_slow_upgrade_is_given_up_and_dialled_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        namespace = Namespace("127.0.0.1", silent.getsockname()[1], secure=False)
        connection = HybridConnection(namespace, "actions", SharedAccessKey("n", "k"))
        options = ListenerOptions(dial=DialOptions(PhaseTimeouts(upgrade=0.1)))
        listener = Listener(connection, echo, options=options)
        async with running(listener):
            await until(lambda: "upgrade: timed out" in (listener.status().last_error or ""))


async def _dial(connection: HybridConnection, address: str) -> object:
    from relay.dial import dial

    token = await connection.credential.issue(connection.resource_uri)
    return await dial(address, DialOptions(), headers={"ServiceBusAuthorization": token.value})


@asynchronous
async def test_stopping_does_not_wait_for_senders_that_have_their_answer() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, next_message=60) as listener:
            websocket = await Sender(connection).open()
            await websocket.send("x")
            assert await websocket.recv() == "x"
            async with asyncio.timeout(5):
                await listener.stop(deadline=30)
            await websocket.wait_closed()


@asynchronous
async def test_to_stop_a_listener_that_has_ended_does_not_end_its_next_run() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            pass
        await listener.stop()
        async with running(listener):
            await until(lambda: listener.state == ListenerState.HEARING)
            assert await Sender(connection).send("hello") == "hello"
            await listener.stop(1)
            assert listener.state == ListenerState.STOPPED


# --- how loud it is


@pytest.mark.parametrize("code", [1001, 1011])
@asynchronous
async def test_the_daily_recycling_of_connections_is_one_line_at_level_info_with_the_tracking_id(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "relay")
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)) as listener:
        await relay.faults.begin("close", code=code)
        await until(lambda: listener.status().reconnects == 1)
        await until(lambda: listener.state == ListenerState.HEARING)
    [closed] = [record for record in caplog.records if record.message == "control_channel_closed"]
    assert (closed.levelno, closed.close_code) == (logging.INFO, code)
    assert closed.tracking_id
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


@asynchronous
async def test_senders_that_go_away_before_their_reply_are_worth_a_debug_line_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "relay")
    go, asked = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> str:
        asked.set()
        await go.wait()
        return await echo(message)

    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), handle) as listener:
        for leave in ("close", "vanish"):
            websocket = await Sender(listener.connection).open()
            await websocket.send("x")
            await asked.wait()
            if leave == "close":
                await websocket.close()
            else:
                websocket.transport.abort()
            failed = listener.status().rendezvous_failed
            await until(
                lambda: relay._server is not None and len(relay._server.connections) == 1
            )  # the control channel
            go.set()
            await until(lambda seen=failed: listener.status().rendezvous_failed > seen)
            go.clear()
            asked.clear()
    told = [record for record in caplog.records if record.message == "rendezvous_failed"]
    assert [(record.levelno, record.phase) for record in told] == [(logging.DEBUG, "reply")] * 2
