"""A service on free ports, and its ops port asked over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from http.client import HTTPConnection
from typing import Any

import pytest
from starlette.applications import Starlette

from gateway.ops.access import Access
from gateway.ops.health import Check, Health
from gateway.ops.server import OpsServer
from gateway.service import Service
from gateway.settings import Settings
from tests import patient_loop


@dataclass(frozen=True)
class Answer:
    """What the ops port said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetched(port: int, path: str = "/health", method: str = "GET", body: bytes | None = None) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def fetch(port: int, path: str = "/health", method: str = "GET", body: bytes | None = None) -> Answer:
    """Ask without holding up the loop that answers."""
    return await asyncio.to_thread(fetched, port, path, method, body)


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own, for at most half a minute in which the machine lets it."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        patient_loop.run(asyncio.wait_for(test(*arguments, **named), 30))

    return run


class NoPages:
    """A window that shows nothing."""

    def application(self) -> Starlette:
        return Starlette()

    async def run(self) -> None:
        pass


@asynccontextmanager
async def serving(checks: dict[str, Callable[[], Check]], warnings: list[str] | None = None) -> AsyncIterator[int]:
    """The ops port alone, over these checks."""
    told, access = Health(checks, lambda: warnings or []), Access(Settings())
    server = OpsServer(told, access, NoPages, host="127.0.0.1", port=0)
    running = asyncio.create_task(server.run_until_stopped())
    try:
        yield server.port
    finally:
        server.stop()
        await running


@asynccontextmanager
async def running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Service, int]]:
    """The whole service; gives it and its ops port."""
    service, started = Service(settings), asyncio.Event()
    running_service = asyncio.create_task(service.run(started.set))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([waiting, running_service], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield service, service.ops_port
    finally:
        service.ask_to_stop()
        await running_service
