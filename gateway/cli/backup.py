"""`gateway backup`."""

from __future__ import annotations

import getpass
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.audit.restore import Plan
    from gateway.eventstore.backup import Checked
    from gateway.eventstore.losses import Losses

backup = typer.Typer(no_args_is_help=True, help="Copies of the database, and putting one back in its place.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="As gateway backup list shows it.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(backup, name="backup")


@backup.command(epilog="Example: gateway backup now --into /mnt/backups")
def now(
    into: Annotated[
        Path | None, typer.Option("--into", help="Another folder than GATEWAY_BACKUP_FOLDER; nothing is removed there.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Copy the database into one checked file, beside the running service, and remove backups that are too old."""
    from gateway.eventstore.backup import prune, take

    settings = output.settings()
    database, folder = settings.worklist_db_path, into or settings.backup_folder
    began = time.monotonic()
    with output.progress("checking") as advance:
        taken = take(database, folder, progress=advance)
    pruned = [] if into else prune(folder, database.stem, taken.origin, kept_days=settings.gateway_backups_kept_days)
    seconds = time.monotonic() - began
    if json:
        removed = [file.name for file in pruned]
        output.put_json({**_as_json(taken), "seconds": round(seconds, 3), "pruned": removed})
    else:
        output.put(f"{taken.file}: {taken.position} events, head {taken.anchor}, {taken.size} bytes, {seconds:.1f} s")
        for file in pruned:
            output.put(f"removed {file}")
    if folder.stat().st_dev == database.stat().st_dev:
        output.say("it is on the database's own disk: copy it elsewhere, or set GATEWAY_BACKUP_FOLDER")
    if taken.finding:
        output.say(f"NOT sound: {taken.finding}; it is kept, and not restored unless --despite-chain")
        raise typer.Exit(1)


@backup.command("list", epilog="Example: gateway backup list --from /mnt/backups")
def list_backups(
    source: Annotated[Path | None, typer.Option("--from", help="Another folder than GATEWAY_BACKUP_FOLDER.")] = None,
    json: output.Json = False,
) -> None:
    """List the backups in the folder, the newest last; those of one log have the same origin.

    Exit code 1 when one is not sound.
    """
    from gateway.eventstore.backup import listed

    settings = output.settings()
    backups = listed(source or settings.backup_folder, settings.worklist_db_path.stem)
    code = 0 if all(found.sound for found in backups) else 1
    if json:
        output.put_json(
            [
                {
                    "file": str(found.file),
                    "taken_at": found.taken_at.isoformat(),
                    "position": found.position,
                    "origin": found.origin,
                    "sound": found.sound,
                    "bytes": found.file.stat().st_size,
                }
                for found in backups
            ]
        )
        raise typer.Exit(code)
    lines = [
        (
            output.site_clock(found.taken_at.isoformat(), zone=settings.zone)[:-4],
            _ago(found.taken_at),
            found.position,
            found.file.stat().st_size,
            "yes" if found.sound else "NO",
            found.origin,
            found.file,
        )
        for found in backups
    ]
    output.put_table(("taken", "age", "position", "bytes", "sound", "origin", "file"), lines)
    raise typer.Exit(code)


@backup.command(epilog="Example: gateway backup verify data/backups/gateway-20261127T030000Z-5120-1f6c02ab.db")
def verify(file: File, json: output.Json = False) -> None:
    """Read a backup from end to end: the file, the hash chain, how far the tables are. Nothing is written."""
    from gateway.eventstore.backup import check

    zone = output.settings().zone
    with output.progress("checking") as advance:
        found = check(file, progress=advance)
    if json:
        output.put_json(_as_json(found))
    elif found.damage:
        output.put(f"NOT sound: {found.finding}")
    else:
        output.put(_told(found, zone))
        output.put(f"NOT sound: {found.finding}" if found.finding else "sound: the file is whole, the chain intact")
    raise typer.Exit(1 if found.finding else 0)


@backup.command(epilog="Example: gateway backup restore data/backups/gateway-20261127T030000Z-5120-1f6c02ab.db")
def restore(
    file: File,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    sequence_floor: Annotated[
        int | None,
        typer.Option("--sequence-floor", min=0, help="Where the .sequence file is lost: the highest one ever sent."),
    ] = None,
    despite_chain: Annotated[
        bool, typer.Option("--despite-chain", help="Also a backup whose hash chain is not intact.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Put a backup in the database's place. Stop the service first.

    The database that was there is kept beside it. What was acknowledged after the backup is listed, as far as that one
    can be read. Status events then wait for gateway outbox resume --after-restore.
    """
    from gateway.audit import restore as restoring
    from gateway.errors import InvalidValue

    settings = output.settings()
    if not yes and not sys.stdin.isatty():
        raise InvalidValue("restore: nobody is there to be asked: say --yes", field="yes")

    def agreed(plan: Plan) -> bool:
        if not json:
            _tell_plan(plan, settings.zone)
        return yes or typer.confirm("Restore it?", err=True)

    with output.progress("checking") as advance:
        plan = restoring.restore(
            settings.worklist_db_path,
            file,
            operator=getpass.getuser(),
            agreed=agreed,
            anchors_path=settings.anchors_path,
            keys_path=settings.gateway_keys_path,
            sequence_floor=sequence_floor,
            despite_chain=despite_chain,
            progress=advance,
        )
    if plan is None:
        output.say("nothing was changed")
        raise typer.Exit(1)
    if json:
        output.put_json(_plan_as_json(plan, settings.worklist_db_path))
    else:
        output.put(f"restored: epoch {plan.epoch}; sequences of status events go on above {plan.sequence_floor}")
    output.say("start the service; status events wait until gateway outbox resume --after-restore")


@backup.command(epilog="Example: gateway backup lost")
def lost(json: output.Json = False) -> None:
    """List what was lost by the last restore, and by those before it since the outbox was last let go on.

    What was done again since is no longer in it.
    """
    from gateway.audit.restore import still_lost
    from gateway.errors import NotFound

    zone = output.settings().zone
    with output.database() as gateway:
        epoch = gateway.restored()
        if epoch is None:
            raise NotFound("no backup was ever restored to this database")
        found = still_lost(gateway.path, epoch)
    if json:
        output.put_json(_losses_as_json(found))
    else:
        _put_losses(found, zone)
    raise typer.Exit(1 if any(found.counts().values()) or not found.complete else 0)


def _tell_plan(plan: Plan, zone: Any) -> None:  # noqa: ANN401  a time zone
    output.put(_told(plan.backup, zone))
    if plan.replaced:
        output.put(f"kept   the present database, as {plan.replaced}")
    for name in plan.earlier:
        output.put(f"before {name}: nobody has let the outbox go on since; what was lost then is listed too")
    if plan.unreadable:
        output.put(f"altered: {plan.unreadable}; what needs it will fail, gateway projections rebuild too")
    if plan.losses is not None:
        _put_losses(plan.losses, zone)
    if plan.losses is None or plan.present is None or plan.present.damage:
        since = output.site_clock(plan.backup.committed_at, zone=zone)
        output.put(f"lost   not known: what was acknowledged after {since}; the present database can't be read")
        if plan.last_anchor:
            at = output.site_clock(plan.last_anchor.committed_at, zone=zone)
            output.put(f"       the last anchor of it is {plan.last_anchor} of {at}")


def _put_losses(found: Losses, zone: Any) -> None:  # noqa: ANN401  a time zone
    counts = found.counts()
    output.put(
        f"lost   {counts['actions']} actions, {counts['performed_steps']} performed steps, {counts['status_events']} "
        f"settled status events; changes of {counts['items']} appointments"
    )
    if counts["erasures"]:
        output.put(f"       {counts['erasures']} erasures, to be repeated: gateway erase")
    if not found.complete:
        output.put("       at least: part of what was replaced is gone or can't be read")
    lines = [
        *(
            (
                action["accession_number"],
                action["action_type"],
                action["status"],
                action["committed_at"],
                action["action_id"],
            )
            for action in found.actions.values()
        ),
        *(
            (
                ", ".join(step["accession_numbers"]),
                "performed step",
                step["last"],
                step["committed_at"],
                step["sop_instance_uid"],
            )
            for step in found.performed_steps.values()
        ),
        *(
            (event["accession_number"], "status event", event["state"], event["committed_at"], event["event_id"])
            for event in found.status_events.values()
        ),
        *(
            (", ".join(lost["accession_numbers"]), "erasure", "to repeat", lost["committed_at"], lost["reason"])
            for lost in found.erasures.values()
        ),
    ]
    shown = [(number, what, state, output.site_clock(at, zone=zone), name) for number, what, state, at, name in lines]
    named = {number for line in lines for number in str(line[0]).split(", ")}
    shown += [(number, "changed", "", "", "") for number in found.accession_numbers if number not in named]
    if shown:
        output.put_table(("accession", "what", "state", "at", "id"), shown)


def _told(found: Checked, zone: Any) -> str:  # noqa: ANN401  a time zone
    until = output.site_clock(found.committed_at, zone=zone)
    age = _ago(datetime.fromisoformat(found.committed_at)) if found.committed_at else "–"
    return f"backup {found.file.name}: {found.position} events up to {until}, {age} ago, head {found.anchor}"


def _ago(moment: datetime) -> str:
    minutes = int((datetime.now(UTC) - moment).total_seconds() // 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def _as_json(found: Checked) -> dict[str, Any]:
    age = datetime.now(UTC) - datetime.fromisoformat(found.committed_at) if found.committed_at else None
    return {
        "file": str(found.file),
        "bytes": found.size,
        "sound": not found.finding,
        "finding": found.finding or None,
        "position": found.position,
        "origin": found.origin or None,
        "head": found.head.hex(),
        "committed_at": found.committed_at or None,
        "age_seconds": int(age.total_seconds()) if age else None,
        "projections": [{"name": name, "position": position} for name, position in found.projections.items()],
    }


def _losses_as_json(found: Losses) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "actions": list(found.actions.values()),
        "accession_numbers": found.accession_numbers,
        "performed_steps": list(found.performed_steps.values()),
        "status_events": list(found.status_events.values()),
        "erasures": list(found.erasures.values()),
    }


def _plan_as_json(plan: Plan, database: Path) -> dict[str, Any]:
    return {
        "backup": str(plan.backup.file),
        "database": str(database),
        "epoch": plan.epoch,
        "position": plan.backup.position,
        "head": plan.backup.head.hex(),
        "backed_up_to": plan.backup.committed_at or None,
        "restored_at": plan.restored_at.isoformat(),
        "sequence_floor": plan.sequence_floor,
        "replaced": plan.replaced,
        "replaced_position": plan.replaced_position,
        "earlier": list(plan.earlier),
        "unreadable": plan.unreadable or None,
        "lost": _losses_as_json(plan.losses) if plan.losses else None,
    }
