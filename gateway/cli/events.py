"""`gateway events`."""

from __future__ import annotations

import typer

from gateway.cli import event_log, verify

events = typer.Typer(no_args_is_help=True, help="The event log.")
verify.register(events)
event_log.register(events)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(events, name="events")
