"""The ops port among peers that ask for nothing, for half of something, or do not read what they asked for."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
from ops_support import asynchronous, running
from window_support import Browser, Make

from gateway.ops import connections
from gateway.ops.connections import OpsConnection
from gateway.ops.window.app import STATIC

pytestmark = pytest.mark.slow

A_REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
A_FORM = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpsConnection, "patience", 1.0)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def status(reader: asyncio.StreamReader) -> int:
    """Of the next answer, which is read whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = re.findall(rb"content-length: (\d+)", head)
    await reader.readexactly(int(length))
    return int(head.split()[1])


@asynchronous
@pytest.mark.parametrize(
    "half",
    [b"", b"GET /hea", A_REQUEST[:-2], A_FORM + b"Content-Length: 90\r\n\r\ntoken=a"],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
async def test_whoever_never_finishes_asking_is_left(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port), connected(port) as (reader, writer):
        writer.write(half)
        assert await is_closed(reader)


@asynchronous
async def test_dripping_does_not_renew_the_deadline(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        for byte in A_REQUEST:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.2)  # the drip itself: all of it takes 8 s

    async with running(own_settings(), monkeypatch) as (_, port), connected(port) as (reader, writer):
        dripping = asyncio.create_task(drip(writer))
        assert await is_closed(reader)
        assert not dripping.done()
        dripping.cancel()


@asynchronous
async def test_a_second_request_on_the_connection_has_the_same_deadline(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port), connected(port) as (reader, writer):
        writer.write(A_REQUEST)
        assert await status(reader) == 200
        writer.write(A_REQUEST[:9])
        assert await is_closed(reader)


@asynchronous
async def test_whoever_watches_and_whoever_asks_now_and_then_is_not(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = b"GET /clinic/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with running(own_settings(), monkeypatch) as (_, port), connected(port) as (watching, writer):
        writer.write(watch)
        await watching.readuntil(b"\r\n\r\n")
        async with connected(port) as (reader, asking):
            for _ in range(3):
                asking.write(A_REQUEST)
                assert await status(reader) == 200
                await asyncio.sleep(0.5)  # less than the patience, and three of them more
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(is_closed(watching), 0.1)


@asynchronous
async def test_whoever_does_not_read_is_left(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of some 300 kB, asked for until they fill the kernel's buffers and ours."""
    [stylesheet] = STATIC.glob("nhsuk-*.css")
    page = f"GET /static/{stylesheet.name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with running(own_settings(), monkeypatch) as (_, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)  # and so it stops reading
        try:
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(page)
                        await writer.drain()
                        await asyncio.sleep(0)
        finally:
            writer.transport.abort()
        assert (await Browser(port).get("/health.json")).status == 200


@asynchronous
async def test_more_connections_than_there_is_room_for_are_closed_at_once(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(OpsConnection, "patience", 600.0)
    async with running(own_settings(), monkeypatch) as (_, port), contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        assert await is_closed(opened[3][0])
        first_reader, first_writer = opened[0]
        first_writer.write(A_REQUEST)
        assert await status(first_reader) == 200
