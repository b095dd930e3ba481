"""The listener at a relay made of a bare websocket server: what it says over the wire, with no emulator to tidy up."""

from __future__ import annotations

import json
from typing import Any

from relay import Message, RelayedReply, RelayedRequest
from tests.relay.raw import RawRelay, raw_relay
from tests.relay.support import asynchronous, echo, listening

PINGS: dict[str, Any] = {"echo_interval": None}
"""No echo to ourselves: this relay would not know what to do with it."""


def accept(relay: RawRelay, query: str = "", **headers: str) -> str:
    """The control message that calls the listener to a rendezvous."""
    return json.dumps({"accept": {"address": relay.address(query), "id": "7", "connectHeaders": headers}})


def request(relay: RawRelay, target: str) -> str:
    """The control message that brings a GET."""
    named = {"address": relay.address(), "id": "8", "requestTarget": target, "method": "GET", "body": False}
    return json.dumps({"request": {**named, "requestHeaders": {}}})


@asynchronous
async def test_the_senders_first_subprotocol_is_repeated_on_the_rendezvous_and_none_without_one() -> None:
    async with raw_relay() as relay, listening(relay.connection, **PINGS):
        control = await relay.listener()
        await control.send(accept(relay, **{"Sec-WebSocket-Protocol": "worklist.v1, worklist.v0"}))
        spoken = await relay.rendezvous()
        await control.send(accept(relay))
        unspoken = await relay.rendezvous()
        assert spoken.request.headers["Sec-WebSocket-Protocol"] == "worklist.v1"
        assert "Sec-WebSocket-Protocol" not in unspoken.request.headers
        await spoken.send("hello")
        assert await spoken.recv() == "hello"
        await unspoken.close()


@asynchronous
async def test_a_sender_s_query_reaches_the_handler_without_the_relays_own_arguments() -> None:
    heard: list[Message] = []

    async def handle(message: Message) -> str:
        heard.append(message)
        return await echo(message)

    async with raw_relay() as relay, listening(relay.connection, handle, **PINGS):
        control = await relay.listener()
        await control.send(accept(relay, "urgent=yes&SB-HC-token=secret&"))
        rendezvous = await relay.rendezvous()
        await rendezvous.send("hello")
        await rendezvous.recv()
    assert [message.query for message in heard] == ["urgent=yes"]


@asynchronous
async def test_an_http_query_reaches_the_hook_without_the_relays_own_arguments() -> None:
    async def tell(asked: RelayedRequest) -> RelayedReply:
        return RelayedReply(200, f"{asked.path}?{asked.query}".encode())

    async with raw_relay() as relay, listening(relay.connection, handle_request=tell, **PINGS):
        control = await relay.listener()
        await control.send(request(relay, "/actions/echo?a=b&sb-hc-action=request&SB-HC-Token=secret&c=d"))
        head = json.loads(await control.recv())["response"]
        assert (head["requestId"], await control.recv()) == ("8", b"/echo?a=b&c=d")


@asynchronous
async def test_headers_that_concern_one_hop_stay_out_of_our_http_responses() -> None:
    """RFC 7230 section 6.1; the relay frames the answer itself."""
    hop = ["Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer"]
    ours = {**dict.fromkeys([*hop, "transfer-encoding", "UPGRADE"], "x"), "Content-Type": "text/plain", "X-Own": "1"}

    async def answer(_: RelayedRequest) -> RelayedReply:
        return RelayedReply(200, b"body", headers=ours)

    async with raw_relay() as relay, listening(relay.connection, handle_request=answer, **PINGS):
        control = await relay.listener()
        await control.send(request(relay, "/actions"))
        head = json.loads(await control.recv())["response"]
    assert head["responseHeaders"] == {"Content-Type": "text/plain", "X-Own": "1"}
