"""`gateway modality`: the proof of concept's test client, a simulated mammography unit."""

from __future__ import annotations

import time
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.rehearsal.modality import Examination, Modality

modality = typer.Typer(no_args_is_help=True, help="A simulated modality: ask for the worklist, perform an examination.")

Host = Annotated[str, typer.Option("--host", "-H", help="Where the worklist is.")]
Port = Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Its DICOM port.")]
Called = Annotated[str, typer.Option("--called", "-a", help="Its AE title.")]
Calling = Annotated[str, typer.Option("--calling", "-c", help="The AE title of this unit.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say what is done and how long it took.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(modality, name="modality")


@modality.command(epilog="Example: gateway modality echo -H localhost -p 4243 -a ORTHANC_MWL")
def echo(
    host: Host = "localhost",
    port: Port = 4243,
    called: Called = "ORTHANC_MWL",
    calling: Calling = "MAMMO1",
    verbose: Verbose = False,
    json: output.Json = False,
) -> None:
    """Verify the connection (C-ECHO)."""
    unit = _unit(host, port, called, calling, verbose=verbose)
    began = time.perf_counter()
    unit.echo()
    milliseconds = _milliseconds(began)
    if json:
        output.put_json({"ok": True, "milliseconds": milliseconds})
    else:
        output.put(f"{called} at {host}:{port} answers ({milliseconds} ms)")


@modality.command(epilog="Example: gateway modality find -m MG -d 20250314")
def find(
    modality: Annotated[str, typer.Option("--modality", "-m", help="Such as MG; empty asks for any.")] = "",
    date: Annotated[
        str, typer.Option("--date", "-d", help="YYYYMMDD, a range such as 20250314-20250320, or today.")
    ] = "",
    accession: Annotated[str, typer.Option("--accession", help="The accession number.")] = "",
    patient_name: Annotated[str, typer.Option("--patient-name", help="May hold * and ?.")] = "",
    patient_id: Annotated[str, typer.Option("--patient-id", help="The NHS number or local id.")] = "",
    status: Annotated[str, typer.Option("--status", help="Such as COMPLETED; empty: what is listed by default.")] = "",
    host: Host = "localhost",
    port: Port = 4243,
    called: Called = "ORTHANC_MWL",
    calling: Calling = "MAMMO1",
    verbose: Verbose = False,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Ask for the worklist (Modality Worklist C-FIND)."""
    unit = _unit(host, port, called, calling, verbose=verbose)
    day = output.day(date) if date.strip().lower() == "today" else date
    began = time.perf_counter()
    entries = unit.find(
        modality=modality,
        date=day,
        accession_number=accession,
        patient_name=patient_name,
        patient_id=patient_id,
        status=status,
    )
    _say_time(began, verbose=verbose)
    if json:
        output.put_json([asdict(entry) for entry in entries])
        return
    rows = [
        (
            entry.accession_number,
            entry.scheduled_date,
            entry.scheduled_time,
            entry.modality,
            entry.patient_id if reveal else output.masked_id(entry.patient_id),
            entry.patient_name if reveal else output.masked_name(entry.patient_name),
            entry.station_ae_title,
            entry.description,
        )
        for entry in entries
    ]
    output.put_table(("accession", "date", "time", "modality", "patient id", "name", "station", "description"), rows)
    output.say(f"{len(rows)} item{'' if len(rows) == 1 else 's'}")


@modality.command(epilog="Example: gateway modality perform ACC001 --discontinue")
def perform(
    accession_number: Annotated[str, typer.Argument(help="The item to perform; it must be on the list.")],
    discontinue: Annotated[bool, typer.Option("--discontinue", help="Give up instead of completing.")] = False,
    wrong_entry: Annotated[
        bool, typer.Option("--wrong-entry", help="Discontinue because the wrong item was chosen (110514).")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also for another machine.")] = False,
    host: Host = "localhost",
    port: Port = 4243,
    called: Called = "ORTHANC_MWL",
    calling: Calling = "MAMMO1",
    verbose: Verbose = False,
    json: output.Json = False,
) -> None:
    """Perform an examination: MPPS N-CREATE, then N-SET. Asks first when it is on another machine."""
    if not yes and not _is_this_machine(host):
        output.say(f"{host} is another machine: this reports an examination to it as if a patient had been there.")
        if not typer.confirm("Perform it?", default=False, err=True):
            output.say("not performed")
            raise typer.Exit(1)
    unit = _unit(host, port, called, calling, verbose=verbose)

    def told(examination: Examination) -> None:
        if not json:
            output.put(
                f"{examination.entry.accession_number} {examination.status}  MPPS {examination.sop_instance_uid}"
            )

    began = time.perf_counter()
    done = unit.perform(accession_number, discontinue=discontinue, wrong_entry=wrong_entry, on_step=told)
    _say_time(began, verbose=verbose)
    if json:
        output.put_json(
            {"accession_number": accession_number, "status": done.status, "sop_instance_uid": done.sop_instance_uid}
        )


def _unit(host: str, port: int, called: str, calling: str, *, verbose: bool) -> Modality:
    from gateway.rehearsal.modality import Modality

    if verbose:
        output.say(f"{calling} asks {called} at {host}:{port}")
    return Modality(host, port, called, calling)


def _say_time(began: float, *, verbose: bool) -> None:
    if verbose:
        output.say(f"answered in {_milliseconds(began)} ms")


def _milliseconds(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
