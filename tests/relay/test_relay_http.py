"""HTTP through the relay: the emulator's side and our listener's."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.server import ServerConnection, serve

from relay import (
    HybridConnection,
    Listener,
    ListenerOptions,
    Namespace,
    RelayedReply,
    RelayedRequest,
    SharedAccessKey,
)
from relay.emulator import Emulator
from tests.relay.raw import raw_listener, token
from tests.relay.support import KEY, KEY_NAME, asynchronous, echo, emulator, listening, running, until


async def ask(
    relay: Emulator, request: str, body: bytes = b"", *, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One HTTP request, as raw as it gets: status and body."""
    fields = {"Host": "relay", "ServiceBusAuthorization": token(relay), **(headers or {})}
    if body and "Transfer-Encoding" not in fields:
        fields["Content-Length"] = str(len(body))
    head = f"{request} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    start, _, rest = answer.partition(b"\r\n\r\n")
    return int(start.split(b" ", 2)[1]), rest


async def tell(request: RelayedRequest) -> RelayedReply:
    """Answer with what was asked."""
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "length": len(request.body),
        "own": request.headers.get("X-Own"),
        "via": "Via" in request.headers,
        "token": "ServiceBusAuthorization" in request.headers,
    }
    return RelayedReply(200, json.dumps(told).encode())


@asynchronous
async def test_a_get_reaches_the_hook_and_its_answer_comes_back() -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=tell):
        status, body = await ask(relay, "GET /actions/echo?a=b&sb-hc-id=7", headers={"X-Own": "1"})
    assert status == 200
    assert json.loads(body) == {
        "method": "GET", "path": "/echo", "query": "a=b", "length": 0, "own": "1", "via": True, "token": False,
    }  # fmt: skip


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 300_000])
@asynchronous
async def test_bodies_of_any_size_arrive_the_large_ones_through_a_rendezvous(size: int) -> None:
    async with emulator() as relay:
        async with listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=tell):
            status, body = await ask(relay, "POST /actions", b"x" * size)
        assert relay.log.count("request", 101) == (size > 65_536)
    assert (status, json.loads(body)["length"]) == (200, size)


@asynchronous
async def test_large_answers_come_through_a_rendezvous() -> None:
    async def handle(_request: RelayedRequest) -> RelayedReply:
        return RelayedReply(200, b"y" * 300_000, "text/plain")

    async with emulator() as relay:
        async with listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=handle):
            assert await ask(relay, "GET /actions") == (200, b"y" * 300_000)
        assert relay.log.count("request", 101) == 1


@asynchronous
async def test_a_chunked_body_is_put_together() -> None:
    chunks = b"5\r\nhello\r\n6;x=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=tell):
        _, body = await ask(relay, "POST /actions", chunks, headers={"Transfer-Encoding": "chunked"})
    assert json.loads(body)["length"] == 11


@asynchronous
async def test_who_expects_to_be_told_to_continue_is_told() -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=tell):
        status, _ = await ask(relay, "POST /actions", b"x", headers={"Expect": "100-continue"})
    assert status == 100


@pytest.mark.parametrize("size", [0, 100_000], ids=["small", "through a rendezvous"])
@asynchronous
async def test_without_a_hook_every_request_is_answered_501(size: int) -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        assert (await ask(relay, "POST /actions", b"x" * size))[0] == 501


@asynchronous
async def test_a_raising_hook_is_answered_500_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(request: RelayedRequest) -> RelayedReply:
        raise ValueError(request.path)

    async with (
        emulator() as relay,
        listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=handle, failure_reply="sorry"),
    ):
        assert await ask(relay, "GET /actions/SMITH") == (500, b"sorry")
    assert "SMITH" not in caplog.text


@asynchronous
async def test_an_answer_without_body_and_an_answer_to_head_have_none() -> None:
    async def handle(request: RelayedRequest) -> RelayedReply:
        return RelayedReply(204) if request.method == "DELETE" else RelayedReply(200, b"body")

    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=handle):
        assert await ask(relay, "DELETE /actions") == (204, b"")
        assert await ask(relay, "HEAD /actions") == (200, b"")


@asynchronous
async def test_requests_that_cannot_be_passed_on_are_refused() -> None:
    async with emulator(max_message_size=1000) as relay:
        assert (await ask(relay, "GET /actions"))[0] == 404
        assert (await ask(relay, "GET /nowhere", headers={"ServiceBusAuthorization": token(relay, "")}))[0] == 404
        assert (await ask(relay, "GET /actions", headers={"ServiceBusAuthorization": ""}))[0] == 401
        assert (await ask(relay, "GET /$hc/actions"))[0] == 400
        assert (await ask(relay, "POST /actions", headers={"Content-Length": "x"}))[0] == 400
        assert (await ask(relay, "POST /actions", headers={"Content-Length": "1001"}))[0] == 413


