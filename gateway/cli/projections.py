"""`gateway projections`."""

from __future__ import annotations

import time
from dataclasses import asdict

import typer

from gateway.cli import output

projections = typer.Typer(no_args_is_help=True, help="The tables that are built from events.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(projections, name="projections")


@projections.command(epilog="Example: gateway projections rebuild")
def rebuild(json: output.Json = False) -> None:
    """Build worklist, outbox and timeline anew from the events, beside a running service."""
    began = time.monotonic()
    with output.database() as gateway, output.progress("rebuilding") as advance:
        events = gateway.rebuild_projections(advance)
    seconds = time.monotonic() - began
    if json:
        output.put_json({"events": events, "seconds": round(seconds, 3)})
    else:
        output.put(f"rebuilt from {events} events in {seconds:.1f} s")


@projections.command(epilog="Example: gateway projections verify")
def verify(json: output.Json = False) -> None:
    """Rebuild aside and compare row by row with what is served; names the first difference of each table."""
    with output.database() as gateway, output.progress("comparing") as advance:
        differences = gateway.verify_projections(advance)
    if json:
        output.put_json({"equal": not differences, "differences": [asdict(found) for found in differences]})
    elif not differences:
        output.put("equal: what is served is what the events say")
    for found in differences if not json else ():
        output.put(f"DIFFERENT: {found.table} {found.key}: {found.finding}")
    if differences:
        output.say("of each table the first is named, there may be more: gateway projections rebuild puts all back")
        raise typer.Exit(1)
