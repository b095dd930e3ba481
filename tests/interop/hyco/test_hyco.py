"""Microsoft's clients for node, unmodified, against our emulator, listener and sender, over plain ws:// and TLS."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from relay import (
    DialOptions,
    Listener,
    ListenerOptions,
    Message,
    RelayedReply,
    RelayedRequest,
    RelayError,
    Sender,
)
from relay.emulator import Emulator, EmulatorOptions
from relay.emulator.certificates import AUTHORITY, self_made
from tests.interop.hyco.clients import Hyco

KEY = ("RootManageSharedAccessKey", "c2VjcmV0IGtleSB3aXRoID0gaW4gaXQ=")

pytestmark = pytest.mark.slow


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@asynccontextmanager
async def emulator():
    async with Emulator(hybrid_connections=["actions"], keys=dict([KEY])) as running:
        yield running


@asynccontextmanager
async def our_listener(relay: Emulator):
    async def echo(message: Message) -> str:
        return message.data if isinstance(message.data, str) else message.data.decode()

    listener = Listener(relay.hybrid_connection("actions", KEY[0]), echo)
    task = asyncio.create_task(listener.run())
    await relay.wait_for_listeners("actions")
    yield listener
    await listener.stop(1)
    await task


def address(relay: Emulator) -> str:
    return f"ws://127.0.0.1:{relay.port}"


async def http(relay: Emulator, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes, str | None]:
    """A plain HTTP request to the relay: status, body, and the listener's own header."""

    def ask() -> tuple[int, bytes, str | None]:
        connection = HTTPConnection("127.0.0.1", relay.port, timeout=20)
        token = relay.credential(KEY[0]).token(f"http://127.0.0.1:{relay.port}/actions").value
        connection.request(method, target, body, {"ServiceBusAuthorization": token})
        response = connection.getresponse()
        return response.status, response.read(), response.headers.get("X-Listener")

    return await asyncio.to_thread(ask)


@asynchronous
async def test_hyco_listener_answers_our_sender(hyco: Hyco) -> None:
    async with emulator() as relay, hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        sender = Sender(relay.hybrid_connection("actions", KEY[0]))
        assert await sender.send('{"hello": "wörld"}') == '{"hello": "wörld"}'
        assert (await listener.event("message"))["data"] == '{"hello": "wörld"}'
        assert (await listener.event("closed"))["code"] == 1000


@asynchronous
async def test_hyco_listener_acknowledges_events_from_a_template(hyco: Hyco) -> None:
    reply = '{"status": "updated", "action_id": {{data.action_id}}}'
    async with (
        emulator() as relay,
        hyco.run(hyco.listener, address(relay), "actions", "--reply", reply, key=KEY) as listener,
    ):
        await listener.event("listening")
        sender = Sender(relay.hybrid_connection("actions", KEY[0]))
        answer = await sender.send(json.dumps({"data": {"action_id": "a-1"}}))
        assert json.loads(answer) == {"status": "updated", "action_id": "a-1"}


@asynchronous
async def test_a_thousand_echoes_over_one_hyco_connection(hyco: Hyco) -> None:
    lines = [f"message {number}" for number in range(1000)]
    async with emulator() as relay, hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        async with hyco.run(hyco.sender, address(relay), "actions", key=KEY) as sender:
            await sender.say(*lines)
            events = await sender.events()
    assert [event["data"] for event in events if event["type"] == "reply"] == lines
    assert events[-1] == {"type": "done", "failed": 0}


@asynchronous
async def test_a_thousand_echoes_over_one_connection_to_our_listener(hyco: Hyco) -> None:
    lines = [f"message {number}" for number in range(1000)]
    async with emulator() as relay, our_listener(relay) as listener:
        async with hyco.run(hyco.sender, address(relay), "actions", key=KEY) as sender:
            await sender.say(*lines)
            events = await sender.events()
        assert [event["data"] for event in events if event["type"] == "reply"] == lines
        assert listener.status().rendezvous_failed == 0