@asynchronous
async def test_a_listener_that_hears_and_does_not_answer_is_a_504() -> None:
    async with emulator(http_timeout=0.1) as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        await relay.faults.begin("withhold")
        assert (await ask(relay, "GET /actions"))[0] == 504


@pytest.mark.parametrize("size", [1, 100_000], ids=["small", "through a rendezvous"])
@asynchronous
async def test_no_more_requests_are_answered_at_once_than_rendezvous_and_none_is_forgotten(size: int) -> None:
    at_once, most = 0, 0

    async def handle(_: RelayedRequest) -> RelayedReply:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return RelayedReply(200, b"y")

    async with (
        emulator() as relay,
        listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=handle, max_rendezvous=3),
    ):
        answers = await asyncio.gather(*(ask(relay, "POST /actions", b"x" * size) for _ in range(20)))
    assert answers == [(200, b"y")] * 20
    assert most == 3


@pytest.mark.parametrize("status", [502, 504])
@asynchronous
async def test_a_status_that_is_the_relays_own_is_never_sent(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def handle(_: RelayedRequest) -> RelayedReply:
        return RelayedReply(status, b"SMITH")

    async with (
        emulator() as relay,
        listening(relay.hybrid_connection("actions", KEY_NAME), handle_request=handle, failure_reply="sorry"),
    ):
        assert await ask(relay, "GET /actions") == (500, b"sorry")
    [told] = [record for record in caplog.records if record.message == "handler_status_refused"]
    assert (told.phase, told.code) == ("handle", "status_refused")
    assert str(status) in told.error


@asynchronous
async def test_a_relay_that_takes_no_answers_on_the_control_channel_is_dialled_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Half an answer may be on its way: nothing else can be said there, not even a newer token."""
    listened = 0

    async def ask_and_read_nothing(websocket: ServerConnection) -> None:
        nonlocal listened
        listened += 1
        websocket.transport.pause_reading()
        asked = {"address": "ws://127.0.0.1:1/", "method": "GET", "requestTarget": "/actions", "requestHeaders": {}}
        for number in range(400):
            await websocket.send(json.dumps({"request": {**asked, "id": str(number)}}))
        await websocket.wait_closed()

    async def handle(_: RelayedRequest) -> RelayedReply:
        return RelayedReply(200, b"y" * 65_536)

    async with serve(ask_and_read_nothing, "127.0.0.1", 0, close_timeout=0.1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = HybridConnection(Namespace("127.0.0.1", port, secure=False), "actions", SharedAccessKey("k", KEY))
        options = ListenerOptions(handle_request=handle, reply=0.3, echo_interval=None, first_retry=0.01)
        async with running(Listener(connection, echo, options=options)):
            await until(lambda: listened >= 2)
    stuck = [record for record in caplog.records if getattr(record, "code", "") == "stuck"]
    assert {(record.message, record.phase) for record in stuck} == {("rendezvous_failed", "reply")}
    assert stuck[0].address == f"127.0.0.1:{port} [127.0.0.1]"


# --- what a listener answers becomes legal HTTP


async def raw_answer(relay: Emulator, request: str, status: int, body: bytes) -> bytes:
    """All bytes that a client gets when the listener answers with this status and this body."""
    async with raw_listener(relay) as control:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(f"{request} HTTP/1.1\r\nServiceBusAuthorization: {token(relay)}\r\n\r\n".encode())
        asked = (await control.hear())["request"]
        response = {"requestId": asked["id"], "statusCode": status, "body": True}
        await control.websocket.send(json.dumps({"response": response}))
        await control.websocket.send(body)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.mark.parametrize("status", [204, 304])
@asynchronous
async def test_a_status_without_body_goes_out_without_body_and_length(status: int) -> None:
    async with emulator() as relay:
        head, _, rest = (await raw_answer(relay, "GET /actions", status, b"surplus")).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"content-length" in head.lower(), rest) == (False, b"")


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999])
@asynchronous
async def test_a_status_that_ends_no_request_becomes_502(status: int) -> None:
    async with emulator() as relay:
        answer = await raw_answer(relay, "GET /actions", status, b"body")
        assert relay.log.count("http", 502) == 1
    assert answer.startswith(b"HTTP/1.1 502 BadGateway")


@asynchronous
async def test_the_log_tells_the_status_that_a_listener_answered() -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        await ask(relay, "GET /actions")
        assert relay.log.count("http", 501) == 1


@asynchronous
async def test_a_request_that_hangs_is_kept_no_longer_than_a_listener_may_take() -> None:
    async with emulator(http_timeout=0.1) as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        await relay.faults.begin("hang", on="connect")
        assert (await ask(relay, "GET /actions"))[0] == 504
