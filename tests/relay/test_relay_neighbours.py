"""Several listeners on one hybrid connection: which of them is deaf, and which is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from relay import (
    HybridConnection,
    Listener,
    ListenerOptions,
    ListenerState,
    Namespace,
    SharedAccessKey,
    Token,
    TokenSource,
)
from relay.proof import SPREAD
from relay.tokens import DEFAULT_LIFETIME
from tests.relay.raw import Control, raw_listener
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
        options = {**OFTEN, "echo_timeout": 0.4, "on_state": lambda status: states.append(status.state.value)}
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


@pytest.mark.slow
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


# --- what cannot be proven is not claimed


class OneToken:
    """Gives a token for the control channel, and none for an echo until it may."""

    def __init__(self, good: TokenSource) -> None:
        self._good = good
        self.given = 0
        self.away = True

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        self.given += 1
        if self.given > 1 and self.away:
            raise OSError("the issuer is away")
        return await self._good.issue(resource_uri, lifetime)


@asynchronous
async def test_a_listener_that_was_never_proven_and_cannot_be_says_so_and_does_not_claim_to_hear(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        source = OneToken(good.credential)
        listener = Listener(replace(good, credential=source), echo, options=ListenerOptions(**OFTEN))
        async with running(listener):
            await until(lambda: source.given >= 10)
            status = listener.status()
            assert (status.state.value, status.last_proof) == ("connecting", None)
            assert "not proven yet: token: no token could be had" in (status.last_error or "")
            source.away = False
            await until(lambda: listener.state == ListenerState.HEARING)
            assert listener.status().last_proof
            assert listener.status().reconnects == 0
    assert [record.message for record in caplog.records].count("listener_not_proven") == 1


@asynchronous
async def test_a_relay_that_is_deaf_from_the_start_is_never_said_to_be_heard_without_a_token_for_the_echo() -> None:
    states: list[str] = []
    async with emulator() as relay:
        await relay.faults.begin("withhold")
        good = relay.hybrid_connection("actions", KEY_NAME)
        source = OneToken(good.credential)
        options = ListenerOptions(**OFTEN, on_state=lambda status: states.append(status.state.value))
        async with running(Listener(replace(good, credential=source), echo, options=options)) as listener:
            await until(lambda: source.given >= 10)
            assert listener.state == ListenerState.CONNECTING
    assert "hearing" not in states


@asynchronous
async def test_a_listener_whose_echoes_reach_its_neighbours_first_is_proven_when_one_reaches_itself() -> None:
    async with emulator() as relay, AsyncExitStack() as stack:
        neighbours = [await stack.enter_async_context(raw_listener(relay)) for _ in range(6)]

        async def answer(neighbour: Control) -> None:
            while True:
                async with await neighbour.meet() as websocket:
                    await websocket.recv()
                    await websocket.send("heard by a neighbour")

        answering = [asyncio.create_task(answer(each)) for each in neighbours]
        states: list[tuple[str, bool]] = []
        options = ListenerOptions(
            **OFTEN, on_state=lambda status: states.append((status.state.value, status.last_proof is not None))
        )
        async with running(Listener(relay.hybrid_connection("actions", KEY_NAME), echo, options=options)) as listener:
            await until(lambda: listener.state == ListenerState.HEARING, 20)
            assert listener.status().reconnects == 0
        for task in answering:
            task.cancel()
    assert states[:2] == [("connecting", False), ("hearing", True)]
