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


@demo.callback(invoke_without_command=True, epilog="Example: gateway demo --fault deaf")
def play(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One examination end to end, then exit.")] = False,
    fault: Annotated[
        str | None,
        typer.Option("--fault", metavar="NAME", help="Let this go wrong on the way, then exit; *list* names them."),
    ] = None,
) -> None:
    """Watch one appointment travel. Needs no Azure, has its own temporary database, refuses relay settings.

    With --once it exits 0 only if the web app was told both statuses, with --fault only if nothing was lost and nothing
    happened twice; without either it keeps serving until Ctrl-C.
    """
    if context.invoked_subcommand:
        return
    import asyncio
    import logging

    if fault == "list":
        _list_faults()
        return
    settings = output.settings()
    logging.getLogger().setLevel(logging.CRITICAL if fault else logging.ERROR)
    from gateway.demo.faults import play_fault
    from gateway.demo.story import play

    playing = play_fault(settings, fault, output.put_now) if fault else play(settings, once=once, tell=output.put_now)
    raise typer.Exit(0 if asyncio.run(playing) else 1)


def _list_faults() -> None:
    from relay.emulator import CATALOGUE

    output.put_table(("fault", "what happens"), [(kind.name, kind.summary) for kind in CATALOGUE.values()])


@demo.command("web-app", epilog="Example: gateway demo web-app")
def web_app() -> None:
    """Run only the simulated web app against the relay of the settings: it must be an emulator.

    It schedules today's three sample appointments and acknowledges every status event, until Ctrl-C.
    """
    import asyncio

    settings = output.settings()
    from gateway.demo.standalone import run_web_app

    asyncio.run(run_web_app(settings, output.put_now))
