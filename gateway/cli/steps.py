"""`gateway steps`: performed procedure steps (MPPS) that a person should look at, and what a person decides."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.domain.lifecycle import Status
    from projections.performed_steps import PerformedStepRow

steps = typer.Typer(no_args_is_help=True, help="Performed procedure steps (MPPS) that a person should look at.")

Reason = Annotated[str, typer.Option("--reason", help="Why; kept for ever.")]
AccessionNumber = Annotated[str, typer.Argument(help="The item's accession number.")]
Uid = Annotated[str, typer.Argument(metavar="UID", help="As gateway steps unmatched shows it.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(steps, name="steps")


@steps.command(epilog="Example: gateway steps unmatched --reveal")
def unmatched(reveal: output.Reveal = False, json: output.Json = False) -> None:
    """List performed steps without an appointment: link each to its item, or dismiss it."""
    with output.database() as gateway:
        rows = gateway.unmatched_steps()
        if reveal or json:
            output.revealed(gateway, "steps unmatched", _subjects(rows))
    _put(rows, reveal=reveal, json=json)


@steps.command(epilog="Example: gateway steps unfinished --hours 2")
def unfinished(
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours", min=0, help="Begun more than so many hours ago; by default GATEWAY_UNFINISHED_STEP_HOURS."
        ),
    ] = None,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """List steps that a modality began and has not finished. Nothing changes by itself."""
    allowed = output.settings().gateway_unfinished_step_hours if hours is None else hours
    with output.database() as gateway:
        rows = gateway.unfinished_steps(datetime.now(UTC) - timedelta(hours=allowed))
        if reveal or json:
            output.revealed(gateway, "steps unfinished", _subjects(rows))
    _put(rows, reveal=reveal, json=json)


@steps.command(epilog='Example: gateway steps link 1.2.840.99.7 ACC123 --reason "the number was typed wrongly"')
def link(
    uid: Uid,
    accession_number: AccessionNumber,
    reason: Reason,
    despite_other_patient: Annotated[
        bool, typer.Option("--despite-other-patient", help="Although step and item name different patients.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Say for which item a step was performed. The item follows it, and the web app is told."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        status = gateway.link_step(
            uid,
            accession_number,
            reason=why,
            operator=getpass.getuser(),
            despite_other_patient=despite_other_patient,
        )
    if json:
        output.put_json({"sop_instance_uid": uid, "accession_number": accession_number, "status": status})
    else:
        output.put(f"{uid} linked to {accession_number}, which is {status}")


@steps.command(epilog='Example: gateway steps dismiss 1.2.840.99.7 --reason "the morning\'s phantom"')
def dismiss(uid: Uid, reason: Reason, json: output.Json = False) -> None:
    """Say that an unmatched step belongs to no item; it is kept, and leaves the list."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        gateway.dismiss_step(uid, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"sop_instance_uid": uid, "dismissed": True})
    else:
        output.put(f"{uid} dismissed")


@steps.command(epilog='Example: gateway steps complete ACC123 --reason "the unit was switched off"')
def complete(accession_number: AccessionNumber, reason: Reason, json: output.Json = False) -> None:
    """Complete an item by hand; the web app is told."""
    from gateway.domain.lifecycle import Status

    _set_status(accession_number, Status.COMPLETED, reason, json=json)


@steps.command(epilog='Example: gateway steps cancel ACC123 --reason "examined at another site"')
def cancel(accession_number: AccessionNumber, reason: Reason, json: output.Json = False) -> None:
    """Cancel an item by hand; the web app is told."""
    from gateway.domain.lifecycle import Status

    _set_status(accession_number, Status.CANCELLED, reason, json=json)


def _set_status(accession_number: str, status: Status, reason: str, *, json: bool) -> None:
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        before = gateway.correct_status(accession_number, status, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"accession_number": accession_number, "before": before, "status": status})
    else:
        output.put(f"{accession_number} {before} → {status}")


def _subjects(rows: list[PerformedStepRow]) -> list[str]:
    return list(dict.fromkeys(one for row in rows for one in (*row.accession_numbers, row.sop_instance_uid)))


def _put(rows: list[PerformedStepRow], *, reveal: bool, json: bool) -> None:
    if json:
        output.put_json([asdict(row) for row in rows])
        return
    zone = output.settings().zone
    headings = ("began", "unit", "status", "patient id", "name", "linked to", "it named", "why unmatched", "uid")
    output.put_table(headings, [_line(row, zone=zone, reveal=reveal) for row in rows])
    output.say(f"{len(rows)} step{'' if len(rows) == 1 else 's'}")


def _line(row: PerformedStepRow, *, zone: Any, reveal: bool) -> tuple[object, ...]:  # noqa: ANN401  a time zone
    return (
        output.site_clock(row.received_at, zone=zone)[:-4],
        row.ae_title,
        row.status,
        row.patient_id if reveal else output.masked_id(row.patient_id),
        row.patient_name if reveal else output.masked_name(row.patient_name),
        ",".join(row.accession_numbers),
        ",".join(row.named),
        "; ".join(row.unmatched),
        row.sop_instance_uid,
    )
