"""`gateway outbox`."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from gateway.cli import output

outbox = typer.Typer(no_args_is_help=True, help="Status events on their way to the web app.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(outbox, name="outbox")


@outbox.command("list", epilog="Example: gateway outbox list --state parked")
def list_updates(
    state: Annotated[
        str, typer.Option("--state", help="waiting, parked, acknowledged or all; default: unsettled.")
    ] = "",
    accession: Annotated[str, typer.Option("--accession", help="Of one accession number.")] = "",
    test: Annotated[bool, typer.Option("--test", help="Those of test items instead of real ones.")] = False,
    json: output.Json = False,
) -> None:
    """List status events: waiting to be acknowledged, or parked because the web app refused them."""
    from gateway.delivery.attempts import attempts_of
    from gateway.errors import InvalidValue

    if state not in ("", "waiting", "parked", "acknowledged", "all"):
        raise InvalidValue("--state: must be waiting, parked, acknowledged or all", field="state")
    with output.database() as gateway:
        states = ("waiting", "parked", "acknowledged") if state == "all" else (state or None,)
        rows = [
            row for one in states for row in gateway.find_updates(state=one, accession_number=accession, is_test=test)
        ]
        with gateway.reading() as connection:
            tries = attempts_of(connection)
    if json:
        output.put_json([asdict(row) | _tried(tries.get(row.event_id)) for row in rows])
        return
    lines = []
    for row in rows:
        tried = tries.get(row.event_id)
        attempts, error = (tried.attempts, tried.last_error) if tried else (0, None)
        settled = row.answer if row.state != "waiting" else error
        lines.append((row.accession_number, row.sequence, row.status, row.state, attempts, settled, row.event_id))
    output.put_table(("accession", "seq", "status", "state", "sent", "answer or last error", "event id"), lines)
    output.say(f"{len(rows)} status event{'' if len(rows) == 1 else 's'}")


@outbox.command(epilog='Example: gateway outbox retry EVENT_ID --reason "the web app knows the appointment now"')
def retry(
    event_id: Annotated[str, typer.Argument(help="As gateway outbox list shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    force: Annotated[bool, typer.Option("--force", help="Also when the web app has heard a later status.")] = False,
) -> None:
    """Send a parked status event again. It keeps its event_id and sequence."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        gateway.requeue_update(event_id, reason=why, operator=output.user(), force=force)
    output.put(f"{event_id} waiting")


@outbox.command(epilog='Example: gateway outbox park EVENT_ID --reason "told by telephone"')
def park(
    event_id: Annotated[str, typer.Argument(help="As gateway outbox list shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
) -> None:
    """Take a waiting status event out of the queue; later ones of its accession number then go."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        gateway.withdraw_update(event_id, reason=why, operator=output.user())
    output.put(f"{event_id} parked")


@outbox.command(epilog="Example: gateway outbox resume --after-restore")
def resume(
    after_restore: Annotated[
        bool, typer.Option("--after-restore", help="I have looked at what the restore may have lost.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")] = "",
    json: output.Json = False,
) -> None:
    """Let status events go to the web app again after a backup was restored; kept in the log, with your name."""
    from gateway.errors import InvalidValue

    if not after_restore:
        raise InvalidValue("resume: say --after-restore, once you have looked at gateway backup lost", field="resume")
    with output.database() as gateway:
        waiting = gateway.resume_delivery(operator=getpass.getuser(), reason=reason.strip())
        parked = gateway.count_updates().parked
    if json:
        output.put_json({"resumed": True, "waiting": waiting, "parked": parked})
    else:
        output.put(f"resumed: {waiting} status event{'' if waiting == 1 else 's'} waiting")


def _tried(tried: object) -> dict[str, object]:
    from gateway.delivery.attempts import Attempts

    if isinstance(tried, Attempts):
        return asdict(tried)
    return {"attempts": 0, "first_sent_at": None, "last_sent_at": None, "last_error": None}