@asynchronous
async def test_a_thousand_hyco_connections_are_each_answered_by_our_listener(hyco: Hyco) -> None:
    lines = [f"message {number}" for number in range(1000)]
    async with emulator() as relay, our_listener(relay) as listener:
        arguments = ("--each", "--parallel", "16")
        async with hyco.run(hyco.sender, address(relay), "actions", *arguments, key=KEY) as sender:
            await sender.say(*lines)
            events = await sender.events()
        replies = {event["index"]: event["data"] for event in events if event["type"] == "reply"}
        assert replies == dict(enumerate(lines))
        assert listener.status().rendezvous_failed == 0


@asynchronous
async def test_a_thousand_of_our_connections_are_each_answered_by_a_hyco_listener(hyco: Hyco) -> None:
    async with emulator() as relay, hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        sender = Sender(relay.hybrid_connection("actions", KEY[0]))
        places = asyncio.Semaphore(16)

        async def ask(number: int) -> str:
            async with places:
                return await sender.send(f"message {number}")

        answers = await asyncio.gather(*(ask(number) for number in range(1000)))
    assert answers == [f"message {number}" for number in range(1000)]


@asynchronous
async def test_a_hyco_sender_with_the_wrong_key_is_refused(hyco: Hyco) -> None:
    async with emulator() as relay, our_listener(relay):
        wrong = (KEY[0], "another key")
        async with hyco.run(hyco.sender, address(relay), "actions", key=wrong) as sender:
            await sender.say("hello")
            events = await sender.events()
    assert "401" in events[0]["message"]


@asynchronous
async def test_a_hyco_listener_comes_back_after_its_channel_was_dropped(hyco: Hyco) -> None:
    async with emulator() as relay, hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        await relay.faults.begin("close", code=1011)
        await listener.event("listening")
        assert await Sender(relay.hybrid_connection("actions", KEY[0])).send("hello") == "hello"


@asynchronous
async def test_our_sender_says_that_nobody_listens_when_hyco_has_gone(hyco: Hyco) -> None:
    async with emulator() as relay:
        async with hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
            await listener.event("listening")
        await relay.wait_for_listeners("actions", 0)
        with pytest.raises(RelayError) as caught:
            await Sender(relay.hybrid_connection("actions", KEY[0])).send("hello")
    assert caught.value.status == 404
    assert caught.value.connection_failed


