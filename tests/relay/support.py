"""What the relay's tests share: a running emulator, a running listener, and waiting for something to become true."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Final

import pytest

from relay import HybridConnection, Limit, Listener, ListenerOptions, ListenerState, Message
from relay.emulator import Emulator, EmulatorOptions
from tests import patient_loop

KEY_NAME = "gateway"
KEY = "bm90LWEtcmVhbC1rZXk="

HERE: Final = "127.0.0.1"
DEAD: Final = "127.0.0.2"
"""An address of this machine at which nobody listens, unless a test does."""


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own, for at most half a minute in which the machine lets it."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        patient_loop.run(asyncio.wait_for(test(*arguments, **named), 30))

    return run


@asynccontextmanager
async def emulator(*paths: str, keys: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Emulator]:
    """A running emulator with a key that has all rights."""
    given = EmulatorOptions(**{"now": patient_loop.clock_of_day(), **options})
    relay = Emulator(hybrid_connections=paths or ["actions"], keys=keys or {KEY_NAME: KEY}, options=given)
    async with relay:
        yield relay


async def echo(message: Message) -> str:
    """Give a frame back as text."""
    return message.data if isinstance(message.data, str) else f"{len(message.data)} bytes"


@asynccontextmanager
async def listening(
    connection: HybridConnection, handle: Callable[[Message], Awaitable[str]] = echo, /, **options: Any
) -> AsyncIterator[Listener]:
    """A listener that hears, until the block ends."""
    given = ListenerOptions(**{"now": patient_loop.clock_of_day(), **options})
    listener = Listener(connection, handle, options=given)
    running = asyncio.create_task(listener.run())
    try:
        await until(lambda: listener.state == ListenerState.HEARING)
        yield listener
    finally:
        await listener.stop(1)
        await running


@asynccontextmanager
async def running(listener: Listener) -> AsyncIterator[Listener]:
    """A listener that runs, whether it hears or not."""
    task = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


def scaled(limits: tuple[Limit, ...], factor: float) -> tuple[Limit, ...]:
    """The same numbers of dials in less time."""
    return tuple(Limit(limit.dials, limit.seconds * factor) for limit in limits)


def most_in_any(times: list[float], seconds: float) -> int:
    """The largest number of these moments that fall into one window."""
    return max((sum(1 for other in times if 0 <= other - start < seconds) for start in times), default=0)


def resolve(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> None:
    """Have the resolver answer with these IPv4 addresses, in this order, from now on."""
    really = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if host != name:
            return really(host, port, *arguments, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
