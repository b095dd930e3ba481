"""Listener, sender and relay made of bare websockets, to see the protocol as it goes over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from relay import HybridConnection, Namespace, SharedAccessKey
from relay.emulator import Emulator
from tests.relay.support import KEY, KEY_NAME


def token(relay: Emulator, path: str = "actions", **lifetime: Any) -> str:
    """A token for this hybrid connection."""
    return relay.credential(KEY_NAME).token(f"http://127.0.0.1/{path}", **lifetime).value


async def knock(
    relay: Emulator, target: str, *, headers: dict[str, str] | None = None, **options: Any
) -> ClientConnection:
    """Open a websocket to any address of the relay."""
    given = {"ServiceBusAuthorization": token(relay)} if headers is None else headers
    address = target if target.startswith("ws") else f"ws://127.0.0.1:{relay.port}{target}"
    return await connect(address, additional_headers=given, proxy=None, **options)


class Control:
    """A control channel without any cleverness."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    async def hear(self) -> dict[str, Any]:
        """The next control message."""
        return json.loads(await self.websocket.recv())

    async def meet(self, **options: Any) -> ClientConnection:
        """Wait for an accept and dial its address."""
        accept = (await self.hear())["accept"]
        return await connect(accept["address"], proxy=None, **options)


@asynccontextmanager
async def raw_listener(relay: Emulator, path: str = "actions", **options: Any) -> AsyncIterator[Control]:
    """A control channel, open until the block ends."""
    async with await knock(relay, f"/$hc/{path}?sb-hc-action=listen", **options) as websocket:
        yield Control(websocket)


class RawRelay:
    """The relay's end for one listener, without any of the emulator's tidiness."""

    def __init__(self) -> None:
        self.port = 0
        self._came: dict[str, asyncio.Queue[ServerConnection]] = {"listen": asyncio.Queue(), "accept": asyncio.Queue()}

    @property
    def connection(self) -> HybridConnection:
        """The hybrid connection that leads here."""
        return HybridConnection(
            Namespace("127.0.0.1", self.port, secure=False), "actions", SharedAccessKey(KEY_NAME, KEY)
        )

    def address(self, query: str = "") -> str:
        """A rendezvous address; its `query` is what a sender put there."""
        return f"ws://127.0.0.1:{self.port}/$hc/actions?{query}sb-hc-action=accept&sb-hc-id=7"

    async def listener(self) -> ServerConnection:
        """The control channel, as soon as somebody listens."""
        return await self._came["listen"].get()

    async def rendezvous(self) -> ServerConnection:
        """The next rendezvous that is dialled."""
        return await self._came["accept"].get()

    async def serve(self, websocket: ServerConnection) -> None:
        """Take a connection, whoever it is."""
        assert websocket.request is not None
        action = "listen" if "sb-hc-action=listen" in websocket.request.path else "accept"
        self._came[action].put_nowait(websocket)
        await websocket.wait_closed()


@asynccontextmanager
async def raw_relay() -> AsyncIterator[RawRelay]:
    """A relay that says only what the test tells it to."""
    relay = RawRelay()
    async with serve(relay.serve, "127.0.0.1", 0, select_subprotocol=lambda _, offered: next(iter(offered), None)) as (
        server
    ):
        relay.port = next(iter(server.sockets)).getsockname()[1]
        yield relay
