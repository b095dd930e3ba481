"""`gateway routes`: studies that Orthanc sends on."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.orthanc.routes import Rule

routes = typer.Typer(no_args_is_help=True, help="Studies that Orthanc sends on.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(routes, name="routes")


@routes.command(epilog="Example: gateway routes check routes.toml")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="A file to check before it is used; else the one that is set.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask Orthanc whether it knows the modalities.")] = False,
    json: output.Json = False,
) -> None:
    """Check the file of routes and show its rules; of one that can't be used tell all problems.

    A running service has read the file when it started: restart it after a change.
    """
    from gateway.orthanc import routes as rules

    settings = output.settings()
    path = file or settings.gateway_routes_file
    try:
        found = rules.load(path)
    except rules.RoutesInvalid as invalid:
        output.say(f"{path} can't be used:")
        for problem in invalid.problems:
            output.say(f"  {problem}")
        raise typer.Exit(2) from None
    unknown = _unknown(settings, found.targets) if ask else []
    if json:
        told = [_told(rule) for rule in found.rules]
        output.put_json({"file": str(path) if path else None, "routes": told, "unknown_to_orthanc": unknown})
    else:
        _put_rules(found.rules, path)
    for target in unknown:
        output.say(f"Orthanc knows no modality {target}: add it to its DicomModalities, or correct the rule")
    raise typer.Exit(1 if unknown else 0)


def _unknown(settings: Any, targets: tuple[str, ...]) -> list[str]:  # noqa: ANN401  `Settings`, which costs an import
    from gateway.orthanc.reception import client

    orthanc = client(settings)
    try:
        known = orthanc.modalities()
    finally:
        orthanc.close()
    return [target for target in targets if target not in known]


def _told(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "modality": list(rule.modalities),
        "station": list(rule.stations),
        "description": rule.description or None,
        "to": list(rule.to),
    }


def _put_rules(rules: tuple[Rule, ...], path: Path | None) -> None:
    if path is None:
        output.say("GATEWAY_ROUTES_FILE is not set: nothing is sent on")
    elif not rules:
        output.say(f"{path} holds no rule: nothing is sent on")
    lines = [
        (
            rule.name,
            " ".join(rule.modalities) or "any",
            " ".join(rule.stations) or "any",
            rule.description or "any",
            " ".join(rule.to),
        )
        for rule in rules
    ]
    output.put_table(("rule", "modality", "station", "description", "to"), lines)


@routes.command("list", epilog="Example: gateway routes list --open")
def list_routes(
    only_open: Annotated[bool, typer.Option("--open", help="Only what is still to be sent.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, those that changed last first.")] = 50,
    json: output.Json = False,
) -> None:
    """List studies that are sent on: waiting, failing (tried again), routed, or abandoned."""
    with output.database() as gateway:
        rows = gateway.open_routes() if only_open else gateway.routes(limit)
    if json:
        output.put_json([asdict(row) for row in rows])
        return
    zone = output.settings().zone
    lines = [
        (
            output.site_clock(row.changed_at, zone=zone)[:-4],
            row.accession_number,
            row.target,
            row.state,
            row.instances,
            row.rule,
            row.error,
            row.study_instance_uid,
        )
        for row in rows
    ]
    output.put_table(("changed", "accession", "to", "state", "images", "rule", "error", "study"), lines)
    output.say(f"{len(rows)} route{'' if len(rows) == 1 else 's'}")


@routes.command(epilog='Example: gateway routes abandon 1.2.840.99.7 PACS --reason "sent by hand"')
def abandon(
    uid: Annotated[
        str, typer.Argument(metavar="UID", help="Study Instance UID, as gateway routes list shows it; or Orthanc's id.")
    ],
    target: Annotated[str, typer.Argument(metavar="TO", help="The modality that it is sent to no more.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    json: output.Json = False,
) -> None:
    """Send a study to a modality no more. A job that Orthanc has begun goes on."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        gateway.abandon_route(gateway.study_called(uid).orthanc_id, target, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"study_instance_uid": uid, "target": target, "state": "abandoned"})
    else:
        output.put(f"{uid} is not sent to {target}")
