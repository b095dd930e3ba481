"""A forward proxy as hospitals have them: CONNECT with Basic auth, and a way to misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Mapping
from typing import Final, Self

_NO_CREDENTIALS: Final = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'Proxy-Authenticate: Basic realm="hospital"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
)


class ConnectProxy:
    """Opens tunnels for whoever knows user and password.

    `targets` holds ``host:port`` of each tunnel that was opened, `refused` counts the wrong credentials. `names` are
    hosts that only the proxy can resolve; every third tunnel takes `uneven` seconds more. `answer` is said instead of
    opening a tunnel; `silent`: nothing is said.
    """

    def __init__(
        self,
        user: str = "gateway",
        password: str = "",
        *,
        port: int = 0,
        names: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        uneven: float = 0.0,
    ) -> None:
        self.uneven = uneven
        self.user, self.password = user, password
        self.port = port
        self.names = names or {}
        self.targets: list[str] = []
        self.refused = 0
        self.asked = 0
        self.answer: bytes | None = None
        self.silent = False
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.ends: set[asyncio.StreamWriter] = set()

    async def start(self) -> Self:
        """Serve; again on the same port after a stop."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Die: nobody listens any more, and all tunnels collapse."""
        if self._server:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Collapse all tunnels."""
        for end in list(self.ends):
            end.transport.abort()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def address(self, password: str | None = None, host: str = "127.0.0.1") -> str:
        """As it stands in a setting."""
        return f"http{'s' if self._tls else ''}://{self.user}:{password or self.password}@{host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._answer((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)
        finally:
            writer.close()
            self.ends.discard(writer)

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.silent:
            await reader.read()
            return
        if self.answer is not None:
            writer.write(self.answer)
            return
        method, target, _ = head.split(" ", 2)
        known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if method != "CONNECT" or f"\r\nProxy-Authorization: Basic {known}\r\n" not in head:
            self.refused += 1
            writer.write(_NO_CREDENTIALS)
            return
        if self.asked % 3 == 1:
            await asyncio.sleep(self.uneven)
        host, _, port = target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(self.names.get(host, host), int(port))
        self.targets.append(target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.ends.add(far_writer)
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self.ends.discard(far_writer)
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
