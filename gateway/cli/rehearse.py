"""`gateway rehearse`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli import findings, output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway rehearse")(rehearse)


def rehearse(
    patience: Annotated[
        float, typer.Option("--patience", min=1, max=300, help="Seconds that one hop may take.")
    ] = 15.0,
    json: output.Json = False,
) -> None:
    """Send a participant who does not exist the whole way through the running service, and judge each hop.

    Over the relay into the store, to a modality's worklist, back by MPPS and to the web app. She is marked as a test:
    no list and no count of the clinic holds her, and in the end nothing of her waits for anybody. Exit code 3: nobody
    is there.
    """
    from gateway.ops.rehearsal import Rehearsal
    from gateway.proof.stage import stage

    settings = output.settings()
    began = time.monotonic()
    with output.database() as gateway:
        rehearsal = Rehearsal(stage(settings, gateway, patience=patience))
        if not json:
            output.say(f"{rehearsal.accession_number}, marked as a test, at {settings.gateway_ae_title}")
        hops = []
        for hop in rehearsal.rehearsed():
            hops.append(hop)
            if not json:
                findings.show([hop], settings.zone)
    code, seconds = findings.exit_code(hops), time.monotonic() - began
    if json:
        output.put_json(
            {
                "accession_number": rehearsal.accession_number,
                "well": code == 0,
                "seconds": round(seconds, 3),
                "hops": findings.as_json(hops),
            }
        )
    else:
        output.say(f"{'the way is clear' if code == 0 else 'the way is NOT clear'}, {seconds:.1f} s in all")
    raise typer.Exit(code)