@pytest.mark.parametrize("size", [0, 5, 200_000], ids=["empty", "small", "through a rendezvous"])
@asynchronous
async def test_hyco_https_hears_http_requests(hyco: Hyco, size: int) -> None:
    async with emulator() as relay, hyco.run(hyco.http_listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        body = b"x" * size if size else None
        status, answer, header = await http(relay, "POST", "/actions/deep?a=b&sb-hc-id=7", body)
    assert (status, header) == (200, "hyco-https")
    assert json.loads(answer) == {"method": "POST", "url": "/actions/deep?a=b", "length": size}


@pytest.mark.parametrize("size", [10, 300_000], ids=["small", "through a rendezvous"])
@asynchronous
async def test_hyco_https_answers_of_any_size_come_back(hyco: Hyco, size: int) -> None:
    arguments = ("--bytes", str(size))
    async with (
        emulator() as relay,
        hyco.run(hyco.http_listener, address(relay), "actions", *arguments, key=KEY) as node,
    ):
        await node.event("listening")
        assert await http(relay, "GET", "/actions") == (200, b"x" * size, "hyco-https")


@asynchronous
async def test_three_hundred_http_requests_reach_hyco_https(hyco: Hyco) -> None:
    async with emulator() as relay, hyco.run(hyco.http_listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        answers = await asyncio.gather(*(http(relay, "GET", f"/actions/{number}") for number in range(300)))
    assert [json.loads(body)["url"] for _, body, _ in answers] == [f"/actions/{number}" for number in range(300)]


# --- the untouched helpers, which know nothing but wss://HOST:443


@asynccontextmanager
async def emulator_at_443(folder: Path) -> AsyncIterator[Emulator]:
    """Azure's own port, TLS by an authority of the emulator's own; one test at a time."""
    with (Path(tempfile.gettempdir()) / "relay-emulator-at-443.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        async with _emulator_at_443(folder) as relay:
            yield relay


@asynccontextmanager
async def _emulator_at_443(folder: Path) -> AsyncIterator[Emulator]:
    relay = Emulator(
        port=443,
        hybrid_connections=["actions"],
        keys=dict([KEY]),
        options=EmulatorOptions(tls=self_made(folder)),
    )
    try:
        await relay.start()
    except OSError as error:
        reason = f"port 443 can't be listened at ({error.strerror}): Microsoft's helpers dial no other"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield relay
    finally:
        await relay.stop()


@asynchronous
async def test_the_official_helpers_listen_and_send_over_tls_at_azures_own_port(hyco: Hyco, tmp_path: Path) -> None:
    async with (
        emulator_at_443(tmp_path),
        hyco.run(hyco.listener, "localhost", "actions", key=KEY, ca=tmp_path / AUTHORITY) as listener,
    ):
        await listener.event("listening")
        arguments = ("--each", "--parallel", "8")
        async with hyco.run(
            hyco.sender, "localhost", "actions", *arguments, key=KEY, ca=tmp_path / AUTHORITY
        ) as sender:
            await sender.say(*(f"message {number}" for number in range(100)))
            events = await sender.events()
    replies = {event["index"]: event["data"] for event in events if event["type"] == "reply"}
    assert replies == {number: f"message {number}" for number in range(100)}


@asynchronous
async def test_hyco_https_by_its_official_helpers_answers_over_tls(hyco: Hyco, tmp_path: Path) -> None:
    async with (
        emulator_at_443(tmp_path) as relay,
        hyco.run(hyco.http_listener, "localhost", "actions", key=KEY, ca=tmp_path / AUTHORITY) as listener,
    ):
        await listener.event("listening")
        status, answer = await asyncio.to_thread(_post_by_tls, relay, tmp_path / AUTHORITY, b"x" * 200_000)
    assert (status, json.loads(answer)["length"]) == (200, 200_000)


@asynchronous
async def test_hyco_https_sends_by_its_official_helpers_and_our_listener_answers(hyco: Hyco, tmp_path: Path) -> None:
    async def count(request: RelayedRequest) -> RelayedReply:
        return RelayedReply(body=json.dumps([request.method, request.query, len(request.body)]).encode())

    async with emulator_at_443(tmp_path) as relay:
        tls = ssl.create_default_context(cafile=str(tmp_path / AUTHORITY))
        options = ListenerOptions(dial=DialOptions(tls=tls), handle_request=count)
        listener = Listener(relay.hybrid_connection("actions", KEY[0]), _nothing, options=options)
        task = asyncio.create_task(listener.run())
        await relay.wait_for_listeners("actions")
        arguments = ("--bytes", "200000", "--count", "20")
        async with hyco.run(
            hyco.http_sender, "localhost", "actions", *arguments, key=KEY, ca=tmp_path / AUTHORITY
        ) as sender:
            events = await sender.events()
        await listener.stop(1)
        await task
    assert [event["status"] for event in events] == [200] * 20
    assert {event["data"] for event in events} == {'["POST", "", 200000]'}


async def _nothing(_: Message) -> str:
    return ""


def _post_by_tls(relay: Emulator, authority: Path, body: bytes) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=str(authority))
    connection = HTTPSConnection("localhost", 443, timeout=20, context=context)
    token = relay.credential(KEY[0]).token("https://localhost/actions").value
    connection.request("POST", "/actions", body, {"ServiceBusAuthorization": token})
    response = connection.getresponse()
    return response.status, response.read()
