"""Microsoft's clients, unmodified, against our emulator, listener and sender over plain ws://."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from http.client import HTTPConnection

import pytest

from relay import Listener, Message, RelayError, Sender
from relay.emulator import Emulator
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
async def test_hundreds_of_hyco_connections_are_each_answered_by_our_listener(hyco: Hyco) -> None:
    lines = [f"message {number}" for number in range(300)]
    async with emulator() as relay, our_listener(relay) as listener:
        arguments = ("--each", "--parallel", "16")
        async with hyco.run(hyco.sender, address(relay), "actions", *arguments, key=KEY) as sender:
            await sender.say(*lines)
            events = await sender.events()
        replies = {event["index"]: event["data"] for event in events if event["type"] == "reply"}
        assert replies == dict(enumerate(lines))
        assert listener.status().rendezvous_failed == 0


@asynchronous
async def test_hundreds_of_our_connections_are_each_answered_by_a_hyco_listener(hyco: Hyco) -> None:
    async with emulator() as relay, hyco.run(hyco.listener, address(relay), "actions", key=KEY) as listener:
        await listener.event("listening")
        sender = Sender(relay.hybrid_connection("actions", KEY[0]))
        places = asyncio.Semaphore(16)

        async def ask(number: int) -> str:
            async with places:
                return await sender.send(f"message {number}")

        answers = await asyncio.gather(*(ask(number) for number in range(300)))
    assert answers == [f"message {number}" for number in range(300)]


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
