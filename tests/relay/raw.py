"""A listener and a sender made of bare websockets, to see the protocol as it goes over the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from relay.emulator import Emulator
from tests.relay.support import KEY_NAME


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
