"""Several listeners on one hybrid connection: which of them is deaf, and which is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from relay import HybridConnection, Listener, ListenerOptions, Namespace, SharedAccessKey
from relay.proof import SPREAD
from tests.relay.raw import raw_listener
from tests.relay.support import KEY, KEY_NAME, asynchronous, echo, emulator, listening, running, until

OFTEN: dict[str, Any] = {"echo_interval": (0.02, 0.05), "echo_timeout": 0.2, "first_retry": 0.02, "longest_retry": 0.1}


def test_by_default_a_deaf_channel_is_noticed_within_90_seconds_although_its_neighbours_are_considered() -> None:
    options = ListenerOptions()
    assert options.echo_interval is not None
    assert options.echo_interval[1] + (2 + SPREAD) * options.echo_timeout <= 90


@pytest.mark.slow
@asynchronous
async def test_a_listener_with_a_deaf_neighbour_hears_and_is_not_replaced() -> None:
    states: list[str] = []
    async with emulator() as relay, raw_listener(relay):  # the neighbour is connected, and comes to no rendezvous
        connection = relay.hybrid_connection("actions", KEY_NAME)
        missed: list[str] = []
        options = {**OFTEN, "on_state": lambda status: states.append(status.state.value)}
        async with listening(connection, echo, **options) as listener:
            last = None
            while len(missed) < 8:
                await until(lambda seen=last: listener.status().last_error_at != seen)
                last = listener.status().last_error_at
                missed.append(str(listener.status().last_error))
            assert (listener.status().reconnects, relay.log.count("listen")) == (0, 2)
    assert states == ["connecting", "hearing", "stopped"]


class HalfDeaf:
    """A relay whose every echo is for somebody else, who is deaf; ours is told of other senders, or not."""

    def __init__(self) -> None:
        self.listeners: list[ServerConnection] = []
        self.echoes = 0
        self.port = 0

    @property
    def connection(self) -> HybridConnection:
        return HybridConnection(Namespace("127.0.0.1", self.port, secure=False), "actions", SharedAccessKey("k", KEY))

    async def tell_of_a_sender(self) -> None:
        """Each listener, of one who has gone."""
        accept = {"accept": {"address": "ws://127.0.0.1:1/$hc/actions", "id": "1", "connectHeaders": {}}}
        for each in self.listeners:
            await each.send(json.dumps(accept))

    async def _admit(self, _: ServerConnection, request: Request) -> None:
        if "sb-hc-action=connect" in request.path:
            self.echoes += 1
            await asyncio.Event().wait()

    async def _listen(self, websocket: ServerConnection) -> None:
        self.listeners.append(websocket)
        await websocket.wait_closed()
        self.listeners.remove(websocket)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with serve(self._listen, "127.0.0.1", 0, process_request=self._admit, open_timeout=0.5) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield


@asynchronous
async def test_a_channel_that_is_told_of_senders_is_not_deaf_whatever_becomes_of_its_echoes() -> None:
    relay, states = HalfDeaf(), list[str]()
    options = ListenerOptions(**OFTEN, on_state=lambda status: states.append(status.state.value))
    async with relay.serving(), running(Listener(relay.connection, echo, options=options)) as listener:
        while relay.echoes < 40:
            await relay.tell_of_a_sender()
            await asyncio.sleep(0.02)
        assert listener.status().reconnects == 0
    assert "deaf" not in states


@asynchronous
async def test_a_channel_that_is_told_of_nobody_is_deaf() -> None:
    relay, states = HalfDeaf(), list[str]()
    options = ListenerOptions(**OFTEN, on_state=lambda status: states.append(status.state.value))
    async with relay.serving(), running(Listener(relay.connection, echo, options=options)) as listener:
        await until(lambda: listener.status().reconnects == 1)
        assert "no echo came back within 0.2 s" in (listener.status().last_error or "")
    assert states[:2] == ["connecting", "deaf"]
