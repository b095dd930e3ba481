"""`gateway timeline`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from gateway.cli import output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway timeline ACC001")(timeline)


def timeline(
    accession_number: Annotated[str, typer.Argument(help="The item, also one that was only ever refused.")],
    json: output.Json = False,
) -> None:
    """Tell all that happened to an accession number, hop by hop, on the site's clock."""
    with output.database() as gateway:
        rows = gateway.timeline(accession_number)
    if json:
        output.put_json([asdict(row) for row in rows])
    elif rows:
        zone = output.settings().zone
        lines, previous = [], None
        for row in rows:
            when = output.site_clock(row.committed_at, zone=zone)
            lines.append(
                (when, _since(previous, row.committed_at), row.kind, row.ae_title or row.source, _told(row.details))
            )
            previous = row.committed_at
        output.put_table(("when", "after", "what", "who", "details"), lines)
    if not rows:
        output.say(f"nothing is known of {accession_number}")
        raise typer.Exit(1)


def _since(previous: str | None, now: str) -> str:
    if previous is None:
        return ""
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(previous)).total_seconds()
    return f"+{seconds * 1000:.0f} ms" if seconds < 10 else f"+{seconds:.0f} s"


def _told(details: dict[str, Any]) -> str:
    return " ".join(f"{name}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in details.items())
