"""`gateway config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.dicom.profiles import Profile

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


@config.command(epilog="Example: gateway config modalities modalities.toml")
def modalities(
    file: Annotated[
        Path | None, typer.Argument(help="A file to check before it is used; else the one that is set.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Check the file of modalities and show how each is served; of one that can't be used tell all problems.

    A running service has read the file when it started: restart it after a change.
    """
    from gateway.dicom import profiles
    from gateway.settings import load

    path = file or load().gateway_modalities_file
    try:
        found = profiles.load(path)
    except profiles.ModalitiesInvalid as invalid:
        output.say(f"{path} can't be used:")
        for problem in invalid.problems:
            output.say(f"  {problem}")
        raise typer.Exit(2) from None
    rows = [_served(profile) for profile in found.modalities]
    others = _served(found.default) | {"admitted": found.strangers_admitted}
    if json:
        output.put_json({"file": str(path) if path else None, "modalities": rows, "strangers": others})
        return
    if path is None:
        output.say("GATEWAY_MODALITIES_FILE is not set: all are admitted and served alike")
    headings = [name.replace("_", " ") for name in others]
    output.put_table(headings, [_cells(row) for row in (*rows, others | {"ae_title": "all others"})])


def _served(profile: Profile) -> dict[str, Any]:
    from gateway.dicom.data_set import tag_name

    return {
        "ae_title": profile.ae_title or None,
        "admitted": profile.admitted,
        "addresses": [str(network) for network in profile.addresses],
        "stations": list(profile.stations),
        "only_own_stations": profile.only_own_stations,
        "items_without_station": profile.items_without_station,
        "character_set": profile.character_set or None,
        "reads_utf8": profile.reads_utf8,
        "answer_limit": profile.answer_limit,
        "limit_status": profile.limit_status,
        "omit_keys": [tag_name(tag) for tag in profile.omit_keys],
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [_cell(value) for value in row.values()]


def _cell(value: Any) -> str:  # noqa: ANN401  any JSON value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else "" if value is None else str(value)
