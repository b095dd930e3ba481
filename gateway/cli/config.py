"""`gateway config`."""

from __future__ import annotations

import typer

from gateway.cli import output

config = typer.Typer(no_args_is_help=True, help="The settings in force.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(config, name="config")


@config.command(epilog="Example: gateway config show")
def show(json: output.Json = False) -> None:
    """Show every setting with its value; secrets are masked. Misspelt variables are named."""
    from gateway.settings import listed, load, unknown_variables

    rows = listed(load())
    if json:
        output.put_json({name: value for name, value, _ in rows})
    else:
        output.put_table(("variable", "value"), [(name, value) for name, value, _ in rows])
    for name in unknown_variables():
        output.say(f"{name} is set, but there is no such setting")
