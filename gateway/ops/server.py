"""The ops port: HTTP for people and their monitors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.ops.access import Access, Asked, is_straight_from_here
from gateway.ops.connections import OpsConnection
from gateway.ops.health import Health
from gateway.ops.metrics import Metrics, metrics_response

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",  # with no-referrer a browser says of our own forms that they come from "null"
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""On every answer (OWASP Secure Headers Project)."""
_TURN = 0.0005
"""Seconds for which a thread that renders a page may keep the loop, where modalities wait, from its turn."""
_STATIC_CACHE = "public, max-age=86400"


class WebWindow(Protocol):
    """What serves the pages, and goes on looking for those who watch (`gateway.ops.window.app.Window`)."""

    def application(self) -> ASGIApp:
        """The pages."""

    async def run(self) -> None:
        """Tell watchers what changes, until cancelled."""


class Lazily:
    """The window, made when somebody first comes: its libraries take longer to load than the gateway to start."""

    def __init__(self, make: Callable[[], WebWindow]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._pages: ASGIApp | None = None
        self._live: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the window does."""
        async with self._lock:
            if self._pages is None:
                sys.setswitchinterval(_TURN)
                window = await asyncio.to_thread(self._make)
                gc.freeze()  # as what the start has loaded: it stays
                self._pages = window.application()
                self._live = asyncio.create_task(window.run(), name="window")
        await self._pages(scope, receive, send)

    def stop(self) -> None:
        """Let those who watch go."""
        if self._live:
            self._live.cancel()


def application(health: Health, access: Access, window: ASGIApp, metrics: Metrics | None = None) -> Starlette:
    """The web application: `GET /health`, `GET /metrics` for who may look, and the window.

    `/health` answers 200 when healthy and 503 when not, with the same JSON; to who may not look only whether it is,
    for a supervisor on another machine. The browser of who may see the window is shown its page, with the same status;
    `/health.json` is never one.
    """

    async def show_health(request: Request) -> ASGIApp:
        if _takes_html(request) and access.knows(_asked(request)):
            return window
        report = await asyncio.to_thread(health.report)
        status = 200 if report["healthy"] else 503
        told = report if _may_look(access, request) else {name: report[name] for name in ("healthy", "version")}
        return JSONResponse(told, status_code=status)

    async def show_metrics(request: Request) -> Response:
        if metrics is None or not _may_look(access, request):
            return JSONResponse({"error": "sign in to see this"}, status_code=401)
        return await metrics_response(metrics, request)

    routes = [Route(path, show_health) for path in ("/health", "/health.json")] + [Route("/metrics", show_metrics)]
    web = Starlette(routes=routes, middleware=[Middleware(SecurityHeaders)])
    web.router.default = window
    web.router.redirect_slashes = False  # a redirect would repeat whatever host the asker named
    return web


def _takes_html(request: Request) -> bool:
    """A browser says so; a monitor takes whatever comes."""
    return request.url.path == "/health" and "text/html" in request.headers.get("accept", "")


def _asked(request: Request) -> Asked:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Asked(request.client.host if request.client else "", headers, request.cookies)


def _may_look(access: Access, request: Request) -> bool:
    """Somebody at this machine may see how the gateway is, whatever the window asks for."""
    asked = _asked(request)
    return is_straight_from_here(asked) or access.knows(asked)


class SecurityHeaders:
    """Puts `_HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application within does, with the headers."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/static/") and message["status"] == 200:
                    headers["cache-control"] = _STATIC_CACHE
            await send(message)

        await self._app(scope, receive, sent)


class OpsServer(uvicorn.Server):
    """uvicorn inside our process: our signals, our log."""

    def __init__(
        self,
        health: Health,
        access: Access,
        window: Callable[[], WebWindow],
        *,
        host: str,
        port: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._window = Lazily(window)
        super().__init__(
            uvicorn.Config(
                application(health, access, self._window, metrics),
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                http=OpsConnection,
                ws="none",
                proxy_headers=False,  # whom to believe is decided in gateway.ops.access
                timeout_graceful_shutdown=2,
            )
        )
        self._socket = _bound(host, port)
        self._stop = asyncio.Event()

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Give the port back without having served."""
        self._socket.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the service."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end. uvicorn's own loop looks ten times a second: most of what an idle gateway would do."""
        await self.on_tick(0)
        await self._stop.wait()

    async def run_until_stopped(self) -> None:
        """Serve until `stop`."""
        await self.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Begin a clean end."""
        self._window.stop()
        self.should_exit = True
        self._stop.set()


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port in use is known before anything starts. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: else some pages wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
