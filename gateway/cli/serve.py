"""`gateway serve`."""

from __future__ import annotations

import gc

import typer

_USUAL = (700, 10, 10)
"""Python's own thresholds: a service lives long."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: WORKLIST_DB_PATH=data/gateway.db gateway serve")(serve)


def serve() -> None:
    """Run the gateway from the settings in the environment or .env, until SIGTERM or Ctrl-C.

    Without relay settings it says so and serves DICOM only.
    """
    import asyncio

    from gateway.cli.output import settings

    loaded = settings()
    from gateway import log, service

    log.tell_what_nobody_catches()
    asyncio.run(service.serve(loaded, started=_settle))


def _settle() -> None:
    """What the start has made stays, and is never again looked through for garbage; from now on as usual."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
