"""`gateway contract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import output

contract = typer.Typer(no_args_is_help=True, help="The contract with the web app, as JSON Schema and AsyncAPI.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(contract, name="contract")


@contract.command(epilog="Example: gateway contract asyncapi > asyncapi.json")
def asyncapi() -> None:
    """Print the AsyncAPI 3 document: both hybrid connections, all messages, error codes, security. It is JSON."""
    from gateway.contract.asyncapi import document

    output.put_json(document())


@contract.command(epilog="Example: gateway contract schema worklist.create_item")
def schema(
    name: Annotated[str, typer.Argument(help="Of a message; without one the names are listed.")] = "",
) -> None:
    """Print the JSON Schema (2020-12) of a message, with its samples, or list the messages there are."""
    from gateway.contract import catalogue
    from gateway.contract.schemas import schema_of

    if name:
        output.put_json(schema_of(catalogue.message(name)))
        return
    output.put_table(("message", "kind", "what"), [(m.name, m.kind.value, m.summary) for m in catalogue.MESSAGES])


@contract.command(epilog="Example: gateway contract sample worklist.create_item > action.json")
def sample(name: Annotated[str, typer.Argument(help="Of a message, as gateway contract schema lists them.")]) -> None:
    """Print a sample of a message, to begin with."""
    from gateway.contract import catalogue

    found = catalogue.message(name)
    output.put_json(catalogue.sample(found.kind, found.samples[0]))


@contract.command(epilog="Example: gateway contract write docs/contract")
def write(folder: Annotated[Path, typer.Argument(help="A folder; it is made where it is missing.")]) -> None:
    """Write the AsyncAPI document and every schema into a folder, over those that are there."""
    from gateway.contract.files import texts

    for name, text in texts().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        output.put(str(file))
