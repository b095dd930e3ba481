"""Each phase fails once, for real: the error names it, where it happened, and what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from relay import (
    DialError,
    DialOptions,
    HybridConnection,
    Message,
    Namespace,
    Phase,
    PhaseTimeouts,
    RelayedReply,
    RelayedRequest,
    RelayError,
    Sender,
    SenderOptions,
    SharedAccessKey,
    Token,
)
from relay.dial import dial
from tests.relay.proxy import ConnectProxy
from tests.relay.support import KEY_NAME, asynchronous, echo, emulator, listening, until
from tests.relay.test_relay_http import ask

Log = pytest.LogCaptureFixture
Facts = dict[str, Any]
HANGING = PhaseTimeouts(dns=5, tcp=1, proxy=0.2, tls=0.2, upgrade=0.2)


async def facts_of(attempt: Awaitable[object]) -> Facts:
    with pytest.raises(RelayError) as caught:
        await attempt
    return dict(caught.value.details)


async def logged(log: Log, event: str) -> Facts:
    """The keys of the log line of this event, as soon as it is there."""
    await until(lambda: any(record.message == event for record in log.records))
    return vars(next(record for record in log.records if record.message == event))


class NoIssuer:
    """A credential that has nobody to ask."""

    async def issue(self, resource_uri: str, lifetime: timedelta = timedelta(hours=1)) -> Token:
        raise DialError("timed out", phase=Phase.TCP, address="login.example:443 [127.0.0.1]", code="timeout")


async def token(_: Log) -> Facts:
    connection = HybridConnection(Namespace("127.0.0.1", 1, secure=False), "actions", NoIssuer())
    return await facts_of(Sender(connection).send("hello"))


async def dns(_: Log) -> Facts:
    return await facts_of(dial("ws://nobody.invalid/", DialOptions(proxy=None)))


async def tcp(_: Log) -> Facts:
    return await facts_of(dial("ws://127.0.0.1:1/", DialOptions(proxy=None)))


async def proxy(_: Log) -> Facts:
    async with ConnectProxy(password="right") as hospital:
        return await facts_of(dial("wss://relay.invalid/", DialOptions(proxy=hospital.address("wrong"))))


async def tls(_: Log) -> Facts:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        return await facts_of(dial(f"wss://127.0.0.1:{silent.getsockname()[1]}/", DialOptions(HANGING, proxy=None)))


async def upgrade(_: Log) -> Facts:
    async with emulator() as relay:
        return await facts_of(Sender(relay.hybrid_connection("actions", KEY_NAME)).send("nobody listens"))


async def control(log: Log) -> Facts:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        await relay.faults.begin("close", code=1011, reason="NameRenewalFailed. TrackingId:1234-5678_G1")
        return await logged(log, "control_channel_closed")


async def accept_dial(log: Log) -> Facts:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with emulator(accept_window=0.4) as relay:
            connection = relay.hybrid_connection("actions", KEY_NAME)
            patient = DialOptions(PhaseTimeouts(upgrade=60), proxy=None)  # so that it is the time for the whole
            async with listening(connection, accept_dial=0.2, dial=patient):
                relay.faults.accept_address = lambda address: address.replace(str(relay.port), str(port))
                with pytest.raises(RelayError):
                    await Sender(connection).send("hello")
                return await logged(log, "rendezvous_failed")


async def first_message(log: Log) -> Facts:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, first_message=0.1), await Sender(connection).open():
            return await logged(log, "rendezvous_failed")


async def handle(log: Log) -> Facts:
    async def never(_: Message) -> str:
        await asyncio.Event().wait()
        return ""

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, never, handle=0.1):
            await Sender(connection).send("hello")
            return await logged(log, "handler_too_slow")


async def reply(log: Log) -> Facts:
    async def much(_: Message) -> str:
        return "x" * 1_000_000

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, much, reply=0.2):
            websocket = await Sender(connection).open()
            websocket.transport.pause_reading()
            for _ in range(40):  # the relay buffers some answers for a sender that does not read
                await websocket.send("hello")
            facts = await logged(log, "rendezvous_failed")
            websocket.transport.abort()
            return facts


async def ack(_: Log) -> Facts:
    async def slow(_: Message) -> str:
        await asyncio.Event().wait()
        return ""

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, slow, handle=0.4):
            return await facts_of(Sender(connection, SenderOptions(ack=0.1)).send("hello"))


FAILURES: dict[str, tuple[Callable[[Log], Awaitable[Facts]], Facts]] = {
    "token": (token, {"code": "no_token", "inner_phase": "tcp", "address": "login.example:443 [127.0.0.1]"}),
    "dns": (dns, {"code": "name_not_found", "address": "nobody.invalid:80"}),
    "tcp": (tcp, {"code": "refused", "address": "127.0.0.1:1 [127.0.0.1]"}),
    "proxy": (proxy, {"code": "proxy_authentication", "status": 407}),
    "tls": (tls, {"code": "timeout"}),
    "upgrade": (upgrade, {"code": "not_found", "status": 404}),
    "control": (control, {"code": "relay_fault", "close_code": 1011, "tracking_id": "1234-5678_G1"}),
    "accept-dial": (accept_dial, {"code": "timeout", "inner_phase": "upgrade"}),
    "first-message": (first_message, {"code": "silent"}),
    "handle": (handle, {"code": "handler_too_slow"}),
    "reply": (reply, {"code": "stuck"}),
    "ack": (ack, {"code": "no_answer"}),
}


def test_every_phase_is_in_the_table() -> None:
    assert list(FAILURES) == list(Phase)


SLOW = {"reply"}  # 40 MB go over the wire


@pytest.mark.parametrize("phase", [pytest.param(p, marks=[pytest.mark.slow] if p in SLOW else []) for p in FAILURES])
@asynchronous
async def test_a_failure_names_its_phase_the_facts_and_a_remedy(phase: str, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    fail, expected = FAILURES[phase]
    facts = await fail(caplog)
    assert facts["phase"] == phase
    assert {name: facts[name] for name in expected} == expected
    assert facts["error"]
    assert facts["remedy"].endswith(".")
    if phase not in {"dns", "handle"}:  # before there is an address, and where none matters
        assert "[127.0.0.1]" in facts["address"]


@asynchronous
async def test_a_refused_upgrade_tells_the_relays_tracking_id_and_how_far_the_clocks_are_apart(caplog: Log) -> None:
    facts = await upgrade(caplog)
    assert facts["tracking_id"]
    assert abs(facts["clock_skew"]) < 5


@asynchronous
async def test_an_accept_dial_keeps_what_the_dial_found_out(caplog: Log) -> None:
    """The rendezvous leads to a node that is busy and has another clock."""

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 503 Busy. TrackingId:1234-5678_G1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nRetry-After: 7\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        writer.close()

    node = await asyncio.start_server(busy, "127.0.0.1", 0)
    port = node.sockets[0].getsockname()[1]
    async with emulator(accept_window=0.3) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            relay.faults.accept_address = lambda address: address.replace(str(relay.port), str(port))
            with pytest.raises(RelayError):
                await Sender(connection).send("hello")
            facts = await logged(caplog, "rendezvous_failed")
    node.close()
    assert (facts["phase"], facts["inner_phase"], facts["status"]) == ("accept-dial", "upgrade", 503)
    assert (facts["tracking_id"], facts["retry_after"]) == ("1234-5678_G1", 7)
    assert facts["clock_skew"] > 86_400
    assert facts["address"] == f"127.0.0.1:{port} [127.0.0.1]"
    assert "*.servicebus.windows.net" in facts["remedy"]


@asynchronous
async def test_a_message_that_nobody_takes_is_told_as_such_and_its_rendezvous_is_left_at_once() -> None:
    async def deaf(websocket: ServerConnection) -> None:
        websocket.transport.pause_reading()
        await websocket.wait_closed()

    async with serve(deaf, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = HybridConnection(Namespace("127.0.0.1", port, secure=False), "actions", SharedAccessKey("k", "v"))
        async with asyncio.timeout(2):
            facts = await facts_of(Sender(connection, SenderOptions(send=0.2)).send("x" * 20_000_000))
        for websocket in server.connections:
            websocket.transport.abort()
    assert (facts["phase"], facts["code"], facts["address"]) == (
        "first-message", "stuck", f"127.0.0.1:{port} [127.0.0.1]",
    )  # fmt: skip
    assert facts["remedy"]


# --- the handler's time


@asynchronous
async def test_a_handler_without_end_costs_its_sender_a_retryable_answer_and_nobody_else_anything(caplog: Log) -> None:
    async def stuck_on_request(message: Message) -> str:
        if message.data == "stuck":
            await asyncio.Event().wait()
        return await echo(message)

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, stuck_on_request, handle=0.3, max_rendezvous=2) as listener:
            stuck = [asyncio.create_task(Sender(connection).send("stuck")) for _ in range(6)]
            assert set(await asyncio.gather(*stuck)) == {listener.options.failure_reply}
            assert '"retryable": true' in listener.options.failure_reply
            assert await Sender(connection).send("hello") == "hello"
    assert [record.phase for record in caplog.records if record.message == "handler_too_slow"] == ["handle"] * 6


@asynchronous
async def test_what_a_handler_has_begun_in_a_thread_goes_on() -> None:
    leave, done = threading.Event(), threading.Event()

    def work() -> str:
        leave.wait(10)
        done.set()
        return "done"

    async def in_a_thread(_: Message) -> str:
        return await asyncio.to_thread(work)

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, in_a_thread, handle=0.1, failure_reply="say it again"):
            assert await Sender(connection).send("hello") == "say it again"
            assert not done.is_set()
            leave.set()
            await until(done.is_set)


@asynchronous
async def test_a_time_out_of_the_handlers_own_is_a_handler_that_failed(caplog: Log) -> None:
    async def impatient(_: Message) -> str:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
        return ""

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, impatient):
            await Sender(connection).send("hello")
    assert (await logged(caplog, "handler_failed"))["error"] == "TimeoutError"


@asynchronous
async def test_a_handler_that_is_no_coroutine_and_raises_is_answered_too(caplog: Log) -> None:
    def broken(_: Message) -> Awaitable[str]:
        raise KeyError

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, broken, failure_reply="sorry"):
            assert await Sender(connection).send("hello") == "sorry"


@asynchronous
async def test_an_http_request_whose_handler_is_too_slow_is_answered_too(caplog: Log) -> None:
    async def never(_: RelayedRequest) -> RelayedReply:
        await asyncio.Event().wait()
        return RelayedReply()

    options: dict[str, Any] = {"handle_request": never, "handle": 0.1}
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), **options):
        status, body = await ask(relay, "GET /actions/echo")
    assert (status, b"retryable" in body) == (500, True)
    assert (await logged(caplog, "handler_too_slow"))["phase"] == "handle"
