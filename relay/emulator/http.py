"""HTTP senders: a request comes in, a ``response`` from the listener goes out.

One request per connection; the relay is asked, not browsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.connection import Connection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from relay.emulator.calls import Call, Refusal, new_id, phrase
from relay.errors import ControlMessageError
from relay.protocol import Request, Response, parse_control_message
from relay.rendezvous import HOP_BY_HOP

READ_TIMEOUT: Final = 30.0

_BODILESS: Final = frozenset({204, 304})
"""Statuses whose answer ends with its head (RFC 9112 section 6.3)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A listener's response with its body."""

    response: Response
    body: bytes


class Exchange:
    """One HTTP request and the answer that is awaited for it."""

    def __init__(self, call: Call, body: bytes) -> None:
        self.id = new_id()
        self.body = body
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.address = ""
        self.taken = False
        self.waits_at_rendezvous = False
        self._call = call

    def request(self) -> Request:
        """The whole control message for it."""
        call = self._call
        target = f"/{call.path}" + (f"?{call.query}" if call.query else "")
        headers = {name: value for name, value in call.forwarded_headers().items() if name.lower() not in HOP_BY_HOP}
        headers["Via"] = f"1.1 {call.headers.get('Host', 'localhost')}"
        return Request(self.address, self.id, call.method, target, headers, bool(self.body), call.remote)

    def respond(self, response: Response, body: bytes) -> None:
        """The listener answered; only the first answer counts."""
        if not self.done.done():
            self.done.set_result(Answer(response, body))

    async def wait(self, seconds: float) -> int:
        """Wait for the answer; returns its status.

        Raises:
            Refusal: 504 if none came, 502 if its status is none that ends a request.
        """
        await asyncio.wait({self.done}, timeout=seconds)
        if not self.done.done():
            raise Refusal(504, "GatewayTimeout: The listener did not respond in time")
        status = self.done.result().response.status
        if not 200 <= status <= 599:
            raise Refusal(502, "BadGateway: The listener responded with a status that is no answer")
        return status

    async def serve_rendezvous(self, websocket: Connection) -> None:
        """The listener came to fetch the request, or only to answer on a websocket of its own."""
        with suppress(ConnectionClosed, ControlMessageError):
            if self.waits_at_rendezvous:
                request = self.request()
                await websocket.send(request.to_text())
                if request.body:
                    await websocket.send(self.body)
            message = parse_control_message(await websocket.recv())
            if isinstance(message, Response):
                self.respond(message, await _body(websocket) if message.body else b"")


async def _body(websocket: Connection) -> bytes:
    frame = await websocket.recv()
    return frame.encode() if isinstance(frame, str) else frame


class HttpFront:
    """Reads requests and writes responses.

    Args:
        answer: Gets the exchange answered, or raises `Refusal`.
        secure: Whether connections come over TLS.
        max_body: Largest body taken, in bytes.
    """

    def __init__(self, answer: Callable[[Call, Exchange], Awaitable[None]], *, secure: bool, max_body: int) -> None:
        self._answer = answer
        self._secure = secure
        self._max_body = max_body
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs us as one
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()  # gone, or no HTTP: nobody to answer
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """Cut what is in progress."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call: Call | None = None
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                call = await self._read_head(reader, writer)
                body = await self._read_body(call, reader, writer)
            exchange = Exchange(call, body)
            await self._answer(call, exchange)
            answer = exchange.done.result()
            bodiless = call.method == "HEAD" or answer.response.status in _BODILESS
            writer.write(_head(answer.response, len(answer.body)) + (b"" if bodiless else answer.body))
        except Refusal as refusal:
            writer.write(refusal.response(call).serialize())
        await writer.drain()

    async def _read_head(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
        raw = await reader.readuntil(b"\r\n\r\n")
        line, *fields = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = Headers()
        for each in fields:
            name, _, value = each.partition(":")
            headers[name.strip()] = value.strip()
        return Call.read(target, headers, secure=self._secure, peer=writer.get_extra_info("peername"), method=method)

    async def _read_body(self, call: Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if "100-continue" in call.headers.get("Expect", "").lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in call.headers.get("Transfer-Encoding", "").lower():
            return await self._read_chunks(reader)
        length = call.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(400, "BadRequest: Content-Length is not a number")
        return await reader.readexactly(self._allowed(int(length)))

    async def _read_chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while size := int((await reader.readline()).split(b";")[0], 16):
            self._allowed(len(body) + size)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        while (await reader.readline()).strip():
            pass  # trailers
        return bytes(body)

    def _allowed(self, size: int) -> int:
        if size > self._max_body:
            raise Refusal(413, "RequestEntityTooLarge: The body is larger than the emulator takes")
        return size


def _head(response: Response, length: int) -> bytes:
    headers = {name: value for name, value in response.headers.items() if name.lower() not in HOP_BY_HOP}
    headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
    if response.status not in _BODILESS:
        headers["Content-Length"] = str(length)
    headers |= {"Connection": "close", "Via": "1.1 relay"}
    description = _line(response.description) or phrase(response.status)
    lines = [f"HTTP/1.1 {response.status} {description}"]
    lines += [f"{_line(name)}: {_line(value)}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
