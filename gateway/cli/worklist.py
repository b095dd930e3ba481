"""`gateway worklist`: look at the list, add to it, set a status by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from projections.worklist import WorklistRow

worklist = typer.Typer(no_args_is_help=True, help="The worklist: what modalities are shown.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(worklist, name="worklist")


@worklist.command("list", epilog="Example: gateway worklist list --date today --modality MG --status SCHEDULED")
def list_items(
    date: Annotated[str, typer.Option("--date", "-d", help="YYYYMMDD, YYYY-MM-DD or today.")] = "",
    modality: Annotated[str, typer.Option("--modality", "-m", help="Such as MG.")] = "",
    status: Annotated[str, typer.Option("--status", "-s", help="Such as SCHEDULED or IN_PROGRESS.")] = "",
    patient_id: Annotated[str, typer.Option("--patient-id", help="The NHS number or local id.")] = "",
    accession: Annotated[str, typer.Option("--accession", help="The accession number.")] = "",
    test: Annotated[bool, typer.Option("--test", help="Test items instead of real ones.")] = False,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """List items by date and time."""
    from gateway.domain.lifecycle import status_of
    from projections.worklist import WorklistFilter

    wanted_day = output.day(date) if date else ""
    wanted = WorklistFilter(
        dates=(wanted_day, wanted_day),
        modalities=(modality.upper(),) if modality else (),
        statuses=(status_of(status),) if status else (),
        patient_id=patient_id,
        accession_number=accession,
        is_test=test,
    )
    with output.database() as gateway:
        rows = gateway.find_items(wanted)
    if json:
        output.put_json([asdict(row) for row in rows])
        return
    output.put_table(
        ("accession", "date", "time", "modality", "status", "patient id", "name", "station", "description"),
        [_line(row, reveal=reveal) for row in rows],
    )
    output.say(f"{len(rows)} item{'' if len(rows) == 1 else 's'}")


def _line(row: WorklistRow, *, reveal: bool) -> tuple[object, ...]:
    return (
        row.accession_number,
        row.scheduled_date,
        row.scheduled_time,
        row.modality,
        row.status,
        row.patient_id if reveal else output.masked_id(row.patient_id),
        row.patient_name if reveal else output.masked_name(row.patient_name),
        ",".join(row.station_ae_titles) or "any",
        row.study_description,
    )


@worklist.command(epilog="Example: gateway worklist statistics")
def statistics(json: output.Json = False) -> None:
    """Count items by status; test items are counted apart."""
    with output.database() as gateway:
        items, test_items = gateway.count_by_status(), gateway.count_by_status(is_test=True)
    if json:
        output.put_json({"items": items, "test_items": test_items})
        return
    rows = [(status, count, "") for status, count in items.items()]
    rows += [(status, count, "test") for status, count in test_items.items()]
    output.put_table(("status", "items", "kind"), rows)


@worklist.command(
    epilog="Example: gateway worklist add ACC123 --patient-id BS123456 --patient-name SMITH^JOHN "
    "--patient-birth-date 19800101 --patient-sex M --scheduled-date today --scheduled-time 143000"
)
def add(
    accession_number: Annotated[str, typer.Argument(help="At most 16 characters.")],
    patient_id: Annotated[str, typer.Option(help="The NHS number or local id.")],
    patient_name: Annotated[str, typer.Option(help="DICOM form: FAMILY^GIVEN.")],
    patient_birth_date: Annotated[str, typer.Option(help="YYYYMMDD or YYYY-MM-DD.")],
    scheduled_time: Annotated[str, typer.Option(help="HHMM or HHMMSS, the site's wall clock.")],
    scheduled_date: Annotated[str, typer.Option(help="YYYYMMDD or today.")] = "today",
    patient_sex: Annotated[str | None, typer.Option(help="M, F or O.")] = None,
    modality: Annotated[str, typer.Option(help="Such as MG.")] = "MG",
    study_description: Annotated[str | None, typer.Option(help="At most 64 characters.")] = None,
    procedure_code: Annotated[str | None, typer.Option(help="At most 16 characters.")] = None,
    station_ae_title: Annotated[list[str] | None, typer.Option(help="May be repeated; none: any station.")] = None,
    source_message_id: Annotated[str | None, typer.Option(help="The action_id it belongs to, if any.")] = None,
    json: output.Json = False,
) -> None:
    """Add an item by hand, as an event. The status events of an item without an action_id may be refused."""
    from gateway.domain import values
    from gateway.domain.worklist_item import Appointment

    appointment = Appointment(
        accession_number=values.accession_number(accession_number),
        patient_id=values.patient_id(patient_id),
        patient_name=values.person_name(patient_name),
        patient_birth_date=values.date_of(patient_birth_date.replace("-", ""), "patient_birth_date"),
        patient_sex=values.sex(patient_sex) if patient_sex else None,
        scheduled_date=output.day(scheduled_date),
        scheduled_time=values.time_of(scheduled_time, "scheduled_time"),
        modality=values.code_string(modality, "modality"),
        study_description=values.long_string(study_description, "study_description") if study_description else None,
        procedure_code=values.short_string(procedure_code, "procedure_code") if procedure_code else None,
        station_ae_titles=tuple(values.ae_title(title) for title in station_ae_title or ()),
    )
    with output.database(create=True) as gateway:
        reply = gateway.schedule(appointment, action_id=source_message_id)
    if json:
        output.put_json({"status": reply.status, "accession_number": reply.accession_number})
    else:
        output.put(f"{reply.accession_number} {reply.status}")


@worklist.command(
    "set-status", epilog='Example: gateway worklist set-status ACC123 COMPLETED --reason "unit has no MPPS"'
)
def set_status(
    accession_number: Annotated[str, typer.Argument(help="The item.")],
    status: Annotated[str, typer.Argument(help="Such as COMPLETED; COMPLETED itself is never left.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    json: output.Json = False,
) -> None:
    """Set an item's status by hand, as an event with a reason; the web app is told."""
    import getpass

    from gateway.domain.lifecycle import status_of

    wanted, why = status_of(status), output.require_text(reason, "reason")
    with output.database() as gateway:
        before = gateway.correct_status(accession_number, wanted, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"accession_number": accession_number, "before": before, "status": wanted})
    else:
        output.put(f"{accession_number} {before} → {wanted}")
