"""`gateway images`: studies that Orthanc received, and those that a person should look at."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from projections.received_studies import ReceivedStudyRow

images = typer.Typer(no_args_is_help=True, help="Studies that Orthanc received, and their appointments.")

Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest first.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(images, name="images")


@images.command("list", epilog="Example: gateway images list --accession ACC123")
def list_studies(
    accession: Annotated[str, typer.Option("--accession", help="Of one appointment.")] = "",
    limit: Limit = 50,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """List received studies, each with its appointment."""
    with output.database() as gateway:
        rows = gateway.studies_of(accession) if accession else gateway.latest_studies(limit)
        if reveal or json:
            output.revealed(gateway, "images list", _subjects(rows))
    _put(rows, reveal=reveal, json=json)


@images.command(epilog="Example: gateway images unmatched --reveal")
def unmatched(limit: Limit = 50, reveal: output.Reveal = False, json: output.Json = False) -> None:
    """List studies of nobody on the list, and why; dismiss those that are nobody's."""
    with output.database() as gateway:
        rows = gateway.unmatched_studies(limit)
        if reveal or json:
            output.revealed(gateway, "images unmatched", _subjects(rows))
    _put(rows, reveal=reveal, json=json)


@images.command(epilog='Example: gateway images dismiss 1.2.840.99.7 --reason "the morning\'s phantom"')
def dismiss(
    uid: Annotated[
        str,
        typer.Argument(metavar="UID", help="Study Instance UID, as gateway images unmatched shows it; or Orthanc's."),
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    json: output.Json = False,
) -> None:
    """Say that an unmatched study belongs to no appointment; it is kept, and leaves the list."""
    why = output.require_text(reason, "reason")
    with output.database() as gateway:
        gateway.dismiss_study(gateway.study_called(uid).orthanc_id, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"study_instance_uid": uid, "dismissed": True})
    else:
        output.put(f"{uid} dismissed")


@images.command(epilog="Example: gateway images parked")
def parked(json: output.Json = False) -> None:
    """List studies that could not be read from Orthanc; the others went on without them."""
    with output.database() as gateway:
        rows = gateway.parked_studies()
    if json:
        output.put_json([asdict(row) for row in rows])
        return
    zone = output.settings().zone
    lines = [(output.site_clock(row.parked_at, zone=zone)[:-4], row.orthanc_id, row.why) for row in rows]
    output.put_table(("parked", "orthanc id", "why"), lines)
    output.say(f"{len(rows)} stud{'y' if len(rows) == 1 else 'ies'}")


@images.command(epilog="Example: gateway images retry 25ff8090-fc0a45ab-ce1a435a-b230f32a-a0dc2d3c")
def retry(
    orthanc_id: Annotated[str, typer.Argument(metavar="ID", help="Orthanc's id, as gateway images parked shows it.")],
    json: output.Json = False,
) -> None:
    """Read a parked study once more; or any other, such as one whose appointment came after it."""
    from gateway.orthanc.reception import receive_again

    with output.database() as gateway:
        outcome = receive_again(output.settings(), gateway, orthanc_id)
    if json:
        output.put_json({"orthanc_id": orthanc_id, **asdict(outcome)})
    else:
        output.put(
            f"{orthanc_id} {'of ' + outcome.accession_number if outcome.accession_number else outcome.unmatched}"
        )


def _subjects(rows: list[ReceivedStudyRow]) -> list[str]:
    return list(dict.fromkeys(row.accession_number or row.study_instance_uid for row in rows))


def _put(rows: list[ReceivedStudyRow], *, reveal: bool, json: bool) -> None:
    if json:
        output.put_json([asdict(row) for row in rows])
        return
    zone = output.settings().zone
    headings = (
        "received",
        "accession",
        "images",
        "modality",
        "from",
        "patient id",
        "name",
        "it named",
        "why unmatched",
        "study",
    )
    output.put_table(headings, [_line(row, zone=zone, reveal=reveal) for row in rows])
    output.say(f"{len(rows)} stud{'y' if len(rows) == 1 else 'ies'}")


def _line(row: ReceivedStudyRow, *, zone: Any, reveal: bool) -> tuple[object, ...]:  # noqa: ANN401  a time zone
    return (
        output.site_clock(row.received_at, zone=zone)[:-4],
        row.accession_number,
        row.instances,
        ",".join(row.modalities),
        row.station_ae_title,
        row.patient_id if reveal else output.masked_id(row.patient_id),
        row.patient_name if reveal else output.masked_name(row.patient_name),
        row.named,
        row.unmatched,
        row.study_instance_uid,
    )
