"""The ops port: HTTP for people and their monitors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.ops.health import Health
from gateway.ops.metrics import Metrics, metrics_response

_SECURITY_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def application(health: Health, metrics: Metrics | None = None) -> Starlette:
    """The web application: `GET /health` answers 200 when healthy and 503 when not, with the same JSON.

    `GET /metrics` is for Prometheus.
    """

    async def show_health(_: Request) -> JSONResponse:
        report = await asyncio.to_thread(health.report)
        return JSONResponse(report, status_code=200 if report["healthy"] else 503, headers=_SECURITY_HEADERS)

    async def not_found(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"error": "not found", "try": "/health"}, status_code=404, headers=_SECURITY_HEADERS)

    scraped = [Route("/metrics", metrics_response(metrics))] if metrics else []
    web = Starlette(routes=[Route("/health", show_health), *scraped], exception_handlers={404: not_found})
    web.router.redirect_slashes = False  # a redirect would repeat whatever host the asker named
    return web


class OpsServer(uvicorn.Server):
    """uvicorn inside our process: our signals, our log."""

    def __init__(self, health: Health, *, host: str, port: int, metrics: Metrics | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                application(health, metrics),
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                ws="none",
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
        self.should_exit = True
        self._stop.set()


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket, so that a port in use is known before anything starts. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
