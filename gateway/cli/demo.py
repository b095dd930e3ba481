"""`gateway demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli import output

demo = typer.Typer(invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.add_typer(
        demo,
        name="demo",
        help="A whole hospital on this machine: relay emulator, web app, gateway and modality, told hop by hop.",
        epilog="Example: gateway demo --once",
    )


@demo.callback(invoke_without_command=True, epilog="Example: gateway demo --once")
def play(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One examination end to end, then exit.")] = False,
) -> None:
    """Watch one appointment travel. Needs no Azure, has its own temporary database, refuses relay settings.

    With --once it exits 0 only if the web app was told both statuses; without, it keeps serving until Ctrl-C.
    """
    if context.invoked_subcommand:
        return
    import asyncio
    import logging

    settings = output.settings()
    logging.getLogger().setLevel(logging.ERROR)
    from gateway.demo.story import play

    told = asyncio.run(play(settings, once=once, tell=output.put_now))
    raise typer.Exit(0 if told else 1)


@demo.command("web-app", epilog="Example: gateway demo web-app")
def web_app() -> None:
    """Run only the simulated web app against the relay of the settings: it must be an emulator.

    It schedules today's three sample appointments and acknowledges every status event, until Ctrl-C.
    """
    import asyncio

    settings = output.settings()
    from gateway.demo.standalone import run_web_app

    asyncio.run(run_web_app(settings, output.put_now))
