"""`gateway conformance`."""

from __future__ import annotations

import typer

from gateway.cli import output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway conformance > conformance-statement.md")(conformance)


def conformance() -> None:
    """Print the DICOM conformance statement of this version, in Markdown."""
    from gateway.dicom.conformance import statement

    output.put(statement().rstrip("\n"))
