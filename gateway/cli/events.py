"""`gateway events`."""

from __future__ import annotations

import typer

from gateway.cli import event_log, output

events = typer.Typer(no_args_is_help=True, help="The event log.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    event_log.register(events)
    app.add_typer(events, name="events")


@events.command(epilog="Example: gateway events verify")
def verify(json: output.Json = False) -> None:
    """Check the hash chain over all events; names the first that was altered, removed or inserted."""
    with output.database() as gateway, output.progress("verifying") as advance:
        found = gateway.verify_chain(lambda done: advance(done, None))
    if json:
        output.put_json(
            {
                "intact": found.intact,
                "events": found.events,
                "head": found.head.hex(),
                "position": found.position,
                "finding": found.finding or None,
            }
        )
    elif found.intact:
        output.put(f"intact: {found.events} events, head {found.events}:{found.head.hex()}")
        output.say("a copy of the head kept elsewhere also shows a cut tail or an old backup")
    else:
        output.put(f"NOT intact: at position {found.position} {found.finding}; {found.events} events before it are")
    raise typer.Exit(0 if found.intact else 1)
